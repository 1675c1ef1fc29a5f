"""Scales by channel, known scales, and numbers that stay in their widths at the extremes."""

import numpy as np
import onnx
import pytest
import scalar_model
from bert_network import BERT, SEQ, network
from float_reference import random_inputs
from onnx import helper, numpy_helper

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Integers, Network, run
from codesign.compiler.numerics import integers
from codesign.compiler.numerics.channel_scales import (
    Floats,
    Reader,
    ScaleReaders,
    expected_error,
    least_error,
)
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.numerics.options import Options
from codesign.compiler.numerics.quantized import Epilogue
from codesign.compiler.onnx.float_model import Array
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import preset
from codesign.models.zoo.export import export


def changed(name: str, factor: float, column: int | None = None) -> onnx.ModelProto:
    """The model with a parameter, or one column of it, times a factor."""
    model = export(BERT, batch=1, seq=SEQ)
    (weights,) = (w for w in model.graph.initializer if w.name == name)
    values = numpy_helper.to_array(weights).copy()
    values[..., slice(None) if column is None else column] *= factor
    weights.CopyFrom(numpy_helper.from_array(values, name))
    return model


def relative_error(net: Network) -> float:
    found, wanted = 0.0, 0.0
    for seed in range(20, 26):
        feeds = random_inputs(BERT, batch=1, seq=SEQ, seed=seed)
        exact = net.model.part((), net.model.outputs[:1])(feeds)
        ours = run(net, feeds, "integers")
        for name, value in exact.items():
            found += float(((ours[name] - value) ** 2).sum())
            wanted += float((value**2).sum())
    return float(np.sqrt(found / wanted))


# -- Scales of least error ------------------------------------------------------------------------------


