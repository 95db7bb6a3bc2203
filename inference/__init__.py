"""Trained networks at work: whatever restores faces, folders of faces, drawn faces."""
