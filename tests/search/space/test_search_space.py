"""Search spaces: genes and their meaning, TOML both ways, and one line for whatever is wrong."""

import dataclasses
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joint_space import SMALL

from codesign.models.supernet import space as models_space
from codesign.models.zoo.axes import NetworkShape
from codesign.search.joint.nsga2 import every_candidate
from codesign.search.space.networks import SpaceError, networks
from codesign.search.space.space import SearchSpace, small_space
from codesign.search.space.space_file import read_space, space_of
from codesign.search.training.train_request import trained_space


def test_the_default_is_the_published_table_times_432_machines() -> None:
    """UCB/EECS-2023-92, Table 3.1: layers 3-6, five widths, five head counts, 19 FFN widths."""
    space = SearchSpace()
    assert space.machines == 3 * 6 * 6 * 4
    assert space.transformer.size == 5 * sum((5 * 19) ** n for n in (3, 4, 5, 6))


def test_every_candidate_comes_once_and_is_canonical() -> None:
    found = np.concatenate(list(every_candidate(SMALL, 1000)))
    assert len(found) == SMALL.size == 59_904
    assert len(np.unique(found, axis=0)) == len(found)
    np.testing.assert_array_equal(SMALL.canonical(found), found)
    assert (found < SMALL.cardinalities).all()


def test_samples_are_canonical_and_reach_every_choice() -> None:
    genes = SearchSpace().sample(5000, np.random.default_rng(1))
    space = SearchSpace()
    np.testing.assert_array_equal(space.canonical(genes), genes)
    for column, choices in enumerate(space.cardinalities):
        assert set(genes[:, column].tolist()) == set(range(int(choices)))


def test_genes_decode_to_the_shape_they_stand_for() -> None:
    genes = SMALL.sample(200, np.random.default_rng(2))
    heads, d_ff = SMALL.values("heads", genes), SMALL.values("d_ff", genes)
    for row, h, f in zip(genes, heads, d_ff, strict=True):
        shape = SMALL.shape(row)
        assert [*shape["heads"], *[0] * (3 - shape["layers"])] == h.tolist()
        assert [*shape["d_ff"], *[0] * (3 - shape["layers"])] == f.tolist()
        number = int(SMALL.machine_numbers(row[None])[0])
        machine = SMALL.machine(number)
        for column, (name, values) in enumerate(SMALL.axes):
            assert getattr(machine, name) == values[row[column]]


def test_a_space_survives_its_toml(tmp_path: Path) -> None:
    for space in (SMALL, SearchSpace()):
        path = tmp_path / "space.toml"
        path.write_text(space.to_toml(), encoding="utf-8")
        back = read_space(path)
        assert back.document() == space.document()
        assert back.size == space.size


