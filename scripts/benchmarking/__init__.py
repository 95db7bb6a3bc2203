"""What `python -m scripts.benchmark` times."""
