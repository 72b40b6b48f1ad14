"""Cycles of map search and of the sparse-convolution core, by events, and the baselines of the literature."""
