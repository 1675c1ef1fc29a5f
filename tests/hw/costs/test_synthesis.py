"""The RTL is hardware, and its cell areas are what docs/synthesis.md holds the area model against."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codesign.hw.costs import area, sram, synthesis
from codesign.hw.machine.config import PRESETS, HardwareConfig, preset
from codesign.hw.machine.memories import MEMORIES
from codesign.hw.platform.installation import install_command
from codesign.hw.simulation import simulator
from codesign.hw.simulation.verilator import SimulatorError

needs_yosys = pytest.mark.skipif(find_spec("pyosys") is None, reason="needs pyosys")

FACTS: dict[str, Any] = sram.read_toml("synthesis.toml")
MACHINE = replace(preset("edge"), technology_nm=45)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "synthesis.md"

# Lanes of units.toml and the modules that do their work, with how many lanes share an instance.
LANES = {
    ("pe",): {"mesh_row": 8},
    ("accumulate",): {"accumulate_port": 8},
    ("scale",): {"load_unpacker": 8},
    ("requantize",): {"requantizer": 1, "output_requantizer": 1},
    ("gelu", "exp", "normalize", "moment"): {"nonlinear": 1, "normalizer": 1, "lane_sum": 8},
    ("compare",): {"lane_maximum": 8},
    ("divide",): {"reciprocal": 1},
    ("sqrt",): {"square_root": 1},
}
COMPONENTS = ("mesh", "accumulator", "scratchpad", "requantize", "nonlinear", "control")
# The area model's nominal logic lies within these factors of the RTL's cells: (least, greatest).
AGREEMENT = {
    "mesh": (1, 2),
    "accumulator": (0.1, 1),
    "scratchpad": (0, 1),
    "requantize": (0.5, 1),
    "nonlinear": (1, 3.5),
    "control": (1, 2),
}


def _scale() -> float:
    """From the library's node to 45 nm."""
    return 1 / float(FACTS["area_over_45nm"])


def _component(block: dict[str, Any]) -> str:
    """The area model's component that a block belongs to."""
    module, path = block["module"], block["instance"]
    if re.match(r"machine\.u_mesh(\.|$)", path):
        return "mesh"
    if re.match(r"machine\.u_(accumulator|mesh_sums|load_sums)$", path):
        return "accumulator"
    if path == "machine.u_scratchpad":
        return "scratchpad"
    if module in (
        *("requantizer", "output_requantizer", "drain_lane", "load_unpacker", "parameter_memory"),
    ):
        return "requantize"
    if module in ("nonlinear", "normalizer") or ".u_statistics" in path:
        return "nonlinear"
    return "control"


def _mapped(component: str) -> float:
    """Cells of a component, um2 at 45 nm."""
    blocks = (b for b in FACTS["blocks"] if _component(b) == component)
    return _scale() * sum(float(b["count"] * b["area_um2"]) for b in blocks)


def _modelled(component: str) -> tuple[float, float]:
    """Logic of a component by the area model, um2 at 45 nm: low and nominal."""
    whole = area.area_mm2(MACHINE).components[component]
    memories = {memory.component: sram.macros(memory, MACHINE).area_mm2 for memory in MEMORIES}
    owned = [memories[component]] if component in memories else []
    for unit in area.units().values():
        if unit.component == component and (own := unit.memory(MACHINE.technology_nm)) is not None:
            owned.append(own.area_mm2)
    low, nominal = (1e6 * (whole[bound] - sum(m[bound] for m in owned)) for bound in (0, 1))
    return low, nominal


