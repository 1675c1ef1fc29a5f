"""A file as `run` computes it: in float, of operators that have a meaning here, one node for equal ones."""

from collections.abc import Mapping
from dataclasses import replace

import onnx

from codesign.compiler.onnx.load import Dimensions, input_shapes
from codesign.compiler.rewrite.decompose import decomposed
from codesign.compiler.rewrite.dequantize import Dequantized, dequantized
from codesign.compiler.rewrite.recognised import NOTHING, Recognised, recognised


def as_recognised(
    file: onnx.ModelProto, shapes: Dimensions
) -> tuple[Dequantized, Mapping[str, str], Recognised]:
    """`in_float` with every clamp, and what is one in the file."""
    every, whole = in_float(file, shapes, None)
    plain = in_float(file, shapes, frozenset())[0] if every.clamps else every
    one = recognised(every, plain, input_shapes(every.model, shapes))
    return _rewritten(every, one), whole, one


def in_float(
    file: onnx.ModelProto,
    shapes: Dimensions,
    clipped: frozenset[str] | None,
    one: Recognised = NOTHING,
) -> tuple[Dequantized, Mapping[str, str]]:
    """A file in float with its scales apart and what is `one` in it, and why fused nodes that stay do
    (see `decomposed`)."""
    found = dequantized(file, clipped)
    extents = input_shapes(found.model, shapes)
    units = None if found.units is None else decomposed(found.units, extents)[0]
    model, whole = decomposed(found.model, extents)
    return _rewritten(replace(found, model=model, units=units), one), whole


def _rewritten(found: Dequantized, one: Recognised) -> Dequantized:
    units = None if found.units is None else one.rewritten(found.units)
    return replace(found, model=one.rewritten(found.model), units=units)
