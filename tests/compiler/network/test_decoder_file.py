"""What a decoder's file is asked, and which files are refused in one line."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_decoder import opened, written

from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.onnx.float_model import FloatModel
from codesign.hw.errors import ModelError
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.export import export


def test_a_cache_of_any_length(tmp_path: Path) -> None:
    file = opened(written(tmp_path, "--past", "dynamic"))
    assert len(file.past) == len(file.present) == 4  # keys and values of two layers
    assert set(file.past.values()) == {2}
    assert file.scores == "logits" and file.scores_all and file.tokens is None


@pytest.mark.parametrize(
    "options", [("--past", "dynamic"), ("--past", "dynamic", "--seq", "1"), ()]
)
def test_it_is_the_function_of_the_file_without_a_cache(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Scores of ten tokens: all at once, or one after another."""
    (tmp_path / "plain").mkdir()
    plain = onnx.load(written(tmp_path / "plain", "--seq", "10"))
    ids = np.random.default_rng(0).integers(270, size=10).tolist()
    wanted = FloatModel(plain).part((), ("logits",))({"input_ids": np.array([ids])})["logits"]
    found = opened(written(tmp_path, *options)).run(ids)["logits"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_longer_cache_with_places_that_are_left_free(tmp_path: Path) -> None:
    file = opened(written(tmp_path, "--past", "dynamic"))
    ids = [3, 1, 4, 1, 5]
    before = file.run(ids[:-1])
    step = file.step(ids[-1], 4, file.cache(before, 4, 11))
    found = file.model.part((), (file.scores,))(step)[file.scores]
    np.testing.assert_allclose(found[0, -1], file.run(ids)["logits"][0, -1], atol=1e-4)


def test_files_that_are_none(tmp_path: Path) -> None:
    bert = export(BertConfig("small", 1, 16, 2, 32, vocab_size=40, max_positions=16), seq=8)
    with pytest.raises(ModelError, match=r"^no output of the file scores its vocabulary"):
        DecoderFile.of(FloatModel(bert))
    with pytest.raises(ModelError, match=r"^the file fixes the length of its key-value cache"):
        opened(written(tmp_path, "--past", "7", "--seq", "1"))


def test_a_file_that_reads_places_from_the_length_of_its_cache(tmp_path: Path) -> None:
    """Its position_ids are an input that nothing reads: every cache must be as long as its tokens."""
    model = onnx.load(written(tmp_path, "--past", "dynamic"))
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "position_ids":
                node.input[index] = "places"
    node = onnx.helper.make_node
    model.graph.node.insert(0, node("Shape", ["past_key_values.0.key"], ["shape"]))
    two = onnx.numpy_helper.from_array(np.array([2]), "two")
    zero = onnx.numpy_helper.from_array(np.array([[0]]), "zero")
    model.graph.initializer.extend([two, zero])
    model.graph.node.insert(1, node("Gather", ["shape", "two"], ["length"]))
    model.graph.node.insert(2, node("Mul", ["position_ids", "zero"], ["zeros"]))
    model.graph.node.insert(3, node("Add", ["zeros", "length"], ["places"]))
    with pytest.raises(
        ModelError, match=r"where its cache is longer than what is in it: write one"
    ):
        DecoderFile.of(FloatModel(model))


def test_a_file_whose_scores_see_later_tokens(tmp_path: Path) -> None:
    model = onnx.load(written(tmp_path, "--seq", "8"))
    masks = [t for t in model.graph.initializer if list(t.dims) == [1, 1, 8, 8]]
    (mask,) = masks
    mask.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, 1, 8, 8), np.float32), mask.name))
    with pytest.raises(ModelError, match=r"^the file's scores change with later tokens"):
        DecoderFile.of(FloatModel(model))
