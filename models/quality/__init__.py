"""What is known of a network's quality: measured, and predicted."""
