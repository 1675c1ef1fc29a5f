"""Bench of execute_unit: random instructions and tokens against the recurrence of hw/views/timing.py.

The bench stands in for the queue, the token counters, the mesh and the accumulator.
"""

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, Timer
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.encoding import SIGNALS, WAITS, encode
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Issued
from codesign.hw.machine.quantities import ACCESS, ALIGNMENT, HEAD, SUMS, WEIGHTS

INSTRUCTIONS = 300
FIRST_TAG = 1000
WAIT_NAMES, SIGNAL_NAMES = WAITS["execute"], SIGNALS["execute"]
SETTLE_PS = 50


@dataclass
class Step:
    """An instruction and when the recurrence says that it happens."""

    issued: Issued
    dispatch: int
    pop: int = 0
    start: int = 0
    release: int = 0
    complete: int = 0


@dataclass
class Schedule:
    """Steps of a random stream, and the cycles in which tokens of each channel arrive."""

    steps: list[Step] = field(default_factory=list)
    arrivals: list[list[int]] = field(default_factory=lambda: [[], [], []])


def instruction(op: str, rng: random.Random | None = None, **fields: int) -> Issued:
    """An instruction of these fields, with random tokens."""

    def tokens(names: tuple[str, ...], often: float) -> tuple[tuple[str, int], ...]:
        if rng is None or rng.random() > often:
            return ()
        return tuple((name, rng.randint(0, 3)) for name in names)

    return Issued(0, op, fields, {}, {}, tokens(WAIT_NAMES, 0.3), tokens(SIGNAL_NAMES, 0.8))


def schedule(dim: int, count: int, rng: random.Random) -> Schedule:
    """The recurrence, over instructions, dispatch times and token arrivals drawn as it goes."""
    made = Schedule()
    clock, pop, free, release, complete = -1, -1, 0, -1, -1
    preload_start, compute_start, pending, syncs = -dim, -1, False, 0
    slow_queue = late_tokens = False
    style = 0
    for n in range(count):
        if n % 30 == 0:
            slow_queue, late_tokens, style = (
                rng.random() < 0.4,
                rng.random() < 0.5,
                rng.randrange(4),
            )
        ops = ["preload"] * (0 if pending else 4) + ["execute_sync"] * (syncs < 6)
        ops += ["compute"] * (4 if preload_start >= 0 else 0)
        op = rng.choice(ops)
        syncs = syncs + 1 if op == "execute_sync" else 0 if op == "compute" else syncs
        at = {"local": rng.getrandbits(18)}
        if op == "preload":
            at |= {"rows": rng.choice([dim, rng.randint(1, dim)]), "transposed": rng.getrandbits(1)}
        elif op == "compute":
            rows = (1, dim, rng.randint(1, 3), rng.randint(1, 4 * dim))[style]
            at |= {"rows": rows, "depth": dim, "width": 1, "accumulator": rng.getrandbits(18)}
            at |= {"overwrite": rng.getrandbits(1), "aligned": rng.getrandbits(1)}
            if at["aligned"]:
                at |= {
                    "alignment": rng.randint(0, STATE_ROWS - rows),
                    "rescale": rng.getrandbits(1),
                }
        issued = instruction(op, rng, **(at if op != "execute_sync" else {}))
        clock += rng.choice([1, 1, 2, dim]) if slow_queue else 1
        pop = max(clock, pop) + 1
        # tokens come around the time at which they are needed
        bound = -1
        for (_, number), arrivals in zip(issued.waits, made.arrivals, strict=False):
            for _ in range(number):
                near = max(pop, compute_start, preload_start)
                early = near + rng.randint(-30, 2 * dim if late_tokens else -3)
                arrivals.append(max(early, 0, arrivals[-1] if arrivals else 0))
                bound = max(bound, arrivals[-1] + 1)
        match op:
            case "preload":
                pop = max(pop, preload_start)
                start = max(pop + 1, preload_start + dim, compute_start, bound)
                own_release = own_complete = start + dim
                preload_start, pending = start, True
            case "compute":
                pop = max(pop, compute_start)
                start = max(pop + 1, free, preload_start + dim, bound)
                own_release = free = start + issued.values["rows"]
                own_complete = free + 2 * dim + 4
                compute_start, pending = start, False
            case _:
                start = pop = max(pop, release + 1, bound)
                own_release = own_complete = start + 1
        release, complete = max(release + 1, own_release), max(complete + 1, own_complete)
        made.steps.append(Step(issued, clock, pop, start, release, complete))
    return made


def packed(tokens: tuple[tuple[str, int], ...], names: tuple[str, ...]) -> int:
    """Counts as a tokens_t."""
    return sum(dict(tokens).get(name, 0) << (8 * i) for i, name in enumerate(names))


def counts(value: Any) -> list[int]:
    return list(int(value).to_bytes(3, "little"))


