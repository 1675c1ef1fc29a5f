"""How far the machine's GELU is from a file's own, and whether that is seen in what a network gives out.

The machine has one GELU, i-GELU (`hw.arithmetic`); files have three forms of it, and arguments near 0, as
weights of a fresh model make them, cost i-GELU most. A residual sum hides that as a rule; a head of a dense
layer and a GELU does not. So both are asked: the unit beside int8 codes of its input and output, and the
float model with the unit in the place of its GELUs beside the int8 network.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from codesign.compiler.graph import Activation
from codesign.compiler.numerics.calibrate import LEVELS
from codesign.compiler.numerics.constants import Constants, Floats
from codesign.compiler.numerics.matrices import Matrices, Matrix
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, Part
from codesign.compiler.plan.lower import Plan
from codesign.hw.machine import arithmetic
from codesign.hw.machine.functions import FUNCTION

SEEN = 0.25  # of the noise of an output, from which the GELUs' share is told: it costs 1.25 dB
SLOPE = 2.0**-5  # of an argument, on either side of it
MOST_VALUES = 1 << 16  # of a tensor, that stand for all


def machine_values(function: str, x: Floats) -> Floats:
    """What a unit of the machine makes of arguments."""
    of = FUNCTION[function]
    assert of.input_scale is not None
    v = arithmetic.rounded(np.round(x / of.input_scale * 2).astype(np.int64), 1)
    every = np.ones((), dtype=np.bool_)
    found: Floats = (
        np.asarray(of.values(v, every, x.shape[-1], 0), dtype=np.float64) * of.value_scale
    )
    return found


def machine_gelu(x: Floats) -> Floats:
    """What the machine's GELU makes of arguments."""
    return machine_values("gelu", x)


def decibels(signal: float, noise: float) -> float:
    """Of energies; without bound where there is no noise, or nothing at all."""
    return 10 * math.log10(signal / noise) if signal and noise else math.inf


def gelu_decibels(x: Floats, y: Floats) -> tuple[float, float]:
    """Signal to noise of the machine's GELU of `x` beside a file's own, `y`, and that of int8 codes
    of both.
    """
    noise = float(np.square(machine_gelu(x) - y).mean())
    slopes = (machine_gelu(x + SLOPE) - machine_gelu(x - SLOPE)) / (2 * SLOPE)
    steps = np.abs(y).max() / LEVELS, np.abs(x).max() / LEVELS * np.sqrt(np.square(slopes).mean())
    signal = float(np.square(y).mean())
    return decibels(signal, noise), decibels(signal, float(np.square(steps).sum()) / 12)


