"""What a Program computes: the instructions one after another on numpy memories, to the bit.

The reference for the hardware. Timing has no part in it: whether the machine, which overlaps
instructions, computes the same is what `races.check_races` tells.
"""

from collections.abc import Callable
from typing import NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ProgramError
from codesign.hw.machine import arithmetic, attention
from codesign.hw.machine.arithmetic import Bools, Bytes, Ints
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import DRAIN_FUNCTIONS, FUNCTION, DrainFunction
from codesign.hw.machine.isa import (
    CHANNEL_INDEX,
    CHANNELS,
    DESTINATIONS,
    OPERATION,
    OPERATIONS,
    PARAMETER_BYTES,
    TARGETS,
    VARIANTS,
    Field,
)
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Body, Issued, Kernel, Program, unroll

Scalar = TypeVar("Scalar", bound=np.generic)
HostStep = Callable[[Kernel, Bytes], None]


def _range(field: Field) -> tuple[str, int, int]:
    lowest = -(1 << (field.bits - 1)) if field.signed else 0
    return field.name, lowest, lowest + (1 << field.bits)


_RANGES = {
    o.name: (
        tuple(map(_range, o.values)),
        tuple(map(_range, o.addresses)),
        frozenset(f.name for f in o.values),
        frozenset(f.name for f in o.addresses),
        frozenset(f.name for f in o.flags),
    )
    for o in OPERATIONS
}


