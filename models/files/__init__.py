"""Networks in files: release files, Lightning checkpoints, the public formats, read without running code."""
