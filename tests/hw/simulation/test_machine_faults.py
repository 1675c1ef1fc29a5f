"""Programs that break the machine's contract: the RTL stops at an assertion that names the
instruction, and the models (functional, timing, races) refuse the same Program.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_faults import (
    BANK,
    CONFIG,
    DRAM_BYTES,
    FILL,
    ILLEGAL_SHIFTS,
    ROWS,
    SETS,
    SUM_BANK,
    SUMS,
    SYNC,
    WEIGHTS,
    Fault,
    check,
    compute,
    mvin,
    mvout,
    preload,
    refused,
    signalling,
    stopped,
    waiting,
)

from codesign.hw.machine.arithmetic import inverse
from codesign.hw.machine.encoding import SIGNALS
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import FUNCTIONS
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Body, Instruction

# -- A Program without fault, and what each of its tokens is for -----------------------------------------

# Twice: load A and weights, multiply, drain to the scratchpad, multiply that, drain to DRAM. The
# second round takes the rows of the first, and its sums add to a loaded bias.
A, STORED, BIAS = 0, BANK, 2
LONG = 24


def round_trip(waits: frozenset[str]) -> Body:
    """The Program, in which instructions wait only for tokens of the channels in `waits`."""
    body: list[Instruction] = []

    def add(node: Instruction, wait: tuple[str, ...], signal: tuple[str, ...]) -> None:
        for channel in wait:
            node = waiting(node, channel) if channel in waits else node
        for channel in signal:
            node = signalling(node, channel) if channel in waits else node
        body.append(node)

    for again in (False, True):
        later = ("consumed", "emptied", "finished") if again else ()
        add(mvin(A, LONG), later[:1], ())
        add(mvin(WEIGHTS), later[2:], ("loaded",))
        add(mvin(0, LONG, "accumulator_int32"), later[1:2], ("loaded", "filled"))
        add(mvin(0, 2, "parameters"), (), ("filled",))
        add(preload(), ("loaded", "drained")[: 1 + again], ())
        add(compute(A, 0, LONG, overwrite=False), ("loaded",), ("consumed", "computed"))
        stored = {"destination": "scratchpad", "local": STORED, "channel_scale": True}
        add(mvout(0, LONG, **stored), ("filled", "filled", "computed"), ("stored", "emptied"))
        add(preload(WEIGHTS), ("stored",), ())
        add(compute(STORED, SUM_BANK, LONG), (), ("computed", "finished"))
        add(mvout(SUM_BANK, LONG), ("computed",), ("drained",))
    for channel in ("consumed", "emptied", "finished"):
        if channel in waits:
            body.append(waiting(SYNC["load"], channel))
    if "drained" in waits:
        body.append(waiting(SYNC["execute"], "drained"))
    return tuple(body)


CHANNELS = frozenset(
    ("loaded", "filled", "consumed", "computed", "drained", "stored", "emptied", "finished")
)


def test_a_program_with_all_its_tokens_is_accepted() -> None:
    body = (*FILL, *round_trip(CHANNELS))
    assert not refused(body, CONFIG) and not stopped(body, CONFIG)


# -- Races -----------------------------------------------------------------------------------------------

FRESH: dict[str, Any] = {
    "function": "exponentials",
    "columns": 4,
    "fresh": True,
    "state": 5,
    "alignment": 30,
    "destination": "scratchpad",
    "local": STORED,
}
RACES = {
    "load overwrites A rows that the mesh still reads (consumed)": Fault(
        (preload(), compute(0, 0, 60), mvin(50)),
        "{1} reads scratchpad row 50 that {2} has overwritten",
        "{1} reads scratchpad row 50 in cycle .*{2}, which comes later",
    ),
    "load overwrites weights that are still read (consumed)": Fault(
        (
            *(preload(), compute(0, 0, 60), preload(), compute(0, 60)),
            *(preload(WEIGHTS + 4), mvin(WEIGHTS + 4), compute(0, 70)),
        ),
        "{4} reads scratchpad row 116 that {5} has overwritten",
        "{4} reads scratchpad row 116 in cycle .*{5}, which comes later",
    ),
    "mesh reads A rows that are not loaded yet (loaded)": Fault(
        (mvin(0, 20), preload(), compute(0, 0, 20)),
        "{0} writes scratchpad row 0 that {2} has read",
        "{0} writes scratchpad row 0 in cycle .*{2}, which comes later",
    ),
    "mesh takes weights that are not loaded yet (loaded)": Fault(
        (mvin(WEIGHTS), preload(), compute(0, 0)),
        "{0} writes scratchpad row 112 that {1} has read",
        "{0} writes scratchpad row 112 in cycle .*{1}, which comes later",
    ),
    "mesh adds to a bias that is not loaded yet (loaded)": Fault(
        (
            mvin(0, 20),
            mvin(0, 20, "accumulator_int32"),
            preload(),
            compute(BANK, 0, overwrite=False),
        ),
        "{1} writes accumulator row 0 that {3} has (read|written)",
        "{1} (writes|reads) accumulator row 0 in cycle .*{3}, which comes later",
    ),
    "load overwrites sums that the mesh still adds to (finished)": Fault(
        (preload(), compute(0, 0, 60, overwrite=False), mvin(58, 1, "accumulator_int32")),
        "{1} reads accumulator row 58 that {2} has overwritten",
        "{1} reads accumulator row 58 in cycle .*{2}, which comes later",
    ),
    "mesh overwrites sums that the drain still reads (drained)": Fault(
        (mvout(0, 60), preload(), compute(0, 50)),
        "{0} reads accumulator row 50 that {2} has overwritten",
        "{0} reads accumulator row 50 in cycle .*{2}, which comes later",
    ),
    "drain reads sums that are not complete (computed)": Fault(
        (preload(), compute(0, 0), mvout(0)),
        "{1} writes accumulator row 0 that {2} has read",
        "{1} writes accumulator row 0 in cycle .*{2}, which comes later",
    ),
    "mesh reads A rows that the drain has not stored yet (stored)": Fault(
        (mvout(0, destination="scratchpad"), preload(), compute(0, 50)),
        "{0} writes scratchpad row 0 that {2} has read",
        "{0} writes scratchpad row 0 in cycle .*{2}, which comes later",
    ),
    "drain stores over A rows that the mesh still reads": Fault(
        (preload(), compute(0, 0, 60), mvout(100, destination="scratchpad", local=50)),
        "{1} reads scratchpad row 50 that {2} has overwritten",
        "{1} reads scratchpad row 50 in cycle .*{2}, which comes later",
    ),
    "drain reads rows that are not loaded yet (filled)": Fault(
        (mvin(0, 4, "accumulator"), mvout(0)),
        "{0} writes accumulator row 0 that {1} has read",
        "{0} writes accumulator row 0 in cycle .*{1}, which comes later",
    ),
    "drain reads parameters that are not loaded yet (filled)": Fault(
        (mvin(3, 1, "parameters"), mvout(0, channel_scale=True, parameters=3)),
        "{0} writes parameter memory row 3 that {1} has read",
        "{0} writes parameter row 3 in cycle .*{1}, which comes later",
    ),
    "load overwrites rows that the drain still reads (emptied)": Fault(
        (mvout(0, 60), mvin(50, 4, "accumulator_int32")),
        "{0} reads accumulator row 50 that {1} has overwritten",
        "{0} reads accumulator row 50 in cycle .*{1}, which comes later",
    ),
    "load overwrites parameters that the drain still reads (emptied)": Fault(
        (mvout(0, 60, channel_scale=True, parameters=3), mvin(3, 1, "parameters")),
        "{0} reads parameter memory row 3 that {1} has overwritten",
        "{0} reads parameter row 3 in cycle .*{1}, which comes later",
    ),
    "load overwrites the second parameters that a row function still reads (emptied)": Fault(
        (
            mvout(0, 20, function="softmax", columns=4, channel_affine=True, parameters=3),
            mvin(3, 1, "parameters"),
        ),
        "{0} reads parameter memory row 3 that {1} has overwritten",
        "{0} reads parameter row 3 in cycle .*{1}, which comes later",
    ),
    "mesh is aligned by what the drain has not written yet (stored)": Fault(
        (
            signalling(mvout(0, **FRESH), "stored"),
            mvout(0, 40, **FRESH | {"alignment": 0}),
            waiting(preload(), "stored"),
            compute(0, SUM_BANK, aligned=1, alignment=30),
        ),
        "{1} writes alignments row 30 that {3} has read",
        "{1} writes alignment 30 in cycle .*{3}, which comes later",
    ),
    "load and drain store to one row": Fault(
        (mvout(0, 60, destination="scratchpad"), mvin(50)),
        "{0} writes scratchpad row 50 that {1} has written",
        "{0} writes scratchpad row 50 in cycle .*{1}, which comes later",
    ),
}

NEVER_WRITTEN = {
    "A rows": Fault(
        (
            signalling(mvin(WEIGHTS), "loaded"),
            waiting(preload(), "loaded"),
            compute(0, 0),
        ),
        "{2} reads scratchpad row 0 that was never written",
        "{2}: reads row 0 of the scratchpad, which was never written",
        fill=False,
    ),
    "weights": Fault(
        (preload(), compute(0, 0)),
        "{0} reads scratchpad row 112 that was never written",
        "{0}: reads row 112 of the scratchpad, which was never written",
        fill=False,
    ),
    "sums that the mesh adds to": Fault(
        (
            signalling(mvin(WEIGHTS), "loaded"),
            waiting(preload(), "loaded"),
            compute(WEIGHTS, 7, overwrite=False),
        ),
        "{2} reads accumulator row 7 that was never written",
        "{2}: reads row 7 of the accumulator, which was never written",
        fill=False,
    ),
    "sums that a load adds to": Fault(
        (mvin(9, 2, "accumulator", accumulate=True),),
        "{0} reads accumulator row 9 that was never written",
        "{0}: reads row 9 of the accumulator, which was never written",
        fill=False,
    ),
    "sums that are drained": Fault(
        (mvout(11),),
        "{0} reads accumulator row 11 that was never written",
        "{0}: reads row 11 of the accumulator, which was never written",
        fill=False,
    ),
    "the first parameters": Fault(
        (
            signalling(mvin(0, 4, "accumulator"), "filled"),
            waiting(mvout(0, channel_scale=True, parameters=5), "filled"),
        ),
        "{1} reads parameter memory row 5 that was never written",
        "{1}: reads row 5 of the parameters, which was never written",
        fill=False,
    ),
    "the second parameters": Fault(
        (
            signalling(mvin(0, 4, "accumulator"), "filled"),
            waiting(
                mvout(0, function="rmsnorm", columns=3, channel_affine=True, parameters=6), "filled"
            ),
        ),
        "{1} reads parameter memory row 6 that was never written",
        "{1}: reads row 6 of the parameters, which was never written",
        fill=False,
    ),
    "alignments": Fault(
        (mvout(0, **FRESH), preload(), compute(0, SUM_BANK, aligned=1, alignment=32)),
        "{2} reads alignments row (32|33) that was never written",
        "{2}: reads row 34 of the alignments, which was never written",
    ),
    **{
        f"states of {function}": Fault(
            (mvout(0, **FRESH), mvout(0, function=function, columns=4, state=7)),
            "{1} reads states row 9 that was never written",
            "{1}: reads row 9 of the states, which was never written",
        )
        for function in ("exponentials", "quotient")
    },
}

BANKS = {
    "A rows and weights": Fault(
        (preload(), compute(0, 0, 20), preload(20), compute(0, 0)),
        "{1} and {2} read scratchpad bank 0 in one cycle",
        "{1} and {2} need the read port of scratchpad bank 0",
    ),
    "sums added to and drained": Fault(
        (
            preload(),
            compute(0, 20, 20, overwrite=False),
            mvout(0, 20, function="softmax", columns=4),
        ),
        "{1} and {2} read accumulator bank 0 in one cycle",
        "{1} and {2} need the read port of accumulator bank 0",
    ),
    "sums loaded and drained": Fault(
        (mvin(20, 20, "accumulator", accumulate=True), mvout(0, 20)),
        "{0} and {1} read accumulator bank 0 in one cycle",
        "{0} and {1} need the read port of accumulator bank 0",
    ),
    "sums added by mesh and load": Fault(
        (
            mvin(SUM_BANK, 20, "accumulator", accumulate=True),
            preload(),
            compute(0, SUM_BANK + 20, 20, overwrite=False),
        ),
        "({0} and {2}|{2} and {0}) read accumulator bank 1 in one cycle",
        "{0} and {2} need the read port of accumulator bank 1",
    ),
    "sums written by mesh and load": Fault(
        (mvin(0, 20, "accumulator_int32"), preload(), compute(0, 20, 20)),
        "({0} and {2}|{2} and {0}) write accumulator bank 0 in one cycle",
        "{0} and {2} need the write port of accumulator bank 0",
    ),
    "rows written by load and drain": Fault(
        (mvin(0, 20), mvout(0, 8, destination="scratchpad", local=20)),
        "{0} and {1} write scratchpad bank 0 in one cycle",
        "{0} and {1} need the write port of scratchpad bank 0",
    ),
}


@pytest.mark.parametrize("fault", RACES.values(), ids=RACES)
def test_a_race_stops_the_machine(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", NEVER_WRITTEN.values(), ids=NEVER_WRITTEN)
def test_a_row_never_written_stops_the_machine(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", BANKS.values(), ids=BANKS)
def test_a_bank_conflict_stops_the_machine(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_a_program_without_one_channel_of_tokens(channel: str) -> None:
    """It races where that channel alone keeps the order; the others' tokens come in time anyway."""
    body = (*FILL, *round_trip(CHANNELS - {channel}))
    races = channel in ("computed", "finished", "loaded", "stored")
    assert bool(refused(body, CONFIG)) == bool(stopped(body, CONFIG)) == races


