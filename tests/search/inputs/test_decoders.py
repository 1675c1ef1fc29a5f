"""Decoders: a step behind a past, of built-in models and of files in every spelling, and its prefill."""

from pathlib import Path

import onnx
import pytest
from cached_decoder import SPELLINGS, VOCABULARY, decoder
from onnx_builder import all_of

from codesign.compiler.graph import Graph, Matmul
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.recognition.language_head import scores_output, with_last_scores
from codesign.hw.errors import ModelError
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family
from codesign.search.inputs.decoders import Decoder
from codesign.search.inputs.sources import Model, graph_digest, load_model


def saved(tmp_path: Path, model: onnx.ModelProto) -> str:
    onnx.save(model, tmp_path / "model.onnx")
    return str(tmp_path / "model.onnx")


def rows_of_head(graph: Graph) -> list[int]:
    return [op.batch * op.m for op in all_of(graph, Matmul) if op.n == VOCABULARY]


@pytest.mark.parametrize("name", ("stories260k", "gpt2"))
def test_a_step_of_a_built_in_model_is_its_export(tmp_path: Path, name: str) -> None:
    built_in = load_model(name, past=63)
    file = saved(tmp_path, export(family(name).reshaped({"past": 63}), seq=1, weights="splat"))
    exported = load_model(file)
    assert graph_digest(exported.graph) == graph_digest(built_in.graph)
    assert built_in.decoder is not None and exported.decoder is not None
    assert (built_in.seq, built_in.decoder.tokens, built_in.decoder.past) == (1, 1, 63)
    assert (exported.decoder.tokens, exported.decoder.past) == (1, 63)
    assert exported.decoder.prefill is None
    assert exported.decoder.unknown == (
        "the file fixes its past at 63: price the prompt as a model of its own, without a past"
    )
    assert load_model(file, past=63).decoder == exported.decoder


def test_the_prefill_of_a_built_in_model_is_its_prompt() -> None:
    """With scores of the last position: 63 rows of the vocabulary less."""
    step, prompt = (
        load_model("stories260k", past=63, batch=2),
        load_model("stories260k", seq=63, batch=2),
    )
    assert step.decoder is not None and step.decoder.prefill is not None
    less = 62 * 2 * 64 * 512
    assert step.decoder.prefill.macs == prompt.graph.macs - less
    assert prompt.decoder == Decoder(126, None)
    assert step.title == "stories260k, sequence 1, past 63, batch 2"


def test_a_step_behind_more_than_a_prompt_can_be_says_why_its_first_token_is_unknown() -> None:
    """Scores of such a prompt have more elements than a tensor may; those of the step have not."""
    past = 2_000_000
    found = load_model("stories260k", past=past).decoder
    assert found is not None and (found.past, found.prefill) == (past, None)
    assert "are beyond 2^40 elements" in found.unknown
    with pytest.raises(ModelError, match="are beyond 2.40 elements"):
        load_model("gpt2", seq=past)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_step_of_a_file_is_that_of_fixed_axes(tmp_path: Path, spelling: str) -> None:
    """And its prefill the same file without a past, with scores of the last position."""
    step = load_model(saved(tmp_path, decoder(spelling)), past=9, seq=3)
    fixed = load_model(saved(tmp_path, decoder(spelling, past=9, seq=3, total=12, batch=1)))
    assert graph_digest(step.graph) == graph_digest(fixed.graph)
    assert step.decoder is not None and step.decoder.prefill is not None
    assert (step.decoder.tokens, step.decoder.past, step.decoder.unknown) == (3, 9, "")
    prompt = decoder(spelling, past=0, seq=9, total=9, batch=1)
    scores = scores_output(prompt)
    assert scores is not None and (last := with_last_scores(prompt, scores)) is not None
    assert graph_digest(step.decoder.prefill) == graph_digest(import_onnx(last))
    assert rows_of_head(step.graph) == [3] and rows_of_head(step.decoder.prefill) == [1]


