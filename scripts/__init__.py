"""One thin command per file: `python -m scripts.NAME --help`."""
