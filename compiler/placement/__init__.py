"""Who computes what, the machine or the host, and what is said of it."""
