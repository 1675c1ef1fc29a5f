"""What the machine costs: energy, area, memories, and the host beside it."""
