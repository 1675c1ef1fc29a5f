"""Accelergy tables: what comes in replaces exactly the costs it names, and what goes out comes back."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from codesign.hw.costs import accelergy, area, energy
from codesign.hw.errors import TableError
from codesign.hw.machine.config import preset
from codesign.hw.machine.events import EVENT_INDEX, EVENTS

CONFIG = preset("ibert")

# As Accelergy 0.4 writes it: hierarchical names with instance ranges, quoted version, arguments.
ERT = """\
ERT:
    version: '0.4'
    tables:
      - name: system.chip.scratchpad[1..1]
        actions:
          - {name: read, arguments: {data_delta: 1}, energy: 7.25}
          - {name: read, arguments: {data_delta: 0}, energy: 1.5}
          - {name: leak, arguments: {}, energy: 0.5}
      - name: system.chip.pe[0..255]
        actions:
          - {name: compute, arguments: {}, energy: 0.125}
          - {name: leak, arguments: {}, energy: 0.001}
      - name: system.DRAM
        actions:
          - {name: read, arguments: {}, energy: 100}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "table.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_actions_cover_every_cost() -> None:
    assert sorted(accelergy.ACTIONS.values()) == sorted({*EVENTS, *energy.STANDING} - {"macs"})
    assert {component for component, _ in accelergy.ACTIONS} == set(energy.COMPONENTS)


def test_named_actions_replace_shipped_costs(tmp_path: Path) -> None:
    overrides = accelergy.load_ert(_write(tmp_path, ERT))
    table = energy.cost_table(CONFIG, overrides)
    shipped = energy.cost_table(CONFIG)
    given = {"scratchpad_reads": 7.25, "pe_active": 0.125, "dram_read_bytes": 100.0}
    for event, column in EVENT_INDEX.items():
        if event in given:
            np.testing.assert_allclose(table.event_j[:, column], given[event] * 1e-12)
        else:
            np.testing.assert_array_equal(table.event_j[:, column], shipped.event_j[:, column])
    watts = (0.5 + 256 * 0.001) * 1e-12 * CONFIG.clock_hz
    np.testing.assert_allclose(table.leakage_w, watts)
    np.testing.assert_array_equal(table.pe_idle_j, shipped.pe_idle_j)


def test_what_is_missing_is_listed(tmp_path: Path) -> None:
    overrides = accelergy.load_ert(_write(tmp_path, ERT))
    given = {"scratchpad_reads", "pe_active", "dram_read_bytes", "leakage", "macs"}
    assert set(overrides.missing) == {*EVENTS, *energy.STANDING} - given
    notes = energy.cost_table(CONFIG, overrides).notes
    assert {note.split(":")[0] for note in notes} == set(overrides.missing)


@pytest.mark.parametrize("name", ["ibert", "gemmini", "large"])
@pytest.mark.parametrize("tables", energy.TABLES)
def test_ert_round_trip(tmp_path: Path, name: str, tables: str) -> None:
    config = preset(name)
    shipped = energy.cost_table(config, tables)
    overrides = accelergy.load_ert(_write(tmp_path, accelergy.dump_ert(shipped, CONFIG)))
    back = energy.cost_table(config, overrides)
    assert not overrides.missing
    for bound in range(3):
        np.testing.assert_allclose(back.event_j[bound], shipped.event_j[1], rtol=1e-12)
        np.testing.assert_allclose(back.pe_idle_j[bound], shipped.pe_idle_j[1], rtol=1e-12)
        np.testing.assert_allclose(back.leakage_w[bound], shipped.leakage_w[1], rtol=1e-12)
        np.testing.assert_allclose(
            back.dram_background_w[bound], shipped.dram_background_w[1], rtol=1e-12
        )


def test_an_edited_template_changes_one_cost(tmp_path: Path) -> None:
    document = yaml.safe_load(accelergy.dump_ert(energy.cost_table(CONFIG), CONFIG))
    host = next(t for t in document["ERT"]["tables"] if t["name"].endswith("host"))
    host["actions"][0]["energy"] = 12.5
    overrides = accelergy.load_ert(_write(tmp_path, yaml.safe_dump(document)))
    events = np.zeros(len(EVENTS), dtype=np.int64)
    events[EVENT_INDEX["host_cycles"]] = 1000
    parts = energy.breakdown(energy.cost_table(CONFIG, overrides), events, 0)
    np.testing.assert_allclose(parts["host"], 12.5e-9)


def test_art_round_trip_and_instances(tmp_path: Path) -> None:
    shipped = area.area_mm2(CONFIG)
    overrides = accelergy.load_art(_write(tmp_path, accelergy.dump_art(shipped, CONFIG)))
    back = area.area_mm2(CONFIG, overrides)
    for component, (_, nominal, _) in shipped.components.items():
        assert back.components[component] == pytest.approx((nominal,) * 3)
    art = "ART: {version: 0.4, tables: [{name: 'chip.pe[0..255]', area: 453.0}]}"
    some = area.area_mm2(CONFIG, accelergy.load_art(_write(tmp_path, art)))
    assert some.components["mesh"] == pytest.approx((256 * 453e-6,) * 3)
    assert some.components["scratchpad"] == shipped.components["scratchpad"]


def _ert(tables: str, version: str = "0.4") -> str:
    return f"ERT: {{version: {version}, tables: {tables}}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            _ert("[{name: a.dsp, actions: []}, {name: noc, actions: []}]"),
            "components dsp, noc: rename",
        ),
        (_ert("[{name: mesh, actions: [{name: multiply, energy: 1}]}]"), "one of compute, idle"),
        (_ert("[{name: mesh, actions: [{name: compute, energy: -1}]}]"), "energy is -1 but"),
        (_ert("[{name: mesh, actions: [{name: compute, energy: .nan}]}]"), "energy is nan but"),
        (_ert("[{name: mesh, actions: [{name: compute, energy: x}]}]"), "energy is 'x' but"),
        (_ert("[{name: mesh, actions: [{name: compute}]}]"), "energy is None but"),
        (_ert("[{name: mesh, actions: [7]}]"), "energy is None but"),
        (_ert("[{name: mesh}]"), "mesh has no list of actions"),
        (_ert("[]", version="0.3"), "only version 0.4"),
        (_ert("{}"), "is no Accelergy ERT"),
        ("ART: {version: 0.4, tables: []}", "is no Accelergy ERT"),
        ("just text", "is no Accelergy ERT"),
        ("", "is no Accelergy ERT"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(TableError) as caught:
        accelergy.load_ert(path)
    message = str(caught.value)
    assert words in message and str(path) in message and "\n" not in message


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot read"):
        accelergy.load_ert(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="is not YAML"):
        accelergy.load_art(binary)
    with pytest.raises(TableError, match="unknown components tlb"):
        accelergy.load_art(_write(tmp_path, "ART: {version: 0.4, tables: [{name: tlb, area: 1}]}"))
