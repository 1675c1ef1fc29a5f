"""Training a supernet: what `codesign train` does."""
