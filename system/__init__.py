"""What every program needs and no face: command lines, atomic files, paths, plain YAML, the machine."""
