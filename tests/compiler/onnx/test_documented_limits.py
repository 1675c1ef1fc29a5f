"""docs/limits.md states the limits that the code has."""

import math
from pathlib import Path

import pytest

from codesign.compiler.onnx import limits, load, shapes
from codesign.compiler.plan import kinds
from codesign.hw.platform import npz_file, parquet_file, toml_file, yaml_file
from codesign.search.inputs import tokens
from codesign.search.runs import records

PAGE = " ".join((Path(__file__).parents[3] / "docs" / "limits.md").read_text("utf-8").split())


def _power(number: int) -> str:
    assert number.bit_count() == 1
    return f"2^{number.bit_length() - 1}"


@pytest.mark.parametrize(
    "row",
    [
        f"| nodes, with functions inlined and branches counted | {limits.MOST_NODES:,} |",
        f"functions that call functions | {limits.MOST_DEPTH} deep |",
        f"| elements of a tensor | {_power(shapes.LARGEST_TENSOR)} |",
        f"of what one kernel computes | {_power(kinds.MOST_EXTENT)} |",
        f"| {_power(limits.MOST_WORK)} bytes made, or what takes as long |",
        f"that is read | {load.LARGEST_FLOAT_CONSTANT:,} of weights, ",
        f" {_power(load.LARGEST_INTEGER_CONSTANT)} of integers; {_power(load.LARGEST_MASK)} of a mask",
        f"| constants of more than {_power(load.LARGEST_INTEGER_CONSTANT)} elements that are made",
        f"is computed for | {limits._SLOW_ELEMENTS:,}; above,",
        f"| {yaml_file.MOST_BYTES >> 20} MiB, {yaml_file.MOST_NODES:,} nodes with aliases",
        f"with aliases expanded, {yaml_file.MOST_DEPTH} deep |",
        f"| {toml_file.MOST_BYTES >> 20} MiB, brackets {toml_file.MOST_DEPTH} deep |",
        f"| a tokenizer | {tokens._MOST_BYTES >> 20} MiB |",
        f"| {_power(npz_file.MOST_BYTES)} bytes, all together",
        f"| {_power(parquet_file.MOST_RECORDS)} rows as records; {_power(parquet_file.MOST_NUMBERS)} rows of",
        f"| 10^{math.log10(records.MOST_FLOAT):g} and, of whole ones, 64 bits |",
    ],
)
def test_a_limit_is_what_the_page_says(row: str) -> None:
    assert row in PAGE
