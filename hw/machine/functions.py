"""The drain's functions, one row each: what every view of the machine has to know of one.

Timing, events, races, integers, prices and the quantizer read this table. The compiled evaluator and the
RTL read what is written from it (`codesign.hw.views.generated`); what a lane computes stands in
`arithmetic`, `gates` and `sigmoid` for software and in `requantizer.sv` and `nonlinear.sv` for hardware.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from codesign.hw.machine import arithmetic, attention, gates, sigmoid
from codesign.hw.machine.gates import IntegerFunction

Pass = Literal["maximum", "statistics", "output"]
PASSES: tuple[Pass, ...] = ("maximum", "statistics", "output")
HOLD = "hold"  # what the RTL calls the reads of operands that wait in the lanes for the last one

Count = TypeVar("Count", int, npt.NDArray[np.int64])

# Passes over the rows that share the registers of statistics. A row's turn in a pass waits, from its
# last read in the pass before, for its maximum, or for its function's reciprocal.
STATISTIC_ROWS = 16  # rows whose statistics are held at once
MAXIMUM_LATENCY = 2  # slots until the maximum of a row is known
DIVIDE_INTERVAL = 8  # slots of one row's division or square root after another's


@dataclass(frozen=True, eq=False)
class DrainFunction:
    """A function that the drain applies to sums.

    `values` takes what the first requantizer gives, [rows, columns] for a function of whole rows and of
    any shape for others, with an axis of operands before it where it has several, which of it is
    valid, how many columns are, and a norm's epsilon, and returns values of `value_scale`. Clamped
    they are int8, or the second requantizer makes int8 of them where the function needs units that
    only a machine with `normalization` has. What a row's state does to them is left out: `attention`.
    """

    name: str
    values: IntegerFunction
    normalization: bool = True
    # What one unit stands for, before and behind; None: it does not matter. Behind several operands
    # it is to be multiplied by the scales of those whose own does not matter.
    input_scale: float | None = None
    value_scale: float = 1.0
    spread: int = 45  # standard deviation of values before it that use its range, for checks
    # Of a function of whole rows: its passes, and slots from a row's statistics, or from its maximum
    # where it has none, to its output.
    passes: tuple[Pass, ...] = ("output",)
    latency: int = 0
    # Events beside those that all functions share.
    element_events: Mapping[str, int] = field(default_factory=dict)
    row_events: Mapping[str, int] = field(default_factory=dict)
    masked: bool = False  # columns may be hidden, by parameters before it or as causal
    stateful: bool = False  # rows have a state, for which they come in parts: see `attention`
    centered: bool = False  # the row's mean is taken away: needs the field `inverse`
    affine: bool = False  # gamma and beta follow
    mode: str = ""  # what a lane does, where several functions share it
    further: tuple[str, ...] = ()  # what a lane does with each operand behind the first
    host: str = ""  # what the host's table calls it; "": as the operator that it stands for

    @property
    def by_row(self) -> bool:
        """Whether it needs whole rows, which it reads more than once."""
        return len(self.passes) > 1

    @property
    def by_state(self) -> bool:
        """Whether a row's state, and no parameter, says what it is divided by."""
        return self.stateful and not self.masked

    @property
    def operands(self) -> int:
        """Rows of the accumulator that one row of results is made of."""
        return 1 + len(self.further)

    @property
    def lane_mode(self) -> str:
        """What a lane does, with the first operand if there are several."""
        return self.mode or self.name

    def events(self, elements: Count, rows: Count) -> dict[str, Count]:
        """Counts of its own events on so many elements in so many rows; each may be an array."""
        of_elements = {name: elements * each for name, each in self.element_events.items()}
        return of_elements | {name: rows * each for name, each in self.row_events.items()}


# Which units norms share: their moments, a square root and a division a row.
_NORM_ELEMENTS = {"moment": 1, "normalize": 1}
_NORM_ROWS = {"sqrt": 1, "divide": 1}

