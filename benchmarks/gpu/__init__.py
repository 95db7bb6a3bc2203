"""What a GPU does with training: the check that is run in the first hour on one."""
