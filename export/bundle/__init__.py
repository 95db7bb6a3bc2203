"""A folder for deployment: its faces, forms, settings and pages."""
