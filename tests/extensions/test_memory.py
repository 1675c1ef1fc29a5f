"""A toy memory: a shared L2 between DRAM and the chip's own memories, in prices alone.

Its rule: a kernel reads each byte that it needs from DRAM once, by way of the L2 where there is one
that holds them all, and what it reads again comes from there. "Needs" is the least that any mapping
reads (`floor`). Cycles and results stay; hits cost a read of the L2 instead of DRAM's.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from extension_tree import Extension, Tree

import codesign
from codesign.hw.machine.config import HardwareConfig

HEADING = "A memory"

ROW = """

L2 = Memory(
    name="l2",
    size="l2_bytes",
    actions=(("read", "l2_reads"), ("write", "l2_writes")),
    label="L2",
    addressed=False,
)
"""

RULE = """
            served_by_l2(counts, part.problem, self.config)
"""
SERVED = '''

def served_by_l2(counts: Ints, problem: Problem, config: HardwareConfig) -> None:
    """Move reads of DRAM that repeat others to an L2 that holds all that a kernel reads."""
    least, read = floor(problem, config), EVENT_INDEX["dram_read_bytes"]
    if least is None or not 0 < least[1][read] <= config.l2_bytes:
        return
    counts[EVENT_INDEX["l2_reads"]] = -(-counts[read] // config.dim)
    counts[EVENT_INDEX["l2_writes"]] = -(-least[1][read] // config.dim)
    counts[read] = least[1][read]
'''

L2 = Extension(
    {
        "hw/machine/memories.py": [
            ('part_of="requantize",\n)', ROW),
            ("MEMORIES = (SCRATCHPAD, ACCUMULATOR, PARAMETERS)", "MEMORIES = (*MEMORIES, L2)\n"),
        ],
        "hw/machine/config.py": [
            ("accumulator_banks: int = 8  # each one read and one write port",
             "    l2_bytes: int = 0  # rows of dim bytes\n"),
        ],
        "compiler/plan/pricing.py": [
            ("NOWHERE = -1  # the cycles of a group that fits no tile", SERVED),
            ('counts[EVENT_INDEX["macs"]] = part.macs', RULE),
        ],
        "search/pricing/sweep.py": [("accumulator_banks: int", "    l2_bytes: int\n")],
        "search/joint/search_records.py": [("accumulator_banks: int", "    l2_bytes: int\n")],
        "search/cli/options.py": [
            ('("--acc", "accumulator_bytes", sizes, "SIZES", "Accumulator sizes, for example 256K."),',
             '    ("--l2", "l2_bytes", sizes, "SIZES", "L2 sizes, for example 1M."),\n'),
        ],
    }
)  # fmt: skip

# Mapped for cycles: for EDP, that the L2 leaks would change the mappings, too.
PRICED = """
import json
import codesign
from codesign.hw.costs import sram
from codesign.hw.machine import memories

model = codesign.load_model("bert-tiny", seq=128)
told = {}
for size in (0, 1 << 10, 1 << 20):
    config = codesign.machine("ibert", scratchpad_bytes="16K", l2_bytes=size)
    priced = codesign.price(model, config, objective="cycles")
    told[size] = {
        "cycles": priced.cycles,
        "energy": priced.energy_j.tolist(),
        "breakdown": {name: joules[1] for name, joules in priced.breakdown().items()},
        "dram": priced.dram_bytes,
        "area": priced.area_mm2.tolist(),
        "macro": sram.macros(memories.L2, config).area_mm2 if size else (0, 0, 0),
    }
print(json.dumps(told))
"""

SPACE = """
[transformer]
layers = [1]
d_model = [192]
heads = [4]
d_ff = [256, 512]
sequence = 32
vocab_size = 512

[hardware]
dim = 16
scratchpad_bytes = ["16K", "32K"]
accumulator_bytes = "64K"
bus_bytes = 16
l2_bytes = [0, 1048576]

[constraints]
area_mm2 = "none"
"""
SEARCHED = """
import json
from dataclasses import asdict
import codesign
found = codesign.joint_search("space.toml", budget=40, population=8, points=8)
print(json.dumps([asdict(point) for point in found.front]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return L2.applied(tmp_path_factory.mktemp("l2"))


def test_it_touches_what_the_page_names() -> None:
    L2.keeps_to(HEADING, 12)
    assert not hasattr(HardwareConfig(), "l2_bytes")


def test_hits_cost_its_energy_and_its_macro_is_on_the_chip(tree: Tree) -> None:
    told: Mapping[str, Mapping[str, Any]] = json.loads(tree.python(PRICED))
    none, small, fitting = told["0"], told[str(1 << 10)], told[str(1 << 20)]
    assert none["cycles"] == small["cycles"] == fitting["cycles"]
    assert none["breakdown"]["l2"] == small["breakdown"]["l2"] == 0 < fitting["breakdown"]["l2"]
    assert none["dram"] == small["dram"] > fitting["dram"]
    assert small["energy"] > none["energy"] > fitting["energy"]  # one that holds nothing leaks
    for with_l2 in (small, fitting):
        for bound in range(3):
            grown = with_l2["area"][bound] - none["area"][bound]
            assert grown == pytest.approx(with_l2["macro"][bound]) and grown > 0


def test_a_sweep_has_a_column_of_it(tree: Tree) -> None:
    command = ("-m", "codesign", "sweep", "bert-tiny", "--seq", "64", "--scratchpad", "16K",
               "--l2", "64K,1M")  # fmt: skip
    rows = json.loads(tree.run(*command, "--json"))["rows"]
    assert [row["l2_bytes"] for row in rows] == [64 << 10, 1 << 20]
    assert rows[0]["energy_j"] != rows[1]["energy_j"] and rows[0]["area_mm2"] < rows[1]["area_mm2"]
    table = tree.run(*command)
    assert " L2 " in table and "16K / 256K / " in table


def test_a_search_chooses_its_size(tree: Tree) -> None:
    (tree.folder / "space.toml").write_text(SPACE)
    front = json.loads(tree.python(SEARCHED))
    assert front and {point["l2_bytes"] for point in front} <= {0, 1 << 20}
    assert all(("-1024K-" in point["hardware"]) == bool(point["l2_bytes"]) for point in front)


def test_todays_machine_costs_the_same_in_both(tree: Tree) -> None:
    script = (
        "import codesign\n"
        "priced = codesign.price(codesign.load_model('bert-tiny', seq=16), codesign.machine('ibert'))\n"
        "print(priced.cycles, priced.energy_j.tolist(), priced.area_mm2.tolist())\n"
    )
    priced = codesign.price(codesign.load_model("bert-tiny", seq=16), codesign.machine("ibert"))
    here = f"{priced.cycles} {priced.energy_j.tolist()} {priced.area_mm2.tolist()}"
    assert tree.python(script).strip() == here
