"""What a run says: console, CSV, trackers."""
