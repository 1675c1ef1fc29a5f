"""Whether what is run lies within what calibration covers: the usual reason of a poor result."""

from collections.abc import Mapping

import numpy as np

from codesign.compiler.graph import Softmax
from codesign.compiler.network.inference import Network
from codesign.compiler.numerics.calibrate import LEVELS
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.hw.machine.arithmetic import Bools
from codesign.search.terminal.messages import say

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


def say_beyond(
    astray: Mapping[str, tuple[Bools, str]],
    saturated: Mapping[str, str],
    farther: Mapping[str, tuple[float, str]],
    calibrated: int,
) -> None:
    """Say what came out otherwise than in float since calibration has seen nothing like it.

    By name, each with the input that did it: softmaxes and their queries without a key, softmaxes
    that saturate, and tensors that reach so many times as far; `calibrated` tensors were asked.
    """
    if astray:
        name, (queries, sample) = next(iter(astray.items()))
        rows = np.flatnonzero(queries)
        others = f" and {len(astray) - 1} more" if len(astray) > 1 else ""
        say(
            f"note: on {sample} the mask of softmax {name!r}{others} hides every key from "
            f"{len(rows)} of {len(queries)} queries, first {rows[0]} and last {rows[-1]}, as in no "
            "calibration sample: what comes of them is not what float computes; calibrate on data "
            "like it (--calibration)"
        )
    if saturated:
        (name, sample), count = next(iter(saturated.items())), len(saturated)
        say(
            f"note: probabilities of {count} softmaxes are far beyond what calibration saw, "
            f"{name!r} on {sample} first, and clipped: calibrate on data like it"
        )
    if farther:
        worst = max(farther, key=farther.__getitem__)
        times, sample = farther[worst]
        say(
            f"note: values of {len(farther)} of {calibrated} tensors lie beyond what "
            f"calibration saw, {worst!r} on {sample} {times:.1f} times as far, and are clipped: "
            "calibrate on data like it (--calibration), or on more (--samples)"
        )
