"""An ONNX file, read: limits, shapes, constants folded, patterns found, and its values in float."""
