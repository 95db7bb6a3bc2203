"""Files to batches: faces, the order of a run, degradation synthesis, value ranges and seeds."""
