"""Instruction words hold every field, and the SystemVerilog package says the same as the table."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.hw.errors import ProgramError
from codesign.hw.machine.encoding import (
    HEADER_BITS,
    INSTRUCTION_BITS,
    LANES,
    SIGNALS,
    WAITS,
    decode,
    encode,
    encode_all,
    fields,
    fields_of,
    variants,
)
from codesign.hw.machine.functions import DRAIN_FUNCTIONS
from codesign.hw.machine.isa import OPERATION, OPERATIONS, Field
from codesign.hw.machine.program import Issued


def test_every_operation_fits_a_word() -> None:
    for operation in OPERATIONS:
        groups = [sum(f.bits for f in group) for group in variants(operation).values()]
        used = HEADER_BITS + sum(field.bits for field in fields(operation)) + max(groups, default=0)
        assert used <= INSTRUCTION_BITS


def test_what_only_some_functions_have_shares_its_bits() -> None:
    """And nothing else does: every function's fields lie side by side."""
    (mvout,) = (operation for operation in OPERATIONS if variants(operation))
    groups = variants(mvout).values()
    assert len(groups) > 1
    for number, function in enumerate(DRAIN_FUNCTIONS):
        places = [(at, at + field.bits) for field, at in fields_of(mvout, number)]
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(places)))
        named = {field.name for field, _ in fields_of(mvout, number)}
        in_parts = function.masked or function.stateful
        assert ("diagonal" in named) == ("state" in named) == in_parts
        assert ("inverse" in named) == ("epsilon" in named) == function.affine
        assert ("second" in named) == (function.operands > 1)


@st.composite
def issued_instructions(draw: st.DrawFn) -> Issued:
    """Any operation with any legal number in every field."""
    operation = draw(st.sampled_from(OPERATIONS))

    def number(field: Field) -> int:
        low = -(1 << (field.bits - 1)) if field.signed else 0
        high = low + (1 << field.bits) - 1
        return draw(st.one_of(st.integers(low, high), st.sampled_from((low, high))))

    def tokens(names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        chosen = [name for name in names if draw(st.booleans())]
        return tuple((name, draw(st.integers(1, 255))) for name in chosen)

    values = {field.name: number(field) for field in operation.values}
    own = {field.name for field, _ in fields_of(operation, values.get("function", 0))}
    return Issued(
        site=0,
        op=operation.name,
        values=values,
        addresses={f.name: number(f) if f.name in own else 0 for f in operation.addresses},
        flags={field.name: bool(number(field)) for field in operation.flags},
        waits=tokens(WAITS[operation.unit]),
        signals=tokens(SIGNALS[operation.unit]),
    )


@settings(max_examples=300)
@given(issued_instructions())
def test_decoding_gives_the_instruction_back(issued: Issued) -> None:
    assert decode(encode(issued)) == issued


def test_words_are_little_endian_lanes() -> None:
    preload = Issued(0, "preload", {"rows": 4}, {"local": 0x54321}, {}, (), (("consumed", 3),))
    words = encode_all([preload, preload])
    assert words.shape == (2, LANES)
    word = sum(int(lane) << 32 * i for i, lane in enumerate(words[1]))
    assert word == encode(preload)
    assert word & 7 == OPERATION["preload"].opcode and word >> 27 & 0xFF == 3


@pytest.mark.parametrize(
    ("issued", "message"),
    [
        (Issued(7, "preload", {"rows": 256}, {}, {}, (), ()), "rows is 256 but has 8 bits"),
        (Issued(7, "mvin", {}, {"scale": -1}, {}, (), ()), "scale is -1"),
        (Issued(7, "preload", {}, {"dram": 1}, {}, (), ()), "no field 'dram'"),
        (Issued(7, "preload", {}, {"dram": 0}, {}, (), ()), "no field 'dram'"),
        (Issued(7, "mvout", {}, {"inverse": 1}, {}, (), ()), "no field 'inverse'"),
        (Issued(7, "mvin", {}, {}, {}, (("loaded", 1),), ()), "cannot pass 'loaded'"),
        (Issued(7, "mvin", {}, {}, {}, (("consumed", 256),), ()), "256 'consumed' tokens"),
    ],
)
def test_numbers_that_do_not_fit_are_named(issued: Issued, message: str) -> None:
    with pytest.raises(ProgramError, match=message) as caught:
        encode(issued)
    assert "at site 7" in str(caught.value)


def test_an_unknown_opcode_is_no_instruction() -> None:
    with pytest.raises(ProgramError, match="no operation has opcode 0"):
        decode(0)
