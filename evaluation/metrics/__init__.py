"""Measures of restored images against their targets."""
