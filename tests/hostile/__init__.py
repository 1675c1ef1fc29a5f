"""The hostile net: files that are damaged or made to hurt, and what the command line does with them."""
