"""What `codesign run` found, a row each: outputs beside the float model, and what kernels add."""

from dataclasses import dataclass

import numpy as np

from codesign.compiler.network.error_report import OperatorError


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
