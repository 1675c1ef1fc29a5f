"""Single instructions on a tiny machine."""

from typing import Any

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, OPERATION, TARGETS
from codesign.hw.machine.program import Affine, Instruction

TINY = HardwareConfig(
    dim=4,
    scratchpad_bytes=4 * 64,
    scratchpad_banks=2,
    accumulator_bytes=16 * 128,
    accumulator_banks=2,
    parameter_channels=64,
    bus_bytes=8,
)


def instruction(op: str, **fields: Any) -> Instruction:
    """An instruction of plain numbers: values, addresses and flags by name."""
    values = dict.fromkeys((f.name for f in OPERATION[op].values), 0)
    flags = {f.name for f in OPERATION[op].flags}
    names = {"target": TARGETS, "function": FUNCTIONS, "destination": DESTINATIONS}
    fields = {n: names[n].index(v) if isinstance(v, str) else v for n, v in fields.items()}
    return Instruction(
        op,
        values | {name: v for name, v in fields.items() if name in values},
        {name: Affine(v) for name, v in fields.items() if name not in {*values, *flags}},
        {name: () for name, v in fields.items() if name in flags and v},
    )