# In the order of their codes.
DRAIN_FUNCTIONS = (
    DrainFunction("copy", lambda v, valid, columns, epsilon: v, normalization=False),
    DrainFunction(
        "relu",
        lambda v, valid, columns, epsilon: np.maximum(v, 0),
        normalization=False,
        host="relu",
    ),
    DrainFunction(
        "gelu",
        gates.unary(gates.gelu_parts),
        input_scale=arithmetic.GELU_INPUT_SCALE,
        value_scale=arithmetic.GELU_SCALE,
        spread=1500,
        element_events={"gelu": 1},
        host="gelu",
    ),
    DrainFunction(
        "softmax",
        lambda v, valid, columns, epsilon: arithmetic.softmax(v, valid),
        input_scale=arithmetic.SOFTMAX_INPUT_SCALE,
        value_scale=arithmetic.SOFTMAX_SCALE,
        spread=2048,  # two octaves
        passes=("maximum", "statistics", "output"),
        latency=13,
        element_events={"compare": 1, "exp": 2, "normalize": 1},
        row_events={"divide": 1},
        masked=True,
        host="softmax",
    ),
    DrainFunction(
        "layernorm",
        lambda v, valid, columns, epsilon: arithmetic.layernorm(
            v, columns, arithmetic.inverse(columns), epsilon
        ),
        value_scale=arithmetic.NORM_SCALE,
        spread=3000,
        passes=("statistics", "output"),
        latency=24,
        element_events=_NORM_ELEMENTS,
        row_events=_NORM_ROWS,
        centered=True,
        affine=True,
        mode="norm",
        host="layernorm",
    ),
    DrainFunction(
        "rmsnorm",
        lambda v, valid, columns, epsilon: arithmetic.rmsnorm(v, columns, epsilon),
        value_scale=arithmetic.NORM_SCALE,
        spread=3000,
        passes=("statistics", "output"),
        latency=24,
        element_events=_NORM_ELEMENTS,
        row_events=_NORM_ROWS,
        affine=True,
        mode="norm",
        host="layernorm",
    ),
    DrainFunction(
        "silu",
        gates.unary(gates.silu_parts),
        input_scale=sigmoid.SIGMOID_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_INPUT_SCALE,
        spread=3000,
        element_events={"sigmoid": 1},
        host="generic",
    ),
    DrainFunction(
        "sigmoid",
        gates.unary(gates.sigmoid_parts),
        input_scale=sigmoid.SIGMOID_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_SCALE,
        spread=3000,
        element_events={"sigmoid": 1},
        host="generic",
    ),
    DrainFunction(
        "tanh",
        gates.unary(gates.tanh_parts),
        input_scale=sigmoid.TANH_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_SCALE,
        spread=3000,
        element_events={"sigmoid": 1},
        host="generic",
    ),
    DrainFunction(
        "hard_sigmoid",
        gates.unary(gates.hard_sigmoid_parts),
        input_scale=sigmoid.SIGMOID_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_SCALE,
        spread=2000,
        element_events={"sigmoid": 1},
        host="generic",
    ),
    DrainFunction(
        "hard_swish",
        gates.unary(gates.hard_swish_parts),
        input_scale=sigmoid.SIGMOID_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_INPUT_SCALE,
        spread=2000,
        element_events={"sigmoid": 1},
        host="generic",
    ),
    DrainFunction(
        "product",
        gates.gate(gates.linear_parts),
        value_scale=gates.PRODUCT_SCALE,
        spread=6000,
        element_events={"product": 1},
        mode="linear",
        further=("product",),
        host="mul",
    ),
    DrainFunction(
        "glu",
        gates.gate(gates.sigmoid_parts),
        input_scale=sigmoid.SIGMOID_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_SCALE * gates.PRODUCT_SCALE,
        spread=3000,
        element_events={"sigmoid": 1, "product": 1},
        mode="sigmoid",
        further=("product",),
    ),
    DrainFunction(
        "reglu",
        gates.gate(gates.rectified_parts),
        value_scale=gates.PRODUCT_SCALE,
        spread=6000,
        element_events={"product": 1},
        mode="rectified",
        further=("product",),
    ),
    DrainFunction(
        "geglu",
        gates.gate(gates.gelu_parts),
        input_scale=arithmetic.GELU_INPUT_SCALE,
        value_scale=arithmetic.GELU_SCALE * gates.PRODUCT_SCALE,
        spread=1500,
        element_events={"gelu": 1, "product": 1},
        mode="gelu",
        further=("product",),
    ),
    DrainFunction(
        "swiglu",
        gates.gate(gates.silu_parts),
        input_scale=sigmoid.SIGMOID_INPUT_SCALE,
        value_scale=sigmoid.SIGMOID_INPUT_SCALE * gates.PRODUCT_SCALE,
        spread=3000,
        element_events={"sigmoid": 1, "product": 1},
        mode="silu",
        further=("product",),
    ),
    DrainFunction(
        "rotate",
        gates.rotation,
        value_scale=gates.PRODUCT_SCALE,
        spread=6000,
        element_events={"product": 2},
        mode="linear",
        further=("product", "rotate"),
    ),
    DrainFunction(
        "exponentials",
        lambda v, valid, columns, epsilon: attention.exponentials(v, valid)[0],
        input_scale=arithmetic.SOFTMAX_INPUT_SCALE,
        value_scale=1 / arithmetic.EXP_OF_ZERO,
        spread=2048,
        passes=("maximum", "output"),
        latency=MAXIMUM_LATENCY,
        element_events={"compare": 1, "exp": 1},
        row_events={"state": 1},
        masked=True,
        stateful=True,
    ),
    DrainFunction(
        "quotient",
        lambda v, valid, columns, epsilon: arithmetic.weighted(v, arithmetic.FACTOR_ONE),
        input_scale=attention.QUOTIENT_SCALE,
        value_scale=attention.QUOTIENT_SCALE,
        spread=1 << 15,
        passes=("statistics", "output"),
        latency=13,
        element_events={"normalize": 1},
        row_events={"state": 1, "divide": 1},
        stateful=True,
    ),
)
FUNCTION = {function.name: function for function in DRAIN_FUNCTIONS}
FUNCTION_EVENTS = frozenset(
    name for f in DRAIN_FUNCTIONS for name in (*f.element_events, *f.row_events)
)


