"""int8 from a float model to its outputs: the machine equals plain integers, and both are near float."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from float_reference import random_inputs
from onnx_builder import ModelBuilder
from onnx_builder import run as in_onnxruntime

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.attention.streamed_shape import StreamedAttentionProblem
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.numerics import probe
from codesign.compiler.numerics.calibrate import METHODS, CalibrationError
from codesign.compiler.numerics.options import Options
from codesign.compiler.numerics.quantized import QuantizationError, mask_of
from codesign.compiler.onnx import float_model
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, Part, needed
from codesign.compiler.placement import gelu_error
from codesign.compiler.plan.attention_fusion import WHOLE_KEYS
from codesign.hw.errors import ModelError
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.export import export
from codesign.models.zoo.model_config import ModelConfig

SEQ = 20
BERT = BertConfig("bert", layers=2, d_model=64, heads=4, d_ff=128, vocab_size=50, max_positions=32)
NARROW = replace(BERT, d_model=48, d_ff=112)  # heads of 12 columns, no multiple of dim
DECODER = DecoderConfig("lm", 96, (12, 12), (128, 128), vocab_size=48, max_positions=32)
LONG = WHOLE_KEYS + 16  # tokens whose attention comes in parts
LONG_BERT = replace(BERT, max_positions=LONG)
LONG_DECODER = replace(DECODER, heads=(12,), d_ff=(64,), max_positions=LONG)


def inputs(config: ModelConfig, seed: int, seq: int = SEQ) -> dict[str, Array]:
    """Random tokens; every other seed hides the last keys."""
    feeds = random_inputs(config, batch=1, seq=seq, seed=seed)
    if "attention_mask" in feeds and seed % 2:
        feeds["attention_mask"][:, seq - 1 - seed % (seq // 2) :] = 0
    return feeds


def samples(config: ModelConfig, seq: int = SEQ) -> Iterator[Feeds]:
    return (inputs(config, seed, seq) for seed in range(8))


def network(config: ModelConfig, machine: HardwareConfig, **options: object) -> Network:
    model = export(config, batch=1, seq=SEQ)
    return compile_network(model, machine, samples(config), **options)  # type: ignore[arg-type]


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("accurate", (True, False))
@pytest.mark.parametrize("machine", ("edge", "ibert", "large"))
@pytest.mark.parametrize("config", (BERT, NARROW, DECODER), ids=("bert", "narrow", "decoder"))
def test_the_machine_equals_plain_integers(
    config: ModelConfig, machine: str, accurate: bool
) -> None:
    """Tiling, fusion and placement change no bit; and the result is near the float model's."""
    hardware = preset(machine)
    net = network(config, hardware, accurate=accurate)
    for seed in (100, 101):
        feeds = inputs(config, seed)
        on_machine, plain = run(net, feeds), run(net, feeds, "integers")
        wanted = net.model.part((), net.model.outputs)(feeds)
        for name, value in wanted.items():
            np.testing.assert_array_equal(on_machine[name], plain[name])
            assert cosine(on_machine[name], value) > 0.99


@pytest.mark.parametrize("config", (LONG_BERT, LONG_DECODER), ids=("bert", "decoder"))
def test_attention_in_parts(config: ModelConfig) -> None:
    """With hidden keys and causal: the machine equals plain integers, both are near float, and no
    probability is below a step of int8.
    """
    model = export(config, batch=1, seq=LONG)
    net = compile_network(model, preset("ibert"), (inputs(config, s, LONG) for s in range(2)))
    kinds = [type(step.work.problem) for step in net.plan.steps]
    assert StreamedAttentionProblem in kinds and AttentionProblem not in kinds
    assert not any("softmax" in note for note in net.notes)
    for seed in (100, 101):
        feeds = inputs(config, seed, LONG)
        on_machine, plain = run(net, feeds), run(net, feeds, "integers")
        for name, value in net.model.part((), net.model.outputs)(feeds).items():
            np.testing.assert_array_equal(on_machine[name], plain[name])
            assert cosine(on_machine[name], value) > 0.999


@pytest.mark.parametrize("method", METHODS)
def test_calibrations(method: str) -> None:
    net = network(BERT, preset("ibert"), options=Options(method))
    feeds = inputs(BERT, 100)
    wanted = net.model.part((), net.model.outputs)(feeds)
    for name, value in run(net, feeds, "integers").items():
        assert cosine(value, wanted[name]) > 0.98


def test_a_residual_is_a_whole_number_of_units() -> None:
    """Outlying channels of weights and residual share their scale, and nothing is lost in the sum."""
    model = export(BERT, batch=1, seq=SEQ)
    for weights in model.graph.initializer:
        if weights.name == "layer0.ffn.down.weight":
            values = onnx.numpy_helper.to_array(weights).copy()
            values[:, 5] *= 60
            weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    net = compile_network(model, preset("ibert"), samples(BERT))
    feeds = inputs(BERT, 100)
    wanted = net.model.part((), net.model.outputs)(feeds)["last_hidden_state"]
    assert cosine(run(net, feeds)["last_hidden_state"], wanted) > 0.98


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_calibration_errors() -> None:
    model = export(BERT, batch=1, seq=SEQ)
    machine = preset("ibert")
    with pytest.raises(CalibrationError, match="no calibration data") as error:
        compile_network(model, machine, [])
    one_line(error)
    with pytest.raises(CalibrationError, match="unknown calibration 'most'") as error:
        compile_network(model, machine, samples(BERT), options=Options("most"))
    one_line(error)
    dynamic = export(BERT, batch=1, seq=None)
    with pytest.raises(CalibrationError, match="that sequence length") as error:
        compile_network(dynamic, machine, samples(BERT, 12), seq=SEQ)
    one_line(error)
    with pytest.raises(CalibrationError, match="another shape") as error:
        compile_network(dynamic, machine, [*samples(BERT), inputs(BERT, 0, 12)], seq=SEQ)
    one_line(error)


