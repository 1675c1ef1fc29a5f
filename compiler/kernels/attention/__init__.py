"""Attention as one kernel: of whole rows of scores, and of any length in parts."""
