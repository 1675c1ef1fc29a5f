"""Random inputs of a model: what its nodes do with an input says what it may hold, not its name alone."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx_builder import ModelBuilder

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.onnx.float_model import FloatModel
from codesign.search.inputs import samples
from codesign.search.inputs.sources import Model

ROWS, WIDTH, SEQ = 50, 8, 64


def test_inputs_whose_names_were_exchanged() -> None:
    """The ids give their shape alone, and what is called a mask looks words up."""
    b = ModelBuilder()
    ids = b.input("input_ids", ("batch", "sequence"), TensorProto.INT64)
    words = b.input("attention_mask", ("batch", "sequence"), TensorProto.INT64)
    x = b.node("Gather", b.weights(ROWS, WIDTH), words)
    ones = b.node("Expand", b.const(1.0), b.node("Concat", b.node("Shape", ids), b.ints(1), axis=0))
    proto = b.model(b.linear(b.node("Mul", x, ones), WIDTH, WIDTH))
    model = Model("exchanged", import_onnx(proto, batch=1, seq=SEQ), SEQ, 1)
    inputs = samples.inputs_of(FloatModel(proto), model, {})
    assert [(each.rows, each.read) for each in inputs] == [(None, False), (ROWS, True)]
    drawn = samples.at_random(inputs, seed=0)
    np.testing.assert_array_equal(drawn["input_ids"], np.zeros((1, SEQ)))
    assert len(np.unique(drawn["attention_mask"])) > SEQ // 3


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.float32, np.float64(1e300)),
        (np.float32, np.float64(-4e38)),
        (np.float16, np.float32(1e5)),
        (np.float16, np.int64(-(1 << 40))),
    ],
)
def test_a_number_beyond_the_models_floats_is_the_inputs_fault(
    dtype: type[np.generic], value: np.generic
) -> None:
    wanted = samples.Input("x", (2,), np.dtype(dtype), None)
    with pytest.raises(
        samples.SampleError, match=r"in\.npz: 'x' holds .*beyond the range of .*float"
    ):
        wanted.checked(np.array([0, value]), "in.npz")


def test_random_floats_are_nobody_elses_of_the_same_seed() -> None:
    """Weights drawn from the seed would meet themselves: twelve deviations in one channel."""
    given = samples.Input("x", (1, 64), np.dtype("float32"), None, True)
    drawn = samples.at_random([given], seed=0)["x"].ravel()
    others = (np.random.default_rng(0), np.random.RandomState(0))
    for weights in (other.standard_normal(64) for other in others):
        assert abs(np.corrcoef(drawn, weights)[0, 1]) < 0.5
