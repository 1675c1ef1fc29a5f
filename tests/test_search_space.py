"""Search spaces: genes and their meaning, TOML both ways, and one line for whatever is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joint_space import SMALL

from codesign.models import space as models_space
from codesign.search.nsga2 import every_candidate
from codesign.search.space import (
    Architectures,
    SearchSpace,
    SpaceError,
    read_space,
    small_space,
    space_of,
)


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
    heads, d_ff = SMALL.heads(genes), SMALL.d_ff(genes)
    for row, h, f in zip(genes, heads, d_ff, strict=True):
        shape = SMALL.shape(row)
        assert [*shape.heads, *[0] * (3 - shape.layers)] == h.tolist()
        assert [*shape.d_ff, *[0] * (3 - shape.layers)] == f.tolist()
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
        ({"hardware": {"name": ["a", "b"]}}, "hardware.name cannot be a list"),
        ({"hardware": {"dim": ["x"]}}, "dim: 'x'"),
        ({"hardware": {"technology_nm": 7}}, "technology_nm is 7"),
        ({"hardware": {"bandwidth": 7}}, "unknown field 'bandwidth'"),
        ({"constraints": {"area_mm2": -1}}, "constraint area_mm2 is -1"),
        ({"transformer": {"d_ff": list(range(1, 400))}}, "399 choices but at most 255"),
    ],
)
def test_bad_spaces_are_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space_of(document)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_uniform_spaces_share_the_genes_of_all_layers() -> None:
    space = replace(SMALL, transformer=replace(SMALL.transformer, uniform=True))
    assert space.transformer.size == 2 * 2 * 3 * 4
    found = np.concatenate(list(every_candidate(space, 100)))
    assert len(found) == len(np.unique(found, axis=0)) == space.size == 16 * 48
    for genes in (found, space.sample(500, np.random.default_rng(0))):
        np.testing.assert_array_equal(space.canonical(genes), genes)
        for values in (space.heads(genes), space.d_ff(genes)):
            assert ((values == values[:, :1]) | (values == 0)).all()
    assert space.shape(space.corners()[1]) == SMALL.largest


def test_the_space_that_is_trained_holds_every_shape() -> None:
    t = SearchSpace().transformer
    trained = replace(t, heads=t.heads[::-1]).trained(512)
    assert trained.size() == t.size and trained.max_positions == 512
    assert small_space().transformer.trained(64) == models_space.SMALL
    assert trained.largest.d_model == SearchSpace().largest.d_model


def test_the_largest_and_the_corners() -> None:
    small, large = SMALL.corners()
    assert SMALL.shape(large) == SMALL.largest
    assert SMALL.shape(small).layers == 2
    deeper = replace(SMALL, transformer=Architectures(layers=(1,), d_model=(12,), heads=(1,)))
    assert deeper.shape(deeper.corners()[1]).heads == (1,)
