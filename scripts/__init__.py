"""One thin command per file: `python -m scripts.NAME --help`."""

from system.interruption import end_interrupted_in_one_line

end_interrupted_in_one_line()
