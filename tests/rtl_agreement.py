"""What the three views of one machine must agree on, and the machines that it is tried with."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from attention_problems import mappings as attention_mappings
from attention_problems import problems as attention_problems
from hypothesis import assume
from hypothesis import strategies as st
from kernel_checks import row_problems
from machine_model import matmul_mappings, matmul_problems
from streamed_attention_problems import mappings as streamed_attention_mappings
from streamed_attention_problems import problems as streamed_attention_problems

from codesign.compiler.kernels.attention.attention_kernel import (
    AttentionAddresses,
    attention_kernel,
)
from codesign.compiler.kernels.attention.streamed_kernel import (
    StreamedAttentionAddresses,
    streamed_attention_kernel,
)
from codesign.compiler.kernels.matmul_kernel import MatmulAddresses, matmul_kernel
from codesign.compiler.kernels.numbers import Numbers
from codesign.compiler.kernels.row_kernel import RowAddresses, RowSpace, row_kernel
from codesign.hw.machine.arithmetic import pack_parameters
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.machine.program import Body
from codesign.hw.simulation.simulator import Simulation, run_rtl
from codesign.hw.views.functional import Machine
from codesign.hw.views.timing import evaluate_unrolled


def machine(
    dim: int, scratchpad: tuple[int, int], accumulator: tuple[int, int], **fields: int
) -> HardwareConfig:
    """A machine whose memories are so many banks of so many rows."""
    return HardwareConfig(
        name=f"dim{dim}",
        dim=dim,
        scratchpad_banks=scratchpad[0],
        scratchpad_bytes=dim * math.prod(scratchpad),
        accumulator_banks=accumulator[0],
        accumulator_bytes=4 * dim * math.prod(accumulator),
        **fields,  # type: ignore[arg-type]
    )


# Few machines, since each is a build: every dim, ragged and whole banks, narrow and wide buses,
# short and long queues.
MACHINES = {
    config.name: config
    for config in (
        machine(4, (8, 28), (4, 44), parameter_channels=64, bus_bytes=16, dram_latency_cycles=7,
                load_queue_depth=2, execute_queue_depth=3, drain_queue_depth=2),
        machine(8, (16, 24), (8, 32), parameter_channels=256, bus_bytes=4, dram_latency_cycles=1,
                load_queue_depth=3, execute_queue_depth=4, drain_queue_depth=3),
        machine(16, (16, 64), (8, 64), parameter_channels=1024),
    )
}  # fmt: skip

# Its build takes a minute: for the long tests.
LARGE_MACHINE = machine(
    32, (16, 96), (8, 96), parameter_channels=2048, bus_bytes=64, dram_latency_cycles=20
)


def check_agreement(
    bodies: Sequence[Body],
    config: HardwareConfig,
    dram: npt.NDArray[np.uint8],
    *,
    seed: int = 1,
    backpressure: float = 0.0,
) -> Simulation:
    """Run kernels one after another: RTL, functional model and timing model must say the same."""
    machine = Machine(config, dram.copy())
    for body in bodies:
        machine.run(body)
    result = run_rtl(bodies, config, dram, seed=seed, backpressure=backpressure)
    different = np.flatnonzero(result.memory != machine.dram)
    assert not len(different), f"{len(different)} bytes of DRAM differ, first {different[:8]}"
    if backpressure:
        return result
    for body, kernel in zip(bodies, result.kernels, strict=True):
        expected = evaluate_unrolled(body, config, trace=True)
        for step, seen in zip(expected.steps, kernel.steps, strict=True):
            model = (step.dispatch, step.start, step.release, step.complete)
            rtl = (seen.dispatch, seen.start, seen.release, seen.complete)
            assert rtl == model, f"{step.issued}: RTL {rtl}, timing model {model}"
        assert kernel.cycles == expected.cycles
    return result


def legal_dram(size: int, config: HardwareConfig, seed: int) -> npt.NDArray[np.uint8]:
    """Random bytes that are legal parameters too: every eighth is a shift.

    So a kernel may take its parameters from anywhere.
    """
    rng = np.random.default_rng(seed)
    channels = size // 8
    bias = rng.integers(-(1 << 31), 1 << 31, channels) >> rng.choice([0, 12, 18], channels)
    multiplier = rng.integers(-(1 << 23), 1 << 23, channels)
    shift = rng.integers(0, 40, channels)
    return pack_parameters(bias, multiplier, shift).reshape(-1)


@st.composite
def numbers(draw: st.DrawFn) -> Numbers:
    """Factors and shifts of an epilogue, extremes among them."""
    factor = st.one_of(
        st.sampled_from((0, 1, -1, (1 << 23) - 1, -(1 << 23))), st.integers(1, (1 << 23) - 1)
    )
    shift = st.integers(0, 40)
    scale = st.sampled_from((0, 1, 77, (1 << 24) - 1))
    return Numbers(
        draw(factor),
        draw(shift),
        draw(factor),
        draw(shift),
        (draw(scale), draw(scale)),
        draw(st.booleans()),
    )


@st.composite
def compiled_kernels(draw: st.DrawFn, config: HardwareConfig, most_computes: int = 60) -> Body:
    """Any kernel that the compiler writes: matmul, row function or attention, any mapping."""
    kind = draw(st.sampled_from(("matmul", "row", "attention", "streamed")))
    step = 1 << 18
    if kind == "row":
        problem = draw(row_problems(config))
        space = RowSpace.build(problem, config)
        assume(len(space))
        mapping = space.mapping(draw(st.integers(0, len(space) - 1)))
        places = RowAddresses(x=0, y=step, out=2 * step, parameters=3 * step)
        return row_kernel(problem, mapping, config, places, draw(numbers()))
    if kind == "attention":
        heads = draw(attention_problems(config))
        tiles = draw(attention_mappings(heads, config))
        at = AttentionAddresses(0, step, 2 * step, 3 * step, 4 * step, 5 * step)
        return attention_kernel(heads, tiles, config, at, draw(numbers()), draw(numbers()))
    if kind == "streamed":
        long = draw(streamed_attention_problems(config))
        parts = draw(streamed_attention_mappings(long, config))
        to = StreamedAttentionAddresses(0, step, 2 * step, 3 * step, 4 * step)
        outputs = replace(draw(numbers()), shift=0)
        return streamed_attention_kernel(long, parts, config, to, draw(numbers()), outputs)
    functions = draw(st.sampled_from((("copy", "relu", "gelu"), ROW_FUNCTIONS)))
    matmul = draw(matmul_problems(config, functions, most_computes))
    chosen = draw(matmul_mappings(matmul, config, most_computes))
    addresses = MatmulAddresses(0, step, 2 * step, 3 * step, 4 * step)
    return matmul_kernel(matmul, chosen, config, addresses, draw(numbers()))
