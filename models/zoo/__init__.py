"""The model families: weights, graphs, export."""
