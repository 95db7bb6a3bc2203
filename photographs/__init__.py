"""People's photographs: faces found and aligned, made into sets to train on, or restored and pasted back."""
