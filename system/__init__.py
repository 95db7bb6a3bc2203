"""What every program needs and no face: command lines, atomic files, plain YAML, the machine."""
