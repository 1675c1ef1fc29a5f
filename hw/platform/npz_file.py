"""Arrays from an `.npz` file of anybody: nothing is unpacked before its header says how large it is.

A few kilobytes of a zip archive can unpack to all memory; and what is in it may be no array at all.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 1 << 28  # of one array, and of all: far above a model's inputs

Array = npt.NDArray[Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of a file by name.

    Raises OSError, or ValueError saying why it is no file of arrays of plain numbers or text.
    """
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = 0
            found = {}
            for member in archive.infolist():
                total += member.file_size
                if total > MOST_BYTES:
                    raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
                name = member.filename.removesuffix(".npy")
                if name in found:
                    raise ValueError(f"it holds {name!r} twice")
                with archive.open(member) as stream:
                    found[name] = _array(stream.read(member.file_size + 1), name)
            return found
    except ValueError:
        raise
    except Exception as error:  # each kind of compression has errors of its own, OSError among them
        raise ValueError("it is no zip archive, or cut short") from error


def _array(data: bytes, name: str) -> Array:
    """One array of the format of numpy. Raises ValueError."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
        if dtype.hasobject or not all(0 <= extent < 1 << 40 for extent in shape):
            raise ValueError("objects")
        if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError("its size differs from its header")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # its header is a Python literal: it may raise anything
        raise ValueError(f"{name!r} is no array of numbers") from error
