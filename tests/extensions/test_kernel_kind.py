"""A toy kernel kind that copies: one module and its row in the registry, and all else follows."""

from pathlib import Path

import pytest
from extension_tree import Extension

COPY = Extension(
    {
        "compiler/plan/kinds.py": [
            (
                "from codesign.compiler.kernels.attention.attention_kind import AttentionKind",
                "from codesign.compiler.kernels.copy_kind import CopyKind\n",
            ),
            ("AttentionKind(),", "    CopyKind(),\n"),
        ]
    },
    {
        "compiler/kernels/copy_kind.py": (Path(__file__).parent / "copy_kind.py").read_text(
            encoding="utf-8"
        )
    },
)

# In a plan of one step, since what to copy is fusion's to say.
PLAN = """
import numpy as np
from kind_checks import assert_as_its_reference

from codesign.compiler.graph import Graph
from codesign.compiler.plan import kinds
from codesign.compiler.kernels.blocks import blocked, unblocked
from codesign.compiler.kernels.copy_kind import CopyProblem
from codesign.compiler.plan.lower import Plan, Step
from codesign.compiler.plan.pricing import GroupShape, price_tables
from codesign.compiler.plan.work import Work
from codesign.compiler.program.emit import emit, places
from codesign.compiler.program.listing import text
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.views.fast_timing import time_kernel
from codesign.hw.views.functional import Machine
from codesign.hw.views.timing import evaluate_unrolled
from codesign.search.checks import verify

ROWS, COLUMNS = 50, 21
config = HardwareConfig(
    "small", dim=4, scratchpad_bytes=2048, scratchpad_banks=4, accumulator_bytes=2048,
    accumulator_banks=4, parameter_channels=64, bus_bytes=8,
)
problem = CopyProblem(ROWS, COLUMNS)
work = Work("copy", "copy", ("copy",), ("x",), ("y",), problem)
price = price_tables(config, "cycles", cost_table(config)).group(GroupShape.of(((work,),)))
(choice,) = price.choices
step = Step(work, choice.mapping, kinds.describe(problem, choice.mapping, config),
            choice.cycles, price.events[0], choice.proved)
plan = Plan("copies", config, "cycles", Graph("copies", ("x",), ("y",)), (step,))
"""

CHECKS = """
(space,) = kinds.spaces(problem, config)
bounds, _ = space.bounds()
cycles = [time_kernel(kinds.body(problem, space.mapping(i), config), config).cycles
          for i in range(len(space))]
assert len(space) > 3 and choice.proved and choice.cycles == min(cycles)
assert all(bound <= exact for bound, exact in zip(bounds, cycles))

program = emit(plan)
(kernel,) = program.kernels
assert evaluate_unrolled(kernel.body, config).cycles == choice.cycles
listing = text(program)
assert " x\\n" in listing and " y\\n" in listing
assert f"; {choice.mapping} rows a tile" in listing and "mvin" in listing
dram, at = np.zeros(program.dram_bytes, np.uint8), places(plan)
matrix = np.random.default_rng(1).integers(-128, 128, (ROWS, COLUMNS)).astype(np.int8)
data = blocked(matrix, config)
dram[at["x"] : at["x"] + len(data)] = data
machine = Machine(config, dram)
machine.run(kernel.body)
assert (unblocked(machine.dram[at["y"] :], ROWS, COLUMNS, config) == matrix).all()

for index in range(len(space)):
    assert_as_its_reference(problem, space.mapping(index), config, index)
"""

VERIFIED = """
found = []
verify.build_rtl(config, verify.CheckOptions(BACKEND), print)
verify.check_all(verify.distinct(plan), config, verify.CheckOptions(BACKEND), found.append)
(checked,) = found
assert checked.check.difference == "", checked.check.difference
assert checked.check.shape == "50x21" and checked.check.instructions > 10
assert BACKEND == "functional" or checked.check.rtl_cycles == choice.cycles
"""


def test_a_kernel_kind_is_one_module(tmp_path: Path) -> None:
    """Mapped, priced, emitted, listed, run and verified."""
    COPY.keeps_to("A kernel kind", 2)
    COPY.applied(tmp_path).python(PLAN + CHECKS + "BACKEND = 'functional'\n" + VERIFIED)


@pytest.mark.long
def test_it_runs_on_the_rtl(tmp_path: Path) -> None:
    COPY.applied(tmp_path).python(PLAN + "BACKEND = 'rtl'\n" + VERIFIED)
