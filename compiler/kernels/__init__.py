"""What the machine can run at a time: problems, mapspaces, and the kernels of a mapping."""
