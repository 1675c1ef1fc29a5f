"""What an ONNX file means, found by its structure: operators in steps, a cache, a language model's head."""
