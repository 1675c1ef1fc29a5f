"""The report of errors: its numbers against runs with one thing changed, and causes it must find."""

import numpy as np
import onnx
import pytest
from float_reference import random_inputs
from onnx import numpy_helper

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.error_report import error_report
from codesign.compiler.network.inference import Integers, Network, run
from codesign.compiler.numerics.calibrate import CalibrationError
from codesign.compiler.numerics.options import Options
from codesign.hw.machine.config import preset
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.export import export

SEQ = 12
BERT = BertConfig("bert", layers=1, d_model=32, heads=2, d_ff=64, vocab_size=40, max_positions=16)
FEEDS = [random_inputs(BERT, batch=1, seq=SEQ, seed=seed) for seed in range(20, 23)]


def network(model: onnx.ModelProto, options: Options | None = None) -> Network:
    samples = (random_inputs(BERT, batch=1, seq=SEQ, seed=seed) for seed in range(6))
    return compile_network(model, preset("edge"), samples, options=options or Options())


def with_column(name: str, column: int, factor: float) -> onnx.ModelProto:
    model = export(BERT, batch=1, seq=SEQ)
    (weights,) = (w for w in model.graph.initializer if w.name == name)
    values = numpy_helper.to_array(weights).copy()
    values[:, column] *= factor
    weights.CopyFrom(numpy_helper.from_array(values, name))
    return model


def test_accumulated_and_own_errors() -> None:
    """Of the last kernel the accumulated error is that of the run; of the first, both are the same."""
    net = network(export(BERT, batch=1, seq=SEQ))
    found = error_report(net, FEEDS)
    effects = [error.effect for error in found]
    assert effects == sorted(effects, reverse=True)
    by_name = {error.name: error for error in found}
    first = net.plan.steps[min(net.quantized.steps)].work
    assert by_name[first.name].own == pytest.approx(by_name[first.name].accumulated)
    name = net.model.outputs[0]
    whole = net.model.part((), (name,))
    pairs = [(run(net, feeds, "integers")[name], whole(feeds)[name]) for feeds in FEEDS]
    wrong = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    right = sum(float((b**2).sum()) for _, b in pairs)
    last = next(error for error in found if "ffn.down" in error.name)
    assert last.accumulated == pytest.approx(np.sqrt(wrong / right), rel=1e-4)
    assert len(found) == len(net.quantized.steps)


def test_an_outlying_channel_is_found() -> None:
    """With one scale a tensor, a neuron that fires far costs most, and the remedy says why."""
    model = with_column("layer0.ffn.up.weight", 3, 60.0)
    worst = error_report(network(model, Options(smoothing=0)), FEEDS)
    up = next(error for error in worst if "ffn.up" in error.name)
    assert up.outlier > 20 and "smooth more" in up.remedy
    mended = {error.name: error for error in error_report(network(model), FEEDS)}
    assert mended[up.name].effect < 0.5 * up.effect


def test_clipping_is_found() -> None:
    """Calibrated on little of what it meets, a network clips."""
    model = export(BERT, batch=1, seq=SEQ)
    net = network(model)
    for name, scale in net.quantized.scales.items():
        if "ffn.up" in name or "ffn/" in name:
            scale /= 4  # in place: what was chosen is a quarter of the range
    found = error_report(net, FEEDS, effects=False)
    up = next(error for error in found if "ffn.up" in error.name)
    assert up.clipped > 0.05 and "clipped" in up.remedy
    assert all(np.isnan(error.effect) for error in found)


def test_hidden_rows_do_not_count() -> None:
    """Padding of other tokens changes what padded rows hold, and nothing of the report."""
    net = network(export(BERT, batch=1, seq=SEQ))
    one, other = ({key: value.copy() for key, value in FEEDS[0].items()} for _ in range(2))
    for feeds in (one, other):
        feeds["attention_mask"][:, SEQ - 5 :] = 0
    other["input_ids"][:, SEQ - 5 :] = (other["input_ids"][:, SEQ - 5 :] + 7) % BERT.vocab_size
    names = {"pooler"}
    a, b = (
        {e.name: e for e in error_report(net, [feeds], effects=False)} for feeds in (one, other)
    )
    backend = Integers(net)
    run(net, one, backend)
    assert backend.masks
    for name, error in a.items():
        if not any(part in name for part in names):
            assert error.own == pytest.approx(b[name].own, rel=1e-6)


def test_no_samples() -> None:
    net = network(export(BERT, batch=1, seq=SEQ))
    with pytest.raises(CalibrationError, match="no data to measure") as error:
        error_report(net, [])
    assert "\n" not in str(error.value)
