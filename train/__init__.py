"""The only place where models, data and losses meet: Lightning modules, callbacks and the command line."""
