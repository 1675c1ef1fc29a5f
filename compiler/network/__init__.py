"""A network end to end, and the backends that run it."""
