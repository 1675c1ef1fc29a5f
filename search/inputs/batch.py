"""A batch on a Program of one sample: its samples one by one, and their outputs put together again.

That is right where the samples of a batch do not depend on one another, which the float model is asked
(`find`): each batch that is to run, at once, against its samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.hw.errors import ModelError
from codesign.search.inputs.samples import Input

TOLERANCE = 1e-3  # of the largest value: sums of a batch and of its samples round differently


@dataclass(frozen=True)
class Batch:
    """Which axis of an input or output counts the samples; None: it is the same for all of them."""

    size: int
    inputs: Mapping[str, int | None]
    outputs: Mapping[str, int | None]

    def split(self, feeds: Feeds) -> list[Feeds]:
        """The samples of a batch, each as a batch of one."""
        return [
            {name: _part(value, self.inputs[name], index, 1) for name, value in feeds.items()}
            for index in range(self.size)
        ]

    def join(self, outputs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The outputs of a whole batch, from those of its samples."""
        return {
            name: outputs[0][name]
            if axis is None
            else np.concatenate([each[name] for each in outputs], axis=axis)
            for name, axis in self.outputs.items()
        }

    def of_sample(self, outputs: Mapping[str, Array], index: int) -> dict[str, Array]:
        """What a batch's outputs hold of one sample."""
        found = {}
        for name, value in outputs.items():
            axis = self.outputs[name]
            wide = 1 if axis is None else value.shape[axis] // self.size
            found[name] = _part(value, axis, index, wide)
        return found


def batch_axes(
    model: FloatModel, whole: Sequence[Input], single: Sequence[Input], batches: Sequence[Feeds]
) -> Batch | None:
    """The axes of a batch whose samples do not depend on one another; None where they do.

    `whole` and `single` are the model's inputs for the batch and for one sample; `batches` are all
    that are to run, at least one: samples that are alike may not show what others do.
    """
    inputs: dict[str, int | None] = {}
    size = 1
    for many, one in zip(whole, single, strict=True):
        axes = [a for a, (n, m) in enumerate(zip(many.shape, one.shape, strict=True)) if n != m]
        if len(axes) > 1 or len(many.shape) != len(one.shape):
            return None
        inputs[many.name] = axes[0] if axes else None
        size = many.shape[axes[0]] if axes else size
    part = model.part((), model.outputs)
    batch = Batch(size, inputs, {})
    for feeds in batches:
        found = part(feeds)
        try:
            rows = [part(sample) for sample in batch.split(feeds)]
        except ModelError:  # the file fixes its batch somewhere inside
            return None
        outputs = {name: _axis(value, rows[0][name], size) for name, value in found.items()}
        batch = replace(batch, outputs=outputs)
        joined = batch.join(rows)
        if not all(_alike(value, joined[name]) for name, value in found.items()):
            return None
    return batch


def leading(size: int, outputs: Mapping[str, Array]) -> Batch:
    """The batch of a Program that computes all of it at once: along the first axis, where there is."""
    axes = {name: 0 if value.shape[:1] == (size,) else None for name, value in outputs.items()}
    return Batch(size, {}, axes)


def _part(value: Array, axis: int | None, index: int, wide: int) -> Array:
    if axis is None:
        return value
    return np.take(value, range(index * wide, (index + 1) * wide), axis=axis)


def _axis(whole: Array, one: Array, size: int) -> int | None:
    """The axis along which `whole` is `size` times as long as `one`."""
    pairs = list(zip(whole.shape, one.shape, strict=False))
    return next((axis for axis, (n, m) in enumerate(pairs) if n == m * size and n != m), None)


def _alike(whole: Array, joined: Array) -> bool:
    if whole.shape != joined.shape:
        return False
    if whole.dtype.kind != "f":
        return bool(np.array_equal(whole, joined))
    reach = TOLERANCE * float(np.abs(whole).max(initial=0.0))
    return bool(np.allclose(whole, joined, rtol=0.0, atol=reach, equal_nan=True))
