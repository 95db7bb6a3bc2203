"""Studies: what they ask, which runs answer it, and carrying these out."""
