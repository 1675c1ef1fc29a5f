"""Sound little files of every kind that the command line reads: what the mutants are made of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, ROWS = 16, 8
MS = "com.microsoft"

ENERGY = b"""ERT:
  version: 0.4
  tables:
  - name: system.mesh[0..255]
    actions: [{name: compute, arguments: {a: 1}, energy: 0.2}, {name: idle, energy: 0.01}]
  - name: system.dram
    actions: &shared [{name: read, energy: 100}, {name: write, energy: 100}]
"""
AREA = b"ART:\n  version: 0.4\n  tables:\n  - {name: system.mesh, area: 1000}\n"
MACHINE = (
    b'preset = "edge"\nscratchpad_bytes = "32K"\ndim = 8\nclock_hz = 500_000_000\nname = "m"\n'
)
SPACE = b"""[transformer]
layers = [2]
d_model = [48]
heads = [2, 4]
d_ff = [96]
[hardware]
scratchpad_bytes = ["32K", "64K"]
clock_hz = 500_000_000
[constraints]
area_mm2 = 4.0
sram_timing = true
"""


def network(*nodes: onnx.NodeProto, constants: Mapping[str, Any] | None = None, opset: int = 17,
            functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:  # fmt: skip
    """A model of one input x [1, ROWS, WIDTH] and one output y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, ROWS, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", [x], [y], tensors)
    opsets = [helper.make_opsetid(d, v) for d, v in (("", opset), (MS, 1), ("own", 1))]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def node(op_type: str, inputs: str, outputs: str, domain: str = "", **more: Any) -> onnx.NodeProto:
    """A node whose inputs and outputs are words; "-" is one that is left out."""
    reads, writes = ([word.strip("-") for word in words.split()] for words in (inputs, outputs))
    name = f"{op_type}_{outputs}"
    return helper.make_node(op_type, reads, writes, name=name, domain=domain, **more)


def _floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def models() -> dict[str, onnx.ModelProto]:
    """A model of every form that the importer knows, by name."""
    return {**_float(), **_quantized(), **_fused(), **_called()}


def _float() -> dict[str, onnx.ModelProto]:
    wide = WIDTH * 2
    head = {"wq": _floats(WIDTH, WIDTH), "wk": _floats(WIDTH, WIDTH), "one": np.array([1])}
    mlp = network(
        node("LayerNormalization", "x g b", "n", axis=-1),
        node("MatMul", "n w", "h"), node("Add", "h c", "a"), node("Relu", "a", "r"),
        node("MatMul", "r v", "o"), node("Add", "o x", "y"),
        constants={"g": _floats(WIDTH), "b": _floats(WIDTH), "w": _floats(WIDTH, wide),
                   "c": _floats(wide), "v": _floats(wide, WIDTH)},
    )  # fmt: skip
    attention = network(
        node("Shape", "x", "s"), node("Gather", "s one", "rows", axis=0),
        node("Concat", "one rows two eight", "to", axis=0),
        node("MatMul", "x wq", "q0"), node("Reshape", "q0 to", "q1"),
        node("Transpose", "q1", "q", perm=[0, 2, 1, 3]),
        node("MatMul", "x wk", "k0"), node("Reshape", "k0 to", "k1"),
        node("Transpose", "k1", "k", perm=[0, 2, 3, 1]),
        node("MatMul", "q k", "scores"), node("Div", "scores root", "scaled"),
        node("Where", "mask low scaled", "masked"),
        node("Softmax", "masked", "p", axis=-1), node("Transpose", "k", "v", perm=[0, 1, 3, 2]),
        node("MatMul", "p v", "c0"), node("Transpose", "c0", "c1", perm=[0, 2, 1, 3]),
        node("Reshape", "c1 back", "y"),
        constants={**head, "two": np.array([2]), "eight": np.array([8]), "root": np.float32(2.8),
                   "mask": np.triu(np.ones((ROWS, ROWS), bool), 1), "low": np.float32(-1e9),
                   "back": np.array([1, ROWS, WIDTH])},
    )  # fmt: skip
    return {"mlp": mlp, "attention": attention}


