"""What a network is fed: inputs from npz files, from text or at random, and data to calibrate on.

Everything is checked against the model's inputs (`Input`) before anything runs. Data for calibration
is what the user gives, or a default that is said aloud.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, reads
from codesign.compiler.onnx.load import Dimensions, input_shapes
from codesign.hw.errors import CodesignError
from codesign.hw.platform.npz_file import read_arrays
from codesign.search.inputs.sources import Model
from codesign.search.inputs.tokens import IDS, MASK, TYPES, TextError, Tokenizer, require_text

SENTENCES = Path(__file__).parent / "calibration.txt"  # plain English, written for this
DEFAULT_SAMPLES = 64
FLOATS = 0xF10A7  # tells their random stream from those of others with the same seed
RANDOM_SAMPLES = 16  # random tokens all look alike
_EXTENTS = ("Shape", "Size")
_THROUGH = ("Cast", "DequantizeLinear", "Identity", "Reshape", "Squeeze", "Unsqueeze")


class SampleError(CodesignError):
    """Data that does not fit the inputs of a model."""


@dataclass(frozen=True)
class Input:
    """One input of a network: its shape and type, and of indices how many there are to choose from."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    rows: int | None
    read: bool = True  # False: the model asks for its extents alone

    def checked(self, value: Array, where: str) -> Array:
        """A value in the input's type. Raises SampleError for one that does not fit."""
        name = f"{where}: {self.name!r}"
        if value.shape != self.shape:
            raise SampleError(f"{name} is {list(value.shape)} but the network is compiled for "
                              f"{list(self.shape)}: pad or cut it, or choose another --seq")  # fmt: skip
        if value.dtype.kind not in "biuf":
            raise SampleError(f"{name} holds {value.dtype}, not numbers")
        if not np.isfinite(value).all():
            raise SampleError(f"{name} has a value that is not finite")
        with np.errstate(over="ignore"):  # said in the next lines
            own = value.astype(self.dtype)
        if self.dtype.kind == "f" and not np.isfinite(own).all():
            largest = float(np.abs(value.astype(np.float64)).max())
            raise SampleError(
                f"{name} holds {largest:.3g}, beyond the range of the model's {self.dtype}: scale it"
            )
        if self.dtype.kind != "f" and (own != value).any():
            raise SampleError(f"{name} holds {value.dtype} that {self.dtype} does not: round it")
        if self.rows is not None and value.size:
            worst = value.max() if value.max() >= self.rows else value.min()
            if not 0 <= worst < self.rows:
                raise SampleError(
                    f"{name} has the index {worst} but its table has rows 0 to {self.rows - 1}: "
                    "use the tokenizer of this model"
                )
        return own


@dataclass(frozen=True)
class Calibration:
    """Samples to calibrate on, and where they come from, in words."""

    samples: Sequence[Feeds]
    source: str


def inputs_of(float_model: FloatModel, model: Model, named: Mapping[str, int]) -> list[Input]:
    """The inputs of a model at the extents that it is compiled for."""
    shapes = input_shapes(float_model.proto, Dimensions(model.batch, model.seq, dict(named)))
    found = []
    for name, shape in shapes.items():
        kind = float_model.inputs[name].type.tensor_type.elem_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        found.append(
            Input(name, shape, dtype, table_rows(float_model, name), _read(float_model, name))
        )
    return found


def from_npz(path: Path, inputs: Sequence[Input]) -> Feeds:
    """One sample: an array of every input's name. Raises SampleError for anything else."""
    arrays = _arrays(path, inputs)
    return {each.name: each.checked(arrays[each.name], str(path)) for each in inputs}


def from_text(text: str, tokenizer: Tokenizer, inputs: Sequence[Input], cut: bool = False) -> Feeds:
    """A text as one sample, padded.

    Raises TextError for one that is empty, or that is longer unless it is `cut`.
    """
    if not text.strip():
        raise TextError("the text is empty: give at least one word")
    names = [each.name for each in inputs]
    require_text(names)
    length = next(each.shape[-1] for each in inputs if each.name == IDS)
    if not cut and (count := tokenizer.count(text)) > length:
        raise TextError(
            f"text {_short(text)!r} has {count} tokens but the network is compiled for {length}: "
            f"give --seq {count}, or shorten it"
        )
    feeds = tokenizer.feeds(text, names, length)
    return {each.name: each.checked(feeds[each.name], str(tokenizer.path)) for each in inputs}


