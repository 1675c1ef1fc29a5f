"""What the machine is: its sizes, instructions, Programs and integer arithmetic."""
