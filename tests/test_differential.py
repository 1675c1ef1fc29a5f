"""`codesign run` on random small ONNX graphs, held against onnxruntime: see `differential`."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from differential import elementwise, graphs, harness, oracle, special
from differential.graphs import Array
from differential.harness import (
    Case,
    Statistics,
    Verdict,
    judge,
    judged,
    keep,
    make,
)
from differential.oracle import NoReference
from differential.writer import Unfit, Value, Writer
from onnx import TensorProto, helper, numpy_helper

from codesign.compiler.importer.operators import HANDLERS

GATE = 80
LONG = 2_000
RUN = 0.85  # the least share of graphs that are not refused
# Handlers of no operator that a float file of these opsets has: what pattern matching makes, Upsample
# (gone with opset 10), and what quantizers write (`differential.quantized`).
ELSEWHERE = {"Elementwise", "LayerNorm", "RMSNorm", "Upsample"}
ELSEWHERE |= {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}


def require_none_bad(verdicts: Sequence[Verdict], folder: Path) -> None:
    """Print the statistics; fail with the graphs that are wrong without a word, kept in `folder`."""
    statistics = Statistics(list(verdicts))
    print("\n".join(statistics.lines()))
    bad = [f"{each}\n  {keep(each, folder)}" for each in verdicts if each.bad]
    assert not bad, f"{len(bad)} of {len(verdicts)} graphs:\n" + "\n".join(bad)
    assert statistics.share_run() >= RUN, "\n".join(statistics.lines())


def test_random_graphs(tmp_path: Path) -> None:
    """Some of ordinary range; those that ask for the limits of a format are in the long test."""
    cases = [case for case in map(make, range(GATE)) if special.RANGE not in case.kinds]
    require_none_bad([judge(case) for case in cases], tmp_path)


@pytest.mark.long
def test_two_thousand_random_graphs(tmp_path: Path) -> None:
    verdicts = list(judged(range(GATE, GATE + LONG)))
    assert len(verdicts) >= LONG
    operators = frozenset().union(*(each.case.operators for each in verdicts))
    rare = HANDLERS.keys() - operators - ELSEWHERE
    assert (
        len(rare) <= 3
    )  # one of an opset alone may be in none of them: the first that has it follow
    for operator in sorted(rare):
        verdicts.append(judge(next(case for case in more() if operator in case.operators)))
    require_none_bad(verdicts, tmp_path)


def more() -> Iterator[Case]:
    """Cases of seeds beyond those of the long test."""
    for seed in itertools.count(GATE + LONG):
        with contextlib.suppress(NoReference):
            yield make(seed)


def test_the_stages_are_over_all_operators() -> None:
    shapes = ((8, 16), (2, 8, 16), (1, 2, 6, 8), (1, 4, 8, 8))
    operators = set(elementwise.FUNCTIONS)  # each fits the newest opset
    for group in (*(stages for stages, _ in graphs.GROUPS), special.STAGES):
        for stage in dict.fromkeys(group):
            for draw in range(60):
                w = Writer(draw, graphs.OPSETS[-1 - draw % len(graphs.OPSETS)], "float32")
                with contextlib.suppress(Unfit):
                    stage(w, Value("x", shapes[draw % len(shapes)]))
                    operators |= {node.op_type for node in w.nodes}
    for seed in range(300):
        operators |= {node.op_type for node in graphs.draw(seed).model.graph.node}
    assert HANDLERS.keys() - operators <= ELSEWHERE


def test_the_net_is_over_all_opsets_and_types() -> None:
    given = [graphs.draw(seed).model for seed in range(150)]
    assert {model.opset_import[0].version for model in given} == set(graphs.OPSETS)
    inputs = [value.type.tensor_type for model in given for value in model.graph.input]
    types = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64}
    assert {value.elem_type for value in inputs} >= types
    assert {len(value.shape.dim) for value in inputs} >= {2, 3, 4}
    assert {value.shape.dim[0].dim_value for value in inputs} >= {1, 2, 3}


def test_quantized_files_have_all_forms_and_zero_points() -> None:
    made = [make(seed) for seed in range(120) if seed % 10 in (0, 3, 6, 7, 9)]
    forms = {each.form for each in made}
    assert forms == {"float", "QDQ", "QOperator", "dynamic"}
    zeros = {
        (tensor.data_type, int(value))
        for each in made
        for tensor in each.model.graph.initializer
        if tensor.name.endswith("/zero")
        for value in numpy_helper.to_array(tensor).ravel()
    }
    assert {(TensorProto.UINT8, 0), (TensorProto.UINT8, 255), (TensorProto.INT8, -128)} <= zeros
    assert len(zeros) > 30


def test_a_seed_is_one_graph() -> None:
    for seed in (0, 3, 7, 9):
        first, second = make(seed), make(seed)
        assert first.model.SerializeToString() == second.model.SerializeToString()
        assert first.plain(1.02) == second.plain(1.02)


def test_plain_rounding_is_that_of_eight_bits() -> None:
    """127 steps on either side of 0 of the range, for activations and for columns of weights."""
    rng = np.random.default_rng(0)
    x, weights = rng.uniform(-3, 3, (8, 6)).astype(np.float32), rng.normal(0, 1, (6, 4))
    constant = helper.make_tensor("w", TensorProto.FLOAT, (6, 4), weights.ravel())
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, (8, 6))
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, (8, 4))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [given], [found], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    reach = oracle.ranges(model, ("x", "y"), [{"x": x}])
    assert reach["x"] == (float(x.min()), float(x.max()))
    plain = oracle.Session(oracle.rounded(model, reach))({"x": x})["y"]

    def steps(values: Array, reach: Array) -> Array:
        unit = reach / 127
        return np.round(values / unit) * unit

    columns = np.abs(weights.astype(np.float32)).max(axis=0)
    sums = steps(x, np.abs(x).max()) @ steps(weights.astype(np.float32), columns)
    np.testing.assert_allclose(plain, steps(sums, np.abs(x @ weights).max()), rtol=1e-5, atol=1e-5)


def well() -> Verdict:
    """The verdict on the first graph that runs well, but not exactly."""
    return next(v for v in judged(range(50)) if v.outcome == "good" and v.ours < 50)


@pytest.mark.parametrize(
    ("what", "outcome"),
    [("wrong", "silent"), ("short", "fault"), ("raises", "fault"), ("told", "told")],
)
def test_the_net_finds_what_is_wrong(
    what: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is a fifth too large is silent unless a note tells; other shapes, exceptions are faults."""
    case = well().case
    honest = harness.run

    def broken(model: object, feeds: Sequence[oracle.Feeds], calibrated: bool) -> object:
        found, notes = honest(case.model, feeds, calibrated)
        if what == "raises":
            raise KeyError("x")
        change = {"wrong": 1.2, "told": 1.2, "short": 1.0}[what]
        cut = slice(None, -1) if what == "short" else slice(None)
        notes = [*notes, "probabilities are lost"] if what == "told" else notes
        return [{n: (v * np.float32(change))[cut] for n, v in one.items()} for one in found], notes

    monkeypatch.setattr(harness, "run", broken)
    assert judge(case).outcome == outcome


def test_a_verdict_names_its_seed_and_its_graph(tmp_path: Path) -> None:
    verdict = dataclasses.replace(well(), outcome="silent")
    assert f"silent seed {verdict.case.seed}" in str(verdict)
    assert "dB where plain rounding has" in str(verdict)
    assert keep(verdict, tmp_path).stat().st_size > 0
