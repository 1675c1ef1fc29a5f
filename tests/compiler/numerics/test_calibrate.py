"""Ranges: against brute force over the values themselves, and the data that says nothing; tensors that
come all at once and in turns."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from codesign.compiler.numerics import calibrate
from codesign.compiler.numerics.calibrate import (
    BINS,
    METHODS,
    CalibrationError,
    Floats,
    Histogram,
    least_divergence,
    least_square,
    observe,
    percentile,
)
from codesign.compiler.numerics.options import Options
from codesign.compiler.onnx.float_model import Array, FloatModel, Part


def drawn(kind: str) -> Floats:
    rng = np.random.default_rng(3)
    values = {
        "normal": rng.standard_normal(40_000),
        "laplace": rng.laplace(size=40_000),
        "outlier": np.append(rng.standard_normal(40_000), 60.0),
        "uniform": rng.uniform(-3, 3, 40_000),
    }
    return values[kind]


def histogram(values: Floats, parts: int = 5) -> Histogram:
    found = Histogram()
    for part in np.array_split(values, parts):
        found.add(part)
    return found


@pytest.mark.parametrize("kind", ("normal", "laplace", "outlier", "uniform"))
def test_histogram_counts_every_value(kind: str) -> None:
    values = np.sort(np.abs(drawn(kind)))  # ascending, so that the bins double on the way
    found = histogram(values)
    assert found.largest == values.max()
    edges = np.arange(BINS + 1) * found.width
    np.testing.assert_array_equal(found.counts, np.histogram(values, edges)[0])


@pytest.mark.parametrize("kind", ("normal", "laplace", "outlier", "uniform"))
def test_percentile_is_numpys(kind: str) -> None:
    values = np.abs(drawn(kind))
    found = histogram(values)
    wanted = np.quantile(values, 0.9999, method="inverted_cdf")
    assert wanted <= percentile(found) <= wanted + found.width


@pytest.mark.parametrize("kind", ("normal", "laplace", "outlier", "uniform"))
def test_least_square_is_the_best_range(kind: str) -> None:
    """None of its candidates has a lower error over the values themselves than by a hundredth."""
    values = np.abs(drawn(kind))

    def error(reach: float) -> float:
        step = reach / 127
        rebuilt = np.clip(np.round(values / step), 0, 127) * step
        return float(((rebuilt - values) ** 2).mean())

    best = min(error(values.max() * share) for share in np.linspace(0.2, 1, 81))
    assert error(least_square(histogram(values))) <= 1.01 * best


def test_least_divergence() -> None:
    """It keeps an even distribution whole, and cuts a lone outlier off."""
    uniform, outlier = drawn("uniform"), drawn("outlier")
    assert least_divergence(histogram(uniform)) > 0.95 * np.abs(uniform).max()
    assert 2.5 < least_divergence(histogram(outlier)) < 20


@pytest.mark.parametrize("method", METHODS)
def test_constant_data_has_its_range(method: str) -> None:
    assert METHODS[method](histogram(np.full(12, 2.5))) == pytest.approx(2.5, rel=0.01)


def linear_model(weights: Floats) -> FloatModel:
    """y = x @ weights with x float32[4, 3]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    return FloatModel(helper.make_model(graph, opset_imports=opset, ir_version=8))


def test_channels_and_squares() -> None:
    rng = np.random.default_rng(0)
    samples = [{"x": rng.standard_normal((4, 3)).astype(np.float32)} for _ in range(5)]
    seen = observe(linear_model(np.eye(3)), ["x", "y"], samples)
    rows = np.concatenate([sample["x"] for sample in samples]).astype(np.float64)
    np.testing.assert_allclose(seen.channels["x"], np.abs(rows).max(axis=0))
    np.testing.assert_allclose(seen.squares["y"], (rows**2).mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("fault", "message"),
    (
        (lambda x: np.full_like(x, np.nan), "'x' is not finite on calibration sample 1"),
        (lambda x: np.full_like(x, 3e38), "'y' is not finite on calibration sample 1"),
        (lambda x: x[:0], "'x' is empty on calibration sample 1"),
        (lambda x: x[:2], "sample 1 has another shape"),
    ),
    ids=("nan", "overflow", "empty", "short"),
)
def test_bad_data_is_one_line(fault: Callable[[Array], Array], message: str) -> None:
    good = np.ones((4, 3), dtype=np.float32)
    model = linear_model(np.full((3, 3), 10.0))
    with pytest.raises(CalibrationError, match=message) as error:
        observe(model, ["x", "y"], [{"x": good}, {"x": fault(good)}])
    assert "\n" not in str(error.value)


def chain_model() -> FloatModel:
    """a = x w, b = relu(a), c = a + b, y = c w."""
    nodes = (("MatMul", "xw", "a"), ("Relu", "a", "b"), ("Add", "ab", "c"), ("MatMul", "cw", "y"))
    weights = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(op, list(read), [written]) for op, read, written in nodes],
        "chain",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    return FloatModel(helper.make_model(graph, opset_imports=opset, ir_version=8))


@pytest.mark.parametrize("most", (1, 500, 900))
def test_turns_see_what_one_run_sees(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few tensors come at once, and however few of their rows are counted at once."""
    rng = np.random.default_rng(0)
    samples = [{"x": rng.standard_normal((100, 3)).astype(np.float32)} for _ in range(3)]
    limits = {"low": ("b", 0.0, 0.5), "high": ("c", -1.0, 2.0), "same": ("b", 0.0, 1.0)}
    names = ["x", "a", "c", "y"]
    model = chain_model()
    whole = observe(model, names, samples, limits)
    asked: list[tuple[str, ...]] = []
    part = model.part

    def counted(given: Sequence[str], wanted: Sequence[str]) -> Part:
        asked.append(tuple(wanted))
        return part(given, wanted)

    monkeypatch.setattr(model, "part", counted)
    monkeypatch.setattr(calibrate, "MOST_AT_ONCE", most)
    monkeypatch.setattr(calibrate, "SLAB", 31)
    turns = observe(model, names, samples, limits, dict.fromkeys("xabcy", 300))
    assert len(asked) == {1: 5, 500: 5, 900: 2}[most]
    for name in names:
        one, other = whole.histograms[name], turns.histograms[name]
        assert (one.width, one.largest) == (other.width, other.largest)
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_array_equal(whole.channels[name], turns.channels[name])
        np.testing.assert_allclose(whole.means[name], turns.means[name], atol=1e-12)
        np.testing.assert_allclose(whole.squares[name], turns.squares[name])
    assert whole.shapes == turns.shapes
    for name in limits:
        assert turns.clamped[name] == pytest.approx(whole.clamped[name])


@pytest.mark.parametrize("smoothing", (-0.1, 1.5, float("nan")))
def test_options_are_checked(smoothing: float) -> None:
    with pytest.raises(CalibrationError, match="is not from 0") as error:
        Options(smoothing=smoothing)
    assert "\n" not in str(error.value)
