"""Instructions as the words that the machine receives, and the SystemVerilog package of their fields.

A word holds, from bit 0 up: the opcode, one counter of tokens to wait for and one to signal for
each of three channels, then the operation's values, addresses and flags in the order of `isa.py`, and
at last, over each other, the fields that only some functions have.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ProgramError
from codesign.hw.machine.functions import DRAIN_FUNCTIONS
from codesign.hw.machine.isa import (
    CHANNELS,
    DESTINATIONS,
    FUNCTIONS,
    MAX_TOKENS,
    OPERATION,
    OPERATIONS,
    TARGETS,
    UNITS,
    VARIANTS,
    Field,
    Operation,
)
from codesign.hw.machine.program import Issued
from codesign.hw.machine.quantities import (
    FUNCTION_NUMBER,
    INSTRUCTION,
    Quantity,
    declarations,
    structure,
    union,
)

INSTRUCTION_BITS = INSTRUCTION.bits
OPCODE_BITS = 3
TOKEN_BITS = 8
TOKEN_PORTS = 3  # channels that end, and channels that begin, at one unit at most
HEADER_BITS = OPCODE_BITS + 2 * TOKEN_PORTS * TOKEN_BITS
HEADER = Quantity("header", HEADER_BITS)
LANE_BITS = 32  # words travel as little-endian uint32 lanes
LANES = INSTRUCTION_BITS // LANE_BITS

Words = npt.NDArray[np.uint32]  # [instructions, LANES]

# The channels that end and begin at each unit, in the order of their counters in the header.
WAITS = {unit: tuple(c.name for c in CHANNELS if c.target == unit) for unit in UNITS}
SIGNALS = {unit: tuple(c.name for c in CHANNELS if c.source == unit) for unit in UNITS}


def fields(operation: Operation) -> tuple[Field, ...]:
    """The fields that an operation always has, in the order in which they are encoded."""
    every = (*operation.values, *operation.addresses, *operation.flags)
    return tuple(field for field in every if not field.variant)


def variants(operation: Operation) -> dict[str, tuple[Field, ...]]:
    """The fields of each group of which an instruction has at most one, likewise."""
    found: dict[str, tuple[Field, ...]] = {}
    for field in operation.addresses:
        if field.variant:
            found[field.variant] = (*found.get(field.variant, ()), field)
    return found


def fields_of(operation: Operation, function: int) -> Iterator[tuple[Field, int]]:
    """The fields that an instruction of this function has, and the bit where each begins."""
    at = HEADER_BITS
    for field in fields(operation):
        yield field, at
        at += field.bits
    if function < len(DRAIN_FUNCTIONS):
        for name, group in variants(operation).items():
            if VARIANTS[name](DRAIN_FUNCTIONS[function]):
                starts = accumulate((field.bits for field in group), initial=at)
                yield from zip(group, starts, strict=False)


def encode(issued: Issued) -> int:
    """The word of one instruction; fields that it does not give are zero.

    Raises ProgramError for a number that its field cannot hold and for a token that the unit
    cannot pass.
    """
    operation = OPERATION[issued.op]
    word, at = operation.opcode, OPCODE_BITS
    for tokens, names in (
        (issued.waits, WAITS[operation.unit]),
        (issued.signals, SIGNALS[operation.unit]),
    ):
        counts = dict.fromkeys(names, 0)
        for channel, count in tokens:
            if channel not in counts:
                raise ProgramError(f"{issued.op} at site {issued.site} cannot pass {channel!r}")
            counts[channel] += count
        for name, count in counts.items():
            if not 0 <= count < 1 << TOKEN_BITS:
                raise ProgramError(f"{issued.op} at site {issued.site}: {count} {name!r} tokens")
        for port, count in enumerate(counts.values()):
            word |= count << (at + port * TOKEN_BITS)
        at += TOKEN_PORTS * TOKEN_BITS
    given = {**issued.values, **issued.addresses, **issued.flags}
    for field, at in fields_of(operation, given.get("function", 0)):
        value = int(given.pop(field.name, 0))
        lowest = -(1 << (field.bits - 1)) if field.signed else 0
        if not lowest <= value < lowest + (1 << field.bits):
            raise ProgramError(
                f"{issued.op} at site {issued.site}: {field.name} is {value} but has {field.bits} bits"
            )
        word |= (value & ((1 << field.bits) - 1)) << at
    unknown = given.keys() - {field.name for field in operation.addresses}
    if wrong := sorted(unknown | {name for name, value in given.items() if value}):
        raise ProgramError(f"{issued.op} at site {issued.site} has no field {wrong[0]!r}")
    return word


def decode(word: int, site: int = 0) -> Issued:
    """The instruction of a word. Raises ProgramError for an unknown opcode."""
    by_opcode = {operation.opcode: operation for operation in OPERATIONS}
    opcode = word & ((1 << OPCODE_BITS) - 1)
    if opcode not in by_opcode:
        raise ProgramError(f"no operation has opcode {opcode}")
    operation, at = by_opcode[opcode], OPCODE_BITS
    tokens = []
    for names in (WAITS[operation.unit], SIGNALS[operation.unit]):
        counts = [word >> (at + p * TOKEN_BITS) & 0xFF for p in range(len(names))]
        tokens.append(tuple((n, c) for n, c in zip(names, counts, strict=True) if c))
        at += TOKEN_PORTS * TOKEN_BITS
    every = (*operation.values, *operation.addresses, *operation.flags)
    numbers = dict.fromkeys((field.name for field in every), 0)

    def number(field: Field, at: int) -> int:
        value = word >> at & ((1 << field.bits) - 1)
        return value - (1 << field.bits) if field.signed and value >> (field.bits - 1) else value

    places = {field.name: (field, at) for field, at in fields_of(operation, 0)}
    function = number(*places["function"]) if "function" in places else 0
    numbers |= {field.name: number(field, at) for field, at in fields_of(operation, function)}
    return Issued(
        site=site,
        op=operation.name,
        values={field.name: numbers[field.name] for field in operation.values},
        addresses={field.name: numbers[field.name] for field in operation.addresses},
        flags={field.name: bool(numbers[field.name]) for field in operation.flags},
        waits=tokens[0],
        signals=tokens[1],
    )


def encode_all(issued: Iterable[Issued]) -> Words:
    """The words of instructions, [instructions, LANES]. Raises ProgramError as `encode` does."""
    data = b"".join(encode(one).to_bytes(INSTRUCTION_BITS // 8, "little") for one in issued)
    return np.frombuffer(data, dtype="<u4").reshape(-1, LANES)


# -- The SystemVerilog package -------------------------------------------------------------------------


def _identifier(name: str) -> str:
    """The name, with an underscore behind it where SystemVerilog has a keyword of that name."""
    return f"{name}_" if name in ("local", "function") else name


def _structure(operation: Operation) -> Iterator[str]:
    members = [("header", HEADER), *((_identifier(f.name), f.quantity) for f in fields(operation))]
    groups = variants(operation)
    if groups:
        most = max(sum(field.bits for field in group) for group in groups.values())
        for name, group in groups.items():
            own = [(field.name, field.quantity) for field in group]
            left = most - sum(field.bits for field in group)
            own += [("unused", Quantity("", left))] if left else []
            yield from structure(f"{operation.name}_{name}_t", tuple(own))
            yield ""
        named = {name: f"{operation.name}_{name}_t" for name in groups}
        yield "  // What only some functions have."
        yield from union(f"{operation.name}_variant_t", named)
        yield ""
        members.append(("variant", Quantity(f"{operation.name}_variant", most)))
    left = INSTRUCTION_BITS - sum(quantity.bits for _, quantity in members)
    if left:
        members.append(("unused", Quantity("", left)))
    yield from structure(f"{operation.name}_t", tuple(members))
    yield ""


def package() -> str:
    """The text of `rtl/isa_pkg.sv`."""
    lines = [
        "// The instruction set: opcodes, fields and token channels.",
        "// Written by `python -m codesign.hw.views.generated`; hw/machine/isa.py is the source.",
        "",
        "package isa_pkg;",
        "",
        *declarations(),
        "",
        f"  typedef enum logic [{OPCODE_BITS - 1}:0] {{",
    ]
    names = [("ILLEGAL", 0), *((o.name.upper(), o.opcode) for o in OPERATIONS)]
    lines.append(",\n".join(f"    {name} = {OPCODE_BITS}'d{code}" for name, code in names))
    lines += ["  } opcode_e;", ""]
    lines += _enumerations()
    lines += _channels()
    for unit in UNITS:
        for kind, channels in (("WAIT", WAITS[unit]), ("SIGNAL", SIGNALS[unit])):
            labels = [f"{unit.upper()}_{kind}_{name.upper()}" for name in channels]
            lines.append(f"  typedef enum logic [1:0] {{ {', '.join(labels)} }}")
            lines.append(f"    {unit}_{kind.lower()}_e;")
    lines += [
        "",
        "  // Counts of tokens, in the order of the enumerations above.",
        f"  typedef logic [{TOKEN_BITS - 1}:0] token_count_t;",
        f"  typedef token_count_t [{TOKEN_PORTS - 1}:0] tokens_t;",
        "",
        "  typedef struct packed {",
        "    tokens_t signals;",
        "    tokens_t waits;",
        "    opcode_e opcode;",
        "  } header_t;",
        "",
    ]
    for operation in OPERATIONS:
        if fields(operation):
            lines += _structure(operation)
    lines += ["endpackage", ""]
    return "\n".join(lines)


def _channels() -> Iterator[str]:
    """Every token channel, how many tokens it holds, and its name in lower case."""
    yield f"  localparam int unsigned Channels = {len(CHANNELS)};"
    yield f"  localparam int unsigned MaxTokens = {MAX_TOKENS};"
    labels = ", ".join(channel.name.upper() for channel in CHANNELS)
    yield f"  typedef enum logic [{(len(CHANNELS) - 1).bit_length() - 1}:0] {{"
    yield f"    {labels}"
    yield "  } channel_e;"
    yield ""


def _enumerations() -> list[str]:
    lines = []
    for name, bits, entries in (
        ("target_e", 2, TARGETS),
        ("function_e", FUNCTION_NUMBER.bits, FUNCTIONS),
        ("destination_e", 2, DESTINATIONS),
    ):
        prefix = name.removesuffix("_e").upper()
        lines.append(f"  typedef enum logic [{bits - 1}:0] {{")
        lines.append(
            ",\n".join(f"    {prefix}_{e.upper()} = {bits}'d{i}" for i, e in enumerate(entries))
        )
        lines += [f"  }} {name};", ""]
    return lines
