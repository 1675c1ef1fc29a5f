"""Clamps and zero points against onnxruntime: what a quantizer puts into the codes of a file, what a Clip
limits, and what does not fit the formats of the machine's nonlinear units.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from both_ways import Both
from float_reference import random_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_builder import Array, ModelBuilder
from onnx_builder import run as onnxruntime_run
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from codesign.compiler.graph import Activation
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.numerics.constants import Constants
from codesign.compiler.numerics.matrices import Matrix
from codesign.compiler.numerics.options import Options
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.compiler.placement.clamps import MATERIAL
from codesign.compiler.placement.gelu_error import machine_gelu, with_machine_gelus
from codesign.hw.machine import arithmetic
from codesign.hw.machine.config import preset
from codesign.models.zoo.export import export
from codesign.models.zoo.families import FAMILIES
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.t5 import T5Config

SMALL = T5Config("t5", 2, 2, 64, heads=2, d_kv=32, d_ff=128, vocab_size=100)
MASKS = ["mask/Unsqueeze", "mask/Cast", "mask/Sub", "mask/Mul", "encoder.mask/Add"]
MASKS += ["decoder.mask/Add"]
ROWS, K = 12, 16


def decibels(found: Array, wanted: Array) -> float:
    """Signal to noise."""
    noise = float(((found - wanted) ** 2).sum())
    return 10 * float(np.log10(float((wanted**2).sum()) / noise)) if noise else np.inf


def feeds_of(seed: int, reach: float = 1.0) -> dict[str, Array]:
    values = np.random.default_rng(seed).normal(0, reach, (ROWS, K))
    return {"x": values.astype(np.float32)}


def compiled(model: onnx.ModelProto, machine: str = "edge") -> Network:
    return compile_network(
        model, preset(machine), [feeds_of(seed) for seed in range(4)], batch=None
    )


def sqnr(model: onnx.ModelProto, network: Network, seed: int = 9) -> float:
    """Of the network's first output beside onnxruntime's on the same file; bits as on the machine."""
    feeds = feeds_of(seed)
    (wanted, *_) = onnxruntime_run(model, **feeds)
    found = run(network, feeds, Both(network))
    return decibels(found[network.model.outputs[0]], wanted)


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self.feeds, None)


def quantized(model: onnx.ModelProto, feeds: Sequence[Feeds], folder: Path, **options: Any) -> Path:
    """The file that onnxruntime's quantizer makes of a model by its defaults."""
    logging.disable(logging.WARNING)
    quantize_static(model, folder / "quantized.onnx", Samples(feeds), **options)
    logging.disable(logging.NOTSET)
    return folder / "quantized.onnx"


# -- What a quantizer leaves out -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", (None, 0.8))
def test_a_relu_that_the_quantizer_dropped(limit: float | None, tmp_path: Path) -> None:
    b = ModelBuilder()
    h = b.node("MatMul", b.input("x", (ROWS, K)), b.const(b.rng.normal(0, 0.25, (K, 24))))
    bounds = [] if limit is None else [b.const(0.0), b.const(limit)]
    h = b.node("Clip" if bounds else "Relu", h, *bounds)
    model = b.model(b.node("MatMul", h, b.const(b.rng.normal(0, 0.25, (24, 8)))))
    file = quantized(model, [feeds_of(seed) for seed in range(4)], tmp_path)
    found = onnx.load(file)
    assert not {"Relu", "Clip"} & {node.op_type for node in found.graph.node}
    assert sqnr(found, compiled(found)) > 30


def test_a_clamp_within_a_kernel_becomes_an_operator() -> None:
    """Between a product and its bias nothing is int8: the clamp of the codes there must not be lost."""
    b = ModelBuilder()
    product = b.node("MatMul", b.input("x", (ROWS, K)), b.const(b.rng.normal(0, 0.25, (K, 24))))
    scale, zero = b.const(0.02), b.const(-128, "int8")
    codes = b.node("QuantizeLinear", product, scale, zero)
    model = b.model(
        b.node(
            "Add", b.node("DequantizeLinear", codes, scale, zero), b.const(b.rng.normal(0, 1, 24))
        )
    )
    assert sqnr(model, compiled(model)) > 35


