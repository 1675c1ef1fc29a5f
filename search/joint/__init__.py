"""Many networks on many machines: the search."""