def _quantized() -> dict[str, onnx.ModelProto]:
    scale = {"s": np.float32(0.02), "z": np.int8(0), "zu": np.uint8(128)}
    qdq = network(
        node("QuantizeLinear", "x s zu", "q"), node("DequantizeLinear", "q s zu", "d"),
        node("DequantizeLinear", "w ws wz", "wd", axis=1), node("MatMul", "d wd", "h"),
        node("QuantizeLinear", "h s z", "hq"), node("DequantizeLinear", "hq s z", "y"),
        constants={**scale, "w": np.ones((WIDTH, WIDTH), np.int8), "ws": _floats(WIDTH) ** 2,
                   "wz": np.zeros(WIDTH, np.int8)},
    )  # fmt: skip
    operators = network(
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearMatMul", "q s z w s z s z", "h"),
        node("QLinearAdd", "h s z q s z s z", "a", MS),
        node("DequantizeLinear", "a s z", "y"),
        constants={**scale, "w": np.ones((WIDTH, WIDTH), np.int8)},
    )
    return {"qdq": qdq, "operators": operators}


def _fused() -> dict[str, onnx.ModelProto]:
    fused = network(
        node("Attention", "x wqkv bqkv", "c", MS, num_heads=2),
        node("SkipLayerNormalization", "c x g g", "n", MS),
        node("MatMul", "n w", "h"), node("BiasGelu", "h g", "e", MS),
        node("MatMulNBits", "e packed scales", "y", MS, K=WIDTH, N=WIDTH, bits=4, block_size=16),
        constants={"wqkv": _floats(WIDTH, 3 * WIDTH), "bqkv": _floats(3 * WIDTH),
                   "g": _floats(WIDTH), "w": _floats(WIDTH, WIDTH),
                   "packed": np.zeros((WIDTH, 1, 8), np.uint8), "scales": _floats(WIDTH)},
    )  # fmt: skip
    grouped = network(
        node("MatMul", "x w", "q"), node("MatMul", "x v", "k"), node("MatMul", "x v", "u"),
        node("GroupQueryAttention", "q k u - - l t", "c - -", MS, num_heads=2, kv_num_heads=1),
        node("MultiHeadAttention", "c q x", "y", MS, num_heads=2),
        constants={"w": _floats(WIDTH, WIDTH), "v": _floats(WIDTH, 8), "l": np.array([ROWS - 1], np.int32),
                   "t": np.int32(ROWS)},
    )  # fmt: skip
    return {"fused": fused, "grouped": grouped}


def _called() -> dict[str, onnx.ModelProto]:
    """Functions of the file's own, and branches."""
    body = [node("MatMul", "a w", "h"), node("Erf", "h", "e"), node("Mul", "e a", "b")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Block", ["a", "w"], ["b"], body, opsets)
    functions = network(
        node("Block", "x w", "h", "own"), node("Block", "h w", "y", "own"),
        constants={"w": _floats(WIDTH, WIDTH)}, functions=(function,),
    )  # fmt: skip
    branch = helper.make_graph(
        [node("MatMul", "x w", "o")], "t", [], [helper.make_tensor_value_info("o", 1, None)]
    )
    branches = network(
        node("If", "yes", "h", then_branch=branch, else_branch=branch),
        node("Conv", "image kernel", "i"), node("ReduceSum", "i", "r"), node("Mul", "h r", "m"),
        node("Slice", "m from to axis", "l"), node("Concat", "l l", "n", axis=1),
        node("Pow", "n two", "p"), node("Expand", "p shape", "e"), node("Identity", "e", "y"),
        constants={"yes": np.bool_(True), "w": _floats(WIDTH, WIDTH),
                   "image": _floats(1, 1, 4, 4), "kernel": _floats(1, 1, 2, 2),
                   "from": np.array([0]), "to": np.array([4]), "axis": np.array([1]),
                   "two": np.float32(2), "shape": np.array([1, ROWS, WIDTH])},
    )  # fmt: skip
    return {"functions": functions, "branches": branches}
