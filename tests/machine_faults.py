"""What tests of faults share: short instructions, and Programs that the RTL and the models must refuse."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from instructions import instruction
from rtl_agreement import MACHINES, legal_dram

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body, Instruction, Token
from codesign.hw.simulation.simulator import run_rtl
from codesign.hw.views.functional import Machine
from codesign.hw.views.races import check_races

CONFIG = MACHINES["dim4"]  # scratchpad: 8 banks of 28 rows; accumulator: 4 of 44; 16 parameter rows
BANK, SUM_BANK = CONFIG.scratchpad_bank_rows, CONFIG.accumulator_bank_rows
ROWS, SUMS = CONFIG.scratchpad_rows, CONFIG.accumulator_rows
SETS = CONFIG.parameter_channels // CONFIG.dim
DRAM_BYTES, ILLEGAL_SHIFTS = 8192, 8192 - 512
WEIGHTS = 4 * BANK  # the row of the tile that tests preload


def waiting(node: Instruction, channel: str, count: int = 1) -> Instruction:
    return replace(node, waits=(*node.waits, Token(channel, count=count)))


def signalling(node: Instruction, channel: str, count: int = 1) -> Instruction:
    return replace(node, signals=(*node.signals, Token(channel, count=count)))


def mvin(local: int, rows: int = 4, target: str = "scratchpad", **fields: Any) -> Instruction:
    fields = {"blocks": 1, "scale": 1, **fields}
    return instruction("mvin", rows=rows, target=target, local=local, **fields)


def preload(local: int = WEIGHTS, rows: int = 4, **fields: Any) -> Instruction:
    return instruction("preload", rows=rows, local=local, **fields)


def compute(local: int, accumulator: int, rows: int = 4, **fields: Any) -> Instruction:
    fields = {"depth": 4, "width": 4, "overwrite": True, **fields}
    return instruction("compute", rows=rows, local=local, accumulator=accumulator, **fields)


def mvout(accumulator: int, rows: int = 4, **fields: Any) -> Instruction:
    fields = {"blocks": 1, "function": "copy", "multiplier": 1, "dram": 4096, **fields}
    return instruction("mvout", rows=rows, accumulator=accumulator, **fields)


SYNC = {unit: instruction(f"{unit}_sync") for unit in ("load", "execute", "drain")}
# Every row is written; then all units begin at once.
FILL: Body = (
    mvin(0, ROWS),
    mvin(0, SUMS, "accumulator_int32"),
    signalling(signalling(mvin(0, SETS, "parameters"), "loaded"), "filled"),
    signalling(waiting(SYNC["execute"], "loaded"), "consumed"),
    waiting(SYNC["drain"], "filled"),
    waiting(SYNC["load"], "consumed"),
)


@dataclass(frozen=True)
class Fault:
    """A Program that is wrong, and what is said of it: `{k}` stands for instruction k of `body`."""

    body: tuple[Instruction, ...]
    rtl: str
    models: str
    fill: bool = True
    config: HardwareConfig = field(default=CONFIG)

    def __repr__(self) -> str:
        return self.rtl


def pattern(words: str, body: tuple[Instruction, ...], first: int) -> str:
    """The words as a regular expression, the instructions named as messages name them."""
    names = [
        rf"{node.op} at site {n}( \(instruction {n}( of kernel 0)?\))?"
        for n, node in enumerate(body, first)
    ]
    return re.sub(r"\{(\d)\}", lambda match: names[int(match[1])], words)


def image(config: HardwareConfig) -> npt.NDArray[np.uint8]:
    """DRAM: legal parameters everywhere but at its end."""
    dram = legal_dram(DRAM_BYTES, config, 3)
    dram[ILLEGAL_SHIFTS:] = 255
    return dram


def refused(body: Body, config: HardwareConfig) -> str:
    """What the models say about a kernel: nothing when it is right."""
    try:
        Machine(config, image(config)).run(body)
        check_races(body, config)
    except ProgramError as error:
        return str(error)
    return ""


def stopped(body: Body, config: HardwareConfig) -> str:
    """What the RTL says about a kernel."""
    try:
        run_rtl([body], config, image(config), timeout_s=60)
    except ProgramError as error:
        return str(error)
    return ""


def check(fault: Fault) -> None:
    body = (*FILL, *fault.body) if fault.fill else fault.body
    first = len(body) - len(fault.body)
    assert re.match(pattern(fault.models, fault.body, first), refused(body, fault.config))
    assert re.match(pattern(fault.rtl, fault.body, first), stopped(body, fault.config))
