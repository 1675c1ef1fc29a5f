"""What a Program does, in software: its numbers, its cycles, and its races."""