def problem(seed: int, rows: int = 12) -> tuple[ScaleReaders, Floats]:
    """A product whose input has channels of many ranges; and samples of that input."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, rows)) * np.exp(rng.normal(0, 1.5, rows))
    weights = rng.standard_normal((rows, 10))
    importance = 1 / float(((x @ weights) ** 2).sum(axis=1).mean())
    finest = np.abs(x).max(axis=0) / 127
    readers = ScaleReaders(
        finest, (x**2).mean(axis=0), np.zeros(rows), [Reader(weights, importance)]
    )
    return readers, x


def product_error(scales: Floats, on: ScaleReaders, x: Floats) -> float:
    """What rounding to int8 does to the product, by doing it."""
    (reader,) = on.readers
    scaled = reader.weights * scales[:, np.newaxis]
    units = np.abs(scaled).max(axis=0) / 127
    y = np.round(x / scales) @ np.round(scaled / units) * units
    return reader.importance * float(((y - x @ reader.weights) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("seed", range(4))
def test_scales_of_least_error(seed: int) -> None:
    """Expected errors are the real ones, and no perturbed or simple scales have lower ones."""
    on, x = problem(seed)
    scales = least_error(on)
    assert (scales >= on.finest * (1 - 1e-12)).all()
    expected = expected_error(on, scales)
    assert expected == pytest.approx(product_error(scales, on, x), rel=0.25)
    rng = np.random.default_rng(seed)
    for _ in range(200):
        other = np.maximum(on.finest, scales * np.exp(rng.normal(0, 0.2, len(scales))))
        assert expected_error(on, other) > 0.99 * expected
    for exponent in (0.0, 0.5, 1.0):
        simple = on.finest**exponent * on.finest.max() ** (1 - exponent)
        assert expected < 1.01 * expected_error(on, simple)


def test_an_outlying_gelu_channel_has_its_own_scale() -> None:
    """One neuron of a feed-forward layer fires 40 times as far: one scale a tensor loses the rest."""
    model = changed("layer0.ffn.up.weight", 40.0, column=3)
    by_channel = relative_error(network(model))
    by_tensor = relative_error(network(model, options=Options(smoothing=0)))
    assert by_channel < 0.05 and by_channel < 0.5 * by_tensor


def test_options_change_the_integers() -> None:
    model = changed("layer0.ffn.up.weight", 40.0, column=3)
    net = network(model, options=Options(channel_weights=False))
    up = next(
        s
        for s in net.quantized.steps.values()
        if s.weights is not None and s.epilogues[0].function == "gelu"
    )
    assert up.weights is not None
    peaks = np.abs(up.weights.astype(int)).max(axis=0)
    assert peaks.max() == 127 and np.sort(peaks)[-2] < 64  # one unit for all columns
    by_channel = network(model)
    assert relative_error(by_channel) < relative_error(net)
    for scales in network(model, options=Options(smoothing=0)).quantized.scales.values():
        assert scales.shape == (1,)


# -- Extremes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> Network:
    return network(export(BERT, batch=1, seq=SEQ), "ibert")


@pytest.mark.parametrize("sign", (1, -1))
def test_no_unit_overflows_on_the_worst_int8_inputs(net: Network, sign: int) -> None:
    """Each column of a product at its largest sum: the twin in unbounded integers, which asserts
    every width, gives the same bytes.
    """
    backend = Integers(net)
    run(net, random_inputs(BERT, batch=1, seq=SEQ, seed=0), backend)
    functions = set()
    for index, step in net.quantized.steps.items():
        work = net.plan.steps[index].work
        if step.weights is None or len(backend.known[work.outputs[0]]) != SEQ:
            continue  # all but the pooler, which reads a row
        x = backend.known[work.inputs[0]].copy()
        worst = np.argsort(-np.abs(step.weights.astype(int)).sum(axis=0))[: len(x)]
        x[: len(worst)] = np.where(step.weights[:, worst].T * sign > 0, 127, -128)
        known = {**backend.known, work.inputs[0]: x}
        residual = np.zeros((len(x), step.weights.shape[1]), dtype=np.int64)
        (epilogue,) = step.epilogues
        if len(work.inputs) > 1:
            extreme = np.full_like(backend.known[work.inputs[-1]], 127 if sign > 0 else -128)
            known[work.inputs[-1]] = extreme
            residual = extreme.astype(np.int64) * epilogue.scales[0]
        sums = x.astype(np.int64) @ step.weights.astype(np.int64) + residual
        found = integers.integer_outputs(step, work, net.plan.config, net.matrices, known, Mask())
        whole = np.concatenate([found[name] for name in work.outputs], axis=1)
        for row in range(len(worst)):
            np.testing.assert_array_equal(whole[row], twin(epilogue, sums[row]))
        functions.add(epilogue.function)
    assert functions >= {"copy", "gelu", "layernorm"}


def twin(step: Epilogue, sums: Array) -> list[int]:
    """One row of an epilogue by the scalar model."""
    n = len(sums)
    first = (np.broadcast_to(part, (n,)) for part in _parts(step.first))
    v = [
        scalar_model.first_requantizer(int(acc), int(o), int(m), int(s))
        for acc, m, s, o in zip(sums, *first, strict=True)
    ]
    if step.last is None:
        return [scalar_model.clamp(max(x, 0) if step.function == "relu" else x, 8) for x in v]
    if step.function == "gelu":
        value = [scalar_model.gelu(x) for x in v]
    else:
        value = scalar_model.ROW_FUNCTIONS[step.function](v, n)
    last = (np.broadcast_to(part, (n,)) for part in _parts(step.last))
    return [
        scalar_model.second_requantizer(x, int(m), int(o), int(s))
        for x, m, s, o in zip(value, *last, strict=True)
    ]


def _parts(requantizer: object) -> tuple[Array, ...]:
    return tuple(getattr(requantizer, name) for name in ("multiplier", "shift", "offset"))


@pytest.mark.parametrize("value", (127, -128))
def test_attention_at_the_extremes(net: Network, value: int) -> None:
    """Q.K^T as large as int8 makes it: probabilities and context are still those of equal scores."""
    for index, step in net.quantized.steps.items():
        if len(step.epilogues) == 2:
            scores, behind_scores = step.epilogues
            assert scores.last is not None
            work = net.plan.steps[index].work
            shape = (SEQ, BERT.d_model)
            q, k = np.full(shape, value, np.int8), np.full(shape, -128, np.int8)
            v = np.full(shape, 127, np.int8)
            known = dict(zip(work.inputs[:3], (q, k, v), strict=True))
            found = integers.integer_outputs(
                step, work, net.plan.config, net.matrices, known, Mask()
            )
            (context,) = found.values()
            acc = int(value) * -128 * (BERT.d_model // BERT.heads)
            parts = [int(part[0]) for part in _parts(scores.first)]
            score = scalar_model.first_requantizer(acc, parts[2], parts[0], parts[1])
            last = [int(part[0]) for part in _parts(scores.last)]
            row = scalar_model.softmax([score] * SEQ, SEQ)
            p = [scalar_model.second_requantizer(e, last[0], last[2], last[1]) for e in row]
            behind = [int(part[0]) for part in _parts(behind_scores.first)]
            total = 127 * sum(p)
            wanted = scalar_model.first_requantizer(total, behind[2], behind[0], behind[1])
            assert (context == scalar_model.clamp(wanted, 8)).all()
            return
    raise AssertionError("no attention on chip")


# -- Models that do not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "factor"),
    (
        ("layer0.ffn.down.weight", 1e30),
        ("layer0.ffn.up.weight", 1e-35),
        ("layer0.attention.query.weight", 1e12),
        ("layer0.ffn.norm.gamma", 1e36),
    ),
)
def test_overflowing_scales_are_one_line(name: str, factor: float) -> None:
    """Whatever becomes of it, a model out of range ends in integers or in one line."""
    try:
        net = network(changed(name, factor))
    except CodesignError as error:
        assert "\n" not in str(error) and len(str(error)) > 20
    else:
        feeds = random_inputs(BERT, batch=1, seq=SEQ, seed=9)
        for value in run(net, feeds, "integers").values():
            assert np.isfinite(value).all()


def test_a_product_that_is_nothing_beside_an_epsilon() -> None:
    """The machine's norm has no epsilon: the host computes this one, and gamma does not matter."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("LayerNormalization", ["product", "gamma"], ["y"]),
        ],
        "huge",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [8, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [8, 16])],
        [
            numpy_helper.from_array(np.eye(16, dtype=np.float32), "w"),
            numpy_helper.from_array(np.full(16, 1e30, np.float32), "gamma"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    rng = np.random.default_rng(0)
    data = [{"x": (1e-30 * rng.standard_normal((8, 16))).astype(np.float32)}]
    (note,) = compile_network(model, preset("edge"), data, batch=None).host
    assert note.startswith("the host computes layernorm") and "epsilon" in note