def gelu_notes(
    plan: Plan,
    constants: Constants,
    matrices: Matrices,
    model: FloatModel,
    feeds: Feeds,
    in_int8: Callable[[], Mapping[str, Array]],
) -> Iterator[str]:
    """A line where the machine's GELUs are further from the file's function than int8 codes are and
    SEEN of the noise of an output is theirs, on one sample. `in_int8` runs it on the network.
    """
    gelus = _on_chip(plan)
    names = [name for op in gelus for name in (op.inputs[0], op.output)]
    values = Part(model, (), tuple(dict.fromkeys(names)))(feeds) if gelus else {}
    worse = []
    for op in gelus:
        x, y = (  # in one order, whatever the file's is
            matrices[name].of(values[name]).astype(np.float64).ravel()
            for name in (op.inputs[0], op.output)
        )
        every = -(-x.size // MOST_VALUES)
        unit, codes = gelu_decibels(x[::every] * constants.factors[op.name][0], y[::every])
        if unit < codes:
            worse.append((unit - codes, op.name, unit, codes))
    if not worse:
        return
    shapes = {name: value.shape for name, value in values.items()}
    approximate = with_machine_gelus(model, gelus, constants, matrices, shapes)
    share = _share(model, approximate, feeds, in_int8())
    if share >= SEEN:
        _, name, unit, codes = min(worse)
        yield (
            f"the machine's GELU is an approximation: {len(worse)} of {len(gelus)} are further from "
            f"the file's function than int8 codes are, {name!r} most, {unit:.0f} dB where those have "
            f"{codes:.0f}; alone they make {min(share, 1.0):.0%} of the noise of an output"
        )


def _on_chip(plan: Plan) -> list[Activation]:
    """The GELUs that kernels compute."""
    works = [step.work for step in plan.steps if step.work.problem is not None]
    ops = [plan.graph.dag[name] for work in works for name in work.operators]
    return [op for op in ops if isinstance(op, Activation) and op.function == "gelu"]


def _share(
    model: FloatModel, approximate: FloatModel, feeds: Feeds, in_int8: Mapping[str, Array]
) -> float:
    """The largest share of an output's squared error that the approximation alone makes."""
    exact, near = (Part(each, (), model.outputs)(feeds) for each in (model, approximate))
    shares = [0.0]
    for name, value in exact.items():
        if value.dtype.kind == "f":
            wanted = value.astype(np.float64)
            alone, all_of_it = (float(np.square(of[name] - wanted).sum()) for of in (near, in_int8))
            shares.append(alone / all_of_it if all_of_it else 0.0)
    return max(shares)


def with_machine_gelus(
    model: FloatModel,
    gelus: list[Activation],
    constants: Constants,
    matrices: Mapping[str, Matrix] | Matrices,
    shapes: Mapping[str, tuple[int, ...]],
) -> FloatModel:
    """The float model with the machine's unit, to its rounding of arguments, in the place of GELUs, whose
    arguments and values have those `shapes`.
    """
    written = {}
    for op in gelus:
        x, y, factor = op.inputs[0], op.output, constants.factors[op.name][0]
        argument, value = ((matrices[name], shapes[name]) for name in (x, y))
        if argument == value:
            nodes = _unit(x, y, factor)
        else:
            before, after = _rearranged(x, y, _order(*argument, *value), value[1])
            nodes = [*before, *_unit(f"{y}/argument", f"{y}/value", factor), *after]
        written[model.writers[y]] = nodes
    return model.rewritten(written)


def _order(x: Matrix, x_shape: tuple[int, ...], y: Matrix, y_shape: tuple[int, ...]) -> Array:
    """Of each element of an array y, the element of x that stands where it does in their matrices."""
    places = [
        matrix.of(np.arange(math.prod(shape)).reshape(shape)).ravel()
        for matrix, shape in ((x, x_shape), (y, y_shape))
    ]
    order = np.empty_like(places[0])
    order[places[1]] = places[0]
    return order


def _rearranged(
    x: str, y: str, order: Array, shape: tuple[int, ...]
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Operators that put x in the order of y, and its values into the shape of y."""
    names = [f"{y}/{what}" for what in ("row", "order", "flat", "argument", "value", "shape")]
    row, places, flat, argument, value, into = names
    numbers = {row: np.array([-1]), places: order, into: np.array(shape)}
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(n.astype(np.int64)))
        for name, n in numbers.items()
    ]
    before = [
        helper.make_node("Reshape", [x, row], [flat]),
        helper.make_node("Gather", [flat, places], [argument]),
    ]
    return [*constants, *before], [helper.make_node("Reshape", [value, into], [y])]


def _unit(x: str, y: str, factor: float) -> list[onnx.NodeProto]:
    """`arithmetic.gelu` in float operators that every opset has: y of the tensor x times a factor."""
    nodes: list[onnx.NodeProto] = []

    def number(value: float) -> str:
        name = f"{y}/number{len(nodes)}"
        tensor = numpy_helper.from_array(np.array(value, dtype=np.float32))
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def made(op_type: str, *inputs: str | float, into: str = "") -> str:
        names = [each if isinstance(each, str) else number(each) for each in inputs]
        output = into or f"{y}/{op_type.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op_type, names, [output]))
        return output

    most = float(1 << (arithmetic.VALUE_BITS - 1))
    one = float(arithmetic.GELU_ONE)
    v = made("Floor", made("Add", made("Mul", x, factor / arithmetic.GELU_INPUT_SCALE), 0.5))
    v = made("Max", made("Min", v, most - 1), -most)
    u = made("Sub", float(arithmetic.GELU_CLIP), made("Min", made("Abs", v), arithmetic.GELU_CLIP))
    erf = made("Mul", made("Sign", v), made("Sub", one, made("Mul", u, u)))
    unit = arithmetic.GELU_SCALE / (1 << (arithmetic.GELU_DROPPED_BITS + 16))
    made("Mul", made("Mul", v, unit), made("Add", erf, one), into=y)
    return nodes
