"""One network on machines."""
