"""Random straight-line Programs for whole machines: every operation, every field, extreme values.

Memories are filled first, so that any row may be read. Where the work moves from one unit to another,
tokens carry it over; instructions of one unit follow each other as fast as the machine can. A rows
lie in the lower half of the scratchpad's banks and weights in the upper half.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from codesign.hw.machine.arithmetic import inverse
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, PARAMETER_BYTES, TARGETS
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Affine, Body, Instruction, Token

DATA_BYTES = 1 << 14
STATES = 40  # rows that states and alignments of a program lie in
EXTREMES = (0, 1, 2, (1 << 23) - 1, -1, -(1 << 23))


@dataclass(frozen=True)
class RandomProgram:
    """A kernel body and the DRAM it starts with: data, parameters, then a place for results."""

    body: Body
    dram: npt.NDArray[np.uint8]

    def __repr__(self) -> str:
        return "RandomProgram(\n" + "\n".join(f"  {node}" for node in self.body) + "\n)"


def dram_image(config: HardwareConfig, seed: int) -> npt.NDArray[np.uint8]:
    """Random int8 and int32 data, extremes among them; then legal parameters; then zeros."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, DATA_BYTES, dtype=np.uint8)
    quarter = DATA_BYTES // 4
    data[:quarter] = rng.choice(np.array([0x80, 0x7F, 0, 0xFF, 1], dtype=np.uint8), quarter)
    small = rng.integers(-(1 << 12), 1 << 12, quarter // 4, dtype="<i4")
    data[quarter : 2 * quarter] = small.view(np.uint8)
    channels = config.parameter_channels
    parameters = np.zeros((channels, PARAMETER_BYTES), dtype=np.uint8)
    bias = rng.integers(-(1 << 31), 1 << 31, channels)
    bias = np.where(rng.random(channels) < 0.7, bias >> 18, bias).astype("<i4")
    parameters[:, :4] = bias.view(np.uint8).reshape(-1, 4)
    multiplier = rng.integers(-(1 << 23), 1 << 23, channels)
    parameters[:, 4:7] = multiplier.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    parameters[:, 7] = np.where(
        rng.random(channels) < 0.7, rng.integers(12, 34, channels), rng.integers(0, 63, channels)
    )
    return np.concatenate([data, parameters.ravel(), np.zeros(DATA_BYTES, dtype=np.uint8)])


class _Writer:
    """Writes one program; `draw` decides everything."""

    def __init__(self, draw: st.DrawFn, config: HardwareConfig) -> None:
        self.draw, self.config = draw, config
        self.body: list[Instruction] = []
        self.unit = "load"
        self.parameters_at = DATA_BYTES
        self.results_at = DATA_BYTES + config.parameter_channels * PARAMETER_BYTES
        self.loaded_weights = False
        self.states_at = self.number(0, STATE_ROWS - STATES)

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included; the ends more often than others."""
        return self.draw(st.one_of(st.integers(low, high), st.sampled_from((low, high))))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    # -- Order between units -------------------------------------------------------------------------

    def move_to(self, unit: str) -> None:
        """All that was done so far is complete before the next instruction starts on `unit`."""
        path = {
            ("load", "execute"): ("loaded",),
            ("load", "drain"): ("filled",),
            ("execute", "drain"): ("computed",),
            ("drain", "execute"): ("stored",),
            ("drain", "load"): ("stored", "consumed"),
            ("execute", "load"): ("computed", "stored", "consumed"),
        }
        source = {"loaded": "load", "filled": "load", "computed": "execute"}
        source |= {"stored": "drain", "consumed": "execute"}
        target = {"loaded": "execute", "filled": "drain", "computed": "drain"}
        target |= {"stored": "execute", "consumed": "load"}
        if unit == self.unit:
            return
        for channel in path[self.unit, unit]:
            count = self.number(1, 3)
            passed = (Token(channel, count=count),)
            self.body.append(Instruction(f"{source[channel]}_sync", signals=passed))
            self.body.append(Instruction(f"{target[channel]}_sync", waits=passed))
        self.unit = unit

    def add(
        self, unit: str, op: str, values: dict[str, int], numbers: dict[str, int], **flags: bool
    ) -> None:
        self.move_to(unit)
        self.body.append(
            Instruction(
                op,
                dict(values),
                {name: Affine(number) for name, number in numbers.items()},
                {name: () for name, wanted in flags.items() if wanted},
            )
        )

    # -- Instructions ----------------------------------------------------------------------------------

    def fill(self) -> None:
        """Every row of every memory is written once, from data that wraps around."""
        c = self.config
        row_bytes = {"scratchpad": c.dim, "accumulator_int32": 4 * c.dim}
        for target, rows in (
            ("scratchpad", c.scratchpad_rows),
            ("accumulator_int32", c.accumulator_rows),
        ):
            most = DATA_BYTES // row_bytes[target]
            for first in range(0, rows, most):
                self.mvin_rows(target, min(most, rows - first), first, 0)
        rows = c.parameter_channels // c.dim
        self.mvin_rows("parameters", rows, 0, self.parameters_at)
        if c.normalization:
            self.begin_states()

    def begin_states(self) -> None:
        """The states and alignments that the program uses, from sums of the accumulator."""
        at = {"state": self.states_at, "alignment": self.states_at}
        factors = {"multiplier": 1 << 20, "shift": self.number(12, 24), "columns": self.config.dim}
        values = {"rows": STATES, "blocks": 1, "function": FUNCTIONS.index("exponentials")}
        values["destination"] = DESTINATIONS.index("scratchpad")
        self.add("drain", "mvout", values, {**at, **factors}, fresh=True)

    def mvin_rows(self, target: str, rows: int, local: int, dram: int) -> None:
        numbers = {"dram": dram, "dram_stride": 0, "local": local, "stride": 0, "scale": 1}
        values = {"rows": rows, "blocks": 1, "target": TARGETS.index(target)}
        self.add("load", "mvin", values, numbers)

    def mvin(self) -> None:
        c = self.config
        target = self.draw(st.sampled_from(TARGETS))
        space = {"scratchpad": c.scratchpad_rows, "parameters": c.parameter_channels // c.dim}
        local_rows = space.get(target, c.accumulator_rows)
        row_bytes = c.dim * {"accumulator_int32": 4, "parameters": PARAMETER_BYTES}.get(target, 1)
        rows = self.number(1, min(3 * c.dim, local_rows, 512 * c.dim // row_bytes))
        blocks, stride, local = self.blocks(rows, local_rows, 4)
        begin, size = 0, DATA_BYTES
        if target == "parameters":
            begin, size = self.parameters_at, c.parameter_channels * PARAMETER_BYTES
        dram, dram_stride = self.dram(begin, size, rows * row_bytes, blocks, row_bytes)
        self.add(
            "load",
            "mvin",
            {"rows": rows, "blocks": blocks, "target": TARGETS.index(target)},
            {
                "dram": dram,
                "dram_stride": dram_stride,
                "local": local,
                "stride": stride,
                "scale": self.draw(st.sampled_from((0, 1, 255, (1 << 24) - 1))),
            },
            accumulate=target.startswith("accumulator") and self.flag(),
        )

    def blocks(self, rows: int, space: int, most: int) -> tuple[int, int, int]:
        """Blocks, local stride and first row that stay inside `space` rows."""
        stride = self.number(rows, max(rows, min(space // 2, 2 * rows)))
        blocks = self.number(1, max(1, min(most, (space - rows) // stride + 1)))
        return blocks, stride, self.number(0, space - rows - (blocks - 1) * stride)

    def dram(self, begin: int, size: int, run: int, blocks: int, align: int) -> tuple[int, int]:
        """A byte address and stride, on whole beats and whole `align` bytes, inside the range."""
        step = max(self.config.bus_bytes, align)
        begin += -begin % step
        stride = step * self.number(0, max(0, (size // 2 - run) // step // blocks))
        last = size - run - (blocks - 1) * stride - step
        return begin + step * self.number(0, max(0, last // step)), stride

    def preload(self) -> None:
        c = self.config
        if self.loaded_weights:  # a preload may not replace weights that no compute used
            return
        rows, half = self.number(1, c.dim), c.scratchpad_rows // 2
        local = half + self.number(0, half - rows)
        self.loaded_weights = True
        numbers = {"local": local}
        self.add("execute", "preload", {"rows": rows}, numbers, transposed=self.flag())

    def compute(self) -> None:
        c = self.config
        if not self.loaded_weights and not any(node.op == "compute" for node in self.body):
            self.preload()
        half = c.scratchpad_rows // 2
        rows = self.number(1, min(2 * c.dim + 3, half, c.accumulator_rows))
        self.loaded_weights = False
        values = {"rows": rows, "depth": self.number(1, c.dim), "width": self.number(1, c.dim)}
        numbers = {
            "local": self.number(0, half - rows),
            "accumulator": self.number(0, c.accumulator_rows - rows),
        }
        if aligned := c.normalization and rows <= STATES and self.flag():
            values["aligned"] = 1
            numbers["alignment"] = self.states_at + self.number(0, STATES - rows)
        rescale = aligned and self.flag()
        self.add("execute", "compute", values, numbers, overwrite=self.flag(), rescale=rescale)

    def mvout(self) -> None:
        c = self.config
        names = FUNCTIONS if c.normalization else ("copy", "relu")
        function = self.draw(st.sampled_from(names))
        of = FUNCTION[function]
        where = self.draw(
            st.sampled_from(DESTINATIONS if function == "copy" else ("dram", "scratchpad"))
        )
        rows = self.number(1, min(2 * c.dim + 3, c.accumulator_rows, c.scratchpad_rows))
        space = min(c.accumulator_rows, c.scratchpad_rows)
        if of.operands > 1:  # several rows of further operands for each of the first
            space = space // (of.operands - 1)
            rows = min(rows, space)
        blocks, stride, local = self.blocks(rows, space, 5)
        sets = c.parameter_channels // c.dim
        if of.stateful:
            rows = min(rows, STATES)
        scaled, affine = self.flag() and not of.by_state, self.flag() and of.normalization
        second_scaled = of.operands > 1 and self.flag()
        if where == "dram_int32" or blocks * (scaled + second_scaled + affine) > sets:
            scaled = second_scaled = affine = False
        word = 4 if where == "dram_int32" else 1
        dram, dram_stride = self.dram(self.results_at, DATA_BYTES, rows * c.dim * word, blocks, 1)
        columns = self.number(1, blocks * c.dim)
        values = {
            "rows": rows,
            "blocks": blocks,
            "function": FUNCTIONS.index(function),
            "destination": DESTINATIONS.index(where),
        }
        numbers = {
            "accumulator": self.number(0, c.accumulator_rows - rows - (blocks - 1) * stride),
            "stride": stride,
            "dram": dram,
            "dram_stride": dram_stride,
            "local": local,
            "local_stride": stride,
            "parameters": self.number(0, sets - blocks * (scaled + second_scaled + affine)),
            "multiplier": self.factor(),
            "shift": 0 if of.by_state else self.shift(),
            "out_multiplier": self.factor(),
            "out_shift": self.shift(),
            "columns": columns if of.by_row else 0,
        }
        if of.centered:
            numbers["inverse"] = inverse(columns)
        if of.affine:
            numbers["epsilon"] = self.number(0, (1 << self.number(0, 30)) - 1)
        if causal := of.masked and self.flag():
            numbers["diagonal"] = self.number(-rows, columns)
            numbers["window"] = self.draw(st.sampled_from((0, 1, c.dim, columns, (1 << 16) - 1)))
        if of.stateful:
            numbers["state"] = self.states_at + self.number(0, STATES - rows)
        if of.stateful and of.masked:
            numbers["alignment"] = self.states_at + self.number(0, STATES - rows)
        if of.operands > 1:
            numbers |= self.second((rows + (blocks - 1) * stride) * (of.operands - 1))
        flags = {"channel_scale": scaled, "channel_affine": affine, "causal": causal}
        flags["fresh"] = of.stateful and of.masked and self.flag()
        self.add("drain", "mvout", values, numbers, **flags, second_channel_scale=second_scaled)

    def second(self, rows: int) -> dict[str, int]:
        """Where further operands of so many rows lie, and their factor."""
        place = self.number(0, self.config.accumulator_rows - rows)
        return {"second": place, "second_multiplier": self.factor(), "second_shift": self.shift()}

    def factor(self) -> int:
        return self.draw(st.one_of(st.sampled_from(EXTREMES), st.integers(1 << 18, (1 << 23) - 1)))

    def shift(self) -> int:
        return self.draw(st.one_of(st.integers(0, 62), st.integers(14, 30)))


@st.composite
def random_programs(draw: st.DrawFn, config: HardwareConfig, longest: int = 24) -> RandomProgram:
    """A Program of up to `longest` instructions behind those that fill the memories."""
    writer = _Writer(draw, config)
    writer.fill()
    kinds = st.sampled_from(("mvin", "preload", "compute", "compute", "mvout"))
    for kind in draw(st.lists(kinds, min_size=1, max_size=longest)):
        getattr(writer, kind)()
    if writer.loaded_weights:
        writer.compute()
    return RandomProgram(tuple(writer.body), dram_image(config, draw(st.integers(0, 1 << 20))))
