"""Read an ONNX file or model and give every input a concrete shape: the importer's first step.

Only shapes are needed to price a model, so weights are neither read from external files nor
copied: a large initialiser keeps its name, type and dimensions and loses its data.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from codesign.compiler.onnx.boundary import Unreadable, file_reason, reading, require_element_type
from codesign.compiler.onnx.external import load_tensor
from codesign.compiler.onnx.limits import require_limits
from codesign.compiler.onnx.names import make_printable
from codesign.compiler.onnx.shapes import LARGEST_TENSOR
from codesign.hw.errors import ModelError

INTEGER_TYPES = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
)
_BYTES = frozenset({onnx.TensorProto.INT8, onnx.TensorProto.UINT8})  # as quantized weights are
# Above this many elements, weights are never read. Index tables, and masks, are read up to more:
# they are integers, or floats that only sums and views of their kind read.
LARGEST_FLOAT_CONSTANT = 1 << 14
LARGEST_INTEGER_CONSTANT = 1 << 22
LARGEST_MASK = 1 << 28  # with as many rows as columns: of 16,384 tokens
_MASK_READERS = frozenset(
    {"Add", "Sub", "Sum", "Where", "Slice", "Unsqueeze", "Expand", "Attention"}
)


def read_model(source: Path | onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model without large weights and with local functions inlined.

    Raises ModelError for a file that is missing, unreadable, empty or not an ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return inlined(_skeleton(source, None), "the model")
    with reading(str(source)):
        return _read_file(source)


def _read_file(source: Path) -> onnx.ModelProto:
    model = load_file(source)
    return inlined(_skeleton(model, source.parent), str(source))


def load_file(source: Path) -> onnx.ModelProto:
    """The model in a file as it is, its external weights left there; names are made printable.

    Raises ModelError as `read_model` does.
    """
    if source.is_dir():
        raise ModelError(f"{source} is a folder: give the .onnx file in it")
    try:
        if source.stat().st_size == 0:
            raise ModelError(f"{source} is empty: export the model again")
        model = onnx.load(source, load_external_data=False)
    except OSError as error:
        raise ModelError(f"cannot read {source}: {error.strerror or error}") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"{source} is not an ONNX model or is cut short: export or download it again"
        ) from error
    make_printable(model)
    if not model.graph.node:
        raise ModelError(f"{source} is not an ONNX model or has no nodes: export it again")
    return model


def inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return the model with its local functions (torch's dynamo exporter) replaced by their bodies.

    Raises ModelError for one without nodes or beyond `limits`.
    """
    if not model.graph.node:
        raise ModelError(f"{where} has no nodes: export it again")
    require_limits(model, where)
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{where}: its functions cannot be inlined ({file_reason(error)})"
        ) from error


def _skeleton(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    masks = _possible_masks(model.graph.node)
    for weights in model.graph.initializer:
        integer = weights.data_type in INTEGER_TYPES - _BYTES or weights.name in masks
        largest = LARGEST_INTEGER_CONSTANT if integer else LARGEST_FLOAT_CONSTANT
        if weights.name in masks and len(set(weights.dims[-2:])) == 1:
            largest = LARGEST_MASK
        graph.initializer.append(_small_or_hollow(weights, largest, folder))
    for sparse in model.graph.sparse_initializer:
        graph.initializer.append(
            _hollow(sparse.values.name, tuple(sparse.dims), sparse.values.data_type)
        )
    return onnx.ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        functions=model.functions,
        graph=graph,
    )


def _hollow(name: str, dims: tuple[int, ...], data_type: int) -> onnx.TensorProto:
    return onnx.TensorProto(
        name=name, dims=dims, data_type=data_type, data_location=onnx.TensorProto.EXTERNAL
    )


