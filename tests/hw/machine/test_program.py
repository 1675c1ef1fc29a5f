"""Programs mean what their grammar says: unrolled kernels equal plain Python loops."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.hw.machine.program import (
    Affine,
    Body,
    Cases,
    Guard,
    Instruction,
    Kernel,
    Loop,
    Pipeline,
    Program,
    Region,
    Ring,
    Token,
    first,
    instructions,
    last,
    take,
    unroll,
)


def mark(name: str, *loops: str) -> Instruction:
    """An instruction whose address tells the indices of `loops` as decimal digits pairs."""
    strides = {loop: 100**place for place, loop in enumerate(reversed(loops))}
    return Instruction(name, addresses={"at": Affine(0, strides)})


def seen(body: Body) -> list[tuple[str, int]]:
    return [(issued.op, issued.addresses["at"]) for issued in unroll(body)]


@given(st.integers(0, 4), st.integers(0, 4))
def test_loops_nest_like_python(outer: int, inner: int) -> None:
    body = (
        Loop(
            "i", outer, (mark("a", "i"), Loop("j", inner, (mark("b", "i", "j"),)), mark("c", "i"))
        ),
    )
    expected = []
    for i in range(outer):
        expected.append(("a", i))
        expected += [("b", 100 * i + j) for j in range(inner)]
        expected.append(("c", i))
    assert seen(body) == expected


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_pipelines_skew_their_stages(counts: list[int], stages: int) -> None:
    """Step g runs stage s on the (g - s)-th index of the nest; every pair once, stages in order."""
    names = [f"l{i}" for i in range(len(counts))]
    body = (
        Pipeline(
            tuple(zip(names, counts, strict=True)),
            tuple((mark(f"s{s}", *names),) for s in range(stages)),
        ),
    )
    nest = [
        sum(i * 100**place for place, i in enumerate(reversed(index)))
        for index in product(*(range(count) for count in counts))
    ]
    expected = [
        (f"s{s}", nest[g - s])
        for g in range(len(nest) + stages - 1 if nest else 0)
        for s in range(stages)
        if 0 <= g - s < len(nest)
    ]
    assert seen(body) == expected


@given(st.integers(0, 6), st.integers(0, 6), st.booleans(), st.integers(1, 6))
def test_guards_count_from_either_end(low: int, high: int, from_end: bool, count: int) -> None:
    body = (Loop("i", count, (Instruction("x", when=(Guard("i", low, high, from_end),)),)),)
    indices = range(count)[::-1] if from_end else range(count)
    assert len(list(unroll(body))) == len(indices[low:high])


def test_guards_are_joined_by_and() -> None:
    inside = Loop("j", 4, (Instruction("x", when=(*first("i"), *last("j"))),))
    assert len(list(unroll((Loop("i", 3, (inside,)),)))) == 1


def test_tokens_and_flags_follow_their_own_guards() -> None:
    instruction = Instruction(
        "x",
        flags={"always": (), "once": first("i")},
        waits=(Token("loaded", first("i"), 3), Token("stored")),
        signals=(Token("drained", last("i")),),
    )
    issued = list(unroll((Loop("i", 3, (instruction,)),)))
    assert [one.flags["once"] for one in issued] == [True, False, False]
    assert all(one.flags["always"] for one in issued)
    assert issued[0].waits == (("loaded", 3), ("stored", 1))
    assert issued[1].waits == (("stored", 1),)
    assert [one.signals for one in issued] == [(), (), (("drained", 1),)]


def test_cases_take_the_first_that_applies() -> None:
    value = Cases(9, ((("i", "j"), 1), (("j",), 2)))
    body = (Loop("i", 2, (Loop("j", 2, (Instruction("x", {"rows": value}),)),)),)
    assert [one.values["rows"] for one in unroll(body)] == [9, 2, 9, 1]


def test_loop_counts_may_be_ragged() -> None:
    body = (Loop("i", 3, (Loop("j", Cases(4, ((("i",), 2),)), (mark("x", "i", "j"),)),)),)
    assert [at for _, at in seen(body)] == [0, 1, 2, 3, 100, 101, 102, 103, 200, 201]


def test_rings_rotate_and_hold() -> None:
    """Two rotating slots behind one that is held for the first chunk of each tile."""
    ring = Ring(slots=2, pitch=10, steps={"t": 2, "c": 1}, offset=-1, held=1, held_loop="c")
    body = (
        Loop("t", 2, (Loop("c", 3, (Instruction("x", addresses={"at": Affine(5, {}, ring)}),)),)),
    )
    # Chunk 0 is held in slot 0; turns of the others are 0, 1, 2, 3: slots 1, 2, 1, 2.
    assert [at for _, at in seen(body)] == [5, 15, 25, 5, 15, 25]


def test_ring_turns_are_never_negative() -> None:
    ring = Ring(slots=3, pitch=1, steps={"i": 1}, offset=-7)
    body = (Loop("i", 6, (Instruction("x", addresses={"at": Affine(0, {}, ring)}),)),)
    assert [at for _, at in seen(body)] == [(i - 7) % 3 for i in range(6)]


def test_sites_number_the_text() -> None:
    body: Body = (
        mark("a"),
        Loop("i", 2, (mark("b"), Pipeline((("j", 2),), ((mark("c"),), (mark("d"),))))),
        mark("e"),
    )
    text = [instruction.op for instruction in instructions(body)]
    assert text == ["a", "b", "c", "d", "e"]
    assert all(text[issued.site] == issued.op for issued in unroll(body))


def test_equal_instructions_at_two_places_have_two_sites() -> None:
    body = (mark("a"), mark("a"))
    assert [issued.site for issued in unroll(body)] == [0, 1]


def test_take_picks_one_kernel_of_a_batch() -> None:
    batch: Body = (
        Loop(
            "i",
            np.array([1, 3]),
            (
                Instruction(
                    "x",
                    {"rows": Cases(np.array([5, 6]), ((("i",), np.array([7, 8])),))},
                    {"at": Affine(np.array([10, 20]), {"i": np.array([1, 2])})},
                    waits=(Token("loaded", (Guard("i", hi=np.array([1, 2])),), np.array([2, 4])),),
                ),
            ),
        ),
    )
    one = list(unroll(take(batch, 1)))
    assert [issued.values["rows"] for issued in one] == [6, 6, 8]
    assert [issued.addresses["at"] for issued in one] == [20, 22, 24]
    assert [issued.waits for issued in one] == [(("loaded", 4),), (("loaded", 4),), ()]
    assert len(list(unroll(take(batch, 0)))) == 1


@pytest.mark.parametrize("item", [0, 1])
def test_take_shares_arrays_of_one(item: int) -> None:
    body: Body = (Loop("i", np.array([2]), (mark("x", "i"),)),)
    assert seen(take(body, item)) == [("x", 0), ("x", 1)]


def test_program_spans_its_regions() -> None:
    regions = (Region("a", 64, 10), Region("b", 0, 32))
    assert Program("p", (Kernel("k"),), regions).dram_bytes == 74
    assert Program("p", ()).dram_bytes == 0