def from_texts(
    texts: Sequence[str], tokenizer: Tokenizer, inputs: Sequence[Input], cut: bool = False
) -> list[Feeds]:
    """Texts as samples of as many as the network's batch; the last text fills up the last batch.

    Raises TextError as `from_text` does.
    """
    size = batch_of(inputs)
    single = [replace(each, shape=(1, *each.shape[1:])) for each in inputs]
    rows = [from_text(text, tokenizer, single, cut) for text in texts]
    rows += rows[-1:] * (-len(rows) % size)
    return [_together(rows[first : first + size], inputs) for first in range(0, len(rows), size)]


def batch_of(inputs: Sequence[Input]) -> int:
    """How many texts a sample of a model that reads text holds, 1 for other models."""
    return next((each.shape[0] for each in inputs if each.name == IDS and each.shape), 1)


def _together(rows: Sequence[Feeds], inputs: Sequence[Input]) -> Feeds:
    """Texts as one sample, behind each other along the first axis; positions may be one for all."""
    return {
        each.name: np.concatenate([row[each.name] for row in rows])
        if each.shape[0] == len(rows)
        else rows[0][each.name]
        for each in inputs
    }


def at_random(inputs: Sequence[Input], seed: int) -> Feeds:
    """A sample drawn from `seed`: indices over their tables, nothing masked, normal floats.

    Floats have a stream of their own: weights that someone drew from the same seed would be the input
    itself. Raises SampleError for an integer input that looks nothing up.
    """
    integers, floats = np.random.default_rng(seed), np.random.default_rng([seed, FLOATS])
    return {
        each.name: _drawn(each, floats if each.dtype.kind == "f" else integers) for each in inputs
    }


def calibration(
    path: Path | None,
    inputs: Sequence[Input],
    tokenizer: Tokenizer | None,
    most: int | None,
    seed: int,
) -> Calibration:
    """At most `most` samples of a file or of the files of a folder, or by default: see `default`.

    None is DEFAULT_SAMPLES, or RANDOM_SAMPLES where they are drawn. Raises SampleError or TextError
    for data that does not fit.
    """
    if path is None:
        return default(inputs, tokenizer, most, seed)
    most = most or DEFAULT_SAMPLES
    if not path.exists():
        raise SampleError(f"cannot read {path}: no such file: give .txt, .npz or a folder of them")
    if not path.is_dir():
        return Calibration(_from_file(path, inputs, tokenizer, most), f"{path}")
    files = sorted(file for file in path.iterdir() if file.suffix in (".npz", ".txt"))
    if not files:
        raise SampleError(f"{path} has no .txt or .npz files: calibration takes a folder of them")
    found: list[Feeds] = []
    for file in files:
        if len(found) < most:
            found += _from_file(file, inputs, tokenizer, most - len(found))
    return Calibration(found, f"{path}")


def default(
    inputs: Sequence[Input], tokenizer: Tokenizer | None, most: int | None, seed: int
) -> Calibration:
    """The sentences that ship with codesign where there is a tokenizer, else random inputs."""
    if tokenizer is not None:
        found = _sentences(SENTENCES, tokenizer, inputs, most or DEFAULT_SAMPLES)
        return Calibration(found, "the sentences that ship with codesign")
    count = most or RANDOM_SAMPLES
    # Seeds of their own: what is run is drawn from `seed`.
    found = [at_random(inputs, seed=(seed + 1) * 1000 + index) for index in range(count)]
    return Calibration(found, "random inputs")


def _from_file(
    path: Path, inputs: Sequence[Input], tokenizer: Tokenizer | None, most: int
) -> list[Feeds]:
    if path.suffix == ".npz":
        return _stacked(path, inputs, most)
    if path.suffix != ".txt":
        raise SampleError(f"{path}: calibration takes .txt, a sentence a line, .npz, or a folder")
    if tokenizer is None:
        raise TextError(f"{path} is text, and no tokenizer lies beside the model: give --tokenizer")
    return _sentences(path, tokenizer, inputs, most)


def _sentences(path: Path, tokenizer: Tokenizer, inputs: Sequence[Input], most: int) -> list[Feeds]:
    return from_texts(sentences(path, most), tokenizer, inputs, cut=True)


