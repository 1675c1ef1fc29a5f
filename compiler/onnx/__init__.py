"""An ONNX file, read: limits, shapes, constants folded, and its values in float."""
