"""A toy of grouped keys: query heads that share a key head load its K and V once.

The heads are two loops in place of one: groups, each of a key head, and the query heads of one. K and V
go by the group, all else by both. Held K and V stay for all query heads of their group.
"""

from pathlib import Path

from extension_tree import Extension

GROUPED = Extension(
    {
        "compiler/kernels/attention_kernel.py": [
            ("mask_rows: int = 0", "    shared: int = 1  # query heads of a key head\n"),
            (
                "several = (self.tiles > 1) if m.hold else True",
                "        several = several | (p.shared > 1)\n",
            ),
            (
                'self.free_when: Guards = last("i") if mapping.hold else ()',
                """
        self.tile_steps = {"g": problem.shared * self.s.tiles, **self.tile_steps}
        if mapping.hold:
            self.load_when, self.free_when = first("h", "i"), last("h", "i")
                """,
            ),
            (
                'loops = (("h", p.heads), ("i", s.tiles))',
                '        loops = (("g", p.heads // p.shared), ("h", p.shared), ("i", s.tiles))\n',
            ),
            (
                'strides = {"h": s.d_blocks * plane, "j": keys * self.dim}',
                '        strides = {"g": s.d_blocks * plane, "j": keys * self.dim}\n',
            ),
            (
                'strides = {"h": head, "i": self.map.tile_m * self.dim}',
                '        strides = {"g": self.p.shared * head, **strides}\n',
            ),
            (
                'ring = Ring(self.map.ring, s.chunk_slot, {"h": turns, "j": 1}, offset)',
                """
            ring = Ring(self.map.ring, s.chunk_slot, {"g": turns, "j": 1}, offset)
                """,
            ),
            (
                'ends = first("h", "i") if scores else last("h", "i")',
                '        ends = first("g", "h", "i") if scores else last("g", "h", "i")\n',
            ),
        ],
        "compiler/kernels/attention_space.py": [
            (
                "key_rows = 2 * p.heads * p.keys * s.d_blocks * sweeps",
                "        key_rows = key_rows // (p.shared if m.hold else 1)\n",
            )
        ],
        "compiler/kernels/attention_kind.py": [
            (
                "q, kv = (p.heads, p.queries, p.head_dim), (p.heads, p.keys, p.head_dim)",
                "        kv = (p.heads // p.shared, p.keys, p.head_dim)\n",
            ),
            (
                'q, k, v = (given.matrix(name, head) for name in "qkv")',
                '            k, v = (given.matrix(name, head // problem.shared) for name in "kv")\n',
            ),
        ],
        "compiler/plan/attention_fusion.py": [
            (
                (
                    "problem = AttentionProblem(op.batch, op.m, op.n, op.k, bias, "
                    "self._mask_rows(softmax))"
                ),
                "        problem = replace(problem, shared=op.shared)\n",
            ),
            (
                "problem = replace(p, heads=p.heads // op.shared, queries=p.queries * op.shared)",
                "        problem = replace(problem, shared=1)  # rows of one head\n",
            ),
        ],
    }
)

START = """
from dataclasses import replace

import numpy as np
from kind_checks import assert_as_its_reference
from operator_graphs import embedding, graph_of, projection

from codesign.compiler.graph import Matmul, Softmax
from codesign.compiler.kernels import kinds
from codesign.compiler.kernels.attention_kernel import AttentionProblem
from codesign.compiler.plan.lower import lower
from codesign.compiler.program.emit import emit, places
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.views.fast_timing import time_kernel
from codesign.hw.views.functional import Machine
from codesign.hw.views.races import check_races
from codesign.hw.views.timing import evaluate_unrolled
from codesign.search.checks.operands import random_operands

HEADS, SHARED = 6, 3
"""

