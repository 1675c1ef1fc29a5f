"""A host of estimated cost that takes most of the time is said, with what it computes; others are not.

What is said of users' tables stands in tests/hw/costs/test_user_tables.py.
"""

from pathlib import Path

import onnx
import pytest
from onnx_builder import ModelBuilder

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.plan.lower import Plan, lower
from codesign.hw.costs import host
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import PRESETS
from codesign.search.cli.app import main
from codesign.search.inputs.sources import load_model
from codesign.search.pricing.cost_notes import host_note


def waves(width: int, rows: int = 64) -> onnx.ModelProto:
    """A sine of `width` channels before a product of 32."""
    b = ModelBuilder()
    x = b.node("Sin", b.input("wide", (rows, width)))
    y = b.node("MatMul", b.input("x", (rows, 32)), b.weights(32, 32))
    return b.model(y, x)


def plan_of(graph: object, machine: str = "ibert") -> Plan:
    config = PRESETS[machine]
    return lower(graph, config, "edp", cost_table(config))  # type: ignore[arg-type]


def test_a_function_without_a_unit_is_named_with_its_share() -> None:
    plan = plan_of(import_onnx(waves(64)))
    cycles = sum(step.cycles for step in plan.steps)
    share = host.total_host_cycles("sin", 64 * 64) / cycles
    assert 0.5 < share < 1
    note = host_note(plan)
    assert note is not None and note.startswith(f"{share:.0%} of the cycles are a host's")
    assert f": sin {share:.0%};" in note
    assert "on chip run products, sums and relu, gelu, softmax, layernorm" in note


def test_what_takes_less_than_half_is_no_note() -> None:
    plan = plan_of(import_onnx(waves(1, rows=1)))
    cycles = sum(step.cycles for step in plan.steps)
    assert 0 < sum(step.host_cycles for step in plan.steps) < cycles / 2
    assert host_note(plan) is None
    assert host_note(plan_of(load_model("bert-tiny", seq=16).graph)) is None


def test_calibrated_functions_are_no_note() -> None:
    """The published baseline spends nearly all of its time on its host, whose cost is calibrated."""
    plan = plan_of(load_model("bert-tiny", seq=16).graph, "gemmini")
    assert sum(s.host_cycles for s in plan.steps) > 0.9 * sum(s.cycles for s in plan.steps)
    assert host_note(plan) is None


def test_simulate_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(waves(64), tmp_path / "m.onnx")
    assert main(["simulate", str(tmp_path / "m.onnx")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("codesign: note: ") and "not calibrated (docs/host.md): sin" in line
