"""One ONNX node on numpy arrays: constants, and samples through decomposed operators.

ONNX's own reference does the work. What large constants and common activations are made of has a
shorter way, which neither fills memory nor loads the reference, and GatherElements one whose time
does not follow the indices.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from codesign.compiler.onnx.shapes import Node, Shape

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]
_SMALL_ELEMENTS = 1 << 12  # below, an array costs less than a view that may not be written to
# Operators whose result holds values of their first input and no others.
_RESHUFFLES = frozenset(
    {"Expand", "Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)


def _erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)


# Elementwise operators on float32, where numpy's functions are ONNX's.
_ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "Erf": _erf,
    "Exp": np.exp,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
}


def node_outputs(
    node: Node, proto: onnx.NodeProto | None, values: Mapping[str, Array | None], opset: int
) -> list[Array]:
    """Return the outputs of one node on numpy arrays, [] when ONNX has no reference for it.

    `proto` gives the attributes where there is one, else `node` does.
    """
    given = [values.get(name) if name else None for name in node.inputs]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        function = None if node.domain else _ELEMENTWISE.get(node.op_type)
        if function is not None and all(v is not None and v.dtype == np.float32 for v in given):
            return [np.asarray(function(*given))]
        if node.op_type == "GatherElements" and not node.domain:
            return _gather_elements(given[0], given[1], node.attribute("axis", 0))
        attributes = proto.attribute if proto is not None else _attributes(node)
        try:
            session = _session(
                node.op_type,
                node.domain,
                tuple(map(bool, node.inputs)),
                tuple(map(bool, node.outputs)),
                tuple(a.SerializeToString(deterministic=True) for a in attributes),
                opset,
            )
            feeds = {
                f"i{i}": v for i, (n, v) in enumerate(zip(node.inputs, given, strict=True)) if n
            }
            return list(session.run(None, feeds))
        except Exception:  # noqa: BLE001 - it raises anything; the shape is known and is enough
            return []


def _gather_elements(data: Array | None, indices: Array | None, axis: int) -> list[Array]:
    """Elements of `data` at `indices` along an axis, [] where one is beyond it.

    numpy's choose, which ONNX's reference calls, brings an index into range one extent at a time.
    """
    assert data is not None and indices is not None
    axis %= data.ndim
    # Indices may be fewer than data along every axis.
    read = tuple(slice(None if a == axis else extent) for a, extent in enumerate(indices.shape))
    try:
        result = np.take_along_axis(data[read], indices.astype(np.int64), axis)
    except (ValueError, IndexError):
        return []
    return [result] if result.shape == indices.shape else []


def splat(node: Node, proto: onnx.NodeProto, first: Array | None, shape: Shape) -> Array | None:
    """Return the result of a node where it is one number everywhere, None where it is not.

    `first` is the value of its first input, `shape` that of its result: [..] of one number, which a
    large array holds only once.
    """
    if node.domain:
        return None
    if node.op_type == "ConstantOfShape":
        given = [a.t for a in proto.attribute if a.name == "value"]
        number = onnx.numpy_helper.to_array(given[0]) if given else np.zeros(1, np.float32)
    elif node.op_type in _RESHUFFLES and first is not None and is_splat(first):
        number = first
    else:
        return None
    view = np.broadcast_to(number.reshape(-1)[:1].reshape(()), shape)
    return view.copy() if view.size <= _SMALL_ELEMENTS else view


def is_splat(value: Array) -> bool:
    """Whether an array is one number everywhere, and holds it once."""
    return value.size == 1 or (value.size > 1 and not any(value.strides))


@lru_cache(maxsize=512)
def _session(
    op_type: str,
    domain: str,
    inputs: tuple[bool, ...],
    outputs: tuple[bool, ...],
    attributes: tuple[bytes, ...],
    opset: int,
) -> "ReferenceEvaluator":
    """Return ONNX's reference of one node with inputs i0, i1, ... and outputs o0, o1, ..."""
    from onnx.reference import ReferenceEvaluator  # slow to load

    call = onnx.NodeProto(op_type=op_type, domain=domain)
    call.input.extend(f"i{i}" * there for i, there in enumerate(inputs))
    call.output.extend(f"o{i}" * there for i, there in enumerate(outputs))
    call.attribute.extend(onnx.AttributeProto.FromString(data) for data in attributes)
    return ReferenceEvaluator(call, opsets={"": opset})


def _attributes(node: Node) -> list[onnx.AttributeProto]:
    return [onnx.helper.make_attribute(name, value) for name, value in node.attributes.items()]
