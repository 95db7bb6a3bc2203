"""Faces in files: folders and zips, decoding, what is broken."""
