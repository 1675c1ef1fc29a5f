"""Sizes read as people write them, and print as they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.hw.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1", 1),
        ("65536", 65536),
        ("64K", 64 * 1024),
        ("64k", 64 * 1024),
        ("64KB", 64 * 1024),
        ("64KiB", 64 * 1024),
        (" 64 K ", 64 * 1024),
        ("3M", 3 * 1024**2),
        ("1G", 1024**3),
        ("12B", 12),
    ],
)
def test_parse(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "0", "0K", "-1", "1.5K", "K", "64T", "64KK", "six", "1e3", "64 K B"]
)
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@given(st.integers(1, 1 << 40))
def test_format_is_the_inverse(size_bytes: int) -> None:
    text = format_size(size_bytes)
    assert parse_size(text) == size_bytes
    assert text[-1].isdigit() or int(text[:-1]) % 1024 or text[-1] == "G"


def test_format_of_zero() -> None:
    assert format_size(0) == "0"