# -- The SystemVerilog package -------------------------------------------------------------------------


def _labels(prefix: str, names: Iterable[str]) -> str:
    return ", ".join(f"{prefix}_{name.upper()}" for name in dict.fromkeys(names))


def lane_modes() -> list[str]:
    """What lanes do: what passes by all units, `word` among it, and the rest."""
    direct = [f.lane_mode for f in DRAIN_FUNCTIONS if not f.normalization]
    others = (mode for f in DRAIN_FUNCTIONS for mode in (f.lane_mode, *f.further))
    return list(dict.fromkeys([*direct, "word", *others]))


def _sixes(names: list[str]) -> Iterable[list[str]]:
    return (names[at : at + 6] for at in range(0, len(names), 6))


def _predicate(argument: str, name: str, meaning: str, chosen: Iterable[str]) -> str:
    """A function of the package: whether its argument, `code` or `mode`, is one of the chosen."""
    kind, prefix = {"code": ("function_t", "FUNCTION"), "mode": ("mode_e", "MODE")}[argument]
    labels = _labels(prefix, chosen)
    asked = f"    return {argument} inside {{ {labels} }};"
    if len(asked) > 100:
        asked = f"    return {argument} inside {{\n      {labels}\n    }};"
    return f"""\
  // {meaning}
  function automatic logic {name}(input {kind} {argument});
{asked}
  endfunction
"""


