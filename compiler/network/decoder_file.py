"""What the inputs and outputs of a decoder's ONNX file are: tokens, cache, mask, places, scores.

A cache may be longer than what is in it where a mask hides the rest and tokens say where they stand, as
exporters of PyTorch models write it: attention_mask is 1 where the cache holds a token, position_ids are
the places of the new ones. Files are asked whether they compute so. A file without a cache may still be
run on all tokens again for each new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.compiler.recognition.language_head import scores_output
from codesign.compiler.recognition.past import fixed_tokens, open_past, past_axes, past_extents
from codesign.hw.errors import ModelError

IDS, MASK, PLACES = "input_ids", "attention_mask", "position_ids"
_REMEDY = (
    "write one with codesign export --past dynamic, or with optimum (text-generation-with-past)"
)
_TRIED, _GAP = 4, 2  # tokens that a file is asked with, and places of the cache that are left free
_NEAR = 1e-3  # of the largest score: how far float32 puts one order of sums off another


@dataclass(frozen=True)
class DecoderFile:
    """A decoder in float, of one sequence at a time.

    `past` are inputs [.., tokens, ..] with the axis of tokens, `present` the outputs that they become;
    none of a file without a cache. `scores` is the output [1, tokens, vocabulary], of the last token
    alone unless `scores_all`. `tokens`: so many a run, where the file says it.
    """

    model: FloatModel
    past: Mapping[str, int]
    present: tuple[str, ...]
    scores: str
    tokens: int | None
    scores_all: bool = True

    @classmethod
    def of(cls, model: FloatModel) -> "DecoderFile":
        """Raises ModelError for a file that is none, and for one whose cache cannot be longer than
        what is in it."""
        proto = model.proto
        scores, axes = scores_output(proto), past_axes(proto)
        if scores is None:
            raise ModelError("no output of the file scores its vocabulary: it is no language model")
        if axes and not open_past(proto):
            raise ModelError(f"the file fixes the length of its key-value cache: {_REMEDY}")
        other = [name for name in model.inputs if name not in (*axes, IDS, MASK, PLACES)]
        wanted = (IDS, MASK, PLACES) if axes else (IDS,)
        lacking = [name for name in wanted if name not in model.inputs]
        if other or lacking:
            what = f"has no {lacking[0]}" if lacking else f"wants {other[0]!r} too"
            raise ModelError(f"the file {what}, so it cannot be run token after token: {_REMEDY}")
        present = tuple(name for name in model.outputs if name != scores) if axes else ()
        if len(present) != len(axes):
            raise ModelError(
                f"the file has {len(axes)} inputs for its cache but {len(present)} outputs beside "
                f"{scores!r}: {_REMEDY}"
            )
        file = cls(model, axes, present, scores, fixed_tokens(proto))
        return replace(file, scores_all=file._asked())

    @property
    def at_once(self) -> bool:
        """Whether a run takes a prompt of any length."""
        return self.tokens is None

    def dimensions(self, past: int, tokens: int) -> dict[str, int]:
        """The file's open extents for a run of `tokens` behind `past`."""
        return past_extents(self.model.proto, past, tokens, {}) if self.past else {}

    def of_prompts(self, length: int) -> "DecoderFile":
        """The file for prompts of so many tokens, padding with them: places and what is seen are the same
        for all, so they are constants. No token sees padding, which is behind it.
        """
        found = onnx.ModelProto()
        found.CopyFrom(self.model.proto)
        values = self.prefill([0] * length, length)
        fixed = [name for name in (MASK, PLACES) if name in values]
        found.graph.initializer.extend(
            onnx.numpy_helper.from_array(values[name], name) for name in fixed
        )
        return replace(self, model=FloatModel(found))

    def empty(self, tokens: int) -> dict[str, Array]:
        """A cache of zeros for so many tokens."""
        found = {}
        for name, axis in self.past.items():
            tensor = self.model.inputs[name].type.tensor_type
            shape = [dim.dim_value or 1 for dim in tensor.shape.dim]  # of one sequence
            shape[axis] = tokens
            found[name] = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        return found

    def cache(self, outputs: Feeds, tokens: int, slots: int) -> dict[str, Array]:
        """The first `tokens` of a run's present keys and values, as a past of `slots`."""
        found = self.empty(slots)
        for (name, axis), present in zip(self.past.items(), self.present, strict=True):
            first = [slice(None)] * found[name].ndim
            first[axis] = slice(tokens)
            found[name][tuple(first)] = outputs[present][tuple(first)]
        return found

    def feeds(
        self,
        ids: Sequence[int],
        places: Sequence[int],
        seen: Sequence[int] | Array,
        past: Feeds,
    ) -> dict[str, Array]:
        """The inputs of a run on new tokens, their places, and which of cache and tokens are seen."""
        values = {IDS: ids, MASK: seen, PLACES: places}
        found = dict(past)
        for name in self.model.inputs.keys() & values.keys():
            kind = self.model.inputs[name].type.tensor_type.elem_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            found[name] = np.asarray([values[name]]).astype(dtype)
        return found

    def prefill(self, ids: Sequence[int], length: int) -> dict[str, Array]:
        """The inputs of a run on a prompt, and padding behind it up to `length`."""
        rest = length - len(ids)
        padded, seen = [*ids, *[ids[-1]] * rest], [1] * len(ids) + [0] * rest
        return self.feeds(padded, range(length), seen, self.empty(0))

    def step(self, token: int, place: int, past: Feeds) -> dict[str, Array]:
        """The inputs of a run on one token behind `place` others, in the order of the file: the new
        token behind all of the cache."""
        slots = next(past[name].shape[axis] for name, axis in self.past.items())
        seen = [1] * place + [0] * (slots - place) + [1]
        return self.feeds([token], [place], seen, past)

    def run(self, ids: Sequence[int]) -> dict[str, Array]:
        """What the file computes of tokens in float: scores [1, tokens, vocabulary], or of the last
        alone, and what becomes of its cache."""
        part = self.model.part((), (self.scores, *self.present))
        if self.at_once or len(ids) == self.tokens:
            return part(self.prefill(ids, len(ids)))
        if not self.past:  # of so many tokens
            found = part(self.prefill(ids, self.tokens or len(ids)))
            return {self.scores: found[self.scores][:, : len(ids)]}
        outputs: dict[str, Array] = {}
        scores, past = [], self.empty(0)
        for place, token in enumerate(ids):
            outputs = part(self.step(token, place, past))
            past = self.cache(outputs, place + 1, place + 1)
            scores.append(outputs[self.scores])
        return {**outputs, self.scores: np.concatenate(scores, axis=1)}

    def _asked(self) -> bool:
        """Whether every token is scored. Raises ModelError unless a longer cache, the rest of it hidden,
        changes no score, nor do tokens that follow.
        """
        if self.tokens not in (None, 1) and self.past:
            raise ModelError(f"the file takes {self.tokens} tokens at a time: {_REMEDY}")
        tried = min(_TRIED, self.tokens or _TRIED) if not self.past else _TRIED
        ids = [1, 2, 3, 4][:tried]
        whole = self.run(ids)[self.scores][0]
        if self.past:
            past = self.cache(self.run(ids[:-1]), tried - 1, tried - 1 + _GAP)
            found = self.model.part((), (self.scores,))(self.step(ids[-1], tried - 1, past))
            near = _near(found[self.scores][0, -1], whole[-1])
        else:
            if len(whole) != tried:
                raise ModelError(f"the file scores its last token alone: {_REMEDY}")
            other = self.run([*ids[:-1], 5])[self.scores][0]
            near = tried < 2 or _near(other[tried - 2], whole[tried - 2])
        if not near:
            what = (
                "where its cache is longer than what is in it" if self.past else "with later tokens"
            )
            raise ModelError(f"the file's scores change {what}: {_REMEDY}")
        return len(whole) == tried and (self.at_once or not self.past)


def _near(found: Array, wanted: Array) -> bool:
    apart = np.abs(found.astype(np.float64) - wanted).max()
    return bool(apart <= _NEAR * max(float(np.abs(wanted).max()), 1e-30))
