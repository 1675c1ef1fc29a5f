"""A toy of grouped keys: query heads that take turns at the key heads.

Query heads that share a key head lie one after another; here each is as many further as there are key
heads. Loads of K and V stay as they are, queries and results lie elsewhere.
"""

from pathlib import Path

from extension_tree import Extension

IN_TURN = Extension(
    {
        "compiler/kernels/attention/attention_kernel.py": [
            ("shared: int = 1", "    in_turn: bool = False  # which query heads share\n"),
            (
                (
                    '"""Whether the heads of a token that share K and V are rows of one: each sees every '
                    'key."""'
                ),
                """
        if self.in_turn:
            return False
                """,
            ),
            (
                'strides |= {"g": head} if self.p.shared > 1 else {}',
                """
        if self.p.in_turn:
            strides |= {"h": head, "g": self.p.heads // self.p.shared * head}
                """,
            ),
        ],
        "compiler/kernels/attention/attention_kind.py": [
            (
                'k, v = (given.matrix(name, head // problem.shared) for name in "kv")',
                """
            if problem.in_turn:
                heads = problem.heads // problem.shared
                k, v = (given.matrix(name, head % heads) for name in "kv")
                """,
            ),
        ],
    }
)

START = """
from dataclasses import replace

import numpy as np
from kind_checks import assert_as_its_reference

from codesign.compiler.plan import kinds
from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.hw.views.fast_timing import time_kernel
from codesign.hw.views.functional import Machine
from codesign.hw.views.races import check_races
from codesign.hw.views.timing import evaluate_unrolled
from codesign.search.checks.operands import random_operands

HEADS, SHARED = 6, 3
"""

# Queries and results of heads that share a key head, put side by side.
KERNELS = """
config = HardwareConfig(
    "small", dim=4, scratchpad_bytes=4096, scratchpad_banks=16, accumulator_bytes=4096,
    accumulator_banks=8, parameter_channels=64, bus_bytes=4,
)


def by_group(heads):
    parts = heads.reshape(SHARED, HEADS // SHARED, -1)
    return parts.transpose(1, 0, 2).ravel()


kernels = 0
for queries in (10, 1):
    turns = AttentionProblem(HEADS, queries, 11, 8, shared=SHARED, in_turn=True)
    grouped = replace(turns, in_turn=False)
    operands = random_operands(turns, config, (1,))
    sizes = {o.name: o.size_bytes for o in kinds.operands(turns, config)}
    at = operands.places["q"]
    image = operands.dram.copy()
    image[at : at + sizes["q"]] = by_group(image[at : at + sizes["q"]])
    wanted = Machine(config, image)
    space = kinds.spaces(grouped, config)[0]
    wanted.run(
        kinds.body(grouped, space.mapping(0), config, operands.places, operands.numbers)
    )
    for space in kinds.spaces(turns, config):
        bounds, least = space.bounds()
        for index in range(0, len(space), 1 + len(space) // 4):
            mapping = space.mapping(index)
            found = Machine(config, operands.dram.copy())
            body = kinds.body(turns, mapping, config, operands.places, operands.numbers)
            check_races(body, config)
            found.run(body)
            out = by_group(found.dram[operands.output])
            assert (out == wanted.dram[operands.output]).all()
            priced, exact = time_kernel(body, config), evaluate_unrolled(body, config)
            assert bounds[index] <= priced.cycles == exact.cycles
            assert (least[index] <= priced.events).all() and (priced.events == exact.events).all()
            assert_as_its_reference(turns, mapping, config, index)
            kernels += 1
assert kernels > 9
"""


def test_query_heads_take_turns_at_key_heads(tmp_path: Path) -> None:
    """The result of queries that are put in order, as they are elsewhere."""
    IN_TURN.keeps_to("Grouped keys", 5)
    IN_TURN.applied(tmp_path).python(START + KERNELS)
