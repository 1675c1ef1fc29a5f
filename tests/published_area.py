"""Areas that others published, and ours in their terms."""

from dataclasses import replace

from codesign.hw.costs import sram
from codesign.hw.machine.config import TECHNOLOGY_NODES_NM, preset
from codesign.hw.machine.memories import ACCUMULATOR, SCRATCHPAD

# Genc et al., DAC 2021, Fig. 6: Intel 22FFL, um2. 16 x 16 mesh, scratchpad 256 KB in 4 single-port
# banks, accumulator 64 KB in 2 banks.
MESH_UM2, SCRATCHPAD_UM2, ACCUMULATOR_UM2 = 116e3, 544e3, 146e3
DAC21 = replace(preset("gemmini"), scratchpad_banks=4, accumulator_banks=2)
PUBLISHED_SHARES = [
    100 * part / (MESH_UM2 + SCRATCHPAD_UM2 + ACCUMULATOR_UM2)
    for part in (MESH_UM2, SCRATCHPAD_UM2, ACCUMULATOR_UM2)
]


def shares_of(mesh: float, scratchpad: float, accumulator: float) -> list[float]:
    return [
        100 * part / (mesh + scratchpad + accumulator) for part in (mesh, scratchpad, accumulator)
    ]


def memories_mm2() -> tuple[float, float]:
    scratchpad, accumulator = (
        sram.macros(memory, DAC21, "1RW").area_mm2[1] for memory in (SCRATCHPAD, ACCUMULATOR)
    )
    return scratchpad, accumulator


DIMS = (4, 8, 16, 32, 64, 128)
# Rows of scratchpads, accumulators and parameter memories of every legal mesh.
ROW_BITS = sorted({bits * dim for dim in DIMS for bits in (8, 32, 64)})
# Bytes of one bank, from below the smallest macro to beyond the largest, 8 to an octave.
BANK_BYTES = sorted(
    {round(2 ** (octave + step / 8)) for octave in range(7, 24) for step in range(8)}
)


def least_area_of_twice_the_banks() -> float:
    """The area of a memory over that of the same bytes in half the banks, at its least."""
    ratios = []
    for node in TECHNOLOGY_NODES_NM:
        for bits in ROW_BITS:
            for size in BANK_BYTES:
                few = sram.memory("memory", 4 * size, 2, bits, node)
                many = sram.memory("memory", 4 * size, 4, bits, node)
                assert many.read_j[1] <= few.read_j[1] and many.write_j[1] <= few.write_j[1]
                ratios.append(many.area_mm2[1] / few.area_mm2[1])
    return min(ratios)
