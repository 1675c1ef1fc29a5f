"""How large a machine may be: bounds that its configuration and the RTL's parameters keep.

`package` writes them for the RTL, whose modules refuse what is beyond them when they are elaborated.
"""

from dataclasses import dataclass

ADDRESS_BITS = 20  # of a local row
PARAMETER_ADDRESS_BITS = 10  # of a row of the parameter memory
STATE_ADDRESS_BITS = 9  # of a row of the states of attention, and of its alignments
STATE_ROWS = 1 << STATE_ADDRESS_BITS


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest number that something may be."""

    least: int
    most: int

    def __contains__(self, number: int) -> bool:
        return self.least <= number <= self.most

    def __str__(self) -> str:
        return f"from {self.least} to {self.most}"


DIM = Bounds(4, 128)  # a power of two
RTL_DIM = Bounds(DIM.least, 32)  # of the machines that there is RTL of
BANKS = Bounds(2, 64)  # a power of two
BUS_BYTES = Bounds(1, 128)  # a power of two, and no more than dim x dim
QUEUE_DEPTH = Bounds(2, 256)  # instructions of one unit
LATENCY_CYCLES = Bounds(1, 10_000)


def package() -> str:
    """The text of `rtl/limits_pkg.sv`."""
    return f"""\
// Which parameters modules may have; they refuse others when they are elaborated.
// Written by `python -m codesign.hw.views.generated`; hw/machine/limits.py is the source.

package limits_pkg;

  localparam int unsigned MostRows = {1 << ADDRESS_BITS};
  localparam int unsigned MostParameterRows = {1 << PARAMETER_ADDRESS_BITS};
  localparam int unsigned StateRows = {STATE_ROWS};

  function automatic bit is_power_of_two(input int unsigned number);
    return number != 0 && (number & (number - 1)) == 0;
  endfunction

  function automatic bit is_dim(input int unsigned dim);
    return is_power_of_two(dim) && {_within("dim", RTL_DIM)};
  endfunction

  function automatic bit is_bus(input int unsigned bytes);
    return is_power_of_two(bytes) && {_within("bytes", BUS_BYTES)};
  endfunction

  // A beat holds no more than a tile.
  function automatic bit is_bus_of(input int unsigned bytes, input int unsigned dim);
    return is_bus(bytes) && bytes <= dim * dim;
  endfunction

  function automatic bit is_bank_count(input int unsigned banks);
    return is_power_of_two(banks) && {_within("banks", BANKS)};
  endfunction

  // A bank holds a tile at least, and addresses reach all rows.
  function automatic bit is_memory(
    input int unsigned bytes, input int unsigned banks, input int unsigned row_bytes,
    input int unsigned dim
  );
    return is_bank_count(banks) && bytes % (banks * row_bytes) == 0
           && bytes / (banks * row_bytes) >= dim && bytes / row_bytes <= MostRows;
  endfunction

  function automatic bit is_queue_depth(input int unsigned depth);
    return {_within("depth", QUEUE_DEPTH)};
  endfunction

  function automatic bit is_latency(input int unsigned cycles);
    return {_within("cycles", LATENCY_CYCLES)};
  endfunction

endpackage
"""


def _within(name: str, bounds: Bounds) -> str:
    return f"{name} >= {bounds.least} && {name} <= {bounds.most}"
