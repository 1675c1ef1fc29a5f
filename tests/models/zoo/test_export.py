"""Exported graphs equal the numpy forward pass in onnxruntime, for every family."""

import dataclasses
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from float_reference import forward, random_inputs, relative_bucket

from codesign.hw.errors import ModelError
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import lm
from codesign.models.zoo.export import export, save
from codesign.models.zoo.families import FAMILIES, family
from codesign.models.zoo.llama import llama
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config, relative_buckets
from codesign.models.zoo.vit import VitConfig
from codesign.models.zoo.weights import parameter_shapes, random_weights

SMALL: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        BertConfig("bert", 2, 48, 4, 96, vocab_size=101, max_positions=40),
        lm(layers=2, d_model=48, heads=(12, 5), d_ff=(96, 40), vocab_size=97, max_positions=40),
        lm(name="body", layers=1, d_model=24, heads=7, d_ff=50, vocab_size=97, lm_head=False),
        llama("llama", 2, 48, heads=6, kv_heads=2, d_ff=64, vocab_size=83, max_positions=40),
        T5Config("t5", 2, 1, 40, heads=3, d_kv=16, d_ff=72, vocab_size=89, max_positions=40),
        VitConfig("vit", 2, 48, heads=3, d_ff=96, image_size=24, patch_size=8, classes=11),
        ResnetConfig("resnet", blocks=(2, 1, 1), width=8, image_size=37, classes=9),
    )
}


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> dict[str, Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def assert_equal(config: ModelConfig, model: onnx.ModelProto, batch: int, seq: int) -> None:
    inputs = random_inputs(config, batch=batch, seq=seq, seed=7)
    expected = forward(config, random_weights(config, seed=3), inputs)
    actual = run(model, inputs)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert value.std() > 0.1, "an output that hardly varies shows nothing"
        assert actual[name].shape == value.shape
        np.testing.assert_allclose(actual[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 23])
@pytest.mark.parametrize("name", SMALL)
def test_static_export_equals_numpy(name: str, opset: int) -> None:
    config = SMALL[name]
    model = export(config, batch=2, seq=13, opset=opset, seed=3)
    onnx.checker.check_model(model, full_check=True)
    assert_equal(config, model, batch=2, seq=13)


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("name", SMALL)
def test_dynamic_export_serves_every_shape(name: str, opset: int) -> None:
    config = SMALL[name]
    model = export(config, batch=None, seq=None, opset=opset, seed=3)
    onnx.checker.check_model(model, full_check=True)
    for batch, seq in ((1, 1), (1, 7), (2, 31), (3, 40)):
        assert_equal(config, model, batch, seq)


def test_t5_source_and_target_lengths_are_independent() -> None:
    config = SMALL["t5"]
    model = export(config, batch=None, seq=None, seed=3)
    inputs = random_inputs(config, batch=2, seq=23, seed=5)
    inputs["decoder_input_ids"] = inputs["decoder_input_ids"][:, :9]
    expected = forward(config, random_weights(config, seed=3), inputs)["logits"]
    actual = run(model, inputs)["logits"]
    assert actual.shape == (2, 9, 89)
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (12, 100)])
def test_relative_buckets_equal_the_logarithmic_formula(
    bidirectional: bool, buckets: int, distance: int
) -> None:
    config = T5Config("t5", 1, 1, 8, 1, 8, 8, 8, buckets, distance)
    table = relative_buckets(301, config, bidirectional)
    for offset in range(-300, 301):
        query, key = (300, 300 + offset) if offset <= 0 else (0, offset)
        assert table[query, key] == relative_bucket(offset, config, bidirectional), offset


@pytest.mark.parametrize(
    ("offset", "bucket"), [(0, 0), (-7, 7), (-8, 8), (-16, 10), (-32, 12), (-64, 14), (-500, 15),
                           (1, 17), (7, 23), (32, 28), (128, 31)]
)  # fmt: skip
def test_relative_buckets_by_hand(offset: int, bucket: int) -> None:
    """8 + 8 log(r / 8) / log(16), plus 16 for later keys, with 32 buckets and distance 128."""
    config = family("t5-mini")
    assert isinstance(config, T5Config)
    assert relative_bucket(offset, config, bidirectional=True) == bucket


