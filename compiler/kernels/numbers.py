"""The numbers of an epilogue: factors and shifts of the requantizers, and which columns count.

They come from quantization. Timing depends on none of them, so a problem is priced without.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from codesign.hw.machine.arithmetic import inverse
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.program import Affine, Guards, Int


@dataclass(frozen=True)
class Numbers:
    """Of one drain: value = round(acc * multiplier >> shift), and the same again behind a function.

    `scales` multiply the int8 operands that enter the accumulator. `causal`: query q of m sees keys
    up to q + keys - m. `second`: factor and shift of a function's further operands. Where parameters are loaded per channel, they replace the factors here.
    """

    multiplier: int = 1
    shift: int = 0
    out_multiplier: int = 1
    out_shift: int = 0
    scales: tuple[int, int] = (1, 1)
    causal: bool = False
    second: tuple[int, int] = (1, 0)

    def fields(
        self,
        function: str,
        rows: int,
        columns: int,
        row: Mapping[str, Int],
        *,
        scaled: bool = False,
        affine: bool = False,
    ) -> "Fields":
        """Fields and flags of a mvout of `columns` columns; `row`: strides of its first row's number.

        `scaled`: scales (or masks) per channel, `affine`: gamma and beta, from the parameter memory.
        """
        of = FUNCTION[function]
        numbers: dict[str, int] = {}
        if of.by_state:
            numbers["multiplier"] = self.multiplier
        elif not scaled:
            numbers |= {"multiplier": self.multiplier, "shift": self.shift}
            if of.operands > 1:
                numbers |= dict(
                    zip(("second_multiplier", "second_shift"), self.second, strict=True)
                )
        if not affine and of.normalization:
            numbers |= {"out_multiplier": self.out_multiplier, "out_shift": self.out_shift}
        if of.by_row:
            numbers["columns"] = columns
        if of.centered:
            numbers["inverse"] = inverse(columns)
        addresses = {name: Affine(number) for name, number in numbers.items()}
        causal = self.causal and of.masked
        if causal:
            addresses["diagonal"] = Affine(columns - rows, row)
        second = scaled and of.operands > 1
        flags = {"channel_scale": scaled, "channel_affine": affine, "causal": causal}
        flags["second_channel_scale"] = second
        return Fields(addresses, {name: () for name, wanted in flags.items() if wanted})


@dataclass(frozen=True)
class Fields:
    """Fields and flags that an epilogue adds to a mvout."""

    addresses: Mapping[str, Affine]
    flags: Mapping[str, Guards]


@dataclass(frozen=True)
class StepNumbers:
    """Of one kernel: its epilogues in order, and which rows of its first operand it reads.

    The operand is `source_rows` long and read from `first_row` on; 0: it is as long as it is read.
    """

    epilogues: tuple[Numbers, ...] = ()
    first_row: int = 0
    source_rows: int = 0


PLAIN = Numbers()
