"""What the compiled evaluator has to know: the tables of the machine, and the words of a kernel.

`header` writes it as C++; `digest` tells whether a library was compiled from the tables of today.
"""

import hashlib
from collections.abc import Iterable, Mapping

from codesign.hw.machine.events import TIMED_EVENTS
from codesign.hw.machine.functions import (
    DIVIDE_INTERVAL,
    DRAIN_FUNCTIONS,
    MAXIMUM_LATENCY,
    STATISTIC_ROWS,
    DrainFunction,
)
from codesign.hw.machine.isa import (
    CHANNELS,
    DESTINATION_BYTES,
    MAX_TOKENS,
    OPERATIONS,
    TARGET_BYTES,
    UNITS,
    Operation,
)
from codesign.hw.machine.limits import QUEUE_DEPTH
from codesign.hw.machine.program import NO_UPPER_BOUND
from codesign.hw.views import timing

# The fields of a HardwareConfig that timing depends on: no memory sizes, no banks.
MACHINE_WORDS = ("dim", "bus_bytes", "dram_latency_cycles")
QUEUE_DEPTHS = tuple(f"{unit}_queue_depth" for unit in UNITS)

# The words of a kernel: kinds of nodes, and how much of each there may be.
LOOP, PIPELINE, INSTRUCTION = 1, 2, 3
MAX_LOOPS, MAX_STAGES = 16, 4
VALUES = max(len(operation.values) for operation in OPERATIONS)
# The flag of an operation that changes its events.
COUNTED_FLAGS = {"mvin": "accumulate", "compute": "overwrite"}

# Why a kernel has no timing: a name, and what is said of the instruction.
FAILURES = {
    "token_underflow": "waits for a token that no earlier instruction signals",
    "token_overflow": "overflows a token counter",
    "preload_unused": "overwrites weights that no compute used",
    "too_many_cases": "has more ragged cases than the evaluator keeps",
}


def tables_digest() -> int:
    """A number of 64 bits that changes with the tables."""
    content = hashlib.blake2b(_tables().encode(), digest_size=8).digest()
    return int.from_bytes(content, "little")


def header() -> str:
    """The text of `evaluator/machine_tables.h`."""
    return f"""\
// The tables of the machine, for the compiled evaluator.
// Written by `python -m codesign.hw.views.generated`; evaluator_tables.py says from what.

#pragma once

#include <cstdint>

namespace {{

using Word = std::int64_t;

constexpr std::uint64_t kTablesDigest = {tables_digest():#018x};

{_tables()}
}}  // namespace
"""


def _tables() -> str:
    parts = [
        _enumeration("Unit", [*UNITS, "units"]),
        _enumeration("Op", {operation.name: operation.opcode for operation in OPERATIONS}),
        _enumeration("Event", [*TIMED_EVENTS, "events"]),
        _enumeration("Status", ["ok", *FAILURES]),
        _enumeration("NodeKind", {"loop_node": LOOP, "pipeline_node": PIPELINE,
                                  "instruction_node": INSTRUCTION}),
        *(_positions(operation) for operation in OPERATIONS if operation.values),
        _enumeration("Target", [f"target_{name}" for name in TARGET_BYTES]),
        _enumeration("Destination", [f"destination_{name}" for name in DESTINATION_BYTES]),
        _constants(),
        _arrays(),
        _machine(),
        _functions(),
    ]  # fmt: skip
    return "\n".join(parts)


def _name(words: str) -> str:
    """The name of a constant: `dram_read_bytes` is kDramReadBytes."""
    return "k" + "".join(word.capitalize() for word in words.split("_"))


def _enumeration(name: str, members: Iterable[str] | Mapping[str, int]) -> str:
    codes = members if isinstance(members, Mapping) else {m: i for i, m in enumerate(members)}
    lines = (f"  {_name(member)} = {code}," for member, code in codes.items())
    return "\n".join([f"enum {name} {{", *lines, "};", ""])


def _positions(operation: Operation) -> str:
    """Where an operation's values are."""
    prefix = operation.name
    return _enumeration(f"{prefix.capitalize()}Value",
                        [f"{prefix}_{field.name}" for field in operation.values])  # fmt: skip


def _constants() -> str:
    numbers = {
        "channels": len(CHANNELS),
        "max_tokens": MAX_TOKENS,
        "max_queue": QUEUE_DEPTH.most,
        "max_loops": MAX_LOOPS,
        "max_stages": MAX_STAGES,
        "values": VALUES,
        "load_latency": timing.LOAD_LATENCY,
        "execute_latency": timing.EXECUTE_LATENCY,
        "drain_latency": timing.DRAIN_LATENCY,
        "statistic_rows": STATISTIC_ROWS,
        "maximum_latency": MAXIMUM_LATENCY,
        "divide_interval": DIVIDE_INTERVAL,
    }
    lines = [f"constexpr int {_name(name)} = {number};" for name, number in numbers.items()]
    return "\n".join([*lines, f"constexpr Word kUnbounded = {NO_UPPER_BOUND};", ""])


def _arrays() -> str:
    at_complete = [str(int(channel.at == "complete")) for channel in CHANNELS]
    units = {0: _name(UNITS[0])} | {o.opcode: _name(o.unit) for o in OPERATIONS}
    return f"""\
// Whether a channel's tokens are signalled at completion (1) or at release (0).
constexpr int kChannelAtComplete[kChannels] = {{{", ".join(at_complete)}}};
// The unit of an operation, by its opcode.
constexpr Unit kUnitOf[] = {{{", ".join(units[code] for code in sorted(units))}}};
// Bytes of an element on its way.
constexpr int kTargetBytes[] = {{{", ".join(map(str, TARGET_BYTES.values()))}}};
constexpr int kDestinationBytes[] = {{{", ".join(map(str, DESTINATION_BYTES.values()))}}};
"""


def _machine() -> str:
    return f"""\
struct Machine {{
  Word {", ".join(MACHINE_WORDS)};
  Word queue_depth[kUnits];
}};
constexpr int kMachineWords = {len(MACHINE_WORDS) + len(QUEUE_DEPTHS)};
"""


def _functions() -> str:
    most = max(len({*f.element_events, *f.row_events}) for f in DRAIN_FUNCTIONS)
    rows = ",\n".join(map(_function, DRAIN_FUNCTIONS))
    return f"""\
struct FunctionEvent {{
  int event, an_element, a_row;
}};
struct DrainFunction {{
  int passes, operands;
  bool by_row, maximum, statistics;  // needs whole rows; which passes before their output
  int latency, events;
  FunctionEvent event[{most}];
}};
constexpr DrainFunction kFunctions[] = {{
{rows}
}};
"""


def _function(function: DrainFunction) -> str:
    names = [*function.element_events, *function.row_events]
    events = ", ".join(
        f"{{{_name(name)}, {function.element_events.get(name, 0)}, "
        f"{function.row_events.get(name, 0)}}}"
        for name in names
    )
    asked = (function.by_row, "maximum" in function.passes, "statistics" in function.passes)
    by_row, maximum, statistics = (str(x).lower() for x in asked)
    passes, operands = len(function.passes), function.operands
    numbers = (
        f"{passes}, {operands}, {by_row}, {maximum}, {statistics}, {function.latency}, {len(names)}"
    )
    return f"    /* {function.name} */ {{{numbers}, {{{events}}}}}"
