"""The kinds of numbers that travel in the machine, and what travels together: types of the RTL.

Fields of instructions (`isa.py`) are of these kinds, and so are the ports between the RTL's units;
`declarations` writes them for `rtl/isa_pkg.sv`, each as `NAME_t`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from codesign.hw.machine.limits import ADDRESS_BITS, PARAMETER_ADDRESS_BITS, STATE_ADDRESS_BITS


@dataclass(frozen=True)
class Quantity:
    """A kind of number: its name (empty where one field alone is of it), width in bits and meaning."""

    name: str
    bits: int
    meaning: str = ""
    signed: bool = False

    @property
    def type(self) -> str:
        """Its type in SystemVerilog."""
        if self.name:
            return f"{self.name}_t"
        kind = "logic signed" if self.signed else "logic"
        return kind if self.bits == 1 else f"{kind} [{self.bits - 1}:0]"


FLAG = Quantity("", 1)
INSTRUCTION = Quantity("instruction", 384, "an instruction as a word")
TAG = Quantity("tag", 32, "number of an instruction in dispatch order")
LOCAL_ROW = Quantity("local_row", ADDRESS_BITS, "row of a local memory, or a step between rows")
PARAMETER_ROW = Quantity("parameter_row", PARAMETER_ADDRESS_BITS, "row of the parameter memory")
DRAM_ADDRESS = Quantity("dram_address", 40, "byte of DRAM")
DRAM_STRIDE = Quantity("dram_stride", 32, "bytes from one block to the next in DRAM")
ROW_COUNT = Quantity("row_count", 16, "rows of a block")
BLOCK_COUNT = Quantity("block_count", 12, "blocks of Dim columns")
COLUMN_COUNT = Quantity("column_count", 16, "columns of all blocks together")
BEAT_COUNT = Quantity("beat_count", 28, "beats of all rows and blocks together")
TILE_SIZE = Quantity("tile_size", 8, "rows or columns of a weight tile")
SCALE = Quantity("scale", 24, "factor of int8 values")
MULTIPLIER = Quantity("multiplier", 24, "factor of a requantizer", signed=True)
SHIFT = Quantity("shift", 6, "shift of a requantizer, rounding half up")
INVERSE = Quantity("inverse", 24, "reciprocal of a count of columns")
EPSILON = Quantity("epsilon", 30, "what is added to the mean square of a row")
FUNCTION_NUMBER = Quantity("function", 5, "number of a function of the drain")
DIAGONAL = Quantity("diagonal", ADDRESS_BITS, "last column that row 0 sees", signed=True)
STATE_ROW = Quantity("state_row", STATE_ADDRESS_BITS, "row of the states, or of the alignments")
ALIGN_SHIFT = Quantity("align_shift", 5, "octaves by which sums are shifted, rounding half up")

QUANTITIES = (
    INSTRUCTION,
    TAG,
    LOCAL_ROW,
    PARAMETER_ROW,
    DRAM_ADDRESS,
    DRAM_STRIDE,
    ROW_COUNT,
    BLOCK_COUNT,
    COLUMN_COUNT,
    BEAT_COUNT,
    TILE_SIZE,
    SCALE,
    MULTIPLIER,
    SHIFT,
    INVERSE,
    EPSILON,
    FUNCTION_NUMBER,
    DIAGONAL,
    STATE_ROW,
    ALIGN_SHIFT,
)


@dataclass(frozen=True)
class Payload:
    """What goes from one module to another together; a packed struct, its members from bit 0 up."""

    name: str
    members: tuple[tuple[str, Quantity], ...]
    meaning: str

    @property
    def bits(self) -> int:
        """Width of the struct."""
        return sum(quantity.bits for _, quantity in self.members)

    def pack(self, values: Mapping[str, int]) -> int:
        """The word of these members; those that are not given are zero. Raises KeyError for others."""
        given, word, at = dict(values), 0, 0
        for name, quantity in self.members:
            word |= (given.pop(name, 0) & ((1 << quantity.bits) - 1)) << at
            at += quantity.bits
        if given:
            raise KeyError(f"{self.name} has no {next(iter(given))!r}")
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """The members of a word, as unsigned numbers."""
        values = {}
        for name, quantity in self.members:
            values[name] = word & ((1 << quantity.bits) - 1)
            word >>= quantity.bits
        return values


HEAD = Payload(
    "head",
    (("tag", TAG), ("instr", INSTRUCTION), ("valid", FLAG)),
    "the instruction at the head of a unit's queue, if there is one",
)
ACCESS = Payload(
    "access",
    (("tag", TAG), ("row", LOCAL_ROW), ("valid", FLAG)),
    "an access of a port of a local memory in a cycle, and the instruction it is of",
)
SUMS = Payload(
    "sums",
    (
        ("tag", TAG),
        ("last", FLAG),
        ("accumulate", FLAG),
        ("row", LOCAL_ROW),
        ("align", ALIGN_SHIFT),
        ("align_old", FLAG),
    ),
    "where a row of sums goes: added or written, whether it is the last of its instruction, and by "
    "how much it is shifted, or what it is added to",
)
WEIGHTS = Payload(
    "weights",
    (("first", FLAG), ("zero", FLAG), ("transposed", FLAG)),
    "a row of a weight tile on its way into the mesh: the first, one of zeros, of the transpose",
)
ALIGNMENT = Payload(
    "alignment",
    (("shift", ALIGN_SHIFT), ("old", FLAG)),
    "by how many octaves products are shifted before they are added, or the sums so far (old)",
)
PAYLOADS = (HEAD, ACCESS, SUMS, WEIGHTS, ALIGNMENT)


def declarations() -> Iterator[str]:
    """The lines of SystemVerilog that declare all of them."""
    for quantity in QUANTITIES:
        kind = Quantity("", quantity.bits, signed=quantity.signed).type
        yield f"  typedef {kind} {quantity.type};  // {quantity.meaning}"
    for payload in PAYLOADS:
        yield ""
        yield f"  // {payload.meaning[0].upper()}{payload.meaning[1:]}."
        yield from structure(f"{payload.name}_t", payload.members)


def structure(name: str, members: tuple[tuple[str, Quantity], ...]) -> Iterator[str]:
    """The lines of a packed struct, its members given from bit 0 up."""
    yield "  typedef struct packed {"
    for member, quantity in reversed(members):
        said = "" if quantity.name or not quantity.meaning else f"  // {quantity.meaning}"
        yield f"    {quantity.type} {member};{said}"
    yield f"  }} {name};"


def union(name: str, members: Mapping[str, str]) -> Iterator[str]:
    """The lines of a packed union of types of one width."""
    yield "  typedef union packed {"
    for member, kind in members.items():
        yield f"    {kind} {member};"
    yield f"  }} {name};"
