"""Comparing finished runs and exported models: measuring them on the same faces and writing the report."""
