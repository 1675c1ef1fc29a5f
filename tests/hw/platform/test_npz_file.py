"""Files of arrays from outside: any damage is one ValueError, however the archive is packed."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from codesign.hw.platform.npz_file import read_arrays

KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def _written(path: Path, kind: int) -> bytes:
    array = io.BytesIO()
    np.save(array, np.arange(60.0).reshape(3, 20))
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("x.npy", array.getvalue())
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_any_compression_is_read(tmp_path: Path, kind: int) -> None:
    _written(tmp_path / "a.npz", kind)
    (array,) = read_arrays(tmp_path / "a.npz").values()
    np.testing.assert_array_equal(array, np.arange(60.0).reshape(3, 20))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_at_any_byte_is_a_reason(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.npz"
    whole = _written(path, kind)
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x81
        path.write_bytes(damaged)
        try:
            read_arrays(path)
        except ValueError as error:
            assert str(error)
            refused += 1
    assert refused > len(whole) // 4
