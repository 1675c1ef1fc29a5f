"""Parts of ONNX graphs that the families of text share: axes, positions, masks, the tied head."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from codesign.hw.errors import ModelError
from codesign.models.zoo.parameters import LARGEST_FILE_BYTES

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import Array, Dimension, GraphBuilder

# Added to a masked score. As torch exporters write it: the lowest float32, not -inf, so that a
# row masked throughout stays finite.
MASKED = float(np.finfo(np.float32).min)
LARGEST_STORED_MASK = 1 << 22  # elements; larger ones are computed of places


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
    them shown; a slice when seq is dynamic. Raises ModelError for one that no file holds."""
    length = longest if seq is None else seq
    if seq is not None and length * (past + length) > LARGEST_STORED_MASK:
        keys = b.constant(np.arange(past + length)[None, None, None])
        own = b.constant(np.arange(past, past + length)[None, None, :, None])
        later_keys = b.op("Greater", keys, own, name="causal/Greater")
        return b.op("Where", later_keys, b.scalar(MASKED), b.scalar(0.0), name="causal/Where")
    if 4 * length * (past + length) > LARGEST_FILE_BYTES:
        raise ModelError(
            f"a mask of {length:,} by {past + length:,} positions is more than the "
            f"{LARGEST_FILE_BYTES / 1e9:.1f} GB that an ONNX file holds: give fewer tokens"
        )
    later = np.triu(np.full((length, past + length), MASKED, np.float32), k=1 + past)
    mask = b.constant(later[None, None])
    if seq is not None:
        return mask
    end = b.length(ids, 1)
    ends = b.op("Concat", end, end, axis=0)
    return b.op("Slice", mask, b.integers(0, 0), ends, b.integers(2, 3), name="causal/Slice")


@dataclass(frozen=True)
class OpenPast:
    """The further inputs of a graph whose cache has any length, as exporters of PyTorch models name them.

    attention_mask int64[batch, past + seq] is 0 where a token of the cache is none; position_ids
    int64[batch, seq] are the places of the new ones, so that a cache may be longer than what is in it.
    """

    b: "GraphBuilder"
    padding: str
    places: str

    @classmethod
    def of(cls, b: "GraphBuilder", shape: "tuple[Dimension, Dimension]") -> "OpenPast":
        """Declare the inputs, for tokens [batch, seq]."""
        padding = b.input("attention_mask", (shape[0], TOTAL), integer=True)
        return cls(b, padding, b.input("position_ids", shape, integer=True))

    def mask(self, ids: str) -> str:
        """Additive float32[batch, 1, seq, past + seq] that hides what is no token, and what is later."""
        b = self.b
        keys = padding_mask(b, self.padding)
        new, whole = b.length(ids, 1), b.length(self.padding, 1)
        end, one = b.op("Squeeze", whole), b.constant(np.asarray(1, np.int64))
        first = b.op("Sub", end, b.op("Squeeze", new))
        places = b.op("Range", b.constant(np.asarray(0, np.int64)), end, one, name="causal/Range")
        own = b.op("Range", first, end, one, name="causal/Range")
        own = b.op("Unsqueeze", own, b.integers(1))
        later = b.op("Greater", places, own, name="causal/Greater")
        return b.op("Where", later, b.scalar(MASKED), keys, name="causal/Where")

    def angles(self, rates: "Array") -> tuple[str, str]:
        """Cosines and sines, float32[batch, 1, seq, columns], of the new tokens' places times rates."""
        b = self.b
        wide = b.op("Unsqueeze", self.places, b.integers(1, 3), name="rotary/Unsqueeze")
        real = b.op("Cast", wide, to=1, name="rotary/Cast")
        turned = b.op("Mul", real, b.constant(rates[None, None, None]), name="rotary/Mul")
        return b.op("Cos", turned, name="rotary/Cos"), b.op("Sin", turned, name="rotary/Sin")

    def rows(self, table: str, name: str) -> str:
        """The rows of a table that are the new tokens' places, [batch, seq, ...]."""
        return self.b.op("Gather", table, self.places, name=f"{name}/Gather")


TOTAL = "past + sequence"  # the extent of a cache and the tokens behind it, where it is open


@dataclass
class Cache:
    """The keys and values of `past` tokens as inputs of a graph, and with those of `seq` more as outputs.

    past_key_values.N.key and .value, float32[batch, heads, past, head_dim], of layer N; present.N.key and
    .value, [batch, heads, past + seq, head_dim].
    """

    b: "GraphBuilder"
    batch: "Dimension"
    past: "Dimension"
    seq: "Dimension"
    present: "list[tuple[str, str, tuple[Dimension, ...]]]" = field(default_factory=list)

    @classmethod
    def of(
        cls,
        b: "GraphBuilder",
        shape: "tuple[Dimension, Dimension]",
        past: int | None,
        any_past: bool,
    ) -> "Cache | None":
        """That of a graph of tokens [batch, seq]; None of one without."""
        if not any_past and past is None:
            return None
        return cls(b, shape[0], "past" if any_past else past, shape[1])

    def joined(self, new: str, layer: int, kind: str, heads: int, head_dim: int) -> str:
        """Keys or values `new`[batch, heads, seq, head_dim] behind those of the past."""
        shape = (self.batch, heads, self.past, head_dim)
        past = self.b.input(f"past_key_values.{layer}.{kind}", shape)
        name = f"layer{layer}.attention.{kind}/Concat"
        whole = self.b.op("Concat", past, new, axis=2, name=name)
        fixed = isinstance(self.past, int) and isinstance(self.seq, int)
        total: Dimension = self.past + self.seq if fixed else TOTAL  # type: ignore[operator]
        grown = (self.batch, heads, total, head_dim)
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