def test_ranges_and_single_values() -> None:
    space = space_of({"hardware": {"scratchpad_bytes": "16K:64K:x2", "dim": 8, "clock_hz": 10**9}})
    axes = dict(space.axes)
    assert axes["scratchpad_bytes"] == (16384, 32768, 65536)
    assert axes["dim"] == (8,)
    assert space.base.clock_hz == 10**9


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"transformer": {"layers": []}}, "layers has no choices"),
        ({"transformer": {"d_model": [100]}}, "d_model 100 is no multiple of 12"),
        ({"transformer": {"heads": [16]}}, "heads 16 is more than 12"),
        ({"transformer": {"heads": [0]}}, "heads has the choice 0"),
        ({"transformer": {"depth": [3]}}, "unknown field transformer.depth"),
        ({"machine": {}}, "unknown section"),
        ({"hardware": {"preset": "ibert", "name": "large"}}, "unknown field hardware.name"),
        ({"hardware": {"preset": ["ibert", "large"]}}, "hardware.preset cannot be a list"),
        ({"hardware": {"dim": ["x"]}}, "dim: 'x'"),
        ({"hardware": {"technology_nm": 7}}, "technology_nm is 7"),
        ({"hardware": {"bandwidth": 7}}, "unknown field 'bandwidth'"),
        ({"constraints": {"area_mm2": -1}}, "constraint area_mm2 is -1"),
        ({"transformer": {"d_ff": list(range(1, 400))}}, "399 choices but at most 255"),
        ({"constraints": {"area_mm2": math.inf}}, "constraint area_mm2 is inf"),
        ({"constraints": {"power_w": True}}, "constraint power_w is True"),
        ({"constraints": {"sram_timing": "x"}}, "constraint sram_timing is 'x'"),
        ({"transformer": {"layers": [[2]]}}, "layers has the choice [2]"),
        ({"transformer": {"layers": [1, True]}}, "layers has the choice True"),
        ({"transformer": {"sequence": 10**9}}, "sequence is 1000000000"),
        ({"transformer": {"d_model": [12 * 10**9]}}, "d_model has the choice 12000000000"),
        ({"transformer": {"d_ff": [10**9]}}, "d_ff has the choice 1000000000"),
        ({"hardware": {"dim": [3]}}, "dim is 3 but must be a power of two from 4 to 128"),
        ({"hardware": {"dim": [8, 10**12]}}, "dim is 1000000000000 but must be a power of two"),
        ({"hardware": {"bus_bytes": [3]}}, "space: bus_bytes is 3 but must be a power of two"),
        ({"hardware": {"scratchpad_bytes": [7]}}, "space: scratchpad_bytes is 7 but must be"),
        ({"hardware": {"technology_nm": [1]}}, "space: technology_nm is 1 but must be one of"),
        (
            {"hardware": {"dim": [8, 128], "scratchpad_bytes": "16K"}},
            "no machine can have dim 128: scratchpad_bytes is 16384",
        ),
    ],
)
def test_bad_spaces_are_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space_of(document)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("layers", ["[" * 100_000, "9" * 5000])
def test_a_file_beyond_bounds_is_one_line(layers: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(f"[transformer]\nlayers = {layers}\n", encoding="utf-8")
    with pytest.raises(SpaceError, match="is not TOML"):
        read_space(path)


def test_a_value_that_only_some_machines_can_have_stays() -> None:
    """A bus of 64 bytes is too wide for a mesh of 4, the first choice."""
    space = space_of({"hardware": {"dim": [4, 8], "bus_bytes": [4, 64]}})
    assert dict(space.axes)["bus_bytes"] == (4, 64)


def test_genes_of_what_they_decode_to() -> None:
    for row in SMALL.sample(50, np.random.default_rng(3)):
        machine = SMALL.machine(int(SMALL.machine_numbers(row[None])[0]))
        found = SMALL.genes(dataclasses.asdict(machine), SMALL.shape(row))
        np.testing.assert_array_equal(found, row)
    with pytest.raises(SpaceError, match="no d_model of 7"):
        SMALL.genes(
            dataclasses.asdict(machine),
            NetworkShape.of(layers=2, d_model=7, heads=(4, 4), d_ff=(64, 64)),
        )


def test_uniform_spaces_share_the_genes_of_all_layers() -> None:
    space = replace(SMALL, transformer=replace(SMALL.transformer, uniform=True))
    assert space.transformer.size == 2 * 2 * 3 * 4
    found = np.concatenate(list(every_candidate(space, 100)))
    assert len(found) == len(np.unique(found, axis=0)) == space.size == 16 * 48
    for genes in (found, space.sample(500, np.random.default_rng(0))):
        np.testing.assert_array_equal(space.canonical(genes), genes)
        for values in (space.values(name, genes) for name in ("heads", "d_ff")):
            assert ((values == values[:, :1]) | (values == 0)).all()
    assert space.shape(space.corners()[1]) == SMALL.largest


def test_the_space_that_is_trained_holds_every_shape() -> None:
    t = SearchSpace().transformer
    words = dict(t.options)["vocab_size"]
    trained = trained_space(SearchSpace(t.changed(heads=t["heads"][::-1])), 512, words)
    assert trained.size() == t.size and trained.max_positions == 512
    assert trained_space(small_space(), 64, models_space.SMALL.vocab_size) == models_space.SMALL
    assert trained.largest == t.changed(lm_head=True).config(t.largest)


def test_the_largest_and_the_corners() -> None:
    small, large = SMALL.corners()
    assert SMALL.shape(large) == SMALL.largest
    assert SMALL.shape(small)["layers"] == 2
    deeper = replace(SMALL, transformer=networks(layers=(1,), d_model=(12,), heads=(1,)))
    assert deeper.shape(deeper.corners()[1])["heads"] == (1,)