def _lane(modules: dict[str, int]) -> float:
    """Cells of one lane, um2 at 45 nm; of several instances outside arrays, all."""
    return _scale() * sum(
        float(block["area_um2"]) / modules[block["module"]]
        for block in FACTS["blocks"]
        if block["module"] in modules
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_area_model_and_cells(component: str) -> None:
    least, greatest = AGREEMENT[component]
    assert least <= _modelled(component)[1] / _mapped(component) <= greatest


def test_all_logic_within_a_factor_of_two() -> None:
    """Nominal; and the cells lie above the sum of the low ends."""
    cells = sum(map(_mapped, COMPONENTS))
    low, nominal = (sum(_modelled(c)[bound] for c in COMPONENTS) for bound in (0, 1))
    assert low < cells < nominal < 2 * cells


def test_facts_are_of_the_preset() -> None:
    assert FACTS["parameters"] == simulator.parameters(PRESETS["edge"])
    config = PRESETS["edge"]
    parameter_copies = 2  # one for each read port
    attention = 2  # states, and alignments
    banks = config.scratchpad_banks + config.accumulator_banks + parameter_copies + attention
    assert FACTS["memories"] == banks


def test_flip_flops_of_a_mesh_row() -> None:
    """A PE: 8 bits to the east (not from the last), two weights, and a sum of 16 + log2(dim)."""
    (row,) = (block for block in FACTS["blocks"] if block["module"] == "mesh_row")
    dim = FACTS["parameters"]["Dim"]
    assert row["flip_flops"] == 8 * (dim - 1) + dim * (2 * 8 + 16 + 3)
    assert row["count"] == dim


# -- docs/synthesis.md ------------------------------------------------------------------------------


def _claims() -> Iterator[str]:
    blocks = FACTS["blocks"]
    cells, flip_flops, um2 = (
        sum(b["count"] * b[key] for b in blocks) for key in ("cells", "flip_flops", "area_um2")
    )
    yield f"{cells:,} cells, {flip_flops:,} of them flip-flops, {um2 * 1e-6:.2f} mm2"
    yield f"beside {FACTS['memories']} SRAM banks"
    yield f"an area at 130 nm is {FACTS['area_over_45nm']} times one at 45 nm"
    ours, open45 = FACTS["check"]["sky130hd_um2"], FACTS["check"]["nangate45_um2"]
    yield f"an 8 x 8 mesh took {ours:,} um2 here and {open45:,} in the 45 nm Nangate cells: {ours / open45:.1f}"
    total = [sum(_modelled(c)[1] for c in COMPONENTS), sum(map(_mapped, COMPONENTS))]
    yield f"{total[0] / total[1] * ours / open45 / FACTS['area_over_45nm']:.2f} times by this"
    low = sum(_modelled(c)[0] for c in COMPONENTS)
    for component in COMPONENTS:
        (least, nominal), mapped = _modelled(component), _mapped(component)
        yield f"| {component} | {mapped:,.0f} | {least:,.0f} | {nominal:,.0f} | {nominal / mapped:.2f} |"
    yield f"| all logic | {total[1]:,.0f} | {low:,.0f} | {total[0]:,.0f} | {total[0] / total[1]:.2f} |"
    for units, modules in LANES.items():
        lanes = [area.units()[name] for name in units]
        least, nominal = (
            sum(area.lane_area_um2(lane, table, 45) for lane in lanes)
            for table in (area.LOW_TABLE, area.NOMINAL_TABLE)
        )
        mapped = _lane(modules)
        yield (
            f"| {', '.join(units)} | {' + '.join(modules)} | {mapped:,.0f} | {least:,.0f} "
            f"| {nominal:,.0f} | {nominal / mapped:.2f} |"
        )
    queues = [b for b in blocks if b["module"] == "fifo"]
    queue_um2 = _scale() * sum(b["count"] * b["area_um2"] for b in queues)
    bits = sum(b["count"] * b["flip_flops"] for b in queues)
    yield f"{bits:,} flip-flops, {queue_um2:,.0f} um2, {100 * queue_um2 / total[1]:.0f} %"
    for module in ("moments", "statistics"):
        (block,) = (b for b in blocks if b["module"] == module)
        yield f"`{module}` ({_scale() * block['area_um2']:,.0f} um2)"
    row = next(b for b in blocks if b["module"] == "mesh_row")
    yield f"{row['flip_flops'] / 8:.0f} flip-flops a PE, not {area.units()['pe'].register_bits}"


GIVEN = (r"sky130_fd_sc_hd\w*", r"sky130hd\w*", r"tt, 25 C, 1.8 V", r"130 nm|45 nm|40 nm|1 ns")


def test_the_page_says_what_is_computed() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for claim in _claims():
        assert claim in page


def test_the_page_has_no_other_numbers() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for claim in sorted(_claims(), key=len, reverse=True):
        page = page.replace(claim, "~")
    for given in GIVEN:
        page = re.sub(given, "~", page)
    assert not re.findall(r".{0,30}\b\d[\d,.]*", page)


# -- The command ------------------------------------------------------------------------------------

GATES = {"INV": (1, "!A"), "BUF": (2, "A"), "NAND2": (2, "!(A B)"), "NOR2": (2, "!(A+B)")}
FLIP_FLOP_UM2 = 8


@pytest.fixture
def liberty(tmp_path: Path) -> Path:
    """A library of four gates and a flip-flop; the mapper insists on some delay."""
    tables = "".join(
        f'{name} (delay) {{ values ("0.1, 0.2", "0.2, 0.3"); }}\n'
        for name in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    )
    text = (
        'library (gates) {\ntime_unit : "1ns";\ncapacitive_load_unit (1, pf);\n'
        "lu_table_template (delay) {\nvariable_1 : input_net_transition;\n"
        "variable_2 : total_output_net_capacitance;\n"
        'index_1 ("0.1, 1");\nindex_2 ("0.001, 1");\n}\n'
        f"cell (DFF) {{ area : {FLIP_FLOP_UM2};\n"
        'ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }\n'
        "pin (CK) { direction : input; clock : true; }\npin (D) { direction : input; }\n"
        'pin (Q) { direction : output; function : "IQ"; } }\n'
    )
    for name, (um2, function) in GATES.items():
        inputs = [letter for letter in "AB" if letter in function]
        sense = "negative" if "!" in function else "positive"
        text += f"cell ({name}) {{ area : {um2};\n"
        text += "".join(
            f"pin ({i}) {{ direction : input; capacitance : 0.001; }}\n" for i in inputs
        )
        text += f'pin (Y) {{ direction : output; function : "{function}"; max_capacitance : 1;\n'
        for i in inputs:
            text += f'timing () {{ related_pin : "{i}"; timing_sense : {sense}_unate;\n{tables}}}\n'
        text += "}\n}\n"
    path = tmp_path / "gates.lib"
    path.write_text(text + "}\n")
    return path


@needs_yosys
@pytest.mark.parametrize(
    "config",
    [
        replace(preset("edge"), normalization=False),
        pytest.param(preset("edge"), marks=pytest.mark.long),
        pytest.param(preset("ibert"), marks=pytest.mark.long),
    ],
    ids=["edge without normalization", "edge", "ibert"],
)
def test_the_whole_machine_is_hardware(config: HardwareConfig, tmp_path: Path) -> None:
    """No latch, no wire of several drivers, with and without the normalization units."""
    blocks = synthesis.elaborate("machine", simulator.parameters(config), tmp_path)
    modules = {block.partition("$")[0] for block in blocks}
    assert {"machine", "mesh_row", "load_unit", "store_dma", "front_end", "drain_lane"} <= modules
    assert ("statistics" in modules) == config.normalization


@needs_yosys
@pytest.mark.parametrize("top", ["drain_lane", "statistics"])
def test_the_normalization_units_are_hardware(top: str, tmp_path: Path) -> None:
    assert synthesis.elaborate(top, {}, tmp_path)


@needs_yosys
def test_a_delay_line_is_its_flip_flops(liberty: Path) -> None:
    result = synthesis.synthesize("delay_line", {"Width": 3, "Depth": 5}, liberty)
    (block,) = result.blocks
    assert (result.library, block.cells, block.flip_flops) == ("gates", 15, 15)
    assert result.area_um2 == 15 * FLIP_FLOP_UM2


@needs_yosys
def test_a_mesh_is_its_rows_and_what_is_around_them(liberty: Path) -> None:
    """Dim 4: rows of 4 PEs with sums of 18 bits, and the side queue of 2 Dim entries of 60 bits."""
    done = CliRunner().invoke(
        synthesis.main, ["mesh", "-p", "Dim=4", "--liberty", str(liberty), "--json"]
    )
    assert done.exit_code == 0, done.output
    blocks = {block["module"]: block for block in json.loads(done.output)["blocks"]}
    assert blocks["mesh_row"]["count"] == 4
    assert blocks["mesh_row"]["flip_flops"] == 8 * 3 + 4 * (2 * 8 + 18)
    assert blocks["fifo"]["flip_flops"] == 8 * 60 + 3 + 3  # nobody reads its count
    for block in blocks.values():
        assert block["area_um2"] >= FLIP_FLOP_UM2 * block["flip_flops"]


BROKEN = {
    "latch": "always_comb if (a_i) q_o = b_i;",
    "driven twice": "assign q_o = a_i; assign q_o = b_i;",
    "unknown": "nothing u_nothing (.a_i);",
}


@needs_yosys
@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_no_hardware_is_refused(fault: str, tmp_path: Path) -> None:
    ports = "input logic a_i, input logic b_i, output logic q_o"
    (tmp_path / "top.sv").write_text(f"module top ({ports});\n{BROKEN[fault]}\nendmodule\n")
    with pytest.raises(SimulatorError):
        synthesis.elaborate("top", {}, tmp_path, rtl=tmp_path)


def test_one_line_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for arguments, words in (
        (["delay_line"], install_command("synthesis")),
        (["nothing"], "nothing.sv"),
        (["delay_line", "-p", "Width"], "NAME=NUMBER"),
    ):
        done = CliRunner().invoke(synthesis.main, arguments)
        assert done.exit_code and words in done.output


@needs_yosys
@pytest.mark.long
@pytest.mark.skipif("CODESIGN_LIBERTY" not in os.environ, reason="needs CODESIGN_LIBERTY=sky130hd")
def test_facts_are_of_this_rtl() -> None:
    """The table again, from the same library: within 3 %, as far as other versions of Yosys go."""
    library = Path(os.environ["CODESIGN_LIBERTY"])
    result = synthesis.synthesize("machine", FACTS["parameters"], library, FACTS["dont_use"])
    assert result.library == FACTS["library"]
    recorded = {b["instance"]: b for b in FACTS["blocks"]}
    for block in result.blocks:
        before = recorded.pop(block.instance)
        assert block.count == before["count"]
        assert block.area_um2 == pytest.approx(before["area_um2"], rel=0.03, abs=200)
    assert not recorded
