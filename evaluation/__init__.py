"""Restored and target images to numbers and pictures."""
