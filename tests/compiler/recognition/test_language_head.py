"""The output that scores the vocabulary is found, and can be computed for the last position alone."""

import numpy as np
import onnx
import pytest
from cached_decoder import VOCABULARY, WIDTH, decoder
from float_reference import random_inputs
from onnx import TensorProto
from onnx_builder import ModelBuilder, run

from codesign.compiler.graph import Matmul
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.recognition.language_head import scores_output, with_last_scores
from codesign.models.zoo.decoder import lm
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family

SMALL = lm(layers=1, d_model=24, heads=3, d_ff=32, vocab_size=61, max_positions=16)


@pytest.mark.parametrize("name", ("stories260k", "gpt2", "tinyllama-1.1b"))
def test_heads_are_found(name: str) -> None:
    model = export(family(name), seq=4, weights="splat")
    assert scores_output(model) == "logits"


@pytest.mark.parametrize("name", ("bert-base", "t5-mini", "resnet50"))
def test_what_has_none_or_two_kinds_of_tokens_has_none(name: str) -> None:
    config = family(name)
    assert (
        scores_output(export(config, seq=4 if config.has_sequence else None, weights="splat"))
        is None
    )


@pytest.mark.parametrize("table", ("bytes", "fused", "half"))
def test_tables_are_found_behind_formats(table: str) -> None:
    b = ModelBuilder()
    ids = b.input("ids", (1, 5), TensorProto.INT32)
    wide = b.node("Cast", ids, to=TensorProto.INT64)
    if table == "fused":
        words = (b.weights(VOCABULARY, WIDTH), b.weights(5, WIDTH), "")
        norm = (b.weights(WIDTH), b.weights(WIDTH))
        x = b.node("EmbedLayerNormalization", ids, "", words[0], words[1], "", *norm, outputs=2,
                   domain="com.microsoft")[0]  # fmt: skip
    elif table == "bytes":
        codes = b.const(np.ones((VOCABULARY, WIDTH)), "int8")
        x = b.node("Gather", b.node("DequantizeLinear", codes, b.const(0.1)), wide)
    else:
        half = b.const(np.ones((VOCABULARY, WIDTH)), "float16")
        x = b.node("Cast", b.node("Gather", half, wide), to=TensorProto.FLOAT)
    scores = b.node("MatMul", x, b.weights(WIDTH, VOCABULARY))
    model = b.model(scores)
    assert scores_output(model) is None  # its width is not said
    shape = onnx.helper.make_tensor_value_info(scores, TensorProto.FLOAT, (1, 5, VOCABULARY))
    model.graph.output[0].CopyFrom(shape)
    assert scores_output(model) == scores


def test_the_last_scores_are_the_last_of_all() -> None:
    model = export(SMALL, batch=2, seq=7)
    last = with_last_scores(model, "logits")
    assert last is not None
    inputs = random_inputs(SMALL, batch=2, seq=7, seed=1)
    onnx.checker.check_model(last)
    (whole,), (found,) = run(model, **inputs), run(last, **inputs)
    np.testing.assert_allclose(found, whole[:, -1:], atol=1e-5)
    heads = [
        op.m * op.batch
        for graph in (import_onnx(model), import_onnx(last))
        for op in graph.operators()
        if isinstance(op, Matmul) and op.n == SMALL.vocab_size
    ]
    assert heads == [14, 2]


def test_last_scores_stand_before_softcaps_and_biases() -> None:
    """As Gemma's, and with a bias behind the product."""
    b = ModelBuilder()
    x = b.node("Gather", b.weights(VOCABULARY, WIDTH), b.input("ids", (1, 6), TensorProto.INT64))
    y = b.node("Add", b.weights(VOCABULARY), b.node("MatMul", x, b.weights(WIDTH, VOCABULARY)))
    y = b.node("Mul", b.node("Tanh", b.node("Div", y, b.const(30.0))), b.const(30.0))
    model = b.model(y)
    last = with_last_scores(model, y)
    assert last is not None
    ids = np.arange(6).reshape(1, 6)
    np.testing.assert_allclose(run(last, ids=ids)[0], run(model, ids=ids)[0][:, -1:], atol=1e-6)


def test_a_head_that_is_no_product_is_left() -> None:
    b = ModelBuilder()
    x = b.node("Gather", b.weights(VOCABULARY, WIDTH), b.input("ids", (1, 6), TensorProto.INT64))
    y = b.node("Softmax", b.node("MatMul", x, b.weights(WIDTH, VOCABULARY)))
    assert with_last_scores(b.model(y), y) is None
    assert with_last_scores(decoder(), "nowhere") is None
