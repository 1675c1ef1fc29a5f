"""The listing of a Program says all that it holds, in a form that people read."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from kernel_checks import rewritten
from machine_model import WIDER
from operator_graphs import encoder_layer, graph_of

from codesign.compiler.kernels.attention.attention_kernel import (
    AttentionAddresses,
    AttentionMapping,
    AttentionProblem,
    attention_kernel,
)
from codesign.compiler.kernels.matmul_kernel import MatmulAddresses, matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem
from codesign.compiler.plan.lower import lower
from codesign.compiler.program.emit import emit
from codesign.compiler.program.listing import text
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import preset
from codesign.hw.machine.isa import CHANNELS, OPERATION
from codesign.hw.machine.program import (
    Affine,
    Instruction,
    Kernel,
    Program,
    Region,
    instructions,
    unroll,
)

SMALL = replace(WIDER, name="small", bus_bytes=4)


def tiny_program() -> Program:
    """A ragged projection with bias, a step of the host, and one head of attention."""
    matmul = matmul_kernel(
        MatmulProblem(m=10, k=9, n=7, parameters=True, function="gelu"),
        MatmulMapping("mn", tile_m=6, tile_n=2, chunk_k=2, groups=2),
        SMALL,
        MatmulAddresses(a=0, b=4096, c=8192, parameters=12288),
    )
    attention = attention_kernel(
        AttentionProblem(heads=2, queries=8, keys=10, head_dim=4),
        AttentionMapping(tile_m=4, chunk=2, ring=4, held=1, hold=True),
        SMALL,
        AttentionAddresses(q=0, k=4096, v=8192, out=16384),
    )
    memory = (
        Region("x", 0, 120),
        Region("0:up/weights", 4096, 72),
        Region("y", 8192, 80),
        Region("0:up/parameters", 12288, 64),
    )
    kernels = (
        Kernel("up", matmul, note="tile 6x8"),
        Kernel("tanh", host_cycles=1234),
        Kernel("attention", attention),
    )
    return Program("tiny", kernels, memory)


def test_golden_listing(golden: Callable[[str, str], None]) -> None:
    golden("tiny_program.txt", text(tiny_program()))


@pytest.fixture(scope="module")
def encoder() -> Program:
    config = preset("ibert")
    graph = graph_of(encoder_layer(), ("norm2",))
    return emit(lower(graph, config, "cycles", cost_table(config)))


@pytest.mark.parametrize("name", ["tiny", "encoder"])
def test_one_line_for_each_instruction_loop_and_region(
    name: str, request: pytest.FixtureRequest
) -> None:
    program = tiny_program() if name == "tiny" else request.getfixturevalue("encoder")
    lines = text(program).splitlines()
    words = [line.split()[0] for line in lines if line.strip()]
    expected = [i.op for kernel in program.kernels for i in instructions(kernel.body)]
    assert [word for word in words if word in OPERATION] == expected
    assert words.count("kernel") == len(program.kernels)
    for region in program.memory:
        (line,) = (line for line in lines if line.endswith(f" B  {region.name}"))
        address, size = line.split()[:2]
        assert int(address, 16) == region.address
        assert int(size.replace(",", "")) == region.size_bytes


def test_numbers_are_plain(encoder: Program) -> None:
    """Mappings come out of numpy: no trace of arrays or Python objects is left."""
    for program in (encoder, tiny_program()):
        assert not re.search(r"array|dtype|np\.|int64|None|\(\)", text(program))
        assert str(1 << 40) not in text(program)


def test_every_token_is_shown() -> None:
    listing = text(tiny_program())
    for kernel in tiny_program().kernels:
        for instruction in instructions(kernel.body):
            for token in instruction.waits:
                assert re.search(rf"wait {token.channel}\b", listing)
    names = {channel.name for channel in CHANNELS}
    shown = set(re.findall(r"(?:wait|signal) (\w+)", listing))
    assert shown <= names and {"loaded", "consumed", "computed", "drained"} <= shown


def test_rings_are_shown_whole() -> None:
    """Streaming attention takes the ring's first and last turns out of step: the text says so."""
    problem, mapping = AttentionProblem(2, 8, 10, 4), AttentionMapping(4, 2, 3, 1)
    body = attention_kernel(problem, mapping, SMALL)

    def in_step(node: Instruction) -> Instruction:
        def straight(address: Affine) -> Affine:
            ring = address.ring
            return address if ring is None else replace(address, ring=replace(ring, jump=0))

        return replace(node, addresses={k: straight(a) for k, a in node.addresses.items()})

    other = rewritten(body, in_step)
    assert [i.addresses for i in unroll(other)] != [i.addresses for i in unroll(body)]
    assert text(Program("p", (Kernel("k", other),))) != text(Program("p", (Kernel("k", body),)))


def test_conditions_are_shown_where_they_differ() -> None:
    """Ragged edges and guards are in the text: another shape gives another text."""
    listing = text(tiny_program())
    assert "at last tm" in listing  # 10 rows in tiles of 6
    assert "host 1,234 cycles" in listing
    assert "; tile 6x8" in listing
    assert re.search(r"gelu dram .* wait computed", listing)