# -- Tokens ----------------------------------------------------------------------------------------------

NOBODY = "{0} waits for a token that no earlier instruction signals"
TOKENS = {
    **{
        f"{node.op} waits for {channel}": Fault(
            (waiting(node, channel),),
            NOBODY,
            f"{{0}} waits for a '{channel}' token that no earlier instruction signals",
        )
        for channel, nodes in {
            "consumed": (mvin(0), SYNC["load"]),
            "loaded": (preload(), SYNC["execute"]),
            "stored": (preload(),),
            "computed": (mvout(0), SYNC["drain"]),
        }.items()
        for node in nodes
    },
    "a compute waits for what its preload has taken": Fault(
        (
            signalling(SYNC["load"], "loaded"),
            waiting(preload(), "loaded"),
            waiting(compute(0, 0), "loaded"),
        ),
        "{2} waits for a token that no earlier instruction signals",
        "{2} waits for a 'loaded' token that no earlier instruction signals",
    ),
    "too few of many": Fault(
        (signalling(SYNC["execute"], "computed", 254), waiting(mvout(0), "computed", 255)),
        "{1} waits for a token that no earlier instruction signals",
        "{1} waits for a 'computed' token that no earlier instruction signals",
    ),
    "units that wait for each other": Fault(
        (
            signalling(waiting(SYNC["execute"], "loaded"), "consumed"),
            signalling(waiting(SYNC["load"], "consumed"), "loaded"),
        ),
        NOBODY,
        "{0} waits for a 'loaded' token",
    ),
    **{
        f"too many {channel}": Fault(
            (
                signalling(SYNC[unit], channel, 255),
                signalling(SYNC[unit], channel),
            ),
            f"{{1}} overflows the counter of {channel} tokens",
            f"{{1}} overflows the '{channel}' token counter",
        )
        for unit, channels in SIGNALS.items()
        for channel in channels
    },
    "too many, since they are taken late": Fault(
        (
            preload(),
            compute(0, 0, 60),
            signalling(SYNC["load"], "loaded", 200),
            waiting(SYNC["execute"], "loaded", 200),
            signalling(SYNC["load"], "loaded", 200),
            waiting(SYNC["execute"], "loaded", 200),
        ),
        "{4} overflows the counter of loaded tokens",
        "{4} overflows the 'loaded' token counter in cycle",
    ),
    **{
        f"a {channel} token is left": Fault(
            (signalling(SYNC[unit], channel, 2), waiting(SYNC[other], channel)),
            "{0} has signalled tokens that nothing waits for",
            f"{{0}} signals '{channel}' tokens that nothing waits for",
        )
        for unit, other, channel in (
            ("load", "execute", "loaded"),
            ("execute", "drain", "computed"),
        )
    },
}


