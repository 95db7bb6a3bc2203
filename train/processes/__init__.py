"""Processes of a run: strategy, collectives, memory, watching each other."""
