"""What `codesign run` found: of every input, and a row each of outputs beside the float model and of
what kernels add."""

from dataclasses import dataclass, field

import numpy as np

from codesign.compiler.network.error_report import OperatorError
from codesign.compiler.network.rtl_backend import KernelCheck
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.hw.machine.arithmetic import Bools
from codesign.hw.simulation.agreement import Disagreement


@dataclass(frozen=True)
class Sample:
    """One input, what it is called, and the texts that it holds, one for each of its batch at most."""

    name: str
    feeds: Feeds
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class RtlKernel:
    """One kernel on the RTL, of one run of the Program: a sample, or one of a batch."""

    sample: int
    kernel: str
    instructions: int
    cycles: int
    rtl_cycles: int
    times_differing: int
    bytes_differing: int
    counts_differing: int


@dataclass(frozen=True)
class Comparison:
    """An output in int8 beside that of the float model, which is finite.

    None: one is 0 throughout, both are equal, or some values in int8 are not finite.
    """

    sample: int
    input: str
    output: str
    shape: str
    cosine: float | None
    max_abs_error: float | None
    sqnr_db: float | None  # power of the float output over that of the difference
    not_finite: int = 0  # values in int8 that are infinite or no number


@dataclass(frozen=True)
class KernelError:
    """The error of one kernel, as `error_report` has it; dB are None where there is none at all, or
    no bound of it (`remedy` says so)."""

    kernel: str
    kind: str
    own_db: float | None
    accumulated_db: float | None
    effect_db: float | None
    clipped: float
    outlier: float
    probability_lost: float
    remedy: str

    @classmethod
    def of(cls, error: OperatorError) -> "KernelError":
        """Infinite and unmeasured ratios left out."""

        def finite(ratio: float) -> float | None:
            return ratio if np.isfinite(ratio) else None

        return cls(
            kernel=error.name,
            kind=error.kind,
            own_db=finite(error.own_db),
            accumulated_db=finite(error.accumulated_db),
            effect_db=finite(error.effect_db),
            clipped=error.clipped,
            outlier=error.outlier,
            probability_lost=error.probability_lost,
            remedy=error.remedy,
        )


@dataclass
class RunResults:
    """What a run has come to so far."""

    shown: list[Sample] = field(default_factory=list)  # each text by itself
    outputs: list[dict[str, Array]] = field(default_factory=list)  # of what is shown
    floats: list[dict[str, Array]] = field(default_factory=list)
    unrounded: list[dict[str, Array]] = field(default_factory=list)  # of a quantized file, in float
    checks: list[tuple[int, KernelCheck]] = field(default_factory=list)
    errors: list[KernelError] = field(default_factory=list)
    saturated: dict[str, str] = field(default_factory=dict)  # softmaxes, and the input that did it
    beyond: dict[str, tuple[float, str]] = field(default_factory=dict)  # tensors: how far, on what
    not_finite: dict[str, str] = field(
        default_factory=dict
    )  # the host's, and the input that did it
    calibrated: int = 0  # tensors of which that is asked
    astray: dict[str, tuple[Bools, str]] = field(
        default_factory=dict
    )  # softmaxes: queries, on what
    seconds: float = 0.0
    disagreement: Disagreement | None = None
