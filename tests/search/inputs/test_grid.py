"""Lists, ranges and grids of the command line: values, order, and errors that name the part."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.search.inputs import grid

K = 1024


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("64K", [64 * K]),
        ("32K,64K", [32 * K, 64 * K]),
        ("64K,32K", [64 * K, 32 * K]),
        ("65536,64KiB", [64 * K, 64 * K]),
        ("16K:512K:x2", [16 * K, 32 * K, 64 * K, 128 * K, 256 * K, 512 * K]),
        ("16K:100K:x2", [16 * K, 32 * K, 64 * K]),
        ("16K:64K:+16K", [16 * K, 32 * K, 48 * K, 64 * K]),
        ("8K, 16K:64K:x4", [8 * K, 16 * K, 64 * K]),
        ("64K:64K:x2", [64 * K]),
    ],
)
def test_values_of_sizes(text: str, values: list[int]) -> None:
    assert list(grid.parse_values(text)) == values


@given(st.integers(1, 50), st.integers(0, 5), st.integers(2, 4))
def test_a_factor_range_is_the_geometric_sequence_up_to_its_stop(
    start: int, slack: int, factor: int
) -> None:
    expected = [start * factor**i for i in range(4)]
    stop = expected[-1] + min(slack, expected[-1] * (factor - 1) - 1)
    assert list(grid.parse_values(f"{start}:{stop}:x{factor}", grid.parse_count)) == expected


@given(st.integers(1, 100), st.integers(0, 300), st.integers(1, 50))
def test_a_step_range_is_pythons_range_with_its_stop_included(
    start: int, more: int, step: int
) -> None:
    expected = list(range(start, start + more + 1, step))
    text = f"{start}:{start + more}:+{step}"
    assert list(grid.parse_values(text, grid.parse_count)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "'0' is not a size"),
        ("64Q", "'64Q' is not a size"),
        ("-1K", "'-1K' is not a size"),
        ("", "empty part"),
        ("32K,,64K", "empty part"),
        ("16K:64K", "START:STOP:xFACTOR"),
        ("16K:64K:16K", "START:STOP:xFACTOR"),
        ("16K:64K:x1", "never ends"),
        ("16K:64K:x0", "not a positive whole number"),
        ("64K:16K:x2", "64K is above 16K"),
        ("1:1000000:+1", "take larger steps"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        grid.parse_values(text)


@pytest.mark.parametrize(
    ("text", "hertz"),
    [("500MHz", 500e6), ("500M", 500e6), ("1.2G", 1.2e9), ("32768Hz", 32768), ("100 kHz", 1e5)],
)
def test_frequencies_are_decimal(text: str, hertz: float) -> None:
    assert grid.parse_frequency(text) == hertz


def test_a_small_frequency_needs_its_unit() -> None:
    with pytest.raises(ValueError, match="write 500M"):
        grid.parse_frequency("500")


@pytest.mark.parametrize("text", ["0", "fast", "-1M", "5q", "1.2.3G"])
def test_what_is_no_frequency_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a frequency"):
        grid.parse_frequency(text)


def test_points_are_the_product_in_reading_order() -> None:
    base = PRESETS["ibert"]
    axes = {"scratchpad_bytes": (32 * K, 64 * K), "dim": (8, 16, 8), "bus_bytes": (8, 16)}
    points = grid.points(base, axes)
    expected = list(itertools.product((32 * K, 64 * K), (8, 16), (8, 16)))
    assert [point.index for point in points] == list(range(len(expected)))
    found = [
        p.config and (p.config.scratchpad_bytes, p.config.dim, p.config.bus_bytes) for p in points
    ]
    assert found == expected


def test_no_axis_is_the_machine_itself() -> None:
    (point,) = grid.points(PRESETS["edge"], {})
    assert point.config == PRESETS["edge"]


def test_a_machine_that_cannot_be_stays_in_the_grid_with_its_reason() -> None:
    points = grid.points(HardwareConfig(), {"scratchpad_bytes": (1000, 64 * K)})
    assert points[0].config is None
    assert "scratchpad_bytes is 1000 but must be a positive multiple of 256" in points[0].reason
    assert points[1].config is not None


def test_a_grid_that_is_too_large_is_refused() -> None:
    sizes = range(256, 256 * 400, 256)
    with pytest.raises(ConfigError, match="159201 machines but at most 100000"):
        grid.points(HardwareConfig(), {"scratchpad_bytes": sizes, "accumulator_bytes": sizes})