def test_a_past_of_none_is_a_file_without_a_cache(tmp_path: Path) -> None:
    """In multiplications, of a family and of a file; what runs is the prefill itself."""
    for past, whole in (
        (load_model("stories260k", past=0, seq=7), load_model("stories260k", seq=7)),
        (load_model("gpt2", past=0, seq=7), load_model("gpt2", seq=7)),
    ):
        assert past.graph.macs == whole.graph.macs
        assert past.decoder == Decoder(7, 0)
        assert past.title == f"{past.name}, sequence 7, past 0, batch 1"
    found = load_model(saved(tmp_path, decoder()), past=0, seq=7)
    assert found.decoder == Decoder(7, 0)
    assert (
        found.graph.macs
        == sum(7 * (16 * 16 * 4 + 2 * 7 * 16) for _ in range(2)) + 7 * 16 * VOCABULARY
    )


def test_the_default_is_one_token_and_binding_is_as_good(tmp_path: Path) -> None:
    file = saved(tmp_path, decoder(batch="b"))
    one = load_model(file, past=9)
    assert (one.seq, one.batch) == (1, 1)
    bound = load_model(file, seq=1, named=(("past_sequence_length", 9),))
    assert bound == Model(one.name, bound.graph, 1, 1, bound.decoder)
    assert graph_digest(bound.graph) == graph_digest(one.graph)
    assert bound.decoder is not None and one.decoder is not None
    assert bound.decoder.prefill is not None and one.decoder.prefill is not None
    assert graph_digest(bound.decoder.prefill) == graph_digest(one.decoder.prefill)


def test_a_file_of_one_token_has_no_prefill(tmp_path: Path) -> None:
    """As optimum's decoder_with_past_model.onnx."""
    model = load_model(saved(tmp_path, decoder(seq=1, total="total")), past=9)
    assert model.decoder == Decoder(
        1,
        9,
        unknown="the file takes 1 of 9 tokens: price the prompt as a model of its own, without a past",
    )


def test_a_file_without_a_vocabulary_has_no_first_token(tmp_path: Path) -> None:
    model = decoder()
    del model.graph.output[0]
    loaded = load_model(saved(tmp_path, model), past=9)
    assert loaded.decoder == Decoder(1, 9, unknown="no output of the file scores its vocabulary")


def test_prompts_of_decoders_and_of_no_others_are_prefills(tmp_path: Path) -> None:
    for name, wanted in (("gpt2", Decoder(8, None)), ("bert-base", None), ("t5-mini", None)):
        assert load_model(name, seq=8).decoder == wanted
        assert (
            load_model(saved(tmp_path, export(family(name), seq=8, weights="splat"))).decoder
            == wanted
        )
    assert load_model("resnet50").decoder is None
    body = family("stories260k").reshaped({"lm_head": False})
    assert load_model(saved(tmp_path, export(body, seq=8, weights="splat"))).decoder is None


@pytest.mark.parametrize("name", ("bert-tiny", "t5-mini", "vit-tiny"))
def test_models_without_a_cache_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ModelError, match=f"{name} has no key-value cache: give --past to gpt2, lm, stor"
    ):
        load_model(name, past=3)
    config = family(name)
    file = saved(tmp_path, export(config, seq=4 if config.has_sequence else None, weights="splat"))
    with pytest.raises(ModelError, match="write one with codesign export FAMILY --past N"):
        load_model(file, past=3)


def test_a_cache_of_any_length_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"--past N \(simulate, sweep\) or --bind past_sequence_length=N"
    ):
        load_model(saved(tmp_path, decoder()))


def test_a_past_below_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="past is -1 but must be a whole number"):
        load_model("gpt2", past=-1)
    with pytest.raises(ModelError, match="past_sequence_length is -1 but must be at least 0"):
        load_model(saved(tmp_path, decoder()), past=-1)
