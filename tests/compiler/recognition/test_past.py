"""The key-value cache of a file is found by what reads it, in every spelling, and bound by its axes."""

import onnx
import pytest
from cached_decoder import HEADS, LAYERS, SIZE, SPELLINGS, decoder
from onnx import TensorProto
from onnx_builder import ModelBuilder

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.recognition.past import fixed_tokens, past_axes, past_extents, tokens_of
from codesign.hw.errors import ModelError
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family

SYMBOL = "past_sequence_length"
AXES = {"tokens first": 1, "stacked": 3}  # of others 2


@pytest.mark.parametrize("names", ("past_key_values.{}.{}", "past_{1}_{0}", "cache{}{}"))
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_cache_is_found_by_what_reads_it(spelling: str, names: str) -> None:
    found = past_axes(decoder(spelling, names=names))
    kinds = ("both",) if spelling == "stacked" else ("key", "value")
    wanted = {names.format(layer, kind) for layer in range(LAYERS) for kind in kinds}
    assert found == dict.fromkeys(wanted, AXES.get(spelling, 2))


@pytest.mark.parametrize("name", ("stories260k", "gpt2"))
def test_the_cache_of_a_family_is_found(name: str) -> None:
    config = family(name).reshaped({"past": 5})
    found = past_axes(export(config, seq=1, weights="splat"))
    layers = range(5 if name == "stories260k" else 12)
    assert found == {f"past_key_values.{n}.{kind}": 2 for n in layers for kind in ("key", "value")}


@pytest.mark.parametrize("name", ("stories260k", "gpt2", "bert-tiny", "t5-mini", "vit-tiny"))
def test_models_without_a_cache_have_none(name: str) -> None:
    config = family(name)
    assert past_axes(export(config, seq=4 if config.has_sequence else None, weights="splat")) == {}


def test_what_is_joined_for_no_attention_is_no_cache() -> None:
    """Maps of two images that a convolution reads; a token put before others, that projections read."""
    b = ModelBuilder()
    joined = b.node("Concat", *(b.input(n, (1, 2, 8, 8)) for n in "ab"), axis=1)
    assert past_axes(b.model(b.node("Conv", joined, b.weights(3, 4, 1, 1)))) == {}
    b = ModelBuilder()
    joined = b.node("Concat", b.input("first", (1, "n", 16)), b.input("x", (1, 4, 16)), axis=1)
    assert past_axes(b.model(b.linear(joined, 16, 16))) == {}


def test_a_cache_that_a_branch_reads_is_found() -> None:
    """As in merged files: both branches stand for the use of the cache and for none."""
    b = ModelBuilder()
    joined = b.node("Concat", "old", b.input("new", (1, HEADS, 1, SIZE)), axis=2)
    b.node("MatMul", "q", b.node("Transpose", joined, perm=[0, 1, 3, 2]))
    branch = onnx.helper.make_graph(list(b.nodes), "with", [], [])
    outer = ModelBuilder()
    outer.input("old", (1, HEADS, "past", SIZE))
    outer.input("q", (1, HEADS, 1, SIZE))
    use = outer.input("use_cache", (1,), TensorProto.BOOL)
    scores = outer.node(
        "If", use, then_branch=branch, else_branch=onnx.helper.make_graph([], "", [], [])
    )
    assert past_axes(outer.model(scores)) == {"old": 2}


@pytest.mark.parametrize(
    "total", (f"{SYMBOL} + sequence_length", "total_sequence_length", "keys", "s53")
)
def test_masks_are_as_long_as_past_and_sequence(total: str) -> None:
    found = past_extents(decoder(total=total), 9, 3, {})
    assert found == {SYMBOL: 9, "attention_mask.1": 12}
    graph = import_onnx(decoder(total=total), batch=1, seq=3, dims=found)
    whole = import_onnx(decoder(past=9, seq=3, total=12, batch=1))
    assert graph.macs == whole.macs


def test_a_mask_of_another_name_is_told_by_its_extent() -> None:
    """It is not that of the tokens, which a table's rows are looked up with."""
    found = past_extents(decoder(seq="n", total="m", mask="valid"), 9, 3, {})
    assert found == {SYMBOL: 9, "valid.1": 12}
    assert past_extents(decoder(seq="n", total="n", mask="places"), 9, 3, {}) == {SYMBOL: 9}


def test_what_the_user_says_is_kept() -> None:
    model = decoder(total="keys")
    assert past_extents(model, 9, 3, {SYMBOL: 9, "attention_mask.1": 12}) == {}
    with pytest.raises(ModelError, match=f"--past 9 is not --bind {SYMBOL}=8: give one of them"):
        past_extents(model, 9, 3, {SYMBOL: 8})


def test_a_fixed_cache_takes_its_own_length_alone() -> None:
    model = decoder(past=9, seq=3, total=12)
    assert past_extents(model, 9, None, {}) == {}
    with pytest.raises(ModelError, match="--past 8 cannot be used: the file fixes it at 9"):
        past_extents(model, 8, None, {})


def test_a_sequence_that_the_file_fixes_is_counted() -> None:
    """As optimum's decoder_with_past: one token, behind any past."""
    model = decoder(seq=1, total="total")
    assert past_extents(model, 9, None, {})["attention_mask.1"] == 10


def test_a_file_without_a_cache_is_told_how_to_get_one() -> None:
    with pytest.raises(
        ModelError, match="this file has none: write one with codesign export FAMILY --past N"
    ):
        past_extents(export(family("gpt2"), weights="splat"), 9, 1, {})


@pytest.mark.parametrize("flat", (False, True))
def test_tokens_are_what_a_table_is_looked_up_with(flat: bool) -> None:
    """Of T5's decoder a mask of the encoder comes first, and tokens are put in a row before the look-up."""
    b = ModelBuilder()
    b.input("encoder_attention_mask", (2, 12), TensorProto.INT64)
    ids = b.input("ids", (2, 3), TensorProto.INT64)
    given = (
        b.node("Reshape", b.node("Cast", ids, to=TensorProto.INT32), b.ints(-1)) if flat else ids
    )
    model = b.model(b.node("Gather", b.weights(53, 16), given))
    assert tokens_of(model, {"encoder_attention_mask": (2, 12), "ids": (2, 3)}) == 6
    assert fixed_tokens(model) == 3


def test_the_length_of_an_encoder_is_asked_for() -> None:
    """It is no token of the step; its mask is no mask of the past."""
    model = decoder()
    memory = onnx.helper.make_tensor_value_info(
        "encoder_attention_mask", TensorProto.INT64, ("batch_size", "encoder_sequence_length")
    )
    old = onnx.helper.make_tensor_value_info(
        "past_key_values.0.encoder.key",
        TensorProto.FLOAT,
        ("batch_size", HEADS, "encoder_out", SIZE),
    )
    model.graph.input.extend([memory, old])
    with pytest.raises(
        ModelError, match="--bind encoder_sequence_length=VALUE --bind encoder_out=VALUE"
    ):
        past_extents(model, 9, 1, {})
    found = past_extents(model, 9, 1, {"encoder_sequence_length": 20, "encoder_out": 20})
    assert found == {SYMBOL: 9, "attention_mask.1": 10}
