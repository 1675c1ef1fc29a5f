"""Parts of ONNX graphs that the families of text share: axes, positions, masks, the tied head."""

from dataclasses import dataclass, field
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


def positions(b: "GraphBuilder", ids: str, seq: int | None, past: int = 0) -> str:
    """The seq rows of the position table behind those of the past, [seq, d_model]; the first ones of it
    where seq is dynamic."""
    end = b.length(ids, 1) if seq is None else b.integers(past + seq)
    table = b.weight("embeddings.position")
    begin = b.integers(past)
    return b.op("Slice", table, begin, end, b.integers(0), name="embeddings.position/Slice")


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


@dataclass
class Cache:
    """The keys and values of `past` tokens as inputs of a graph, and with those of `seq` more as outputs.

    past_key_values.N.key and .value, float32[batch, heads, past, head_dim], of layer N; present.N.key and
    .value, [batch, heads, past + seq, head_dim].
    """

    b: "GraphBuilder"
    batch: "Dimension"
    past: int
    seq: int
    present: "list[tuple[str, str, tuple[Dimension, ...]]]" = field(default_factory=list)

    def joined(self, new: str, layer: int, kind: str, heads: int, head_dim: int) -> str:
        """Keys or values `new`[batch, heads, seq, head_dim] behind those of the past."""
        shape = (self.batch, heads, self.past, head_dim)
        past = self.b.input(f"past_key_values.{layer}.{kind}", shape)
        name = f"layer{layer}.attention.{kind}/Concat"
        whole = self.b.op("Concat", past, new, axis=2, name=name)
        grown = (self.batch, heads, self.past + self.seq, head_dim)
        self.present.append((f"present.{layer}.{kind}", whole, grown))
        return whole

    def outputs(self) -> None:
        """Declare what the cache has become: the last outputs of the graph."""
        for name, tensor, shape in self.present:
            self.b.output(tensor, name, shape)


def last_row(b: "GraphBuilder", x: str) -> str:
    """x[batch, seq, d] at its last position, [batch, 1, d]."""
    bounds = b.integers(-1), b.integers(np.iinfo(np.int64).max), b.integers(1)
    return b.op("Slice", x, *bounds, name="head/Slice")


def tied_head(b: "GraphBuilder", x: str) -> str:
    """Logits against the input embedding."""
    table = b.op("Transpose", b.weight("embeddings.word"), perm=[1, 0], name="head/Transpose")
    return b.op("MatMul", x, table, name="head/MatMul")