class Machine:
    """The memories and the weights of a machine, and the DRAM it works on (changed in place).

    All memories outlive a kernel. Raises ProgramError, naming the instruction, for a field that is
    unknown, out of range or contradicts another, a row or DRAM byte outside its memory, a row read
    that was never written, a block that starts inside a beat, weights that are missing, and a token
    that its unit cannot pass.
    """

    def __init__(self, config: HardwareConfig, dram: Bytes) -> None:
        dim = config.dim
        parameter_rows = config.parameter_channels // dim
        self.config = config
        self.dram = dram
        self.scratchpad = np.zeros((config.scratchpad_rows, dim), dtype=np.int8)
        self.accumulator = np.zeros((config.accumulator_rows, dim), dtype=np.int32)
        self.parameters = np.zeros((parameter_rows, dim, PARAMETER_BYTES), dtype=np.uint8)
        self.written = {
            "scratchpad": np.zeros(config.scratchpad_rows, dtype=np.bool_),
            "accumulator": np.zeros(config.accumulator_rows, dtype=np.bool_),
            "parameters": np.zeros(parameter_rows, dtype=np.bool_),
            "states": np.zeros(STATE_ROWS, dtype=np.bool_),
            "alignments": np.zeros(STATE_ROWS, dtype=np.bool_),
        }
        octave, total, shift = np.zeros((3, STATE_ROWS), dtype=np.int64)
        self.states = attention.RowState(octave, total)
        self.alignments = attention.Alignment(shift, shift > 0)
        # float32 holds every sum of a tile exactly: at most 128 products of 2^14.
        self.weights: npt.NDArray[np.float32] | None = None
        self.preloaded: npt.NDArray[np.float32] | None = None
        self._now = ""
        self._operations: dict[str, Callable[[Issued], None]] = {
            "mvin": self._mvin,
            "preload": self._preload,
            "compute": self._compute,
            "mvout": self._mvout,
        }

    def run_program(self, program: Program, host: HostStep | None = None) -> None:
        """Run every kernel in order; `host` does, on the DRAM, what kernels leave to the host."""
        for kernel in program.kernels:
            try:
                self.run(kernel.body)
            except ProgramError as error:
                raise ProgramError(f"kernel {kernel.name!r}: {error}") from error
            if kernel.host_cycles and host is not None:
                host(kernel, self.dram)
            elif kernel.host_cycles:
                raise ProgramError(f"kernel {kernel.name!r} needs a host, and none was given")

    def run(self, body: Body) -> None:
        """Execute every instruction of a kernel's body in program order."""
        for index, issued in enumerate(unroll(body)):
            self.step(issued, index)

    def step(self, issued: Issued, index: int) -> None:
        """Execute one instruction, the `index`-th of its kernel."""
        self._now = f"{issued.op} at site {issued.site} (instruction {index})"
        self._check_fields(issued)
        operation = self._operations.get(issued.op)
        if operation is not None:  # a sync moves nothing
            operation(issued)

    # -- Checks --------------------------------------------------------------------------------------

    def _fail(self, message: str) -> NoReturn:
        raise ProgramError(f"{self._now}: {message}")

    def _check_fields(self, issued: Issued) -> None:
        if issued.op not in _RANGES:
            self._fail("there is no such operation")
        for passed, end in ((issued.waits, "target"), (issued.signals, "source")):
            for channel, _ in passed:
                if getattr(CHANNELS[CHANNEL_INDEX[channel]], end) != OPERATION[issued.op].unit:
                    self._fail(f"cannot {'wait for' if end == 'target' else 'signal'} {channel!r}")
        values, addresses, *known = _RANGES[issued.op]
        for given, names in zip(
            (issued.values, issued.addresses, issued.flags), known, strict=True
        ):
            if not given.keys() <= names:
                self._fail(f"has no field {min(given.keys() - names)!r}")
        for ranges, numbers in ((values, issued.values), (addresses, issued.addresses)):
            for name, lowest, limit in ranges:
                number = numbers.get(name, 0)
                if not lowest <= number < limit:
                    self._fail(f"{name} is {number} but must be from {lowest} to {limit - 1}")

    def _check_range(self, name: str, value: int, lowest: int, highest: int) -> int:
        if not lowest <= value <= highest:
            self._fail(f"{name} is {value} but must be from {lowest} to {highest}")
        return value

    def _rows(self, memory: str, first: int, count: int, *, reads: bool) -> slice:
        """The rows of a memory from `first` on; those read must have been written."""
        written = self.written[memory]
        if first + count > len(written):
            self._fail(f"row {first + count - 1} is outside the {memory} ({len(written)} rows)")
        rows = slice(first, first + count)
        if reads:
            if not written[rows].all():
                row = first + int(np.argmin(written[rows]))
                self._fail(f"reads row {row} of the {memory}, which was never written")
        else:
            written[rows] = True
        return rows

    def _block(self, issued: Issued, block: int, size: int) -> slice:
        """The bytes of one block in DRAM."""
        begin = issued.addresses.get("dram", 0) + block * issued.addresses.get("dram_stride", 0)
        if begin % self.config.bus_bytes:
            self._fail(
                f"block {block} starts at DRAM byte {begin}, "
                f"inside a beat of {self.config.bus_bytes} bytes"
            )
        if begin + size > len(self.dram):
            self._fail(f"block {block} ends at DRAM byte {begin + size} of {len(self.dram)}")
        return slice(begin, begin + size)

    # -- Load ----------------------------------------------------------------------------------------

    def _mvin(self, issued: Issued) -> None:
        dim, get = self.config.dim, issued.addresses.get
        rows = self._check_range("rows", issued.values.get("rows", 0), 1, 1 << 16)
        blocks = self._check_range("blocks", issued.values.get("blocks", 0), 1, 1 << 12)
        target = TARGETS[issued.values.get("target", 0)]
        add = issued.flags.get("accumulate", False)
        if add and not target.startswith("accumulator"):
            self._fail(f"accumulates into the {target}")
        row_bytes = dim * {"accumulator_int32": 4, "parameters": PARAMETER_BYTES}.get(target, 1)
        memory = "accumulator" if target == "accumulator_int32" else target
        scale = np.int32(get("scale", 0))
        for block in range(blocks):
            data = self.dram[self._block(issued, block, rows * row_bytes)]
            place = get("local", 0) + block * get("stride", 0)
            local = self._rows(memory, place, rows, reads=add)
            match target:
                case "scratchpad":
                    self.scratchpad[local] = data.view(np.int8).reshape(rows, dim)
                    continue
                case "parameters":
                    self.parameters[local] = data.reshape(rows, dim, PARAMETER_BYTES)
                    continue
                case "accumulator":
                    words = data.view(np.int8).reshape(rows, dim) * scale
                case _:
                    words = np.frombuffer(data.tobytes(), dtype="<i4").reshape(rows, dim)
            if add:
                self.accumulator[local] += words
            else:
                self.accumulator[local] = words

    # -- Execute -------------------------------------------------------------------------------------

    def _preload(self, issued: Issued) -> None:
        dim = self.config.dim
        rows = self._check_range("rows", issued.values.get("rows", 0), 1, dim)
        local = self._rows("scratchpad", issued.addresses.get("local", 0), rows, reads=True)
        if self.preloaded is not None:
            self._fail("overwrites weights that no compute used")
        tile = np.zeros((dim, dim), dtype=np.float32)
        tile[:rows] = self.scratchpad[local]
        self.preloaded = tile.T if issued.flags.get("transposed", False) else tile

    def _compute(self, issued: Issued) -> None:
        get = issued.addresses.get
        rows = self._check_range("rows", issued.values.get("rows", 0), 1, 1 << 16)
        for name in ("depth", "width"):
            self._check_range(name, issued.values.get(name, 0), 1, self.config.dim)
        align = issued.values.get("aligned", 0)
        if not align and (get("alignment", 0) or issued.flags.get("rescale", False)):
            self._fail("has an alignment, but is not aligned")
        if self.preloaded is not None:
            self.weights, self.preloaded = self.preloaded, None
        if self.weights is None:
            self._fail("no weights were preloaded")
        local = self._rows("scratchpad", get("local", 0), rows, reads=True)
        product = (self.scratchpad[local].astype(np.float32) @ self.weights).astype(np.int32)
        add = not issued.flags.get("overwrite", False)
        place = self._rows("accumulator", get("accumulator", 0), rows, reads=add)
        sums = self.accumulator[place] if add else np.zeros_like(product)
        if align:
            by = self.alignments[self._rows("alignments", get("alignment", 0), rows, reads=True)]
            wide = (sums.astype(np.int64), product.astype(np.int64))
            rescale = issued.flags.get("rescale", False)
            self.accumulator[place] = attention.shifted_sum(*wide, by, rescale=rescale)
        else:
            self.accumulator[place] = sums + product

    # -- Drain ---------------------------------------------------------------------------------------

    def _mvout(self, issued: Issued) -> None:
        values = issued.values
        rows = self._check_range("rows", values.get("rows", 0), 1, 1 << 16)
        blocks = self._check_range("blocks", values.get("blocks", 0), 1, 1 << 12)
        code = self._check_range("function", values.get("function", 0), 0, len(DRAIN_FUNCTIONS) - 1)
        to = self._check_range("destination", values.get("destination", 0), 0, 2)
        function, destination = DRAIN_FUNCTIONS[code], DESTINATIONS[to]
        self._check_mvout(issued, function, destination, blocks)
        acc = self._gather(issued, rows, blocks, function.operands)
        by_row = function.by_row
        if destination == "dram_int32":
            self._store(issued, acc[0].astype("<i4", copy=False).view(np.uint8), by_row=by_row)
            return
        out = self._outputs(issued, acc, function).astype(np.int8)
        if destination == "scratchpad":
            self._scatter(issued, out, by_row=by_row)
        else:
            self._store(issued, out.view(np.uint8), by_row=by_row)

    def _check_mvout(
        self, issued: Issued, function: DrainFunction, destination: str, blocks: int
    ) -> None:
        flag, get = issued.flags.get, issued.addresses.get
        if function.normalization and not self.config.normalization:
            self._fail(f"{function.name} needs normalization units, and this machine has none")
        copies = function is FUNCTION["copy"] and not flag("channel_scale", False)
        if destination == "dram_int32" and not copies:
            self._fail("dram_int32 takes sums as they are: no function and no channel_scale")
        if flag("channel_affine", False) and not function.normalization:
            self._fail(f"{function.name} has no second requantizer for channel_affine")
        if flag("causal", False) and not function.masked:
            masked = " and ".join(f.name for f in DRAIN_FUNCTIONS if f.masked)
            self._fail(f"causal is for {masked}, not {function.name}")
        if get("window", 0) and not flag("causal", False):
            self._fail("a window is of causal rows")
        if function.by_state and (flag("channel_scale", False) or get("shift", 0)):
            self._fail(f"{function.name} shifts by the rows' states: no channel_scale, no shift")
        if not function.stateful and (
            get("state", 0) or get("alignment", 0) or flag("fresh", False)
        ):
            self._fail(f"{function.name} has no states")
        if flag("second_channel_scale", False) and function.operands == 1:
            self._fail(f"{function.name} has no further operands for second_channel_scale")
        for field in OPERATION["mvout"].addresses:
            if field.variant and not VARIANTS[field.variant](function) and get(field.name, 0):
                self._fail(f"{function.name} has no field {field.name!r}")
        for name in ("shift", "out_shift", "second_shift"):
            self._check_range(name, get(name, 0), 0, arithmetic.MAX_SHIFT)
        if function.by_row:
            self._check_range("columns", get("columns", 0), 1, blocks * self.config.dim)
        if function.centered:
            right = arithmetic.inverse(get("columns", 0))
            self._check_range("inverse", get("inverse", 0), right, right)

    def _gather(
        self, issued: Issued, rows: int, blocks: int, operands: int
    ) -> npt.NDArray[np.int32]:
        """The accumulator rows of all operands [operands, blocks, rows, dim].

        Those behind the first take turns: each has a row for each of the first's.
        """
        get, further = issued.addresses.get, operands - 1
        stride = get("stride", 0)

        def of_blocks(first: int, each: int) -> npt.NDArray[np.int32]:
            places = [
                self._rows("accumulator", first + block * stride * each, rows * each, reads=True)
                for block in range(blocks)
            ]
            found = np.stack([self.accumulator[rows_of_block] for rows_of_block in places])
            return found.reshape(blocks, rows, each, -1).transpose(2, 0, 1, 3)

        operand = of_blocks(get("accumulator", 0), 1)
        return (
            np.concatenate((operand, of_blocks(get("second", 0), further))) if further else operand
        )

    def _outputs(self, issued: Issued, acc: npt.NDArray[np.int32], function: DrainFunction) -> Ints:
        """int8 results [blocks, rows, dim] of sums [operands, blocks, rows, dim]."""
        get, blocks = issued.addresses.get, acc.shape[1]
        at = get("parameters", 0)
        if function.by_state:
            value, valid = self._quotient(issued, acc[0])
        elif function.by_row:
            v, at = self._requantized(issued, acc[:1], at, "")
            value, valid = self._row_function(issued, v[0], function)
        else:
            v, at = self._requantized(issued, acc[:1], at, "")
            if function.operands > 1:
                second, at = self._requantized(issued, acc[1:], at, "second_")
                v = np.concatenate((v, second))
            valid = np.ones((), dtype=np.bool_)
            operands = v if function.operands > 1 else v[0]
            value = function.values(operands, valid, acc.shape[-1], 0)
        if not function.normalization:
            return arithmetic.saturate(value, arithmetic.OUTPUT_BITS)
        offset: Ints | int = 0
        multiplier: Ints | int = get("out_multiplier", 0)
        shift: Ints | int = get("out_shift", 0)
        if issued.flags.get("channel_affine", False):
            offset, multiplier, shift = self._parameters(at, blocks)
        out = arithmetic.requantize_output(value, multiplier, offset, shift)
        return np.where(valid, out, 0)

    def _requantized(
        self, issued: Issued, acc: npt.NDArray[np.int32], at: int, operand: str
    ) -> tuple[Ints, int]:
        """v of sums, and the parameter row behind what they took of those from row `at` on.

        `operand` is the prefix of the fields that are of these sums.
        """
        get = issued.addresses.get
        sums = acc.astype(np.int64)
        if not issued.flags.get(f"{operand}channel_scale", False):
            factor, shift = get(f"{operand}multiplier", 0), get(f"{operand}shift", 0)
            return arithmetic.requantize(sums, 0, factor, shift), at
        blocks = acc.shape[1]
        return arithmetic.requantize(sums, *self._parameters(at, blocks)), at + blocks

    def _parameters(self, first: int, blocks: int) -> tuple[Ints, Ints, Ints]:
        """A parameter set [blocks, 1, dim]: bias or offset, multiplier, shift."""
        rows = self._rows("parameters", first, blocks, reads=True)
        bias, multiplier, shift = arithmetic.unpack_parameters(self.parameters[rows])
        if shift.max() > arithmetic.MAX_SHIFT:
            row, lane = np.unravel_index(int(shift.argmax()), shift.shape)
            self._fail(
                f"shift {shift.max()} of channel {lane} in parameter row {first + row} "
                f"is above {arithmetic.MAX_SHIFT}"
            )
        return bias[:, np.newaxis], multiplier[:, np.newaxis], shift[:, np.newaxis]

    def _row_function(self, issued: Issued, v: Ints, function: DrainFunction) -> tuple[Ints, Bools]:
        """Values and valid columns [blocks, rows, dim] of whole rows that lie across the blocks."""
        blocks, rows, dim = v.shape
        get = issued.addresses.get
        columns, column = get("columns", 0), np.arange(blocks * dim)
        valid = np.broadcast_to(column < columns, (rows, blocks * dim))
        if issued.flags.get("causal", False):
            behind = get("diagonal", 0) + np.arange(rows)[:, np.newaxis] - column
            valid = valid & (behind >= 0)
            if window := get("window", 0):
                valid &= behind < window
        flat = v.transpose(1, 0, 2).reshape(rows, blocks * dim)
        if function.stateful:
            value, part = attention.exponentials(flat, valid)
            self._join(issued, part)
        else:
            value = function.values(flat, valid, columns, get("epsilon", 0))
        return _by_block(value, blocks), _by_block(valid, blocks)

    def _join(self, issued: Issued, part: attention.RowState) -> None:
        """Let the rows' states take in a part of them, and write its alignments."""
        rows, get = len(part.total), issued.addresses.get
        fresh = issued.flags.get("fresh", False)
        at = self._rows("states", get("state", 0), rows, reads=not fresh)
        after, by = attention.begun(part) if fresh else attention.joined(self.states[at], part)
        self.states[at] = after
        self.alignments[self._rows("alignments", get("alignment", 0), rows, reads=False)] = by

    def _quotient(self, issued: Issued, acc: npt.NDArray[np.int32]) -> tuple[Ints, Bools]:
        """Values and valid columns [blocks, rows, dim] of sums over those of the rows' states."""
        blocks, rows, dim = acc.shape
        get = issued.addresses.get
        at = self._rows("states", get("state", 0), rows, reads=True)
        sums = acc.astype(np.int64)
        total = self.states[at].total
        value = np.stack([attention.quotient(s, total, get("multiplier", 0)) for s in sums])
        valid = np.broadcast_to(np.arange(blocks * dim) < get("columns", 0), (rows, blocks * dim))
        return value, _by_block(valid, blocks)

    def _scatter(self, issued: Issued, out: npt.NDArray[np.int8], *, by_row: bool) -> None:
        """Write [blocks, rows, dim] to the scratchpad in the machine's order: the last one stays."""
        blocks, rows, dim = out.shape
        first = issued.addresses.get("local", 0)
        stride = issued.addresses.get("local_stride", 0)
        for block in range(blocks):
            self._rows("scratchpad", first + block * stride, rows, reads=False)
        places = first + stride * np.arange(blocks)[:, np.newaxis] + np.arange(rows)
        if by_row:
            places, out = places.T, out.transpose(1, 0, 2)
        self.scratchpad[places.ravel()] = out.reshape(-1, dim)

    def _store(self, issued: Issued, planes: Bytes, *, by_row: bool) -> None:
        """Write the bytes [blocks, rows, width] to DRAM in the machine's order."""
        blocks, rows, width = planes.shape
        places = [self._block(issued, block, rows * width) for block in range(blocks)]
        overlap = issued.addresses.get("dram_stride", 0) < rows * width and blocks > 1
        if not (by_row and overlap):
            for place, plane in zip(places, planes, strict=True):
                self.dram[place] = plane.ravel()
            return
        for row in range(rows):
            for place, plane in zip(places, planes, strict=True):
                self.dram[place.start + row * width :][:width] = plane[row]


def _by_block(rows: npt.NDArray[Scalar], blocks: int) -> npt.NDArray[Scalar]:
    """[rows, blocks * dim] as [blocks, rows, dim]."""
    return rows.reshape(len(rows), blocks, -1).transpose(1, 0, 2)


def run(body: Body, config: HardwareConfig, dram: Bytes) -> Machine:
    """Run one kernel on a fresh machine; returns the machine, the DRAM changed in place."""
    machine = Machine(config, dram)
    machine.run(body)
    return machine
