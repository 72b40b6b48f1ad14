"""Sparse convolution of voxels: octree, map search, gather-MAC-scatter, weight cache (after SpOctA)."""
