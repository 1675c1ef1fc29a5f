"""Scales that a model brings along: those of a QDQ graph, which quantization must keep.

`onnx_dequantize` reads them from the file, `quantize` uses them as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class GivenScales:
    """What one unit of an int8 number stands for.

    `activations`: by tensor of the graph. `weights`: by the name of the matmul that multiplies by
    them, float64[1] for one a matrix or [n] for one a column.
    """

    activations: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
