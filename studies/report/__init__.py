"""A comparison as a page: findings, tables, curves, faces."""
