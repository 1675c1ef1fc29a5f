"""Weights in files beside an ONNX model: found, checked and read.

A file says where its weights are; what it says is not trusted. They are read from regular files in the
model's own folder alone. Symbolic links count as what they lead to, with one exception: the cache of
Hugging Face's hub keeps `snapshots/REVISION/FILE` as links into `blobs/` of the same repository.
"""

import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import TensorProto

from codesign.compiler.onnx.boundary import FILE_REMEDY, Unreadable, require_element_type
from codesign.hw.platform.text import printable, reason, short

_REMEDY = "put the whole file that the model was saved with beside it, or export the model again"
_LONGEST_PATH = 200  # characters that are shown


def load_external(model: onnx.ModelProto, folder: Path) -> None:
    """Put the weights that `model` keeps in files of `folder` into it.

    Raises Unreadable naming the constant and the file for weights that are missing, short or elsewhere.
    """
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            load_tensor(tensor, folder)
        else:
            require_element_type(f"constant {tensor.name!r}", tensor.data_type)
            require_whole(tensor)


def load_tensor(tensor: TensorProto, folder: Path) -> None:
    """Put the data of one tensor into it; raises as `load_external` does."""
    place = f"constant {tensor.name!r}"
    require_element_type(place, tensor.data_type)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _file(entries.get("location", ""), folder, place)
    start, length = (_number(entries, name, place) for name in ("offset", "length"))
    start = start or 0
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            _require_size(tensor, start, length, size, path)
            stream.seek(start)
            data = stream.read(size - start if length is None else length)
    except OSError as error:
        raise _unusable(place, f"its weights in {_shown(path)}: {error.strerror}") from error
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def require_whole(tensor: TensorProto) -> None:
    """Raise Unreadable where the bytes that a tensor has with it are not as many as it takes."""
    if tensor.HasField("raw_data"):
        _require_bytes(tensor, len(tensor.raw_data), "its weights are", FILE_REMEDY)


def _require_size(
    tensor: TensorProto, start: int, length: int | None, size: int, path: Path
) -> None:
    """Raise Unreadable where a file of `size` bytes has not the bytes of a tensor from `start` on."""
    shown = _shown(path)
    end = size if length is None else start + length
    if end > size or start > size:
        meant = f"from {start:,} on" if length is None else f"{start:,} to {end:,}"
        place = f"constant {tensor.name!r}"
        raise _unusable(place, f"its weights are bytes {meant} of {shown}, which has {size:,}")
    _require_bytes(tensor, end - start, f"its weights in {shown} are", _REMEDY)


def _require_bytes(tensor: TensorProto, count: int, what: str, remedy: str) -> None:
    """Raise Unreadable where a tensor of whole bytes takes another number of them."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    needed = math.prod(tensor.dims) * kind.itemsize
    packed = re.search(r"\D[1-4]$|^float4", kind.name)  # int4 and smaller
    if not packed and kind.kind != "O" and count != needed:
        reason = f"{what} {count:,} bytes, but its extents take {needed:,}"
        raise Unreadable(f"constant {tensor.name!r}", reason, remedy)


def _unusable(place: str, reason: str) -> Unreadable:
    return Unreadable(place, reason, _REMEDY)


def _shown(path: Path) -> str:
    """A path as messages show it: what the file says may be long, and anything."""
    return short(printable(str(path)), _LONGEST_PATH)


def _file(location: str, folder: Path, place: str) -> Path:
    """The file of a location. Raises Unreadable where it is none, or lies elsewhere."""
    relative = PurePosixPath(location.replace("\\", "/"))
    if not location or relative.is_absolute() or ".." in relative.parts or ":" in location[:2]:
        said = repr(location[:_LONGEST_PATH])
        raise _unusable(
            place, f"its weights are said to be in {said}, which is not below the model's folder"
        )
    path = folder / relative
    shown = _shown(path)
    try:
        status = path.stat()
        real, home = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        words = error.strerror if isinstance(error, OSError) else reason(error)
        raise _unusable(place, f"its weights in {shown}: {words}") from error
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(place, f"its weights in {shown}, which is no regular file")
    if not any(real.is_relative_to(allowed) for allowed in (home, *_blobs(folder))):
        raise _unusable(place, f"its weights in {shown}, a link out of the model's folder")
    return path


def _blobs(folder: Path) -> Iterator[Path]:
    """The `blobs` of the repository that `folder` is a snapshot of, if it is in a hub's cache."""
    for parent in folder.absolute().parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            yield (parent.parent / "blobs").resolve()


def _number(entries: dict[str, str], name: str, place: str) -> int | None:
    text = entries.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise _unusable(place, f"the {name} of its weights is {text[:40]!r}")
    return int(text)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    nodes = list(model.graph.node) + [node for f in model.functions for node in f.node]
    while nodes:
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from attribute.g.initializer
                nodes.extend(attribute.g.node)
