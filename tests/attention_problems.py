"""Attention problems and their mappings, drawn at random."""

from hypothesis import assume
from hypothesis import strategies as st

from codesign.compiler.kernels.attention.attention_kernel import (
    AttentionMapping,
    AttentionProblem,
    AttentionShape,
)
from codesign.compiler.kernels.attention.attention_space import attention_spaces
from codesign.hw.machine.config import HardwareConfig


@st.composite
def problems(draw: st.DrawFn, config: HardwareConfig) -> AttentionProblem:
    """Up to three heads of keys; queries, keys and head ragged more often than not."""
    dim = config.dim

    def size(most: int) -> int:
        whole = st.integers(1, most // dim).map(lambda blocks: blocks * dim)
        return draw(st.one_of(st.integers(1, most), whole))

    queries, keys, head_dim = size(6 * dim), size(6 * dim), size(2 * dim)
    shared = draw(st.sampled_from((1, 1, 2, 3)))
    if shared > 1 and draw(st.booleans()):
        queries = 1  # whose heads are rows
    masked = draw(st.booleans()) and config.parameter_channels >= keys + dim
    return AttentionProblem(
        shared * draw(st.integers(1, 3 if shared == 1 else 2)),
        queries,
        keys,
        head_dim,
        bias=draw(st.booleans()),
        mask_rows=-(-keys // dim) if masked else 0,
        shared=shared,
    )


@st.composite
def mappings(
    draw: st.DrawFn, problem: AttentionProblem, config: HardwareConfig
) -> AttentionMapping:
    """Any feasible mapping: half of them from the mapspace, half between its points."""
    if draw(st.booleans()):
        space = draw(st.sampled_from(attention_spaces(problem, config)))
        assume(len(space))
        return space.mapping(draw(st.integers(0, len(space) - 1)))
    granule = max(1, config.bus_bytes // config.dim)
    rows = problem.in_rows.queries
    tile_m = granule * draw(st.integers(1, -(-rows // granule)))
    blocks = -(-problem.keys // config.dim)
    chunk, hold = draw(st.integers(1, blocks)), draw(st.booleans())
    least = 2 * -(-blocks // chunk) if hold else 2
    ring = draw(st.integers(least, 2 * least + 3))
    mapping = AttentionMapping(min(tile_m, rows), chunk, ring, draw(st.integers(1, 3)), hold)
    assume(AttentionShape(problem, mapping, config).feasible)
    return mapping
