"""The Python interface: what `import codesign` gives."""
