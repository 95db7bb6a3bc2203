"""A package, since one that a dependency installs has the same name: `python -m tests.fuzz.mutated_arguments`."""
