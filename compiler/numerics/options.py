"""How to quantize: what a user chooses, validated. `quantize` follows it, docs/quantization.md explains."""

from dataclasses import dataclass

from codesign.compiler.numerics.calibrate import METHODS, CalibrationError


@dataclass(frozen=True)
class Options:
    """`method`: how a tensor's range is chosen from what calibration saw, a key of METHODS.

    `smoothing`: how far the scales of channels follow the channels' ranges, from 0 (one scale a
    tensor) to 1 (one a channel); None takes those of least expected error (`channel_scales`).
    `channel_weights`: a scale for every output channel of weights, or one for all of a matrix.
    Raises CalibrationError for a choice that does not exist.
    """

    method: str = "minmax"
    smoothing: float | None = None
    channel_weights: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or self.method not in METHODS:
            raise CalibrationError(
                f"unknown calibration {self.method!r}: choose {', '.join(METHODS)}"
            )
        if not isinstance(self.channel_weights, bool):
            raise CalibrationError(
                f"channel_weights is {self.channel_weights!r}, not True or False"
            )
        number = isinstance(self.smoothing, int | float)
        if self.smoothing is not None and not (number and 0 <= self.smoothing <= 1):
            raise CalibrationError(
                f"smoothing {self.smoothing} is not from 0 (one scale a tensor) to 1 (one a "
                "channel): choose one between, or none for the scales of least error"
            )


DEFAULT = Options()
