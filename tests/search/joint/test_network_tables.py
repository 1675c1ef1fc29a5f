"""Bulk evaluation equals compiling and pricing each candidate, exactly; prices survive and heal."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from joint_space import SMALL, problem

from codesign.compiler.plan.pricing import Workload
from codesign.hw.machine.config import HardwareConfig
from codesign.models.zoo.axes import Parts, Values
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.families import SEARCHED
from codesign.search.joint.blocks import blocks, graph
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.price_store import PriceStore
from codesign.search.joint.pricing_pool import ProcessPool
from codesign.search.pricing.evaluate import evaluate
from codesign.search.space.networks import networks
from codesign.search.space.space import Genes, SearchSpace


def test_networks_are_the_sum_of_their_layers() -> None:
    """Blocks come from one and two layers; imported networks of other depths have those groups."""
    space, rng = SearchSpace(), np.random.default_rng(0)
    narrow = dataclasses.replace(space, transformer=space.transformer.changed(d_model=(480,)))
    for dim, genes in zip((8, 16, 32), narrow.sample(3, rng), strict=True):
        config, shape = HardwareConfig(dim=dim), narrow.shape(genes)
        choices = dict(narrow.transformer.of_layer)
        heads, d_ff = ([*map(choices[name].index, shape[name])] for name in ("heads", "d_ff"))
        added = blocks(narrow.transformer, (480,), config).network([*zip(heads, d_ff, strict=True)])
        whole = Workload.of(graph(narrow.transformer, shape), config)
        assert added == Counter(dict(zip(whole.shapes, whole.counts.tolist(), strict=True)))


@dataclasses.dataclass(frozen=True)
class Coupled(DecoderConfig):
    """FFNs that are wider where there are more heads, as one part of a layer."""

    family: ClassVar[str] = "coupled"

    @classmethod
    def layer_parts(cls) -> Parts:
        return (("heads", "d_ff"),)

    @classmethod
    def point(cls, values: Values, seq: int, options: Mapping[str, Any]) -> DecoderConfig:
        known: Any = values
        wider = [f + 8 * h for h, f in zip(known["heads"], known["d_ff"], strict=True)]
        return DecoderConfig.point({**known, "d_ff": tuple(wider)}, seq, options)


def test_parts_of_a_layer_are_tried_instead_of_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEARCHED, "coupled", Coupled)
    t = networks("coupled", layers=(1, 2), d_model=(48,), heads=(4, 8, 12), d_ff=(64, 128, 192),
                 sequence=8, vocab_size=100)  # fmt: skip
    config = HardwareConfig(dim=8)
    shape = t.shape((48,), [(8, 128), (12, 192), (8, 64), (12, 64)])
    whole = Workload.of(graph(t, shape), config)
    assert blocks(t, (48,), config).network([(1, 1), (2, 2), (1, 0), (2, 0)]) == Counter(
        dict(zip(whole.shapes, whole.counts.tolist(), strict=True))
    )
    monkeypatch.setattr(Coupled, "layer_parts", DecoderConfig.layer_parts)
    with pytest.raises(AssertionError, match="family coupled is no sum of its layers"):
        blocks(t.changed(sequence=16), (48,), config)


def _equal(space: SearchSpace, genes: Genes) -> int:
    """Check every candidate; returns how many were feasible."""
    tables = NetworkTables(space)
    costs = tables.costs(genes)
    good = np.flatnonzero(costs.feasible)
    cycles, events = tables.events(genes[good])
    for k, row in enumerate(good):
        config = space.machine(int(space.machine_numbers(genes[row][None])[0]))
        full = evaluate(graph(space.transformer, space.shape(genes[row])), config)
        assert full.cycles == cycles[k] == costs.cycles[row]
        np.testing.assert_array_equal(full.events, events[k])
        assert full.energy_j[1] == costs.energy_j[row]
        assert full.edp_js[1] == costs.edp_js[row]
        assert full.latency_s == costs.latency_s[row]
        assert full.area_mm2[1] == costs.area_mm2[row]
    return len(good)


def test_bulk_costs_equal_the_full_path_exactly() -> None:
    genes = SMALL.sample(40, np.random.default_rng(1))
    assert _equal(SMALL, genes) >= 20


@pytest.mark.long
def test_a_thousand_random_candidates_of_the_default_space() -> None:
    assert _equal(SearchSpace(), SearchSpace().sample(1000, np.random.default_rng(2))) >= 600


def test_costs_do_not_depend_on_the_batch() -> None:
    genes = SMALL.sample(300, np.random.default_rng(3))
    tables = NetworkTables(SMALL)
    together = tables.costs(genes)
    for rows in np.array_split(np.random.default_rng(4).permutation(300), 41):
        apart = tables.costs(genes[rows])
        for field in dataclasses.fields(together):
            whole, part = getattr(together, field.name), getattr(apart, field.name)
            np.testing.assert_array_equal(whole[rows], part)


def test_what_breaks_a_constraint_is_said_by_how_much() -> None:
    tight = dataclasses.replace(
        SMALL, constraints=dataclasses.replace(SMALL.constraints, area_mm2=0.4, power_w=0.02)
    )
    genes = tight.sample(200, np.random.default_rng(5))
    costs = NetworkTables(tight).costs(genes)
    free = NetworkTables(
        dataclasses.replace(
            tight, constraints=dataclasses.replace(tight.constraints, area_mm2=None, power_w=None)
        )
    ).costs(genes)
    np.testing.assert_allclose(costs.violation[:, 1], np.maximum(free.area_mm2 / 0.4 - 1, 0))
    checked = costs.violation[:, 1] == 0  # power is only known of machines that may be built
    assert 0 < checked.sum() < 200
    np.testing.assert_allclose(
        costs.violation[checked, 2], np.maximum(free.power_w / 0.02 - 1, 0)[checked]
    )
    assert not costs.feasible.all()


def test_prices_are_kept_and_a_damaged_segment_heals(tmp_path: Path) -> None:
    genes = SMALL.sample(30, np.random.default_rng(6))
    told: list[str] = []
    first = PriceStore(tmp_path / "prices", told.append)
    expected = problem(store=first).tables.costs(genes)
    first.save()
    warm = problem(store=PriceStore(tmp_path / "prices", told.append)).tables
    np.testing.assert_array_equal(warm.costs(genes).edp_js, expected.edp_js)
    assert warm.priced == 0 and not told
    (segment,) = (tmp_path / "prices").glob("*/*.prices")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    healed = problem(store=PriceStore(tmp_path / "prices", told.append)).tables
    np.testing.assert_array_equal(healed.costs(genes).edp_js, expected.edp_js)
    assert healed.priced > 0
    assert len(told) == 1 and "is damaged" in told[0] and "\n" not in told[0]


def test_a_cache_that_cannot_be_written_is_only_warned_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    store = PriceStore(tmp_path / "file" / "prices", told.append)
    tables = problem(store=store).tables
    tables.costs(SMALL.sample(2, np.random.default_rng(7)))
    store.save()
    assert len(told) == 1 and "not cached" in told[0]


def test_lost_workers_cost_nothing_but_time() -> None:
    genes = SMALL.sample(60, np.random.default_rng(8))
    expected = NetworkTables(SMALL).costs(genes)
    pool = ProcessPool(2)
    tables = NetworkTables(SMALL, pool=pool)
    killed: list[int | None] = []

    def kill(done: int, total: int) -> None:
        if not killed and pool.executors:
            victim = next(iter(pool.executors[0]._processes.values()))
            victim.kill()
            killed.append(victim.pid)

    try:
        costs = tables.costs(genes, kill)
    finally:
        pool.close()
    assert killed
    np.testing.assert_array_equal(costs.edp_js, expected.edp_js)
    np.testing.assert_array_equal(costs.cycles, expected.cycles)