@pytest.mark.parametrize("fault", TOKENS.values(), ids=TOKENS)
def test_a_token_error_stops_the_machine(fault: Fault) -> None:
    check(fault)


# -- Fields ----------------------------------------------------------------------------------------------

NORM: dict[str, Any] = {"function": "layernorm", "columns": 3, "inverse": inverse(3)}


def of(function: str) -> dict[str, Any]:
    """A function, and the fields that it needs."""
    fields: dict[str, Any] = {"function": function, "columns": 4}
    return fields | ({"inverse": inverse(4)} if FUNCTION[function].centered else {})


ILLEGAL: dict[str, tuple[Instruction, str, str]] = {
    "mvin no rows": (mvin(0, 0), "loads 0 rows of 1 blocks", "rows is 0 but"),
    "mvin no blocks": (mvin(0, blocks=0), "loads 4 rows of 0 blocks", "blocks is 0 but"),
    "mvin inside a beat": (mvin(0, dram=4), "does not begin with a beat", "inside a beat"),
    "mvin second block inside a beat": (
        mvin(0, blocks=2, stride=4, dram_stride=24),
        "does not begin with a beat",
        "block 1 starts at DRAM byte 24, inside a beat",
    ),
    "mvin beyond DRAM": (
        mvin(0, dram=DRAM_BYTES),
        "reads DRAM at byte 8192, beyond its end",
        "block 0 ends at DRAM byte 8208",
    ),
    "mvin second block beyond DRAM": (
        mvin(0, 4, blocks=2, stride=4, dram=64, dram_stride=DRAM_BYTES - 64),
        "reads DRAM at byte 8192, beyond its end",
        "block 1 ends at DRAM byte 8208",
    ),
    **{
        f"mvin beyond the {target}": (
            mvin(rows - 3, 4, target),
            f"writes rows up to {rows} of target",
            f"row {rows} is outside the {target.removesuffix('_int32')}",
        )
        for target, rows in (
            ("scratchpad", ROWS),
            ("accumulator", SUMS),
            ("accumulator_int32", SUMS),
            ("parameters", SETS),
        )
    },
    "mvin second block beyond the scratchpad": (
        mvin(ROWS - 6, 4, blocks=2, stride=3),
        f"writes rows up to {ROWS} of target",
        f"row {ROWS} is outside the scratchpad",
    ),
    **{
        f"mvin adds to the {target}": (
            mvin(0, 4, target, accumulate=True),
            "accumulates into target",
            f"accumulates into the {target}",
        )
        for target in ("scratchpad", "parameters")
    },
    "preload no rows": (preload(rows=0), "preloads 0 rows", "rows is 0 but"),
    "preload too many rows": (preload(rows=5), "preloads 5 rows", "rows is 5 but"),
    "preload beyond the scratchpad": (
        preload(ROWS - 3),
        f"preloads 4 rows at {ROWS - 3}, beyond the scratchpad",
        f"row {ROWS} is outside the scratchpad",
    ),
    "compute no rows": (compute(0, 0, 0), "computes no rows", "rows is 0 but"),
    "compute no depth": (compute(0, 0, depth=0), "uses 0 rows and 4 columns", "depth is 0 but"),
    "compute too deep": (compute(0, 0, depth=5), "uses 5 rows and 4 columns", "depth is 5 but"),
    "compute no width": (compute(0, 0, width=0), "uses 4 rows and 0 columns", "width is 0 but"),
    "compute too wide": (compute(0, 0, width=5), "uses 4 rows and 5 columns", "width is 5 but"),
    "compute beyond the scratchpad": (
        compute(ROWS - 3, 0),
        f"reads 4 rows at {ROWS - 3}, beyond the scratchpad",
        f"row {ROWS} is outside the scratchpad",
    ),
    "compute beyond the accumulator": (
        compute(0, SUMS - 3),
        f"writes 4 rows at {SUMS - 3}, beyond the accumulator",
        f"row {SUMS} is outside the accumulator",
    ),
    "compute beyond the alignments": (
        compute(0, 0, aligned=1, alignment=STATE_ROWS - 3),
        f"aligns 4 rows from alignment {STATE_ROWS - 3} on, beyond the last",
        f"row {STATE_ROWS} is outside the alignments",
    ),
    **{
        f"compute {name}, not aligned": (
            compute(0, 0, **{name: 1}),
            "has an alignment, but is not aligned",
            "has an alignment, but is not aligned",
        )
        for name in ("alignment", "rescale")
    },
    **{
        f"mvout beyond the {name}s": (
            mvout(0, function="exponentials", columns=4, fresh=True, **{name: STATE_ROWS - 3}),
            ": 4 rows from state .* and alignment .* on, beyond the last",
            f"row {STATE_ROWS} is outside the {name}s",
        )
        for name in ("state", "alignment")
    },
    "mvout no rows": (mvout(0, 0), ": 0 rows of 1 blocks", "rows is 0 but"),
    "mvout no blocks": (mvout(0, blocks=0), ": 4 rows of 0 blocks", "blocks is 0 but"),
    **{
        f"mvout function {code}": (
            mvout(0, function=code),
            f": this machine has no function {code}",
            f"function is {code} but",
        )
        for code in (len(FUNCTIONS), 31)
    },
    "mvout nowhere": (
        mvout(0, destination=3),
        ": there is no destination 3",
        "destination is 3 but",
    ),
    **{
        f"mvout int32 {function}": (
            mvout(0, destination="dram_int32", **of(function)),
            f": function {FUNCTIONS.index(function)} gives no int32",
            "dram_int32 takes sums as they are",
        )
        for function in FUNCTIONS[1:]
    },
    "mvout int32 scaled": (
        mvout(0, destination="dram_int32", channel_scale=True),
        ": channel_scale, but int32",
        "dram_int32 takes sums as they are",
    ),
    **{
        f"mvout {function} affine": (
            mvout(0, function=function, channel_affine=True),
            ": channel_affine, but function",
            f"{function} has no second requantizer",
        )
        for function in ("copy", "relu")
    },
    **{
        f"mvout {function} causal": (
            mvout(0, causal=True, **of(function)),
            ": causal, but function",
            f"causal is for softmax and exponentials, not {function}",
        )
        for function in FUNCTIONS
        if not FUNCTION[function].masked
    },
    "mvout state": (
        mvout(0, function="softmax", columns=4, state=3),
        ": a state, but function",
        "softmax has no states",
    ),
    "mvout fresh": (mvout(0, fresh=True), ": a state, but function", "copy has no states"),
    "mvout quotient shifted": (
        mvout(0, function="quotient", columns=4, shift=2),
        "shifts by states, and has a shift",
        "quotient shifts by the rows' states",
    ),
    "mvout second_channel_scale": (
        mvout(0, function="silu", second_channel_scale=True),
        ": second_channel_scale, but function",
        "silu has no further operands",
    ),
    "mvout window": (
        mvout(0, function="softmax", columns=4, window=2),
        ": a window of 2 columns, but not causal",
        "a window is of causal rows",
    ),
    "mvout shift": (mvout(0, shift=63), ": a shift of 63", "shift is 63 but"),
    "mvout out_shift": (mvout(0, out_shift=63), ": a shift of 63", "out_shift is 63 but"),
    "mvout no columns": (
        mvout(0, function="softmax"),
        ": 0 valid columns in 1 blocks of 4",
        "columns is 0 but",
    ),
    "mvout too many columns": (
        mvout(0, function="rmsnorm", columns=9, blocks=2),
        ": 9 valid columns in 2 blocks of 4",
        "columns is 9 but",
    ),
    "mvout wrong inverse": (
        mvout(0, **{**NORM, "inverse": inverse(3) + 1}),
        f": the inverse of 3 columns is {inverse(3)}, not {inverse(3) + 1}",
        f"inverse is {inverse(3) + 1} but",
    ),
    "mvout beyond the accumulator": (
        mvout(SUMS - 3),
        f"reads accumulator row {SUMS} of {SUMS}",
        f"row {SUMS} is outside the accumulator",
    ),
    "mvout beyond the scratchpad": (
        mvout(0, destination="scratchpad", local=ROWS - 3),
        f": scratchpad row {ROWS} is out of range",
        f"row {ROWS} is outside the scratchpad",
    ),
    "mvout beyond the parameters": (
        mvout(0, blocks=2, stride=4, dram_stride=64, channel_scale=True, parameters=SETS - 1),
        f": parameters of 2 blocks from row {SETS - 1} are out of range",
        f"row {SETS} is outside the parameters",
    ),
    "mvout beyond the second parameters": (
        mvout(0, **NORM, channel_scale=True, channel_affine=True, parameters=SETS - 1),
        f": parameters of 1 blocks from row {SETS - 1} are out of range",
        f"row {SETS} is outside the parameters",
    ),
    "mvout inside a beat": (
        mvout(0, dram=4104),
        ": DRAM address 1008 or stride 0 is not aligned to 16 bytes",
        "inside a beat",
    ),
    "mvout second block inside a beat": (
        mvout(0, blocks=2, stride=4, dram_stride=24),
        ": DRAM address 1000 or stride 18 is not aligned to 16 bytes",
        "block 1 starts at DRAM byte 4120, inside a beat",
    ),
    "mvout rows inside a beat": (
        mvout(0, **NORM, dram=4098),
        ": DRAM address 1002 or stride 0 is not aligned to 4 bytes",
        "inside a beat",
    ),
    "mvout beyond DRAM": (
        mvout(0, dram=DRAM_BYTES),
        "writes DRAM from byte 8192 on, beyond its end",
        "block 0 ends at DRAM byte 8208",
    ),
    "mvout rows beyond DRAM": (
        mvout(0, 5, **NORM, dram=DRAM_BYTES - 16),
        "writes DRAM from byte 8192 on, beyond its end",
        "block 0 ends at DRAM byte 8196",
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_field_stops_the_machine(name: str) -> None:
    node, rtl, models = ILLEGAL[name]
    before = (preload(),) if node.op == "compute" else ()
    me = f"{{{len(before)}}}"
    check(Fault((*before, node), f"{me}.* {rtl.removeprefix(': ')}", f"{me}: .*{models}"))


MISUSES = {
    "weights that no compute used": Fault(
        (preload(), compute(0, 0), preload(), preload(0), compute(0, 0)),
        "{3} overwrites the weights of {2}, which no compute used",
        "{3}: overwrites weights that no compute used",
    ),
    "no weights": Fault(
        (compute(0, 0),),
        "{0} computes, but no weights were preloaded",
        "{0}: no weights were preloaded",
    ),
    **{
        f"a shift of 63 in the {place} parameters": Fault(
            (
                signalling(mvin(2, 8, "parameters", dram=ILLEGAL_SHIFTS), "filled"),
                waiting(mvout(0, 1, **fields, parameters=2), "filled"),
            ),
            "{1}: shift 255 of channel 0 in parameter row 2",
            "{1}: shift 255 of channel 0 in parameter row 2 is above 62",
        )
        for place, fields in (
            ("first", {"channel_scale": True}),
            ("second", {"channel_affine": True, **NORM}),
        )
    },
}


@pytest.mark.parametrize("fault", MISUSES.values(), ids=MISUSES)
def test_misuse_stops_the_machine(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: mvin(1 << 20), "local is 1048576 but"),
        (lambda: mvin(0, 1 << 16), "rows is 65536 but"),
        (lambda: mvin(0, scale=-1), "scale is -1 but"),
        (lambda: mvout(0, multiplier=1 << 23), "multiplier is 8388608 but"),
        (lambda: mvin(0, color=1), "has no field 'color'"),
        (lambda: waiting(mvin(0), "computed"), "cannot (pass|wait for) 'computed'"),
        (lambda: signalling(mvout(0), "loaded"), "cannot (pass|signal) 'loaded'"),
    ],
)
def test_what_no_word_can_hold_is_refused(wrong: Callable[[], Instruction], words: str) -> None:
    check(Fault((wrong(),), f"{{0}}:? {words}", f"{{0}}:? {words}"))