def sentences(path: Path, most: int) -> list[str]:
    """At most `most` lines of a file that are not empty. Raises SampleError for one without."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SampleError(f"cannot read {path}: {reason}") from error
    texts = [line for line in lines if line][:most]
    if not texts:
        raise SampleError(f"{path} is empty: calibration takes a sentence a line")
    return texts


def texts(path: Path | None, most: int) -> tuple[list[str], str]:
    """At most `most` sentences of a file, or of the files of a folder, or those that ship with codesign;
    and where they come from, in words. Raises SampleError for what is no text."""
    if path is None:
        return sentences(SENTENCES, most), "the sentences that ship with codesign"
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files or any(file.suffix != ".txt" for file in files):
        raise SampleError(f"{path} is no text: give a .txt, a sentence a line, or a folder of them")
    found: list[str] = []
    for file in files:
        if len(found) < most:
            found += sentences(file, most - len(found))
    return found, f"{path}"


def _stacked(path: Path, inputs: Sequence[Input], most: int) -> list[Feeds]:
    """The samples of one file: a single one, or many along a leading axis."""
    arrays = _arrays(path, inputs)
    if all(arrays[each.name].shape == each.shape for each in inputs):
        return [from_npz(path, inputs)]
    counts = {array.shape[:1] for array in arrays.values()}
    if len(counts) != 1 or () in counts:
        raise SampleError(
            f"{path}: its arrays differ in their first axis, which is one of samples: give as many "
            "of each input"
        )
    ((count,),) = counts
    if count == 0:
        raise SampleError(f"{path} holds 0 samples: give at least one")
    parts = {
        each.name: [_alone(one, each.shape) for one in arrays[each.name][:most]] for each in inputs
    }
    return [
        {each.name: each.checked(parts[each.name][i], f"{path}, sample {i}") for each in inputs}
        for i in range(min(count, most))
    ]


def _alone(value: Array, shape: tuple[int, ...]) -> Array:
    """One of many samples, with the batch axis of 1 that it may have lost to the samples' axis."""
    return value[np.newaxis] if (1, *value.shape) == shape else value


def _arrays(path: Path, inputs: Sequence[Input]) -> dict[str, Array]:
    """The arrays of a file, which has one of every input's name and no others."""
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise SampleError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise SampleError(
            f"{path} is no .npz file of numbers ({error}): write it with numpy.savez"
        ) from error
    names = {each.name for each in inputs}
    listed = ", ".join(each.name for each in inputs)
    for problem, wrong in (("lacks", names - arrays.keys()), ("also has", arrays.keys() - names)):
        if wrong:
            raise SampleError(
                f"{path} {problem} {', '.join(sorted(wrong))}: the model's inputs are {listed}"
            )
    return arrays


def _drawn(each: Input, rng: "np.random.Generator") -> Array:
    if each.dtype.kind == "f":
        return rng.standard_normal(each.shape).astype(each.dtype)
    masks = each.name.endswith(MASK) and each.rows is None
    if masks or each.dtype.kind == "b":
        return np.ones(each.shape, dtype=each.dtype)
    if not each.read:
        return np.zeros(each.shape, dtype=each.dtype)
    if each.rows is None:
        raise SampleError(
            f"input {each.name!r} is {each.dtype} and indexes no table, so nothing is known of its "
            "values: give --calibration and --input"
        )
    if each.name.endswith(TYPES):
        return np.zeros(each.shape, dtype=each.dtype)
    return rng.integers(each.rows, size=each.shape).astype(each.dtype)


def _read(model: FloatModel, name: str) -> bool:
    """Whether any value of an input counts."""
    return any(name in reads(node) for node in model.nodes if node.op_type not in _EXTENTS)


def table_rows(model: FloatModel, name: str) -> int | None:
    """Rows of the smallest table that an input indexes, if it does."""
    same = {name}
    for node in model.nodes:  # in the order of the data
        if node.op_type in _THROUGH and node.input[0] in same:
            same.update(node.output)
    rows = [
        _table_rows(model, table, axis)
        for node in model.nodes
        for table, axis in _looked_up(node, same)
    ]
    return min((count for count in rows if count is not None), default=None)


def _looked_up(node: onnx.NodeProto, indices: Collection[str]) -> Iterator[tuple[str, int]]:
    """The tables that a node indexes with one of `indices`, and along which axis."""
    if node.op_type == "Gather" and node.input[1] in indices:
        yield node.input[0], next((a.i for a in node.attribute if a.name == "axis"), 0)
    elif node.op_type == "EmbedLayerNormalization":
        tables = ((0, 2), (1, 4), (8, 3))  # words, segments, positions
        yield from ((node.input[at], 0) for name, at in tables
                    if name < len(node.input) and node.input[name] in indices)  # fmt: skip


def _table_rows(model: FloatModel, table: str, axis: int) -> int | None:
    """Rows of a constant along an axis; None where it is computed."""
    writer = model.writers.get(table)
    if writer is not None and model.nodes[writer].op_type in _THROUGH:
        table = model.nodes[writer].input[0]
    tensor = model.constant(table)
    return None if tensor is None else int(tensor.dims[axis])


def _short(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
