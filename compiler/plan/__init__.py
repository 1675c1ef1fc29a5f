"""A Graph becomes mapped kernels."""
