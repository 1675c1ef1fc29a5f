"""Writing on with a decoder: what `codesign generate` does."""
