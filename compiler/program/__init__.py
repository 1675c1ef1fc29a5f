"""A plan becomes bytes: instructions and the image of DRAM."""
