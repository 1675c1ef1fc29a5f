"""A plan becomes integers: scales, codes, constants."""
