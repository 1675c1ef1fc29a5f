"""Problems of attention of any length and their mappings, drawn at random."""

from hypothesis import assume
from hypothesis import strategies as st

from codesign.compiler.kernels.attention.streamed_shape import (
    StreamedAttentionMapping,
    StreamedAttentionProblem,
    StreamedAttentionShape,
)
from codesign.compiler.kernels.attention.streamed_space import streamed_attention_spaces
from codesign.hw.machine.config import HardwareConfig


@st.composite
def problems(draw: st.DrawFn, config: HardwareConfig) -> StreamedAttentionProblem:
    """Up to three heads, as wide as whole blocks; queries and keys ragged more often than not."""
    dim = config.dim

    def size(most: int) -> int:
        whole = st.integers(1, most // dim).map(lambda blocks: blocks * dim)
        return draw(st.one_of(st.integers(1, most), whole))

    queries, keys = size(6 * dim), size(6 * dim)
    masked = draw(st.booleans())
    shared = draw(st.sampled_from((1, 1, 2)))
    return StreamedAttentionProblem(
        shared * draw(st.integers(1, 3 - shared)),
        queries,
        keys,
        dim * draw(st.integers(1, 2)),
        mask_rows=-(-keys // dim) if masked else 0,
        causal=queries <= keys and draw(st.booleans()),
        shared=shared,
    )


@st.composite
def mappings(
    draw: st.DrawFn, problem: StreamedAttentionProblem, config: HardwareConfig
) -> StreamedAttentionMapping:
    """Any feasible mapping: half of them from the mapspace, half between its points."""
    if draw(st.booleans()):
        space = draw(st.sampled_from(streamed_attention_spaces(problem, config)))
        assume(len(space))
        return space.mapping(draw(st.integers(0, len(space) - 1)))
    granule = max(1, config.bus_bytes // config.dim)
    tile_m = granule * draw(st.integers(1, -(-problem.queries // granule)))
    parts, triangle = -(-problem.keys // config.dim), problem.causal and draw(st.booleans())
    hold = not triangle and draw(st.booleans())
    least = 2 * parts if hold else 2
    ring = draw(st.integers(least, 2 * least + 3))
    mapping = StreamedAttentionMapping(min(tile_m, problem.queries), ring, hold, triangle)
    assume(StreamedAttentionShape(problem, mapping, config).feasible)
    return mapping
