"""Outputs of `codesign run` beside those of the model in onnxruntime."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.search.commands.run_results import Comparison, RunResults, Sample
from codesign.search.inputs.tokens import MASK
from codesign.search.terminal.messages import say

EMBEDDING = "embedding"
FAR_DB = 25.0  # SQNR to a quantized file below which it is asked whether the file is at fault
NEARER_DB = 3.0  # to the floats than the file is


def pooled(one: Sample, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """A text's outputs, and the mean of the first one's rows that are no padding, of length 1."""
    found = dict(outputs)
    states = next((value for value in outputs.values() if value.ndim == 3), None)
    if states is not None and MASK in one.feeds:
        mask = one.feeds[MASK][0, :, np.newaxis]
        mean = np.where(mask, states[0], 0).sum(axis=0) / mask.sum()
        if not np.isfinite(mean).all():
            mean = np.full_like(mean, np.nan)  # of no length
        found[EMBEDDING] = mean / max(float(np.linalg.norm(mean)), 1e-30)
    return found


def compared(number: int, one: Sample, results: RunResults) -> list[Comparison]:
    """Every output of a sample, where it was run to its end."""
    if number >= len(results.outputs):
        return []
    rows = []
    for name, value in results.outputs[number].items():
        seen = _seen(one.feeds, value)
        ours = value[seen].astype(np.float64).ravel()
        wanted = results.floats[number][name][seen].astype(np.float64).ravel()
        broken = int((~np.isfinite(ours)).sum())
        cosine, error, decibels = (None, None, None) if broken else _figures(ours, wanted)
        rows.append(
            Comparison(
                sample=number,
                input=one.name,
                output=name,
                shape="x".join(map(str, value.shape)),
                cosine=cosine,
                max_abs_error=error,
                sqnr_db=decibels,
                not_finite=broken,
            )
        )
    return rows


def _figures(ours: Array, wanted: Array) -> tuple[float | None, float, float | None]:
    """Cosine, largest error and SQNR in dB of finite values."""
    norms = float(np.linalg.norm(ours) * np.linalg.norm(wanted))
    noise, signal = float(((ours - wanted) ** 2).sum()), float((wanted**2).sum())
    return (
        float(ours @ wanted) / norms if norms else None,
        float(np.abs(ours - wanted).max(initial=0.0)),
        10 * float(np.log10(signal / noise)) if noise and signal else None,
    )


def _seen(feeds: Feeds, value: Array) -> Any:
    """Which rows of an output count: not those of padding, which are nobody's."""
    mask = feeds.get(MASK)
    return mask != 0 if mask is not None and value.shape[:2] == mask.shape else ...


def similarities(outputs: Sequence[Mapping[str, Array]]) -> Array | None:
    """Cosines between the embeddings of several texts [texts, texts]; None without."""
    if len(outputs) < 2 or any(EMBEDDING not in one for one in outputs):
        return None
    embeddings = np.stack([one[EMBEDDING] for one in outputs]).astype(np.float64)
    return embeddings @ embeddings.T


def say_file_rounds(results: RunResults) -> None:
    """Say where outputs are far from a quantized file's since the file rounds more than kernels do."""
    for one, ours, file, exact in zip(
        results.shown, results.outputs, results.floats, results.unrounded, strict=False
    ):
        for name, wanted in exact.items():
            if wanted.dtype.kind != "f" or not np.isfinite(ours[name]).all():
                continue
            rows = _seen(one.feeds, wanted)
            flat = [value[name][rows].astype(np.float64).ravel() for value in (ours, file, exact)]
            apart, nearer, farther = (
                _decibels(flat[a], flat[b]) for a, b in ((0, 1), (0, 2), (1, 2))
            )
            if apart < FAR_DB and nearer > farther + NEARER_DB:
                say(
                    f"note: on {one.name} the quantized file's own {name!r} has {farther:.1f} dB to "
                    f"the floats that its integers stand for, this run's {nearer:.1f} dB: what "
                    "sets them apart is the file's own rounding (a mask within one scale with the "
                    "scores does that)"
                )
                return


def _decibels(found: Array, wanted: Array) -> float:
    """SQNR in dB; inf where they are equal, -inf where only zeros are wanted."""
    decibels = _figures(found, wanted)[2]
    if decibels is not None:
        return decibels
    return np.inf if np.array_equal(found, wanted) else -np.inf
