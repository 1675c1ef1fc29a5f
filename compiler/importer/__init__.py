"""The operators of an ONNX file become a Graph."""