@pytest.mark.parametrize(
    ("opset", "present", "absent"),
    [
        (13, {"Erf", "ReduceMean"}, {"LayerNormalization", "Gelu"}),
        (17, {"Erf", "LayerNormalization"}, {"ReduceMean", "Gelu"}),
        (20, {"Gelu", "LayerNormalization"}, {"ReduceMean", "Erf"}),
    ],
)
def test_operators_follow_the_opset(opset: int, present: set[str], absent: set[str]) -> None:
    model = export(SMALL["bert"], batch=1, seq=8, opset=opset)
    kinds = {node.op_type for node in model.graph.node}
    assert present <= kinds and not absent & kinds


@pytest.mark.parametrize("name", FAMILIES)
def test_splat_exports_are_small_valid_and_keep_shapes(name: str) -> None:
    config = FAMILIES[name]
    model = export(config, batch=1, seq=512, weights="splat")
    onnx.checker.check_model(model, full_check=True)
    assert model.ByteSize() < 6_000_000
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    known = {
        info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
    } | {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for parameter, shape in parameter_shapes(config).items():
        assert known[parameter] == shape


def test_splat_export_runs() -> None:
    config = family("bert-mini")
    inputs = random_inputs(config, batch=1, seq=5)
    outputs = run(export(config, seq=5, weights="splat"), inputs)
    assert outputs["last_hidden_state"].shape == (1, 5, 256)
    assert np.isfinite(outputs["last_hidden_state"]).all()


def test_real_sizes_stay_finite_and_equal_numpy() -> None:
    for name in ("bert-tiny", "vit-tiny"):
        config = family(name)
        assert_equal(config, export(config, batch=1, seq=33, seed=3), batch=1, seq=33)
    config = dataclasses.replace(ResnetConfig("resnet50", (3, 4, 6, 3)), image_size=64)
    assert_equal(config, export(config, seed=3), batch=1, seq=1)


def test_given_weights_are_used() -> None:
    config = SMALL["bert"]
    weights = random_weights(config, seed=3)
    assert export(config, weights=weights, seq=9) == export(config, seed=3, seq=9)
    assert export(config, seed=4, seq=9) != export(config, seed=3, seq=9)


def test_given_weights_that_do_not_fit_are_all_named() -> None:
    config = SMALL["bert"]
    weights = random_weights(config)
    del weights["pooler.bias"]
    weights["extra"] = np.zeros(1, np.float32)
    weights["pooler.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(ModelError) as caught:
        export(config, weights=weights)
    for word in ("pooler.bias is missing", "extra is unknown", "[2, 2] instead of [48, 48]"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"opset": 12}, "opset 12"),
        ({"opset": 99}, "opset 99"),
        ({"batch": 0}, "batch is 0"),
        ({"seq": -1}, "seq is -1"),
        ({"seq": 41}, "exceeds the 40 positions"),
    ],
)
def test_impossible_exports_are_refused(arguments: dict[str, int], word: str) -> None:
    with pytest.raises(ModelError, match=word):
        export(SMALL["bert"], **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lm, partial(llama, "llama", vocab_size=9)])
def test_networks_of_endless_layers_are_refused_at_once(make: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ModelError, match="layers makes 2000000000 layers but at most 1000"):
        make(layers=2_000_000_000, d_model=48, heads=12, d_ff=48)


def test_a_file_too_large_for_protobuf_is_refused() -> None:
    config = dataclasses.replace(BertConfig("huge", 48, 1600, 25, 6400))
    with pytest.raises(ModelError, match="splat"):
        export(config)
    assert export(config, weights="splat").ByteSize() < 6_000_000


def test_save_writes_the_whole_model_or_nothing(tmp_path: Path) -> None:
    model = export(SMALL["lm"], seq=4)
    path = tmp_path / "lm.onnx"
    save(model, path)
    assert onnx.load(path) == model
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    (tmp_path / "folder.onnx").mkdir()
    for target in (tmp_path / "missing" / "lm.onnx", tmp_path / "folder.onnx"):
        with pytest.raises(ModelError) as caught:
            save(model, target)
        assert str(target) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.onnx", "lm.onnx"]
