"""What a command is given: models, machines, samples, text."""
