"""Degradation synthesis: parameters sampled by image index, presets, and the operators that apply them."""