def test_a_clamp_that_others_do_not_read() -> None:
    """One reader sees the codes of a file, the other the floats."""
    b = ModelBuilder()
    x = b.input("x", (ROWS, K))
    product = b.node("MatMul", x, b.const(b.rng.normal(0, 0.25, (K, K))))
    scale, zero = b.const(0.01), b.const(0, "uint8")
    codes = b.node("QuantizeLinear", product, scale, zero)
    clamped = b.node("DequantizeLinear", codes, scale, zero)
    weights = [b.const(b.rng.normal(0, 0.25, (K, K))) for _ in range(2)]
    model = b.model(
        b.node("Add", b.node("MatMul", clamped, weights[0]), b.node("MatMul", product, weights[1]))
    )
    assert sqnr(model, compiled(model)) > 30


def test_a_clip_of_a_multiple() -> None:
    """What the host multiplies before it clips reaches further than the clip's bounds."""
    b = ModelBuilder()
    x = b.input("x", (ROWS, K))
    product = b.node("MatMul", x, b.node("Transpose", x, perm=[1, 0]))
    scaled = b.node("Mul", product, b.const(0.25))
    model = b.model(b.node("Clip", scaled, b.const(-2.0), b.const(1.5)))
    assert sqnr(model, compiled(model)) > 35


def test_an_input_is_clamped_as_the_file_says() -> None:
    """Its codes go around 0 before a product of activations, but no further than the file's."""
    b = ModelBuilder()
    x = b.input("x", (ROWS, K))
    scale, zero = b.const(4.5 / 255), b.const(170, "uint8")  # from -3 to 1.5
    codes = b.node("QuantizeLinear", x, scale, zero)
    clamped = b.node("DequantizeLinear", codes, scale, zero)
    model = b.model(b.node("MatMul", clamped, b.node("Transpose", clamped, perm=[1, 0])))
    within = [{"x": np.clip(feeds_of(seed)["x"], -3, 1.5)} for seed in range(4)]
    network = compile_network(model, preset("edge"), within, batch=None)
    feeds = {"x": np.where(np.arange(K) == 3, 2.5, 0.3 * within[0]["x"]).astype(np.float32)}
    (wanted,) = onnxruntime_run(model, **feeds)
    found = run(network, feeds, Both(network))[network.model.outputs[0]]
    assert found[0, 0] < wanted[0, 0] + 0.5  # not 2.5 * 2.5 in the place of 1.5 * 1.5


CODES = st.tuples(
    st.sampled_from(("uint8", "int8")), st.sampled_from((0, 255, 128, 3, 77, 200)), st.floats(2, 6)
)


