"""Queries from which a mask hides every key, and whether the machine makes of them what float does.

Padding on the left of a causal decoder leaves some. What is added to all scores of a query alike changes
no softmax, so float weighs the keys that are hidden least by their scores; but of a score beside
float32's lowest, or 1e9, its sum keeps nothing, and the keys weigh alike. The machine moves such a
query's mask up (`masks.raised`) and keeps the scores: right for the first, which its matrix of single
scores can say, wrong for the second, which is the host's.
"""

import numpy as np

from codesign.compiler.graph import Softmax
from codesign.compiler.numerics.asking import precision
from codesign.compiler.numerics.constants import Floats, Scores
from codesign.compiler.numerics.masks import HIDDEN, low_rows, raised, take_apart
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.hw.machine.arithmetic import Bools

ROUNDED = 2.0**-5  # of a score, in nats: what float may lose of it; 30 dB of a probability are left


def masked_scores(
    model: FloatModel,
    matrices: Matrices,
    op: Softmax,
    tensor: str,
    feeds: Feeds,
    scores: Floats | None = None,
) -> Floats:
    """What the softmax `op` reads, `tensor`, on one input: [heads, queries, keys].

    `scores` [queries, heads * keys] come out of the matrix before it; without them 0, which leaves
    what the mask adds.
    """
    (source, *_), matrix = op.inputs, matrices[op.output]
    if scores is None:
        values = np.zeros(matrices.shapes[source], dtype=np.float32)
    else:
        values = matrices[source].array(scores, matrices.shapes[source]).astype(np.float32)
    found = model.part((source,), (tensor,))({**feeds, source: values})[tensor]
    found = found.astype(precision(found.size), copy=False)
    rows = matrix.of(found).reshape(matrix.rows, matrix.heads, -1)
    return np.asarray(rows.transpose(1, 0, 2))


def astray(
    model: FloatModel, matrices: Matrices, op: Softmax, scores: Scores, feeds: Feeds
) -> Bools:
    """[queries]: those of `op` whose keys are all hidden on one input and that a kernel which adds
    `scores` gives other probabilities than float does.
    """
    added = masked_scores(model, matrices, op, scores.tensor, feeds)
    low = low_rows(added)
    if not low.any():
        return np.zeros(added.shape[1], dtype=np.bool_)
    heads, queries, keys = added.shape
    sample = np.random.default_rng(0).standard_normal((queries, heads * keys))
    total = masked_scores(model, matrices, op, scores.tensor, feeds, sample / scores.factor)
    shown = raised(added) > HIDDEN
    wanted = sample.reshape(queries, heads, keys).transpose(1, 0, 2)
    kept = np.where(shown, total, 0.0) - np.where(shown, added, 0.0)
    lost = (shown & (np.abs(kept - wanted) > ROUNDED)).any(axis=-1)
    several = shown.sum(axis=-1) > 1  # a key by itself has it all
    unlike = take_apart(raised(added), scores.causal, scores.matrix is not None) is None
    found = low & (unlike | (several & lost) | ~shown.any(axis=-1))
    return np.asarray(found.any(axis=0))
