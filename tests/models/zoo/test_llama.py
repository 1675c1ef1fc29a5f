"""LLaMA-like decoders: a past and its continuation are the whole; shapes that are none are refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from float_reference import forward, random_inputs
from onnx_builder import run

from codesign.hw.errors import ModelError
from codesign.models.zoo.decoder import DecoderConfig, lm
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family
from codesign.models.zoo.llama import LlamaConfig, llama
from codesign.models.zoo.model_config import TextConfig
from codesign.models.zoo.weights import random_weights

SMALL = llama("llama", 2, 48, heads=6, kv_heads=2, d_ff=64, vocab_size=83, max_positions=40)


GPT = lm(layers=2, d_model=48, heads=(12, 5), d_ff=(96, 40), vocab_size=97, max_positions=40)


def outputs(config: TextConfig, ids: Any, seq: int, **cache: Any) -> dict[str, Any]:
    model = export(config, batch=len(ids), seq=seq, seed=3)
    names = [value.name for value in model.graph.output]
    return dict(zip(names, run(model, input_ids=ids, **cache), strict=True))


@pytest.mark.parametrize("first", (0, 1, 7))
@pytest.mark.parametrize("step", (1, 5))
@pytest.mark.parametrize(
    ("config", "cached"),
    ((replace(SMALL, tied=False, biases=True), ((2, 8), (2, 8))), (GPT, ((12, 4), (5, 4)))),
    ids=("llama", "lm"),
)
def test_steps_with_a_past_are_the_whole(
    config: TextConfig, cached: tuple[tuple[int, int], ...], first: int, step: int
) -> None:
    """The cache that one graph writes is what the next reads, from none at all; `cached` are the heads and
    the width of each layer's."""
    config = config.reshaped({"logits": "last"})
    ids = random_inputs(config, batch=2, seq=first + 2 * step, seed=5)["input_ids"]
    cache = {
        f"past_key_values.{layer}.{kind}": np.zeros((2, heads, 0, width), np.float32)
        for layer, (heads, width) in enumerate(cached)
        for kind in ("key", "value")
    }
    past = 0
    for seq in (first, step, step):
        if not seq:
            continue
        found = outputs(config.reshaped({"past": past}), ids[:, past : past + seq], seq, **cache)
        cache = {
            name.replace("present", "past_key_values"): value
            for name, value in found.items()
            if name != "logits"
        }
        past += seq
        wanted = forward(config, random_weights(config, seed=3), {"input_ids": ids[:, :past]})
        last = wanted["logits"][:, -1:]
        np.testing.assert_allclose(found["logits"], last, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    (
        {"kv_heads": 6},
        {"head_dim": 10},
        {"tied": False},
        {"biases": True},
        {"rope_base": 500_000, "epsilon": 1e-2},
        {"logits": "none"},
    ),
)
def test_shapes_equal_the_reference(changes: dict[str, Any]) -> None:
    config = replace(SMALL, **changes)
    inputs = random_inputs(config, batch=2, seq=9, seed=7)
    (wanted,) = forward(config, random_weights(config, seed=3), inputs).values()
    (found,) = outputs(config, inputs["input_ids"], 9).values()
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    (
        ({"kv_heads": 4}, "6 heads do not share 4 keys equally"),
        ({"head_dim": 7}, "head_dim is 7 but rotary positions need an even one"),
        ({"epsilon": 0.0}, "epsilon is 0.0 but must be above 0"),
        ({"past": -1}, "past is -1 but must be a whole number"),
        ({"logits": "some"}, "logits is 'some' but must be all, last or none"),
        ({"d_ff": 0}, "d_ff is 0 but must hold positive whole numbers"),
    ),
)
def test_what_is_no_decoder_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        replace(SMALL, **changes)


@pytest.mark.parametrize("config", (SMALL, GPT), ids=("llama", "lm"))
def test_a_past_needs_a_number_of_tokens_and_room(config: TextConfig) -> None:
    with pytest.raises(ModelError, match="with a past needs a number of tokens: give --seq"):
        export(config.reshaped({"past": 3}), seq=None)
    full = config.reshaped({"past": 40})
    with pytest.raises(ModelError, match="seq 41 exceeds the 40 positions"):
        export(full, seq=1)
    export(full.lengthened(1), seq=1)


