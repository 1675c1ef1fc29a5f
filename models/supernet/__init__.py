"""One set of weights with many networks in it, and its training."""
