"""The Transformers: families as frozen configurations, and their export to ONNX."""
