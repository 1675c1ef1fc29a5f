"""Kernels, held against the machine."""