def _possible_masks(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The names that nodes which may add a mask to scores read, and no others do."""
    masks: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        reads_mask = node.op_type in _MASK_READERS and not node.domain
        (masks if reads_mask else others).update(node.input)
    return masks - others


def _small_or_hollow(
    weights: onnx.TensorProto, largest: int, folder: Path | None
) -> onnx.TensorProto:
    hollow = _hollow(weights.name, tuple(weights.dims), weights.data_type)
    if math.prod(weights.dims) > largest:
        return hollow
    if weights.data_location != onnx.TensorProto.EXTERNAL:
        return weights
    if folder is None:
        return hollow
    loaded = onnx.TensorProto()
    loaded.CopyFrom(weights)
    try:
        load_tensor(loaded, folder)
    except Unreadable:
        return hollow  # shapes are enough, the data file may be missing
    return loaded


class UnusableExtent(ModelError):
    """An extent that was asked for where the model fixes another, or has no such axis."""


class MissingExtent(ModelError):
    """A symbolic dimension without a value; `symbol` is its name, or `input.axis` of one without."""

    def __init__(self, message: str, symbol: str) -> None:
        self.symbol = symbol
        super().__init__(message)


@dataclass
class Dimensions:
    """Values for symbolic dimensions, and which of them a model has used."""

    batch: int | None = None
    seq: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for option, value in (("--batch", self.batch), ("--seq", self.seq)):
            if value is not None and value < 1:
                raise ModelError(f"dimension {option} is {value} but must be at least 1")
        for name, value in self.named.items():
            if value < 0:
                raise ModelError(f"dimension {name} is {value} but must be at least 0")

    def value(self, symbol: str, role: str | None) -> int | None:
        """Return the extent of `symbol`, by its name, its usual meaning, or the axis' role."""
        if symbol in self.named:
            self.used.add(symbol)
            return self.named[symbol]
        if re.fullmatch(r"\d+", symbol):
            return int(symbol)
        if re.search("[+-]", symbol[1:]):  # as in "past_sequence_length + 1"
            total = self._sum(symbol)
            if total is not None or not re.fullmatch(r"[A-Za-z]+(-[A-Za-z]+)+", symbol):
                return total  # else a word, as in "seq-len"
        role = usual_role(symbol) or role
        if role is not None:
            self.used.add(role)
        return {"batch": self.batch, "seq": self.seq}.get(role or "")

    def _sum(self, symbol: str) -> int | None:
        """The extent of symbols and numbers added and subtracted, None where one is unknown."""
        first, *rest = re.split("([+-])", symbol[1:])
        total = self.value((symbol[:1] + first).strip(), None)
        for operator, term in zip(rest[::2], rest[1::2], strict=True):
            value = self.value(term.strip(), None)
            if total is None or value is None:
                return None
            total += value if operator == "+" else -value
        return total


def usual_role(symbol: str) -> str | None:
    """Return "batch" or "seq" when exporters use `symbol` for that, else None."""
    word = symbol.lower().replace("-", "_")
    if word in ("n", "b", "bs") or word.startswith("batch"):
        return "batch"
    if word in ("s", "l", "t", "seq", "tokens", "length", "max_len") or "sequence" in word:
        return None if re.search("past|total", word) else "seq"
    if re.search(r"(^|_)seq(_?len(gth)?)?($|_|\d)", word) and not re.search("past|total", word):
        return "seq"
    return None


def input_shapes(model: onnx.ModelProto, dimensions: Dimensions) -> dict[str, tuple[int, ...]]:
    """Return the concrete shape of every model input that is not an initialiser.

    Raises ModelError naming a dimension without a value and the option that gives it one, an
    option that does not occur in the model, or an input that is not a tensor; UnusableExtent where
    `batch` or `seq` contradicts the model.
    """
    initialised = {weights.name for weights in model.graph.initializer}
    if len(initialised) < len(model.graph.initializer):
        raise ModelError("the model has two constants of one name: export it again")
    inputs = [value for value in model.graph.input if value.name not in initialised]
    shapes = {value.name: tuple(_extents(value, dimensions)) for value in inputs}
    for value in inputs:
        _require_size(value, shapes[value.name])
    unknown = sorted(set(dimensions.named) - dimensions.used)
    if unknown:
        symbols = sorted(
            {d.dim_param for v in inputs for d in v.type.tensor_type.shape.dim if d.dim_param}
        )
        raise ModelError(
            f"no dimension is called {', '.join(unknown)}: the model has "
            f"{', '.join(symbols) or 'no symbolic dimension'}"
        )
    _check_fixed(inputs, shapes, dimensions)
    return shapes


def _extents(value: onnx.ValueInfoProto, dimensions: Dimensions) -> Iterator[int]:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ModelError(
            f"input {value.name!r} has no tensor shape: export the model with one for every input"
        )
    require_element_type(f"input {value.name!r}", tensor.elem_type)
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            yield dim.dim_value
            continue
        extent = None
        role = _positional_role(tensor.elem_type, len(tensor.shape.dim), axis)
        for symbol in (f"{value.name}.{axis}", dim.dim_param):
            if extent is None and symbol:
                extent = dimensions.value(symbol, None)
        if extent is None and usual_role(dim.dim_param) is None:
            extent = dimensions.value("", role)
        if extent is None:
            role = usual_role(dim.dim_param) or role
            name = dim.dim_param or f"{value.name}.{axis}"
            option = f"--{role}" if role else f"--bind {name}=VALUE"
            raise MissingExtent(
                f"dimension {name!r} (axis {axis} of input {value.name!r}) has no value: "
                f"give it with {option}",
                name,
            )
        if extent < 0:
            raise ModelError(f"dimension {dim.dim_param!r} of input {value.name!r} is {extent}")
        yield extent


def _require_size(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    """Raise ModelError for an input that is too large by the extents that its open axes were given."""
    axes = zip(value.type.tensor_type.shape.dim, shape, strict=True)
    given = [dim.dim_param or "?" for dim, _ in axes if not dim.HasField("dim_value")]
    if given and math.prod(shape) > LARGEST_TENSOR:
        raise ModelError(
            f"input {value.name!r} would be {'x'.join(map(str, shape))}, beyond 2^40 elements: give its "
            f"open axes ({', '.join(given)}) less with --seq, --batch or --bind"
        )


def _positional_role(elem_type: int, rank: int, axis: int) -> str | None:
    """Tokens and masks are [batch, seq, ...], hidden states [batch, seq, d], images [batch, ...]."""
    if axis == 0:
        return "batch"
    sequence = elem_type in INTEGER_TYPES or rank <= 3
    return "seq" if axis == 1 and sequence else None


def _check_fixed(
    inputs: list[onnx.ValueInfoProto],
    shapes: dict[str, tuple[int, ...]],
    dimensions: Dimensions,
) -> None:
    """Raise ModelError when --batch or --seq asks for what the file has fixed otherwise."""
    for axis, role in enumerate(("batch", "seq")):
        wanted = {"batch": dimensions.batch, "seq": dimensions.seq}[role]
        if wanted is None or role in dimensions.used:
            continue
        fixed = {
            shapes[value.name][axis]
            for value in inputs
            if len(shapes[value.name]) > axis
            and _positional_role(value.type.tensor_type.elem_type, len(shapes[value.name]), axis)
            == role
        }
        if wanted not in fixed:
            found = f"fixes it at {min(fixed)}" if fixed else "has no such dimension"
            raise UnusableExtent(
                f"{role} {wanted} cannot be used: the model {found}; "
                "leave it out, or export with a dynamic axis"
            )
