"""Errors that are a user's to mend: one line that names the thing, the place and the remedy.

The command line prints them and exits with their code; anything else is a bug, which it says, and
shows with --debug.

    CodesignError
    ├── ConfigError           a machine that cannot be built (all violations at once)
    ├── ProgramError          a Program that breaks the machine's contract
    ├── StaleEvaluator        a compiled timing evaluator of other tables of the machine
    ├── TableError            an energy or area table that cannot be used
    ├── ModelError            a model configuration or ONNX file that cannot be read
    │   ├── NoCode            a result of the host that is not a number (compiler/network/inference.py)
    │   ├── NothingToCompute  a model without a tensor to compute (compiler/importer/import_onnx.py)
    │   ├── Unreadable        a place of an ONNX file without a meaning (compiler/onnx/boundary.py)
    │   ├── MissingExtent     a dimension that needs one, by its name (compiler/onnx/load.py)
    │   ├── UnusableExtent    --seq or --batch where the file fixes another (compiler/onnx/load.py)
    │   └── UnsupportedError  ONNX nodes that the importer does not know (all at once)
    │       └── Refusal       one that computes otherwise than its kernel (compiler/numerics/asking.py)
    │           └── OtherOrder  and would not in another order (compiler/numerics/asking.py)
    ├── MappingError          an operator that fits no tile of the machine
    ├── SimulatorError        RTL that cannot be simulated here (defined in hw/simulation/verilator.py)
    ├── CalibrationError      calibration data that says nothing (compiler/numerics/calibrate.py)
    ├── QuantizationError     numbers beyond the machine's widths (compiler/numerics/quantized.py)
    │   ├── LayoutError       a tensor in another layout than a kernel reads (compiler/program/layout.py)
    │   └── ResidualError     a residual in other units than its sums (compiler/numerics/quantized.py)
    ├── SampleError           data that does not fit the inputs of a model (search/inputs/samples.py)
    ├── TextError             a tokenizer or text that cannot be used (search/inputs/tokens.py)
    ├── ArgumentError         an argument of the Python interface of another kind (search/api/arguments.py)
    ├── OutputError           a place that cannot be written (defined in search/runs/output.py)
    ├── FailedMachines        machines of a sweep lost to a bug: leave them out (search/pricing/sweep.py)
    ├── SpaceError            a search space that is empty or contradictory (search/space/networks.py)
    ├── QualityError          a table of measured subnets that cannot be used (search/space/quality.py)
    ├── SchedulerError        workers that cannot be had (search/joint/pricing_pool.py)
    ├── Mismatch              bulk and full evaluation differ, a bug (search/joint/results.py)
    ├── RunError              a folder that keeps no finished search, or a damaged one (search/runs/records.py)
    └── Disagreement          kernels that do not run as printed, a bug (hw/simulation/agreement.py)
"""

from collections.abc import Sequence
from typing import Any, Self


class CodesignError(Exception):
    """Root of every error that a user can mend; its message is one line."""

    exit_code = 2  # of the command line

    def __reduce__(self) -> tuple[Any, ...]:
        """As pickle makes it again: with its message and fields, and without its constructor."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[CodesignError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class Violation(str):
    """What is wrong with a machine, in words, and the `field` whose value it says cannot be, or ""."""

    field: str

    def __new__(cls, text: str, field: str = "") -> Self:
        found = super().__new__(cls, text)
        found.field = field
        return found


class ConfigError(CodesignError):
    """A hardware configuration with one or more violations, reported together."""

    def __init__(self, violations: Sequence[str], source: str = "") -> None:
        self.violations = tuple(v if isinstance(v, Violation) else Violation(v) for v in violations)
        place = f"{source}: " if source else ""
        super().__init__(f"{place}invalid machine: " + "; ".join(violations))


class ProgramError(CodesignError):
    """A Program that breaks the machine's contract (deadlock, token underflow, illegal field)."""


class StaleEvaluator(CodesignError):
    """A compiled timing evaluator that was built from other tables of the machine."""


class TableError(CodesignError):
    """An energy or area table that is missing, malformed or off its grid."""


class ModelError(CodesignError):
    """A model configuration or ONNX file that cannot be read."""


class UnsupportedError(ModelError):
    """ONNX nodes that the importer does not support, all named in one message.

    `mismatch`: one of them reads tensors whose extents do not fit one another.
    """

    def __init__(self, message: str, *, mismatch: bool = False) -> None:
        self.mismatch = mismatch
        super().__init__(message)


class MappingError(CodesignError):
    """An operator that fits no tile of the given machine."""
