"""Where cycles and joules go: groups and kinds add up to the whole; no kernel is above the roofs."""

import math
import re

import pytest

from codesign.hw.machine.config import PRESETS
from codesign.search.inputs.sources import load_model
from codesign.search.pricing import breakdown
from codesign.search.pricing.evaluate import Result, evaluate


@pytest.fixture(scope="module", params=["ibert", "gemmini"])
def result(request: pytest.FixtureRequest) -> Result:
    return evaluate(load_model("bert-mini", seq=64).graph, PRESETS[request.param])


def test_kernels_and_groups_add_up_to_the_result(result: Result) -> None:
    for rows in (breakdown.kernels(result), breakdown.groups(result)):
        assert sum(row.count for row in rows) == len(result.kernels)
        assert sum(row.cycles for row in rows) == result.cycles
        assert sum(row.host_cycles for row in rows) == result.host_cycles
        assert sum(row.macs for row in rows) == result.macs
        assert sum(row.dram_bytes for row in rows) == result.dram_bytes
        bounds = [(row.energy_low_j, row.energy_j, row.energy_high_j) for row in rows]
        for bound, total in zip(zip(*bounds, strict=True), result.energy_j, strict=True):
            assert math.isclose(sum(bound), total, rel_tol=1e-12)


def test_the_layers_of_bert_are_one_group_each(result: Result) -> None:
    """bert-mini has four equal layers: a kernel of a layer comes four times, under one name."""
    layers = [row for row in breakdown.groups(result) if row.name.startswith("layer")]
    assert layers
    assert {row.count for row in layers} == {4}
    assert all(row.name.startswith("layer{0-3}.") for row in layers)


def test_kinds_add_up_and_the_slowest_is_first(result: Result) -> None:
    totals = breakdown.by_kind(result)
    assert sum(total.cycles for total in totals) == result.cycles
    assert [total.cycles for total in totals] == sorted(
        (total.cycles for total in totals), reverse=True
    )
    nominal = sum(total.energy_j[1] for total in totals)
    assert math.isclose(nominal, result.energy_j[1], rel_tol=1e-12)


def test_no_kernel_is_above_the_roofs(result: Result) -> None:
    placed = [row for row in breakdown.groups(result) if row.intensity is not None]
    assert placed
    for row in placed:
        assert row.intensity is not None
        assert row.macs_per_cycle <= breakdown.roof(result.config, row.intensity, 2)
        busiest = max(row.dram_read_bytes, row.dram_write_bytes)
        assert row.macs_per_cycle <= breakdown.roof(result.config, row.macs / busiest)


def test_the_roof_meets_at_the_ridge() -> None:
    config = PRESETS["ibert"]  # 256 MACs and 16 bytes a cycle
    assert breakdown.roof(config, 1.0) == 16
    assert breakdown.roof(config, 16.0) == breakdown.roof(config, 1e6) == 256
    assert breakdown.roof(config, 8.0, 2) == 256


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["pooler"], "pooler"),
        (["layer0.q", "layer1.q", "layer2.q"], "layer{0-2}.q"),
        (["layer10.q", "layer9.q", "layer3.q"], "layer{3,9-10}.q"),
        (["l0.h1", "l0.h2"], "l0.h{1-2}"),
        (["a.1", "b"], "a.1"),
    ],
)
def test_common_names(names: list[str], common: str) -> None:
    assert breakdown.common_name(names) == common
    assert not re.search(r"\s", common)
