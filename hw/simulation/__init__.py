"""Running the RTL, and holding the views against it."""
