"""The only place where models, data and losses meet: Lightning modules, callbacks and the command line."""

from system.interruption import end_interrupted_in_one_line

end_interrupted_in_one_line()