def _cases(head: str, meaning: str, key: str, cases: Mapping[str, str], default: str) -> str:
    """A function of the package: what it returns for each value of a key, and for all others."""
    lines = "\n      ".join(f"{value}: return {found};" for value, found in cases.items())
    return f"""\
  // {meaning}
  function automatic {head};
    unique case ({key})
      {lines}
      default: return {default};
    endcase
  endfunction
"""


def _questions() -> list[str]:
    """What the RTL asks of a function, or of what a lane does."""
    every = DRAIN_FUNCTIONS
    direct = [*(f.lane_mode for f in every if not f.normalization), "word"]
    by_row = [f for f in every if f.by_row]
    several = [f for f in every if f.further]
    codes = {f.name: f"FUNCTION_{f.name.upper()}" for f in every}
    passes = {codes[f.name]: f"PASS_{f.passes[0].upper()}" for f in by_row}
    modes = {codes[f.name]: f"MODE_{f.lane_mode.upper()}" for f in every}
    further = {
        f"{{{codes[f.name]}, operand_t'({operand})}}": f"MODE_{mode.upper()}"
        for f in several
        for operand, mode in enumerate(f.further, start=1)
    }
    counts = {codes[f.name]: f"operand_t'({f.operands})" for f in several}
    return [
        _predicate("code", "is_row_function", "It needs whole rows.", [f.name for f in by_row]),
        _predicate("code", "is_masked", "It may hide columns.", [f.name for f in every if f.masked]),
        _predicate("code", "is_centered", "It takes the mean away.",
                   [f.name for f in every if f.centered]),
        _predicate("code", "has_statistics", "A pass over its rows gathers sums for a division.",
                   [f.name for f in every if "statistics" in f.passes]),
        _predicate("code", "has_states", "Rows come in parts, and have a state between them.",
                   [f.name for f in every if f.stateful]),
        _predicate("mode", "is_direct", "Values pass by all behind the first requantizer.", direct),
        _predicate("mode", "is_by_row", "Only the valid columns count.",
                   [f.lane_mode for f in by_row]),
        _cases("pass_e first_pass(input function_t code)", "The first pass over its rows.",
               "code", passes, "PASS_OUTPUT"),
        _cases("mode_e mode_of(input function_t code)", "What a lane does for it.",
               "code", modes, "MODE_COPY"),
        _cases("operand_t operands_of(input function_t code)",
               "Rows of the accumulator that a row of results is made of.",
               "code", counts, "operand_t'(1)"),
        _cases("mode_e operand_mode(input function_t code, input operand_t operand)",
               "What a lane does with an operand, the first being 0.",
               "{code, operand}", further, "mode_of(code)"),
    ]  # fmt: skip


def package() -> str:
    """The text of `rtl/functions_pkg.sv`."""
    asked = "\n".join(_questions())
    modes = ",\n    ".join(
        ", ".join(f"MODE_{mode.upper()}" for mode in row) for row in _sixes(lane_modes())
    )
    bits = max(f.operands for f in DRAIN_FUNCTIONS).bit_length()
    return f"""\
// The drain's functions: their passes over the rows, and what a lane does.
// Written by `python -m codesign.hw.views.generated`; hw/machine/functions.py is the source.

package functions_pkg;

  import isa_pkg::*;

  localparam int unsigned Functions = {len(DRAIN_FUNCTIONS)};
  localparam int unsigned StatisticRows = {STATISTIC_ROWS};  // whose statistics are held at once

  typedef enum logic [1:0] {{ {_labels("PASS", (*PASSES, HOLD))} }} pass_e;
  typedef logic [{bits - 1}:0] operand_t;

  // How a lane treats its values. MODE_WORD leaves the accumulator untouched.
  typedef enum logic [{(len(lane_modes()) - 1).bit_length() - 1}:0] {{
    {modes}
  }} mode_e;

{asked}
endpackage
"""