def alignment(row: int) -> dict[str, int]:
    """What the memory of alignments holds: every shift, of both kinds."""
    return {"shift": row * 7 % 32, "old": row // 3 % 2}


def streams(dim: int, steps: list[Step]) -> dict[str, dict[int, Any]]:
    """What each stream of the unit shows in each cycle."""
    names = ("a", "b", "a_mesh", "b_mesh", "swap", "alignment")
    seen: dict[str, dict[int, Any]] = {name: {} for name in names}
    swap = False
    for tag, step in enumerate(steps, FIRST_TAG):
        v, first = step.issued.values, step.start + 1
        if step.issued.op == "preload":
            swap = True
            for i in range(dim):
                if i < v["rows"]:
                    seen["b"][first + i] = (v["local"] + i, tag)
                seen["b_mesh"][first + 2 + i] = {
                    "first": i == 0,
                    "zero": i >= v["rows"],
                    "transposed": v["transposed"],
                }
        elif step.issued.op == "compute":
            if swap:
                seen["swap"][first + 1] = ()
            swap = False
            for i in range(v["rows"]):
                last = i == v["rows"] - 1
                seen["a"][first + i] = (v["local"] + i, tag)
                by = {"shift": 0, "old": 0}
                if v["aligned"]:
                    seen["alignment"][first + i] = (v["alignment"] + i, tag)
                    by = alignment(v["alignment"] + i)
                by = by if v.get("rescale") or not by["old"] else {"shift": 0, "old": 0}
                seen["a_mesh"][first + 2 + i] = {
                    "row": v["accumulator"] + i,
                    "accumulate": not v["overwrite"],
                    "last": last,
                    "tag": tag,
                    "align": by["shift"],
                    "align_old": by["old"],
                }
    return seen


async def reset(dut: Any) -> None:
    """Reset with an empty queue and no tokens."""
    dut.head_i.value = dut.acc_done_i.value = 0
    dut.waits_ready_i.value = dut.compute_waits_ready_i.value = 0
    dut.rst_ni.value = 0
    await Timer(1, "ps")
    await start_clock_and_reset(dut)


def check_starts(dut: Any, starts: dict[str, dict[int, int]], cycle: int, where: str) -> None:
    """What starts in a cycle is what should, by the starts of each operation."""
    for op, port in (("preload", "preload"), ("compute", "compute"), ("execute_sync", "sync")):
        started = getattr(dut, f"{port}_start_o").value == 1
        assert started == (cycle in starts[op]), f"start of {op}: {where}"


def check_streams(dut: Any, seen: dict[str, dict[int, Any]], cycle: int, where: str) -> None:
    """Reads of rows, weights and alignments, and what goes to the mesh."""
    for name in ("a", "b", "alignment"):
        read = ACCESS.unpack(int(getattr(dut, f"{name}_read_o").value))
        assert read["valid"] == (cycle in seen[name]), f"{name}: {where}"
        if cycle in seen[name]:
            assert (read["row"], read["tag"]) == seen[name][cycle], f"{name}: {where}"
    for name, port, payload in (("a", "sums", SUMS), ("b", "slot", WEIGHTS)):
        beside = seen[f"{name}_mesh"].get(cycle)
        assert getattr(dut, f"{name}_valid_o").value == (beside is not None), where
        shown = payload.unpack(int(getattr(dut, f"{name}_{port}_o").value))
        assert beside in (None, shown), f"{name}: {where}"
    assert dut.a_swap_o.value == (cycle in seen["swap"]), f"swap: {where}"


@cocotb.test()
async def follows_the_recurrence(dut: Any) -> None:
    """Pops, starts, reads, mesh inputs, releases and completions, each in its cycle."""
    dim, seed = int(os.environ["DIM"]), int(os.environ["SEED"])
    await reset(dut)
    made = schedule(dim, INSTRUCTIONS, random.Random(seed))
    steps = made.steps
    seen = streams(dim, steps)
    starts = {
        op: {s.start: tag for tag, s in enumerate(steps, FIRST_TAG) if s.issued.op == op}
        for op in ("preload", "compute", "execute_sync")
    }
    pops = {step.pop for step in steps}
    releases = {step.release: packed(step.issued.signals, SIGNAL_NAMES) for step in steps}
    completes = {step.complete: packed(step.issued.signals, SIGNAL_NAMES) for step in steps}
    tokens = [0, 0, 0]
    arrivals = [Counter(times) for times in made.arrivals]
    written = {cycle + 2 * dim + 2 for cycle, row in seen["a_mesh"].items() if row["last"]}
    head = 0
    for cycle in range(steps[-1].complete + 3):
        valid = head < len(steps) and steps[head].dispatch < cycle
        word = encode(steps[head].issued) if valid else 0
        dut.head_i.value = HEAD.pack({"valid": valid, "instr": word, "tag": FIRST_TAG + head})
        dut.acc_done_i.value = cycle in written
        due = alignment(seen["alignment"].get(cycle - 2, (cycle, 0))[0])
        dut.alignment_data_i.value = ALIGNMENT.pack(due)
        await Timer(SETTLE_PS, "ps")
        needs = counts(dut.compute_waits_o.value)
        dut.compute_waits_ready_i.value = all(n <= t for n, t in zip(needs, tokens, strict=True))
        await Timer(SETTLE_PS, "ps")
        if dut.compute_start_o.value == 1:
            tokens = [t - n for n, t in zip(needs, tokens, strict=True)]
        needs = counts(dut.waits_o.value)
        dut.waits_ready_i.value = all(n <= t for n, t in zip(needs, tokens, strict=True))
        await Timer(SETTLE_PS, "ps")
        if dut.preload_start_o.value == 1 or dut.sync_start_o.value == 1:
            tokens = [t - n for n, t in zip(needs, tokens, strict=True)]
        where = f"cycle {cycle}, instruction {FIRST_TAG + head} at the head"
        check_starts(dut, starts, cycle, where)
        assert dut.head_pop_o.value == (cycle in pops), f"pop: {where}"
        assert dut.release_o.value == (cycle in releases), f"release: {where}"
        assert dut.release_signals_o.value == releases.get(cycle, 0), where
        assert dut.complete_o.value == (cycle in completes), f"complete: {where}"
        assert dut.complete_signals_o.value == completes.get(cycle, 0), where
        taken = head and cycle <= steps[head - 1].complete
        assert dut.idle_o.value == (not taken), f"idle: {where}"
        check_streams(dut, seen, cycle, where)
        head += int(dut.head_pop_o.value)
        for channel, times in enumerate(arrivals):
            tokens[channel] += times[cycle]
        await FallingEdge(dut.clk_i)
    assert head == len(steps)


PRELOAD = instruction("preload", rows=4)
MISUSES = {
    "no_weights": (
        [instruction("compute", rows=1, depth=1, width=1)],
        "instruction 1000 computes, but no weights were preloaded",
    ),
    "no_rows": (
        [PRELOAD, instruction("compute", depth=1, width=1)],
        "instruction 1001 computes no rows",
    ),
    "deep_tile": (
        [PRELOAD, instruction("compute", rows=1, depth=5, width=1)],
        "instruction 1001 uses 5 rows and 1 columns of a tile",
    ),
    "alignments_outside": (
        [PRELOAD, instruction("compute", rows=3, depth=1, width=1, aligned=1, alignment=510)],
        "instruction 1001 aligns 3 rows from alignment 510 on, beyond the last",
    ),
    "not_aligned": (
        [PRELOAD, instruction("compute", rows=3, depth=1, width=1, rescale=1)],
        "instruction 1001 has an alignment, but is not aligned",
    ),
    "many_preload_rows": ([instruction("preload", rows=5)], "instruction 1000 preloads 5 rows"),
    "unused_weights": (
        [PRELOAD, PRELOAD],
        "instruction 1001 overwrites the weights of instruction 1000, which no compute used",
    ),
    "preload_outside": (
        [instruction("preload", rows=2, local=(1 << 20) - 1)],
        "instruction 1000 preloads 2 rows at 1048575, beyond the scratchpad",
    ),
    "rows_outside": (
        [PRELOAD, instruction("compute", rows=9, depth=1, width=1, local=(1 << 20) - 8)],
        "instruction 1001 reads 9 rows at 1048568, beyond the scratchpad",
    ),
    "sums_outside": (
        [PRELOAD, instruction("compute", rows=9, depth=1, width=1, accumulator=(1 << 20) - 8)],
        "instruction 1001 writes 9 rows at 1048568, beyond the accumulator",
    ),
    "mvin": ([Issued(0, "mvin", {}, {}, {}, (), ())], "has opcode 1, which is not for execute"),
}


@cocotb.test()
async def misuse(dut: Any) -> None:
    """Feeds the unit one of MISUSES."""
    await reset(dut)
    dut.waits_ready_i.value = dut.compute_waits_ready_i.value = 1
    for tag, issued in enumerate(MISUSES[os.environ["MISUSE"]][0], FIRST_TAG):
        dut.head_i.value = HEAD.pack({"valid": 1, "instr": encode(issued), "tag": tag})
        await Timer(SETTLE_PS, "ps")
        while dut.head_pop_o.value == 0:
            await FallingEdge(dut.clk_i)
            await Timer(SETTLE_PS, "ps")
        await FallingEdge(dut.clk_i)


@pytest.mark.parametrize(("dim", "seed"), [(4, 1), (4, 2), (4, 3), (16, 4), (16, 5)])
def test_execute_unit(dim: int, seed: int) -> None:
    run_bench(
        "execute_unit",
        __name__,
        {"Dim": dim},
        testcase="follows_the_recurrence",
        environment={"DIM": str(dim), "SEED": str(seed)},
        seed=seed,
    )


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_of_execute_unit_names_the_instruction(name: str) -> None:
    run_bench(
        "execute_unit",
        __name__,
        {"Dim": 4},
        testcase="misuse",
        environment={"MISUSE": name},
        fails_with=MISUSES[name][1],
    )
