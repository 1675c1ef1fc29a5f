"""Whether what is run lies within what calibration covers: the usual reason of a poor result."""

from collections.abc import Mapping

import numpy as np

from codesign.compiler.graph import Softmax
from codesign.compiler.network.inference import Network
from codesign.compiler.numerics.calibrate import LEVELS
from codesign.compiler.onnx.float_model import Array, Feeds

MOST_LOST = 0.01  # of a tensor's energy: that leaves 20 dB of it


def covered(network: Network) -> dict[str, Array]:
    """How far the codes of calibrated tensors reach from 0: [1], or [columns] of the last axis.

    Not those whose codes a file settles, to whom saturation is a clamp, nor probabilities, of which
    `formats.saturated` tells.
    """
    quantized, graph = network.quantized, network.plan.graph
    settled = {op.output for op in graph.operators() if isinstance(op, Softmax)} | {
        *quantized.given
    }
    return {
        name: (LEVELS + 0.5) * scales
        for name, scales in quantized.scales.items()
        if name not in settled and network.clamped.has(name)
    }


def beyond(network: Network, tops: Mapping[str, Array], feeds: Feeds) -> dict[str, float]:
    """The tensors that lose more than MOST_LOST of their energy as they are clipped on one input.

    With each goes how many times as far as its codes it reaches. Takes one inference in float.
    """
    values = network.clamped.part((), tuple(tops))(feeds) if tops else {}
    found = {}
    for name, top in tops.items():
        magnitudes = np.abs(values[name]).astype(np.float64)
        if top.size > 1 and magnitudes.shape[-1:] != (top.size,):
            continue  # scales of other columns than the file's tensor has
        lost = np.square(np.maximum(magnitudes - top, 0.0)).sum()
        if lost > MOST_LOST * np.square(magnitudes).sum():
            found[name] = float((magnitudes / top).max())
    return found