def filled(value: float) -> onnx.ModelProto:
    """A model whose second V is the same everywhere."""
    model = export(BERT, batch=1, seq=SEQ)
    for weights in model.graph.initializer:
        if weights.name.startswith("layer1.attention.value."):
            array = np.full(tuple(weights.dims), value, dtype=np.float32)
            weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    return model


def test_data_that_is_not_finite() -> None:
    with pytest.raises(CalibrationError, match="is not finite on calibration sample 0") as error:
        compile_network(filled(np.nan), preset("ibert"), samples(BERT))
    assert "neither is the weight 'layer1.attention.value.weight': mend the" in one_line(error)


def test_a_tensor_of_nothing_but_zeros() -> None:
    """Its range is a guess, which is said; what is behind it comes out right."""
    net = compile_network(filled(0.0), preset("ibert"), samples(BERT))
    (note,) = net.notes
    assert "are 0 in all of the calibration data, 'layer1.attention" in note
    feeds = next(samples(BERT))
    found, wanted = (run(net, feeds, "integers"), net.model.part((), net.model.outputs)(feeds))
    for name, value in wanted.items():
        noise = ((found[name] - value) ** 2).sum()
        assert noise < 1e-3 * (value**2).sum()


def test_masks_that_differ_from_query_to_query() -> None:
    net = network(BERT, preset("ibert"))
    step = next(s for s in net.quantized.steps.values() if s.added is not None)
    assert step.added is not None
    with pytest.raises(QuantizationError, match="differs from query to query") as error:
        mask_of(step.added, step.epilogues[0].causal, np.tril(np.full((1, 4, 4), -1e9)))
    one_line(error)


def test_what_is_not_a_number_has_no_code() -> None:
    """The host's root of a negative number, and an input."""
    b = ModelBuilder()
    root = b.node("Sqrt", b.input("x", (4, 16)))
    model = b.model(b.node("MatMul", b.node("Relu", root), b.weights(16, 16)))
    good = {"x": np.ones((4, 16), dtype=np.float32)}
    net = compile_network(model, preset("ibert"), [good], batch=None)
    for value in (-1.0, np.nan):
        with pytest.raises(ModelError, match="is not a number on this input") as error:
            run(net, {"x": np.full((4, 16), value, dtype=np.float32)}, "integers")
        one_line(error)


@pytest.mark.parametrize("size", (1e-6, 1e-3, 1.0, 1e3))
def test_a_residual_of_any_size(size: float) -> None:
    """Far finer than the sums that it is added to, or far coarser."""
    b = ModelBuilder()
    x, residual = b.input("x", (8, 16)), b.input("r", (8, 16))
    model = b.model(b.node("Add", b.node("MatMul", x, b.weights(16, 16)), residual))
    rng = np.random.default_rng(0)
    feeds = {
        name: (factor * rng.normal(size=(8, 16))).astype(np.float32)
        for name, factor in (("x", 1.0), ("r", size))
    }
    net = compile_network(model, preset("ibert"), [feeds], batch=None)
    (wanted,), (found,) = in_onnxruntime(model, **feeds), run(net, feeds).values()
    assert ((found - wanted) ** 2).sum() < 1e-3 * (wanted**2).sum()


@pytest.mark.parametrize("ratio", (0.4, 1.5, 2.4, 60.0))
def test_a_files_residual_in_units_of_its_sums(ratio: float) -> None:
    """Both have scales of the file's: their ratio is no whole number, and may be a small one."""
    b = ModelBuilder(13)
    unit, scale = 0.01, 0.02

    def coded(x: str, step: float) -> str:
        parameters = [b.const(step), b.const(0, "int8")]
        return str(
            b.node("DequantizeLinear", b.node("QuantizeLinear", x, *parameters), *parameters)
        )

    x, residual = b.input("x", (8, 16)), b.input("r", (8, 16))
    codes = b.const(b.rng.integers(-20, 20, (16, 16)) * (b.rng.random((16, 16)) < 0.1), "int8")
    weights = b.node("DequantizeLinear", codes, b.const(unit / scale), b.const(0, "int8"))
    total = b.node("Add", b.node("MatMul", coded(x, scale), weights), coded(residual, ratio * unit))
    model = b.model(total)
    feeds = {
        "x": b.rng.normal(size=(8, 16)).astype(np.float32),
        "r": (b.rng.uniform(-127, 127, (8, 16)) * ratio * unit).astype(np.float32),
    }
    net = compile_network(model, preset("ibert"), [feeds], batch=None)
    (wanted,), (found,) = in_onnxruntime(model, **feeds), run(net, feeds).values()
    assert ((found - wanted) ** 2).sum() < 1e-3 * (wanted**2).sum()


def test_what_is_asked_of_a_model_grows_with_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the square of it, as running all before each layer would: a few times all its nodes."""
    asked = 0

    class Counted(Part):
        def __init__(self, model: FloatModel, given: tuple[str, ...], wanted: tuple[str, ...]):
            nonlocal asked
            super().__init__(model, given, wanted)
            asked += len(needed(model, set(given), list(wanted))[0])

    for module in (float_model, probe, gelu_error):
        monkeypatch.setattr(module, "Part", Counted)
    deep = replace(NARROW, layers=8)
    model = export(deep, batch=1, seq=SEQ)
    compile_network(model, preset("ibert"), samples(deep))
    assert asked < 8 * len(model.graph.node)