@settings(max_examples=25)
@given(
    form=st.sampled_from(("product", "residual", "sum", "gelu", "relu", "norm", "rms", "softmax")),
    codes=st.lists(CODES, min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_zero_points_of_every_kernel(
    form: str, codes: list[tuple[str, int, float]], seed: int
) -> None:
    """Each code within three of onnxruntime's: the same integers but for the rounding of sums.

    A code between two products that is rounded the other way is as many of the last ones as its unit
    is wider; a clamp of sums that takes away too little to be kept adds noise of MATERIAL.
    """
    b = ModelBuilder()
    b.rng = np.random.default_rng(seed)

    def coded(x: str, index: int) -> str:
        kind, zero, reach = codes[index]
        constants = b.const(2 * reach / 255), b.const(zero - 128 * (kind == "int8"), kind)
        return str(b.node("DequantizeLinear", b.node("QuantizeLinear", x, *constants), *constants))

    x = coded(b.input("x", (ROWS, K)), 0)
    weights = b.const(b.rng.normal(0, 0.25, (K, K)))
    if form == "softmax":
        y = b.node("Softmax", x, axis=-1)
    elif form == "gelu":
        half = b.node("Div", x, b.const(np.sqrt(2)))
        y = b.node("Add", b.node("Erf", half), b.const(1.0))
        y = b.node("Mul", b.node("Mul", x, y), b.const(0.5))
    elif form == "relu":
        y = b.node("Relu", x)
    elif form in ("norm", "rms"):
        gamma = b.const(b.rng.normal(1, 0.2, K))
        y = b.node("LayerNormalization", x, gamma, b.const(b.rng.normal(0, 0.2, K)), axis=-1)
        if form == "rms":
            mean = b.node("ReduceMean", b.node("Mul", x, x), axes=[-1], keepdims=1)
            root = b.node("Sqrt", b.node("Add", mean, b.const(1e-6)))
            y = b.node("Mul", b.node("Div", x, root), gamma)
    else:
        y = b.node("MatMul", x, weights)
        if form == "sum":
            y = b.node("Add", x, coded(y, 1))
        elif form == "residual":
            y = b.node("Add", y, coded(b.node("MatMul", x, weights), 1))
    model = b.model(coded(y, 2))
    feeds = feeds_of(seed)
    network = compile_network(model, preset("edge"), [feeds], batch=None)
    (wanted,) = onnxruntime_run(model, **feeds)
    (found,) = run(network, feeds, Both(network)).values()
    unit = 2 * codes[2][2] / 255
    slack = 5 if form == "gelu" else 3  # i-GELU is off by up to 0.0184
    if form in ("residual", "sum"):
        slack += max(0, round(codes[1][2] / codes[2][2]) - 1)
    bound = (slack + 0.01) * unit + 0.02 * (form == "softmax")  # floats of codes are rounded
    beyond = np.maximum(np.abs(found - wanted) - bound, 0)
    assert np.mean(beyond**2) <= MATERIAL * np.mean(wanted**2) * (form in ("residual", "sum"))


@pytest.mark.parametrize(
    ("config", "kinds"),
    (
        (SMALL, None),
        (SMALL, ["MatMul", "Relu"]),
        pytest.param(FAMILIES["t5-mini"], None, marks=pytest.mark.long),
    ),
)
def test_t5_by_the_defaults(config: ModelConfig, kinds: list[str] | None, tmp_path: Path) -> None:
    """As near to the float model as onnxruntime is on its own file, within 1 dB."""
    feeds = [random_inputs(config, batch=1, seq=16, seed=seed) for seed in range(6)]
    model, copy = (export(config, batch=1, seq=16) for _ in range(2))  # the quantizer changes it
    options: dict[str, Any] = {"op_types_to_quantize": kinds} if kinds else {}
    file = quantized(copy, feeds[:4], tmp_path, nodes_to_exclude=MASKS, **options)
    network = compile_network(onnx.load(file), preset("ibert"), feeds[:4])
    for one in feeds[4:]:
        (wanted,), (theirs,) = (onnxruntime_run(each, **one) for each in (model, onnx.load(file)))
        (ours,) = run(network, one, "integers").values()
        assert decibels(ours, wanted) > decibels(theirs, wanted) - 1


# -- Limits of a float model ---------------------------------------------------------------------------


@pytest.mark.parametrize("low", (0.0, -0.5))
@pytest.mark.parametrize("limit", (0.1, 1.0, 6.0))
@pytest.mark.parametrize("last", (False, True))
def test_limits_are_exact(low: float, limit: float, last: bool) -> None:
    b = ModelBuilder()
    h = b.node("MatMul", b.input("x", (ROWS, K)), b.const(b.rng.normal(0, 2 * limit, (K, K))))
    h = b.node("Clip", h, b.const(low), b.const(limit))
    model = b.model(h if last else b.node("MatMul", h, b.const(b.rng.normal(0, 0.25, (K, K)))))
    network = compiled(model)
    assert sqnr(model, network) > 30
    if last:
        (found,) = run(network, feeds_of(3, reach=50.0)).values()
        assert found.max() == pytest.approx(limit, rel=0.01)
        assert found.min() == pytest.approx(low, abs=0.01 * limit)


# -- Formats -------------------------------------------------------------------------------------------


def gelu(factor: float) -> onnx.ModelProto:
    b = ModelBuilder(opset=20)
    h = b.node("MatMul", b.input("x", (ROWS, K)), b.const(factor * np.eye(K)))
    return b.model(b.node("Gelu", h))


@pytest.mark.parametrize(("factor", "host"), ((1.0, False), (300.0, True), (1e-4, True)))
def test_gelu_beyond_its_format(factor: float, host: bool) -> None:
    model = gelu(factor)
    network = compiled(model)
    assert sqnr(model, network) > 28
    said = [note for note in network.host if note.startswith("the host computes gelu")]
    assert bool(said) == host


def test_probabilities_follow_calibration() -> None:
    """Diffuse rows have steps of their own; a few large ones beside them are the host's."""
    for factor, host in ((0.1, False), (0.7, True)):
        b = ModelBuilder()
        weights = b.const(factor * b.rng.normal(0, 1, (K, 512)))
        model = b.model(b.node("Softmax", b.node("MatMul", b.input("x", (ROWS, K)), weights)))
        network = compiled(model)
        assert sqnr(model, network) > 25
        assert any("softmax" in note for note in network.host) == host


def test_a_unit_that_is_coarser_than_int8() -> None:
    """x * sigmoid(1.702 x) over little more than -1 to 1, and probabilities of a 2^-10 or so."""
    b = ModelBuilder()
    h = b.node("MatMul", b.input("x", (ROWS, K)), b.const(0.3 * np.eye(K)))
    sigmoid = b.node("Sigmoid", b.node("Mul", h, b.const(1.702)))
    (note,) = compiled(b.model(b.node("Mul", h, sigmoid))).notes
    assert note.startswith("the machine's GELU is an approximation: 1 of 1")
    assert compiled(gelu(4.0)).notes == ()
    b = ModelBuilder()
    weights = b.const(0.05 * b.rng.normal(0, 1, (K, 1024)))
    model = b.model(b.node("Softmax", b.node("MatMul", b.input("x", (ROWS, K)), weights)))
    network = compiled(model)
    assert any("too coarse" in note for note in network.host)
    assert sqnr(model, network) > 30


def dense_gelu(residual: bool, spread: float) -> onnx.ModelProto:
    """A dense layer, a GELU and another, whose arguments are about `spread`; with a residual around."""
    b = ModelBuilder(opset=20)
    x = b.input("x", (ROWS, K))
    inner = b.node("MatMul", x, b.const(b.rng.normal(0, spread / np.sqrt(K), (K, 4 * K))))
    outer = b.const(b.rng.normal(0, 0.5 / np.sqrt(K), (4 * K, K)))
    y = b.node("MatMul", b.node("Gelu", inner), outer)
    return b.model(b.node("Add", y, x) if residual else y)


@pytest.mark.parametrize("residual", (False, True))
def test_the_units_gelu_is_told_where_it_is_seen(residual: bool) -> None:
    """Arguments near 0 are what i-GELU is worst at; beside a residual nothing of that is seen."""
    model = dense_gelu(residual, 0.2)
    network = compiled(model)
    told = [note for note in network.notes if "GELU is an approximation" in note]
    assert bool(told) != residual
    assert (sqnr(model, network) < 30) != residual
    if told:
        assert re.search(r"alone they make \d+% of the noise of an output", told[0])


def test_arguments_that_the_file_reshapes() -> None:
    """The unit's argument is the array before, its value one of another shape."""
    b = ModelBuilder(opset=20)
    small = b.node("MatMul", b.input("x", (ROWS, K)), b.const(0.2 * np.eye(K)))
    y = b.node("Reshape", small, b.ints(ROWS // 2, 2 * K))
    (note,) = compiled(b.model(b.node("Gelu", y))).notes
    assert note.startswith("the machine's GELU is an approximation: 1 of 1")
    share = re.search(r"alone they make (\d+)%", note)
    assert share is not None and 80 < int(share[1]) <= 100


@pytest.mark.parametrize("factor", (None, 0.3, 4.0))
def test_what_the_host_joins_has_the_codes_of_the_whole_where_it_only_moves(
    factor: float | None,
) -> None:
    """A product joined with an input; times a number it has codes of its own."""
    b = ModelBuilder(opset=20)
    x = b.input("x", (ROWS, K))
    product = b.node("MatMul", x, b.const(b.rng.normal(0, K**-0.5, (K, K))))
    scaled = product if factor is None else b.node("Mul", product, b.const(factor))
    joined = b.node("Concat", scaled, x, axis=0)
    model = b.model(b.node("MatMul", joined, b.const(b.rng.normal(0, K**-0.5, (K, K)))))
    network = compiled(model)
    scales = network.quantized.scales
    assert (scales[product] == scales[joined]).all() == (factor is None)
    assert sqnr(model, network) > 30


def test_channels_that_are_seldom_above_zero_reach_further_than_seen() -> None:
    """Three dense layers of one row: calibration on 16 rows sees some channels once, if at all."""
    b = ModelBuilder()
    x = b.input("x", (1, 64))
    for width in (128, 128, 10):
        inner = b.node("Gemm", x, b.weights(64 if x == "x" else 128, width))
        x = inner if width == 10 else b.node("Relu", inner)
    model = b.model(x)
    rng = np.random.default_rng(3)
    rows = [{"x": rng.normal(size=(1, 64)).astype(np.float32)} for _ in range(116)]
    wanted = np.array([onnxruntime_run(model, **each)[0] for each in rows[16:]])

    def reached(smoothing: float | None) -> float:
        options = Options(smoothing=smoothing)
        network = compile_network(model, preset("edge"), rows[:16], batch=None, options=options)
        (name,) = network.model.outputs
        found = np.array([run(network, each, "integers")[name] for each in rows[16:]])
        return decibels(found, wanted)

    assert reached(None) > 27 and reached(None) > reached(0.0)  # one scale a tensor


def test_a_float_model_with_the_machines_gelu() -> None:
    """Its GELU is the machine's but for the bits that the unit drops."""
    model = FloatModel(dense_gelu(False, 4.0))
    (node,) = (node for node in model.nodes if node.op_type == "Gelu")
    op = Activation("gelu", tuple(node.input), node.output[0], function="gelu")
    constants = Constants(factors={"gelu": (1.0,)})
    names = (op.inputs[0], op.output)
    alike = dict.fromkeys(names, Matrix(ROWS, 4 * K)), dict.fromkeys(names, (ROWS, 4 * K))
    approximate = with_machine_gelus(model, [op], constants, *alike)
    x = np.random.default_rng(0).normal(size=(ROWS, K)).astype(np.float32)
    found = approximate.part((), names)({"x": x})
    wanted = machine_gelu(found[op.inputs[0]].astype(np.float64))
    np.testing.assert_allclose(found[op.output], wanted, atol=3 * arithmetic.GELU_SCALE)
    exact = model.part((), names)({"x": x})
    assert np.abs(exact[op.output] - wanted).max() > 5 * arithmetic.GELU_SCALE


def test_channels_far_from_zero_keep_their_steps() -> None:
    """Of one that hardly moves from its mean the scale is that of its range."""
    b = ModelBuilder()
    weights = b.const(b.rng.normal(0, 0.25, (K, 24)))
    bias = b.const(b.rng.choice((-40.0, 40.0), 24))
    h = b.node("Add", b.node("MatMul", b.input("x", (ROWS, K)), weights), bias)
    model = b.model(b.node("Softplus", h))
    (scales,) = (each for each in compiled(model).quantized.scales.values() if len(each) == 24)
    assert scales.max() * 127 < 48


def test_an_epsilon_that_matters() -> None:
    b = ModelBuilder()
    h = b.node("MatMul", b.input("x", (ROWS, K)), b.const(b.rng.normal(0, 1e-3, (K, K))))
    gamma = b.const(np.ones(K))
    model = b.model(b.node("LayerNormalization", h, gamma, b.const(np.zeros(K)), epsilon=1e-4))
    network = compiled(model)
    assert sqnr(model, network) > 30
    (note,) = network.host
    assert note.startswith("the host computes layernorm") and "epsilon" in note


def test_one_line_for_many_norms() -> None:
    b = ModelBuilder()
    h = b.input("x", (ROWS, K))
    for _ in range(5):
        h = b.node("MatMul", h, b.const(b.rng.normal(0, 1e-3, (K, K))))
        h = b.node("LayerNormalization", h, b.const(np.ones(K)), b.const(np.zeros(K)), epsilon=1e-4)
    (note,) = compiled(b.model(h)).host
    assert re.search(r"'LayerNormalization_1', .* and 2 more in float: of each, its epsilon", note)


def test_weights_of_zero_before_a_residual() -> None:
    b = ModelBuilder()
    x = b.input("x", (ROWS, K))
    total = b.node("Add", b.node("MatMul", x, b.const(np.zeros((K, K)))), x)
    model = b.model(b.node("MatMul", total, b.const(b.rng.normal(0, 0.25, (K, K)))))
    assert sqnr(model, compiled(model)) > 30


@pytest.mark.parametrize("biased", [True, False])
def test_long_attention_says_what_it_loses(biased: bool) -> None:
    """One key in 600 has a third of the weight: the others are below half a step, which is said. In
    parts, which a matrix of biases cannot come in, nothing is lost.
    """
    keys, width = 600, 16
    b = ModelBuilder()
    x = b.input("x", (1, keys, width))
    q, k, v = (b.node("MatMul", x, b.const(np.eye(width) * f)) for f in (1.0, 1.0, 1.0))
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1]))
    rng = np.random.default_rng(0)
    if biased:
        scores = b.node("Add", scores, b.const(rng.normal(0, 0.01, (keys, keys))))
    model = b.model(b.node("MatMul", b.node("Softmax", scores, axis=-1), v))
    feeds = {"x": rng.normal(0, 0.75, (1, keys, width)).astype(np.float32)}
    network = compile_network(model, preset("ibert"), [feeds])
    (wanted,) = onnxruntime_run(model, **feeds)
    (found,) = run(network, feeds, "integers").values()
    if biased:
        (note,) = network.notes
        assert "lose probabilities" in note and "columns of like weight" in note
    else:
        assert not network.notes and decibels(found, wanted) > 30
