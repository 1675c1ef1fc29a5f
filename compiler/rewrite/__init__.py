"""Rewriting an ONNX file into operators that have a meaning here."""