def test_lm_takes_a_past_with_a_shape_and_by_name() -> None:
    shaped = family("lm").reshaped({"layers": 3, "d_model": 96, "past": 5, "logits": "last"})
    assert isinstance(shaped, DecoderConfig)
    assert (shaped.layers, shaped.d_model, shaped.past, shaped.logits) == (3, 96, 5, "last")
    assert family("gpt2").reshaped({"past": 3}).name == "gpt2"
    with pytest.raises(ModelError, match="past is -1 but must be a whole number"):
        GPT.reshaped({"past": -1})
    with pytest.raises(ModelError, match="logits is 'some' but must be all or last"):
        GPT.reshaped({"logits": "some"})


def test_options_of_a_command_make_a_shape() -> None:
    """Heads share the width and have keys of their own unless that is said; a past keeps the name."""
    start = family("stories260k")
    shaped = start.reshaped({"d_model": 96, "heads": (4,), "d_ff": (100,), "lm_head": False})
    assert isinstance(shaped, LlamaConfig)
    assert (shaped.name, shaped.kv_heads, shaped.head_dim, shaped.logits) == (
        "llama",
        4,
        24,
        "none",
    )
    assert start.reshaped({"past": 3, "logits": "last"}).name == "stories260k"
    with pytest.raises(
        ModelError, match="layers of stories260k are alike: give one number of heads"
    ):
        start.reshaped({"heads": (4, 8)})
    with pytest.raises(ModelError, match="d_model 64 is not divisible by 5 heads"):
        start.reshaped({"heads": (5,)})
    for name in ("gpt2", "bert-tiny"):
        with pytest.raises(ModelError, match=f"{name} has a fixed shape"):
            family(name).reshaped({"layers": 3})
    with pytest.raises(ModelError, match="t5-mini has a fixed shape"):
        family("t5-mini").reshaped({"past": 3})


@pytest.mark.parametrize(
    ("config", "cached"),
    ((SMALL, ((2, 8), (2, 8))), (GPT, ((12, 4), (5, 4)))),
    ids=("llama", "lm"),
)
def test_a_cache_of_any_length_may_have_places_left_free(
    config: TextConfig, cached: tuple[tuple[int, int], ...]
) -> None:
    """Seven tokens at once, then one behind them in a cache for eleven: as all eight are."""
    ids = random_inputs(config, batch=2, seq=8, seed=5)["input_ids"]
    model = export(config.reshaped({"any_past": True}), batch=None, seq=None, seed=3)
    names = [value.name for value in model.graph.output]

    def found(new: Any, first: int, seen: Any, cache: dict[str, Any]) -> dict[str, Any]:
        places = np.tile(np.arange(first, first + new.shape[1]), (2, 1))
        mask = np.tile(np.array(seen, np.int64), (2, 1))
        feeds = {"input_ids": new, "attention_mask": mask, "position_ids": places, **cache}
        return dict(zip(names, run(model, **feeds), strict=True))

    empty = {
        f"past_key_values.{layer}.{kind}": np.zeros((2, heads, 0, width), np.float32)
        for layer, (heads, width) in enumerate(cached)
        for kind in ("key", "value")
    }
    before = found(ids[:, :7], 0, [1] * 7, empty)
    wider = {
        name: np.pad(before[name.replace("past_key_values", "present")], ((0, 0), (0, 0), (0, 4), (0, 0)),
                     constant_values=9)
        for name in empty
    }  # fmt: skip
    last = found(ids[:, 7:], 7, [1] * 7 + [0] * 4 + [1], wider)
    wanted = forward(config, random_weights(config, seed=3), {"input_ids": ids})["logits"]
    np.testing.assert_allclose(before["logits"], wanted[:, :7], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(last["logits"], wanted[:, 7:], atol=1e-4, rtol=1e-4)
