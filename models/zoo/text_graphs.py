"""Parts of ONNX graphs that the families of text share: axes, positions, masks, the tied head."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import Dimension, GraphBuilder

# Added to a masked score. As torch exporters write it: the lowest float32, not -inf, so that a
# row masked throughout stays finite.
MASKED = float(np.finfo(np.float32).min)


def extents(batch: int | None, seq: int | None) -> "tuple[Dimension, Dimension]":
    """The axes [batch, seq] of an input; None makes one dynamic."""
    return ("batch" if batch is None else batch, "sequence" if seq is None else seq)


def positions(b: "GraphBuilder", ids: str, seq: int | None) -> str:
    """The first seq rows of the position table, [seq, d_model]."""
    end = b.length(ids, 1) if seq is None else b.integers(seq)
    table = b.weight("embeddings.position")
    return b.op("Slice", table, b.integers(0), end, b.integers(0), name="embeddings.position/Slice")


def padding_mask(b: "GraphBuilder", padding: str) -> str:
    """int64[batch, seq] of 0 and 1 -> additive float32[batch, 1, 1, seq]."""
    wide = b.op("Unsqueeze", padding, b.integers(1, 2), name="mask/Unsqueeze")
    real = b.op("Cast", wide, to=1, name="mask/Cast")
    hidden = b.op("Sub", b.scalar(1.0), real, name="mask/Sub")
    return b.op("Mul", hidden, b.scalar(MASKED), name="mask/Mul")


def causal_mask(b: "GraphBuilder", ids: str, seq: int | None, longest: int, past: int = 0) -> str:
    """Additive float32[1, 1, seq, past + seq] that hides later positions, those of the past before
    them shown; a slice when seq is dynamic."""
    length = longest if seq is None else seq
    later = np.triu(np.full((length, past + length), MASKED, np.float32), k=1 + past)
    mask = b.constant(later[None, None])
    if seq is not None:
        return mask
    end = b.length(ids, 1)
    ends = b.op("Concat", end, end, axis=0)
    return b.op("Slice", mask, b.integers(0, 0), ends, b.integers(2, 3), name="causal/Slice")


def tied_head(b: "GraphBuilder", x: str) -> str:
    """Logits against the input embedding."""
    table = b.op("Transpose", b.weight("embeddings.word"), perm=[1, 0], name="head/Transpose")
    return b.op("MatMul", x, table, name="head/MatMul")
