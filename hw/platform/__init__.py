"""What the tool itself stands on: files, text, processes and installed packages."""
