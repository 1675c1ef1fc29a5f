"""One slice a command."""
