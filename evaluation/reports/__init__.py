"""Evaluations, runs and degradations as pages, charts and pictures."""
