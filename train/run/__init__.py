"""A run as a thing that lasts: settings, record, checkpoints, progress, ending."""
