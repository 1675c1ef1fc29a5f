"""What torch keeps, in a file that knows whether it is whole: a header and a SHA-256 before it.

Needs torch, of the [train] extra.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError
from codesign.hw.platform.files import write_atomic

HEADER = b"codesign torch 1\n"  # then the digest, then what torch.save writes
DIGEST_BYTES = hashlib.sha256().digest_size


def save_torch(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values, whole or not at all; raises ModelError when that fails."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    body = buffer.getbuffer()
    try:
        write_atomic(path, b"".join((HEADER, hashlib.sha256(body).digest(), body)))
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def load_torch(path: Path) -> Any:
    """Return what `save` wrote, on the CPU; raises ModelError for any byte that is not its."""
    import torch

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; train a supernet first") from error
    start = len(HEADER) + DIGEST_BYTES
    body = memoryview(data)[start:]
    with refuse_torch_damage(path):
        if data[:start] != HEADER + hashlib.sha256(body).digest():
            raise ValueError("other bytes than were written")
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)


@contextmanager
def refuse_torch_damage(path: Path) -> Iterator[None]:
    """Whatever fails in the block is the fault of the file; a ModelError says so already."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{path} is damaged, or of another version: delete it to train anew"
        ) from error
