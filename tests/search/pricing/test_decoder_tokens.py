"""Tokens of decoders: seconds to the first, tokens a second, joules a token; by hand from cycles."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import codesign
from codesign.hw.machine.config import PRESETS
from codesign.search.inputs.decoders import Decoder
from codesign.search.inputs.grid import points
from codesign.search.inputs.sources import load_model
from codesign.search.pricing.evaluate import Result, evaluate
from codesign.search.pricing.sweep import DecoderRow, Row, SweepJob, evaluate_point, feasible_row

IBERT = PRESETS["ibert"]


def priced(name: str, **options: Any) -> Result:
    return codesign.price(codesign.load_model(name, **options), IBERT)


@pytest.fixture(scope="module")
def step() -> Result:
    return priced("stories260k", past=63)


def test_a_step_of_one_token_is_its_own_rate(step: Result) -> None:
    assert step.tokens_per_s == 1 / step.latency_s == pytest.approx(500e6 / step.cycles)
    assert step.energy_per_token_j is not None
    np.testing.assert_array_equal(step.energy_per_token_j, step.energy_j)
    assert step.prefill is not None
    assert step.time_to_first_token_s == step.prefill.cycles / IBERT.clock_hz


def test_the_first_token_comes_of_the_prompt(step: Result) -> None:
    """Less than of a prompt whose every position is scored, and more than of half of it."""
    whole, half = priced("stories260k", seq=63), priced("stories260k", seq=31)
    assert step.time_to_first_token_s is not None
    assert whole.time_to_first_token_s == whole.latency_s > step.time_to_first_token_s
    assert step.time_to_first_token_s > half.latency_s
    assert whole.tokens_per_s is None and whole.energy_per_token_j is None


def test_steps_of_several_tokens_and_sequences_share_their_time() -> None:
    step = priced("stories260k", past=15, seq=4, batch=2)
    assert step.tokens_per_s == 8 / step.latency_s
    assert step.energy_per_token_j is not None
    np.testing.assert_array_equal(step.energy_per_token_j, step.energy_j / 8)


def test_without_a_past_the_step_is_the_prefill() -> None:
    step = priced("stories260k", past=0, seq=5)
    assert step.time_to_first_token_s == step.latency_s and step.prefill is None
    assert step.tokens_per_s == 5 / step.latency_s


def test_keys_and_values_are_read_again_each_step() -> None:
    """Twice the past moves at least its keys and values more: 5 layers, 4 heads of 8 each."""
    short, long = priced("stories260k", past=64), priced("stories260k", past=128)
    assert long.dram_bytes - short.dram_bytes >= 64 * 2 * 5 * 4 * 8


def test_encoders_have_no_tokens() -> None:
    found = priced("bert-tiny", seq=16)
    assert found.decoder is None and found.time_to_first_token_s is None
    assert found.tokens_per_s is None and found.energy_per_token_j is None
    assert type(feasible_row(0, found)) is Row


def test_rows_say_what_results_say(step: Result) -> None:
    model = codesign.load_model("stories260k", past=63)
    sizes: list[int | str] = [1000, "32K", "64K"]
    rows = codesign.sweep(model, codesign.machine(), {"scratchpad_bytes": sizes}, workers=2)
    assert [row.feasible for row in rows] == [False, True, True]
    row = rows[2]
    assert isinstance(row, DecoderRow) and row == replace(feasible_row(2, step), index=2)
    assert row.time_to_first_token_s == step.time_to_first_token_s
    assert row.latency_s is not None and row.tokens_per_s == 1 / row.latency_s
    assert step.energy_per_token_j is not None
    energies = [row.energy_per_token_low_j, row.energy_per_token_j, row.energy_per_token_high_j]
    assert energies == step.energy_per_token_j.tolist()
    table = codesign.table(rows)
    assert table.column("tokens_per_s").to_pylist()[::2] == [None, step.tokens_per_s]
    assert all(row.answered for row in rows)
    assert not replace(row, time_to_first_token_s=None).answered  # as of a version without it


def test_a_machine_that_runs_no_prefill_says_so() -> None:
    """A machine may hold a step's tiles and none of the prefill's; here of another, wider model."""
    small = replace(IBERT, parameter_channels=64)
    model, wide = load_model("stories260k", past=3), load_model("bert-tiny", seq=16)
    decoder = Decoder(1, 3, wide.graph)
    (point,) = points(small, {})
    row = evaluate_point(SweepJob(model.graph, "edp", "default", decoder=decoder), point, small)
    assert isinstance(row, DecoderRow) and row.feasible and row.answered
    assert row.time_to_first_token_s is None
    assert row.first_token_unknown.startswith("the machine cannot run the prefill: ")
    assert "fits no tile" in row.first_token_unknown
    assert evaluate(model.graph, small, decoder=decoder).tokens_per_s == row.tokens_per_s