# K and V of each query head, written out where the kernel would have them.
KERNELS = """
config = HardwareConfig(
    "small", dim=4, scratchpad_bytes=4096, scratchpad_banks=16, accumulator_bytes=4096,
    accumulator_banks=8, parameter_channels=64, bus_bytes=4,
)
grouped = AttentionProblem(HEADS, 10, 11, 8, shared=SHARED)
apart = replace(grouped, shared=1)
operands = random_operands(grouped, config, (1,))
sizes = {o.name: o.size_bytes for o in kinds.operands(apart, config)}
places_apart, parts, end = {}, [], 0
for name in ("q", "k", "v", "out"):
    at = operands.places[name]
    heads = HEADS // SHARED if name in "kv" else HEADS
    part = operands.dram[at : at + sizes[name] * heads // HEADS].reshape(heads, -1)
    parts.append(np.repeat(part, HEADS // heads, axis=0).ravel())
    places_apart[name], end = end, end + parts[-1].size
    assert parts[-1].size == sizes[name] and not end % config.bus_bytes

read = EVENT_INDEX["dram_read_bytes"]
fewer = 0
for space in kinds.spaces(grouped, config):
    bounds, least = space.bounds()
    for index in range(0, len(space), 1 + len(space) // 4):
        mapping = space.mapping(index)
        found, wanted = Machine(config, operands.dram.copy()), Machine(config, np.concatenate(parts))
        body = kinds.body(grouped, mapping, config, operands.places, operands.numbers)
        repeated = kinds.body(apart, mapping, config, places_apart, operands.numbers)
        check_races(body, config)
        found.run(body)
        wanted.run(repeated)
        out = found.dram[operands.output]
        assert (out == wanted.dram[places_apart["out"] :]).all()
        priced, exact = time_kernel(body, config), evaluate_unrolled(body, config)
        assert bounds[index] <= priced.cycles == exact.cycles
        assert (least[index] <= priced.events).all() and (priced.events == exact.events).all()
        saved = time_kernel(repeated, config).events[read] - priced.events[read]
        # K and V of all query heads but one a group.
        assert saved == (mapping.hold and (sizes["k"] + sizes["v"]) * (SHARED - 1) // SHARED)
        fewer += saved > 0
        assert_as_its_reference(grouped, mapping, config, index)
assert fewer > 3
"""

PLANS = """
TOKENS, HEAD = 64, 16


def network(shared):
    keys = HEADS // shared * HEAD
    q, k, v = (projection(name, "x", n=n) for name, n in zip("qkv", (HEADS * HEAD, keys, keys)))
    products = dict(batch=HEADS, m=TOKENS, constant_b=False, shared=shared)
    scores = Matmul("scores", ("q", "k"), "scores", k=HEAD, n=TOKENS, transposed_b=True, **products)
    softmax = Softmax("softmax", ("scores",), "p", rows=HEADS * TOKENS, cols=TOKENS)
    context = Matmul("context", ("p", "v"), "y", k=TOKENS, n=HEAD, **products)
    return graph_of((embedding(), q, k, v, scores, softmax, context), ("y",))


def attention(shared):
    config = preset("edge")
    plan = lower(network(shared), config, "energy", cost_table(config))
    (step,) = (step for step in plan.steps if step.kind == "attention")
    return plan, step


plan, step = attention(SHARED)
_, alone = attention(1)
assert step.work.problem == AttentionProblem(HEADS, TOKENS, TOKENS, HEAD, shared=SHARED)
assert step.mapping.hold
saved = alone.events[read] - step.events[read]
assert saved >= 2 * TOKENS * (HEADS - HEADS // SHARED) * HEAD
sizes = {region.name: region.size_bytes for region in emit(plan).memory}
at = places(plan)
assert at["k"] != at["v"] and sizes["y"] == TOKENS * HEADS * HEAD
"""


def test_query_heads_share_keys(tmp_path: Path) -> None:
    """The result of keys that are repeated, of fewer bytes; priced, and taken where it is best."""
    GROUPED.keeps_to("Grouped keys", 5)
    GROUPED.applied(tmp_path).python(START + KERNELS + PLANS)