@pytest.mark.long  # a build of its own; the drain unit alone is tried without normalization in short
def test_a_machine_without_normalization_has_no_row_functions() -> None:
    plain = replace(CONFIG, normalization=False)
    for function in FUNCTIONS[2:]:
        node = mvout(0, **of(function))
        code = FUNCTIONS.index(function)
        words = f"{{0}}: this machine has no function {code}"
        check(Fault((node,), words, f"{{0}}: {function} needs normalization units", config=plain))


# -- Chance ------------------------------------------------------------------------------------------------


@st.composite
def hasty(draw: st.DrawFn) -> Body:
    """A few instructions whose rows often meet, with few syncs and no tokens between them."""
    body: list[Instruction] = []
    loaded = False
    for _ in range(draw(st.integers(2, 7))):
        rows = draw(st.integers(1, 6))
        local = draw(st.sampled_from((0, 2, BANK - 2, 40)))
        acc = draw(st.sampled_from((0, 1, 3, SUM_BANK - 3, 50)))
        flag = draw(st.booleans())
        match draw(st.sampled_from(("mvin", "sums", "parameters", "mesh", "mvout", "sync"))):
            case "mvin":
                body.append(mvin(local, rows))
            case "sums":
                target = draw(st.sampled_from(("accumulator", "accumulator_int32")))
                body.append(mvin(acc, rows, target, blocks=2, stride=2, accumulate=flag))
            case "parameters":
                body.append(mvin(0, rows, "parameters"))
            case "mesh":
                if not loaded:
                    body.append(preload(local, min(rows, 4)))
                    loaded = True
                if flag or len(body) > 4:
                    aligned = {"aligned": 1} if draw(st.booleans()) else {}
                    a = draw(st.sampled_from((0, 34)))
                    body.append(compute(a, acc, rows, overwrite=flag, **aligned))
                    loaded = False
            case "mvout":
                function = draw(st.sampled_from(FUNCTIONS))
                to = draw(st.sampled_from(("dram", "scratchpad")))
                shape: dict[str, Any] = {"blocks": 2, "stride": rows, "function": function}
                shape |= {"columns": 7, "channel_scale": flag}
                if FUNCTION[function].centered:
                    shape["inverse"] = inverse(7)
                places = {"local": local, "local_stride": rows, "dram_stride": 256}
                shape["channel_affine"] = function not in ("copy", "relu") and draw(st.booleans())
                shape["fresh"] = function == "exponentials" and draw(st.booleans())
                body.append(mvout(acc, rows, destination=to, **shape, **places))
            case _:
                unit = draw(st.sampled_from(("load", "execute", "drain")))
                body += [SYNC[unit]] * draw(st.integers(1, 25))
    return (*FILL, *body)


@given(hasty())
@settings(max_examples=100)
def test_the_rtl_stops_where_the_models_refuse(body: Body) -> None:
    assert bool(stopped(body, CONFIG)) == bool(refused(body, CONFIG))
