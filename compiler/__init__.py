"""From an ONNX graph to kernels, mappings and a Program for the machine in `codesign.hw`."""
