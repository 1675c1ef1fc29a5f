"""A differential net: small random ONNX graphs, `codesign run --backend integers` beside onnxruntime.

    writer                       a graph under construction, with the shape of every tensor
    elementwise, layout,         one random stage of a graph each, over all operators of the import
    products, norms, attention,
    special
    graphs                       a graph of some stages from a seed
    quantized                    the same graph with a file's own scales: QDQ, QOperator, dynamic
    oracle                       onnxruntime, and plain eight-bit rounding of the same tensors
    harness                      what codesign makes of it, judged; statistics

`python -m differential --help` (from `tests/`) runs it by hand, also on another checkout.
"""
