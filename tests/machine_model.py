"""A second, independent model of the machine for tests: what kernels compute and what may collide.

`run` executes a kernel's instructions one after another on numpy memories. `check_hazards` takes
the times that the timing model gives and looks for rows and ports that two instructions would need
at once. Neither shares code with the package beyond the unrolled instructions. The strategies at
the end make machines, problems and mappings for both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from hypothesis import assume
from hypothesis import strategies as st

from codesign.compiler.kernels.matmul_kernel import MatmulAddresses
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem, MatmulShape
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, TARGETS
from codesign.hw.machine.program import Body, Issued, unroll
from codesign.hw.views.timing import TimedStep

Bytes = npt.NDArray[np.uint8]
Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]


class Fault(AssertionError):
    """A program did what the machine's contract forbids."""


# -- DRAM in the blocked layout [columns / dim][rows][dim] -------------------------------------------


def plane_bytes(rows: int, row_bytes: int, bus_bytes: int) -> int:
    """Bytes of one column block: its rows, then padding to a whole beat."""
    return -(-rows * row_bytes // bus_bytes) * bus_bytes


def to_blocked(matrix: npt.NDArray[np.integer], config: HardwareConfig, pad: int) -> Bytes:
    """Bytes of int8 [rows, columns] in the blocked layout; columns past the last hold `pad`."""
    rows, columns = matrix.shape
    blocks = -(-columns // config.dim)
    padded = np.full((rows, blocks * config.dim), pad, dtype=np.int8)
    padded[:, :columns] = matrix
    planes = np.zeros((blocks, plane_bytes(rows, config.dim, config.bus_bytes)), dtype=np.uint8)
    tall = padded.reshape(rows, blocks, config.dim).transpose(1, 0, 2)
    planes[:, : rows * config.dim] = tall.reshape(blocks, -1).view(np.uint8)
    return planes.ravel()


def from_blocked(
    data: Bytes, rows: int, columns: int, config: HardwareConfig, word: int
) -> npt.NDArray[np.integer]:
    """The int8 (word 1) or int32 (word 4) matrix [rows, columns] of bytes in the blocked layout."""
    blocks, dim = -(-columns // config.dim), config.dim
    plane = plane_bytes(rows, dim, config.bus_bytes) * word
    planes = data[: blocks * plane].reshape(blocks, plane)[:, : rows * dim * word]
    values = np.ascontiguousarray(planes).view(np.int8 if word == 1 else "<i4")
    return values.reshape(blocks, rows, dim).transpose(1, 0, 2).reshape(rows, -1)[:, :columns]


# -- What instructions do ------------------------------------------------------------------------------


@dataclass
class Machine:
    """Memories and mesh; `*_valid` marks rows that hold data, `written` counts DRAM byte writes."""

    config: HardwareConfig
    dram: Bytes
    readable: npt.NDArray[np.bool_]
    parameter_sets: int = 0
    written: Rows = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self.written = np.zeros(len(self.dram), dtype=np.int64)
        self.scratchpad = np.zeros((config.scratchpad_rows, config.dim), dtype=np.int8)
        self.accumulator = np.zeros((config.accumulator_rows, config.dim), dtype=np.int32)
        self.valid = {
            "scratchpad": np.zeros(config.scratchpad_rows, dtype=np.bool_),
            "accumulator": np.zeros(config.accumulator_rows, dtype=np.bool_),
            "parameters": np.zeros(config.parameter_channels // config.dim, dtype=np.bool_),
        }
        self.shadow: Int32 | None = None
        self.weights = np.zeros((config.dim, config.dim), dtype=np.int32)

    def run(self, body: Body) -> None:
        """Execute every instruction in program order; raises Fault for a broken contract."""
        for issued in unroll(body):
            for access in accesses(issued, self.config, self.parameter_sets):
                valid = self.valid[access.memory]
                if access.rows.size and not 0 <= access.rows.min() <= access.rows.max() < len(
                    valid
                ):
                    raise Fault(f"{issued} leaves the {access.memory}")
                if not access.write and not valid[access.rows].all():
                    raise Fault(f"{issued} reads rows of the {access.memory} that nobody wrote")
                if access.write:
                    valid[access.rows] = True
            match issued.op:
                case "mvin":
                    self._mvin(issued)
                case "preload":
                    self._preload(issued)
                case "compute":
                    self._compute(issued)
                case "mvout":
                    self._mvout(issued)

    def _dram(self, issued: Issued, row_bytes: int) -> Iterator[tuple[int, slice]]:
        values, addresses = issued.values, issued.addresses
        for block in range(values["blocks"]):
            begin = addresses["dram"] + block * addresses["dram_stride"]
            if begin % self.config.bus_bytes:
                raise Fault(f"{issued} starts block {block} inside a beat")
            yield block, slice(begin, begin + values["rows"] * row_bytes)

    def _mvin(self, issued: Issued) -> None:
        dim, target = self.config.dim, TARGETS[issued.values["target"]]
        row_bytes = dim * {"accumulator_int32": 4, "parameters": 8}.get(target, 1)
        for block, place in self._dram(issued, row_bytes):
            if place.stop > len(self.dram) or not self.readable[place].all():
                raise Fault(f"{issued} reads DRAM outside its operand")
            first = issued.addresses["local"] + block * issued.addresses["stride"]
            rows = slice(first, first + issued.values["rows"])
            if target == "scratchpad":
                self.scratchpad[rows] = self.dram[place].view(np.int8).reshape(-1, dim)

    def _preload(self, issued: Issued) -> None:
        rows, first = issued.values["rows"], issued.addresses["local"]
        tile = np.zeros((self.config.dim, self.config.dim), dtype=np.int32)
        tile[:rows] = self.scratchpad[first : first + rows]
        self.shadow = tile.T if issued.flags.get("transposed", False) else tile

    def _compute(self, issued: Issued) -> None:
        if self.shadow is not None:
            self.weights, self.shadow = self.shadow, None
        rows, first = issued.values["rows"], issued.addresses["local"]
        product = self.scratchpad[first : first + rows].astype(np.int32) @ self.weights
        first = issued.addresses["accumulator"]
        if issued.flags.get("overwrite", False):
            self.accumulator[first : first + rows] = product
        else:
            self.accumulator[first : first + rows] += product

    def _mvout(self, issued: Issued) -> None:
        """Copies are exact or saturate to int8; other functions only mark what they write."""
        function = FUNCTIONS[issued.values["function"]]
        destination = DESTINATIONS[issued.values["destination"]]
        if destination == "scratchpad":
            return
        word = 4 if destination == "dram_int32" else 1
        for block, place in self._dram(issued, self.config.dim * word):
            if place.stop > len(self.dram):
                raise Fault(f"{issued} writes past the end of DRAM")
            first = issued.addresses["accumulator"] + block * issued.addresses["stride"]
            rows = self.accumulator[first : first + issued.values["rows"]]
            if function == "copy":
                data = rows if word == 4 else np.clip(rows, -128, 127).astype(np.int8)
                self.dram[place] = np.ascontiguousarray(data).view(np.uint8).ravel()
            self.written[place] += 1


@dataclass(frozen=True)
class Access:
    """Rows of a local memory that an instruction reads or writes through one port."""

    memory: str
    write: bool
    rows: Rows
    port: str


def accesses(issued: Issued, config: HardwareConfig, parameter_sets: int) -> Iterator[Access]:
    """Every local access of an instruction, reads before writes."""
    values, addresses = issued.values, issued.addresses
    match issued.op:
        case "mvin":
            target = TARGETS[values["target"]]
            memory = "accumulator" if target == "accumulator_int32" else target
            rows = _block_rows(values, addresses["local"], addresses["stride"])
            if memory == "accumulator" and issued.flags.get("accumulate", False):
                yield Access(memory, False, rows, "load")
            yield Access(memory, True, rows, "load")
        case "preload":
            yield Access("scratchpad", False, addresses["local"] + np.arange(values["rows"]), "B")
        case "compute":
            rows = np.arange(values["rows"])
            yield Access("scratchpad", False, addresses["local"] + rows, "A")
            if not issued.flags.get("overwrite", False):
                yield Access("accumulator", False, addresses["accumulator"] + rows, "execute")
            yield Access("accumulator", True, addresses["accumulator"] + rows, "execute")
        case "mvout":
            rows = _block_rows(values, addresses["accumulator"], addresses["stride"])
            yield Access("accumulator", False, rows, "drain")
            if parameter_sets:
                used = np.arange(values["blocks"] * parameter_sets)
                yield Access("parameters", False, addresses["parameters"] + used, "drain")
            if DESTINATIONS[values["destination"]] == "scratchpad":
                rows = _block_rows(values, addresses["local"], addresses["local_stride"])
                yield Access("scratchpad", True, rows, "drain")


def _block_rows(values: Mapping[str, int], first: int, stride: int) -> Rows:
    blocks, rows = np.arange(values["blocks"]), np.arange(values["rows"])
    return (first + blocks[:, None] * stride + rows).ravel()


# -- What may collide ----------------------------------------------------------------------------------


def check_hazards(
    steps: tuple[TimedStep, ...], config: HardwareConfig, parameter_sets: int = 0
) -> None:
    """Raise Fault where two instructions would need one row, or one bank's port, at the same time.

    Windows are conservative: a mvin may write from its start to its completion, a compute may
    touch the accumulator from the cycle after its start to its completion; reads of the scratchpad
    and of a mvout last from start to free.
    """
    checker = _Hazards(config)
    for step in steps:
        for access in accesses(step.issued, config, parameter_sets):
            checker.note(step, access)
    checker.check_ports()


class _Hazards:
    """Last reader and writer of every row, and all uses of every bank's ports."""

    def __init__(self, config: HardwareConfig) -> None:
        self.bank_rows = {
            "scratchpad": config.scratchpad_bank_rows,
            "accumulator": config.accumulator_bank_rows,
        }
        sizes = {
            "scratchpad": config.scratchpad_rows,
            "accumulator": config.accumulator_rows,
            "parameters": config.parameter_channels // config.dim,
        }
        self.units = ("load", "execute", "drain")
        self.last = {
            (memory, write, unit): np.full(rows, -1)
            for memory, rows in sizes.items()
            for write in (False, True)
            for unit in self.units
        }
        # When the mesh last began to stream into each accumulator row: start + offset of the row.
        self.streamed = np.full(config.accumulator_rows, -(1 << 40))
        self.uses: dict[tuple[str, bool, int], list[tuple[int, int, str, TimedStep]]] = defaultdict(
            list
        )

    def note(self, step: TimedStep, access: Access) -> None:
        unit = {"load": "load", "drain": "drain"}.get(access.port, "execute")
        begin, end = _window(step, access)
        for other in self.units:
            if other != unit:
                self._after(step, access, other, begin)
        if access.port == "execute" and access.write:
            arrival = begin + np.arange(len(access.rows))
            if (arrival - self.streamed[access.rows] < 4).any():
                raise Fault(f"{step} meets sums of the same row still in the mesh")
            self.streamed[access.rows] = arrival
        latest = self.last[access.memory, access.write, unit]
        latest[access.rows] = np.maximum(latest[access.rows], end)
        if access.memory in self.bank_rows:
            for bank in np.unique(access.rows // self.bank_rows[access.memory]):
                use = (begin, end, access.port, step)
                self.uses[access.memory, access.write, int(bank)].append(use)

    def _after(self, step: TimedStep, access: Access, other: str, begin: int) -> None:
        """What `other` did to these rows earlier in program order must be over by `begin`."""
        rows = access.rows
        if (self.last[access.memory, True, other][rows] > begin).any():
            done = "overwrites" if access.write else "reads"
            raise Fault(f"{step} {done} {access.memory} rows before {other} has written them")
        if access.write and (self.last[access.memory, False, other][rows] > begin).any():
            raise Fault(f"{step} overwrites {access.memory} rows that {other} still reads")

    def check_ports(self) -> None:
        """No bank's read or write port serves two streams at the same time."""
        for (memory, write, bank), uses in self.uses.items():
            busy: dict[str, tuple[int, TimedStep]] = {}
            for begin, end, port, step in sorted(uses, key=lambda use: use[:2]):
                for other, (until, holder) in busy.items():
                    if other != port and begin < until:
                        kind = "write" if write else "read"
                        raise Fault(f"{step} and {holder} share the {kind} port of {memory} {bank}")
                if end > busy.get(port, (-1, step))[0]:
                    busy[port] = (end, step)


def _window(step: TimedStep, access: Access) -> tuple[int, int]:
    """Cycles [begin, end) in which an access can happen."""
    if access.port == "execute":
        return step.start + 1, step.complete
    return step.start, step.complete if access.write else step.free


def leftover_tokens(body: Body) -> dict[str, int]:
    """Tokens of each channel that a kernel signals and never waits for."""
    counts: Counter[str] = Counter()
    for issued in unroll(body):
        for channel, count in issued.signals:
            counts[channel] += count
        for channel, count in issued.waits:
            counts[channel] -= count
    return {channel: count for channel, count in counts.items() if count}


# -- A matmul in DRAM ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatmulImage:
    """Operands of a matmul in DRAM with unreadable gaps between, and where they lie."""

    a: Int8  # [batch, m, k]
    b: Int8  # [batch, k, n]
    dram: Bytes
    readable: npt.NDArray[np.bool_]
    addresses: MatmulAddresses


def matmul_image(problem: MatmulProblem, config: HardwareConfig, seed: int) -> MatmulImage:
    """Random operands. Padding columns hold 77, except where both operands would multiply them."""
    rng = np.random.default_rng(seed)
    p, gap = problem, 256
    a = rng.integers(-128, 128, (p.batch, p.m, p.k), dtype=np.int8)
    b = rng.integers(-128, 128, (p.batch, p.k, p.n), dtype=np.int8)
    pad = 0 if p.transposed_b else 77
    stored_b = b.transpose(0, 2, 1) if p.transposed_b else b
    blocks_n = -(-p.n // config.dim)
    parameter_bytes = p.batch * blocks_n * p.parameter_sets * config.dim * 8
    residual_bytes = blocks_n * plane_bytes(p.m, config.dim, config.bus_bytes)
    parts = {
        "a": np.concatenate([to_blocked(x, config, pad) for x in a]),
        "b": np.concatenate([to_blocked(x, config, pad) for x in stored_b]),
        "parameters": np.zeros(parameter_bytes, dtype=np.uint8),
        "residual": np.zeros(residual_bytes * p.residual, dtype=np.uint8),
    }
    word = 4 if p.destination == "dram_int32" else 1
    place, at = {}, gap
    for name, data in parts.items():
        place[name] = at
        at = -(-(at + len(data) + gap) // gap) * gap
    place["c"] = at
    dram = np.zeros(at + p.batch * residual_bytes * word, dtype=np.uint8)
    readable = np.zeros(len(dram), dtype=np.bool_)
    for name, data in parts.items():
        dram[place[name] : place[name] + len(data)] = data
        readable[place[name] : place[name] + len(data)] = True
    return MatmulImage(a, b, dram, readable, MatmulAddresses(**place))


# -- Machines and strategies --------------------------------------------------------------------------


SMALL = HardwareConfig(
    dim=4,
    scratchpad_bytes=1024,
    scratchpad_banks=8,
    accumulator_bytes=1024,
    accumulator_banks=4,
    parameter_channels=64,
    bus_bytes=8,
)
WIDER = replace(SMALL, scratchpad_bytes=4096, scratchpad_banks=16, accumulator_bytes=4096,
                accumulator_banks=8)  # fmt: skip


@st.composite
def machines(draw: st.DrawFn, dims: tuple[int, ...] = (4, 8, 16)) -> HardwareConfig:
    """Small machines of every shape: ragged bank sizes, short queues, narrow and wide buses."""
    dim = draw(st.sampled_from(dims))
    scratchpad_banks = draw(st.sampled_from((2, 4, 8, 16)))
    accumulator_banks = draw(st.sampled_from((2, 4, 8)))
    buses = [1 << i for i in range(8) if 1 << i <= min(128, dim * dim)]
    return HardwareConfig(
        dim=dim,
        scratchpad_banks=scratchpad_banks,
        scratchpad_bytes=scratchpad_banks * dim * draw(st.integers(dim, 5 * dim)),
        accumulator_banks=accumulator_banks,
        accumulator_bytes=accumulator_banks * 4 * dim * draw(st.integers(dim, 5 * dim)),
        parameter_channels=dim * draw(st.sampled_from((4, 16, 64))),
        bus_bytes=draw(st.sampled_from(buses)),
        dram_latency_cycles=draw(st.sampled_from((1, 7, 50, 200))),
        load_queue_depth=draw(st.sampled_from((2, 3, 8))),
        execute_queue_depth=draw(st.sampled_from((2, 4, 16))),
        drain_queue_depth=draw(st.sampled_from((2, 3, 8))),
    )


@st.composite
def matmul_problems(
    draw: st.DrawFn, config: HardwareConfig, functions: tuple[str, ...], most_computes: int = 300
) -> MatmulProblem:
    """Matmuls of up to `most_computes` mesh tiles with one row tile; ragged more often than not."""
    dim = config.dim
    row_function = functions[0] in ("softmax", "layernorm", "rmsnorm")
    function = draw(st.sampled_from(functions))
    batch = draw(st.sampled_from((1, 1, 1, 2, 3)))
    sizes = st.one_of(st.integers(1, 5 * dim), st.integers(1, 5).map(lambda blocks: blocks * dim))
    m, k, n = draw(sizes), draw(sizes), draw(sizes)
    assume(batch * -(-k // dim) * -(-n // dim) <= most_computes)
    destination = draw(st.sampled_from(("dram", "dram_int32"))) if function == "copy" else "dram"
    return MatmulProblem(
        m,
        k,
        n,
        batch,
        transposed_b=draw(st.booleans()),
        parameters=draw(st.booleans()) if destination == "dram" else False,
        function=function,
        residual=row_function and batch == 1 and draw(st.booleans()),
        destination=destination,
    )


@st.composite
def matmul_mappings(
    draw: st.DrawFn, problem: MatmulProblem, config: HardwareConfig, most_computes: int = 300
) -> MatmulMapping:
    """Mappings of the space, half of them with fewer resident chunks and other drain groups."""
    spaces = [space for space in matmul_spaces(problem, config) if len(space)]
    assume(spaces)
    space = draw(st.sampled_from(spaces))
    mapping = space.mapping(draw(st.integers(0, len(space) - 1)))
    if draw(st.booleans()):
        other = replace(
            mapping,
            resident=draw(st.integers(0, mapping.resident)),
            groups=draw(st.integers(1, mapping.groups)),
        )
        if MatmulShape(problem, other, config).feasible:
            mapping = other
    shape = MatmulShape(problem, mapping, config)
    assume(shape.tiles_m * shape.k_blocks * shape.n_blocks * problem.batch <= most_computes)
    return mapping
