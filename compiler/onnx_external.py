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

from codesign.compiler.onnx_boundary import Unreadable
from codesign.hw.text import printable, reason


def load_external(model: onnx.ModelProto, folder: Path) -> None:
    """Put the weights that `model` keeps in files of `folder` into it.

    Raises Unreadable naming the constant and the file for weights that are missing, short or elsewhere.
    """
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            load_tensor(tensor, folder)


def load_tensor(tensor: TensorProto, folder: Path) -> None:
    """Put the data of one tensor into it; raises as `load_external` does."""
    place = f"constant {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _file(entries.get("location", ""), folder, place)
    start, length = (_number(entries, name, place) for name in ("offset", "length"))
    start = start or 0
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = size - start if length is None else length
            _require_size(tensor, length, place)
            if start + length > size or length < 0:
                raise Unreadable(
                    place,
                    f"{path} has {size:,} bytes and the weights are bytes {start:,} to "
                    f"{start + length:,} of it",
                )
            stream.seek(start)
            data = stream.read(length)
    except OSError as error:
        raise Unreadable(place, f"its weights in {path}: {error.strerror}") from error
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _require_size(tensor: TensorProto, length: int, place: str) -> None:
    """Raise Unreadable where a tensor of whole bytes has not as many as its extents take."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    needed = math.prod(tensor.dims) * kind.itemsize
    if (
        not re.search(r"\D[1-4]$|^float4", kind.name) and length != needed
    ):  # int4 and smaller are packed
        raise Unreadable(
            place, f"its weights are {length:,} bytes, but its extents take {needed:,}"
        )


def _file(location: str, folder: Path, place: str) -> Path:
    """The file of a location. Raises Unreadable where it is none, or lies elsewhere."""
    relative = PurePosixPath(location.replace("\\", "/"))
    if not location or relative.is_absolute() or ".." in relative.parts or ":" in location[:2]:
        raise Unreadable(
            place,
            f"its weights are said to be in {location!r}, which is not below the model's folder",
        )
    path = folder / relative
    shown = printable(str(path))
    shown = shown if len(shown) <= 200 else f"{shown[:199]}…"
    try:
        status = path.stat()
        real, home = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        words = error.strerror if isinstance(error, OSError) else reason(error)
        raise Unreadable(place, f"its weights in {shown}: {words}") from error
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(place, f"its weights in {shown}, which is no regular file")
    if not any(real.is_relative_to(allowed) for allowed in (home, *_blobs(folder))):
        raise Unreadable(
            place,
            f"its weights in {shown}, a link out of the model's folder: put the file itself there",
        )
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
        raise Unreadable(place, f"the {name} of its weights is {text[:40]!r}")
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
