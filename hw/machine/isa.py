"""The instruction set, as one table: units, token channels, operations and their fields.

Each instruction belongs to one unit's queue. It may wait for tokens before it starts and signal
tokens either when its sources are free again (`release`) or when its results can be read
(`complete`); the channel decides which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from codesign.hw.machine.functions import FUNCTION, DrainFunction
from codesign.hw.machine.memories import PARAMETERS
from codesign.hw.machine.quantities import (
    BLOCK_COUNT,
    COLUMN_COUNT,
    DIAGONAL,
    DRAM_ADDRESS,
    DRAM_STRIDE,
    EPSILON,
    FLAG,
    FUNCTION_NUMBER,
    INVERSE,
    LOCAL_ROW,
    MULTIPLIER,
    PARAMETER_ROW,
    ROW_COUNT,
    SCALE,
    SHIFT,
    STATE_ROW,
    TILE_SIZE,
    Quantity,
)

UNITS = ("load", "execute", "drain")


@dataclass(frozen=True)
class Channel:
    """A counted token channel from one unit to another (as in VTA, arXiv 1807.04188)."""

    name: str
    source: str
    target: str
    at: Literal["release", "complete"]
    meaning: str


CHANNELS = (
    Channel("loaded", "load", "execute", "complete", "operands are in the scratchpad"),
    Channel("filled", "load", "drain", "complete", "rows or parameters are in place for a drain"),
    Channel("consumed", "execute", "load", "release", "scratchpad rows may be overwritten"),
    Channel("computed", "execute", "drain", "complete", "accumulator rows hold final sums"),
    Channel("drained", "drain", "execute", "release", "accumulator rows may be overwritten"),
    Channel("stored", "drain", "execute", "complete", "scratchpad rows written by a drain"),
    Channel("emptied", "drain", "load", "release", "rows or parameters may be overwritten"),
    Channel(
        "finished", "execute", "load", "release", "the rows of a whole tile may be overwritten"
    ),
)
CHANNEL_INDEX = {channel.name: index for index, channel in enumerate(CHANNELS)}
MAX_TOKENS = 255  # a channel's counter is 8 bits wide
PARAMETER_BYTES = PARAMETERS.word_bytes


# Fields that only some of the drain's functions have, and which: one group's share the bits of another's.
VARIANTS: dict[str, Callable[[DrainFunction], bool]] = {
    "mask": lambda function: function.masked or function.stateful,
    "norm": lambda function: function.affine,
    "operands": lambda function: function.operands > 1,
}


@dataclass(frozen=True)
class Field:
    """A field of an operation: the kind of its number, what it says, and of which of VARIANTS it is."""

    name: str
    quantity: Quantity
    meaning: str
    variant: str = ""

    @property
    def bits(self) -> int:
        """Its width in a word."""
        return self.quantity.bits

    @property
    def signed(self) -> bool:
        """Whether it may be negative."""
        return self.quantity.signed


@dataclass(frozen=True)
class Operation:
    """An operation of the machine; `values` shape its timing, `addresses` and `flags` do not.

    `addresses` also holds the numbers that only shape results: factors, shifts, valid columns.
    """

    name: str
    opcode: int
    unit: str
    values: tuple[Field, ...]
    addresses: tuple[Field, ...]
    flags: tuple[Field, ...]
    meaning: str


_ROWS = Field("rows", ROW_COUNT, "rows per block")
_BLOCKS = Field("blocks", BLOCK_COUNT, "blocks of dim columns")
_DRAM = Field("dram", DRAM_ADDRESS, "byte address in DRAM")
_DRAM_STRIDE = Field("dram_stride", DRAM_STRIDE, "bytes from one block to the next in DRAM")
_LOCAL_STRIDE = Field("stride", LOCAL_ROW, "local rows from one block to the next")

# Where a mvin moves to, and a mvout from the drain: bytes of an element on its way.
TARGET_BYTES = {
    "scratchpad": 1,
    "accumulator": 1,
    "accumulator_int32": 4,
    "parameters": PARAMETER_BYTES,
}
DESTINATION_BYTES = {"dram": 1, "dram_int32": 4, "scratchpad": 1}
TARGETS, DESTINATIONS = tuple(TARGET_BYTES), tuple(DESTINATION_BYTES)
FUNCTIONS = tuple(FUNCTION)  # see functions.py
# Those that one instruction has whole rows of.
ROW_FUNCTIONS = tuple(f.name for f in FUNCTION.values() if f.by_row and not f.stateful)

OPERATIONS = (
    Operation(
        "mvin",
        1,
        "load",
        (_ROWS, _BLOCKS, Field("target", Quantity("", 2), "index into TARGETS")),
        (
            _DRAM,
            _DRAM_STRIDE,
            Field("local", LOCAL_ROW, "first local row"),
            _LOCAL_STRIDE,
            Field("scale", SCALE, "factor of int8 values that enter the accumulator"),
        ),
        (Field("accumulate", FLAG, "add to the accumulator rows instead of overwriting them"),),
        "DRAM to scratchpad, accumulator (scaled) or the drain's parameter memory",
    ),
    Operation(
        "preload",
        2,
        "execute",
        (Field("rows", TILE_SIZE, "weight rows; the rest of the tile is zero"),),
        (Field("local", LOCAL_ROW, "scratchpad row of the first weight row"),),
        (Field("transposed", FLAG, "rows enter from the west: the tile is used transposed"),),
        "a dim x dim weight tile into the mesh's shadow registers",
    ),
    Operation(
        "compute",
        3,
        "execute",
        (
            _ROWS,
            Field("depth", TILE_SIZE, "useful rows of the weight tile"),
            Field("width", TILE_SIZE, "columns"),
            Field("aligned", FLAG, "products are shifted as the alignment of their row says"),
        ),
        (
            Field("local", LOCAL_ROW, "scratchpad row of the first A row"),
            Field("accumulator", LOCAL_ROW, "accumulator row of the first result"),
            Field("alignment", STATE_ROW, "alignment of the first row, if aligned"),
        ),
        (
            Field("overwrite", FLAG, "replace the accumulator rows instead of adding to them"),
            Field("rescale", FLAG, "shift what they are added to, too, if aligned"),
        ),
        "swap in the preloaded weights and stream rows of A through the mesh",
    ),
    Operation(
        "mvout",
        4,
        "drain",
        (
            _ROWS,
            _BLOCKS,
            Field("function", FUNCTION_NUMBER, "index into FUNCTIONS"),
            Field("destination", Quantity("", 2), "index into DESTINATIONS"),
        ),
        (
            Field("accumulator", LOCAL_ROW, "first accumulator row"),
            _LOCAL_STRIDE,
            _DRAM,
            _DRAM_STRIDE,
            Field("local", LOCAL_ROW, "first scratchpad row, when that is the destination"),
            Field("local_stride", LOCAL_ROW, "scratchpad rows from one block to the next"),
            Field("parameters", PARAMETER_ROW, "first row of the parameter memory"),
            Field("multiplier", MULTIPLIER, "of the first requantizer, without channel_scale"),
            Field("shift", SHIFT, "of the first requantizer, without channel_scale"),
            Field("out_multiplier", MULTIPLIER, "of the last one, without channel_affine"),
            Field("out_shift", SHIFT, "of the last one, without channel_affine"),
            Field(
                "columns", COLUMN_COUNT, "valid columns of all blocks together, for row functions"
            ),
            Field("diagonal", DIAGONAL, "last column that row 0 sees, if causal", "mask"),
            Field("window", COLUMN_COUNT, "columns that a row sees, if causal; 0: all", "mask"),
            Field("state", STATE_ROW, "state of row 0, of functions that have states", "mask"),
            Field("alignment", STATE_ROW, "alignment of row 0, likewise", "mask"),
            Field("inverse", INVERSE, "reciprocal of columns: see arithmetic.inverse", "norm"),
            Field("epsilon", EPSILON, "added to the mean square, in squares of v's unit", "norm"),
            Field("second", LOCAL_ROW, "first accumulator row of further operands", "operands"),
            Field(
                "second_multiplier", MULTIPLIER, "of the first requantizer, for them", "operands"
            ),
            Field("second_shift", SHIFT, "of the first requantizer, for them", "operands"),
        ),
        (
            Field(
                "channel_scale", FLAG, "first requantizer per channel, from the parameter memory"
            ),
            Field("channel_affine", FLAG, "gamma and beta per channel, from the parameter memory"),
            Field("causal", FLAG, "row r sees columns up to diagonal + r, the last of a window"),
            Field(
                "second_channel_scale",
                FLAG,
                "channel_scale for further operands, behind the first's",
            ),
            Field("fresh", FLAG, "states of the rows begin with this part of them"),
        ),
        "accumulator through a row function and the requantizer to DRAM or scratchpad",
    ),
    Operation("load_sync", 5, "load", (), (), (), "pass tokens, move nothing"),
    Operation("execute_sync", 6, "execute", (), (), (), "pass tokens, move nothing"),
    Operation("drain_sync", 7, "drain", (), (), (), "pass tokens, move nothing"),
)
OPERATION = {operation.name: operation for operation in OPERATIONS}
