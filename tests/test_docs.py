"""docs/energy.md and docs/host.md say what the code computes, and no number that is not checked.

Each claim is built here from computed numbers as the page words it. What remains of a page is
sources and names; a number beyond those fails the test.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from published_area import (
    DAC21,
    PUBLISHED_SHARES,
    least_area_of_twice_the_banks,
    memories_mm2,
    shares_of,
)
from published_energy import GATE_LEVEL_45NM, GEMMINI, event_pj, matmul_priced
from published_host import (
    ELEMENTS,
    IDEAL_CYCLES,
    MACS,
    PUBLISHED,
    PUBLISHED_SPEED_UP,
    on_the_baseline,
)

from codesign.compiler.importer.layout import WORD_BYTES
from codesign.hw.costs import area, energy, host, sram
from codesign.hw.machine.config import PRESETS, preset
from codesign.search.inputs.sources import load_model
from codesign.search.pricing.evaluate import Result, evaluate

DOCS = Path(__file__).resolve().parent.parent / "docs"
NODES = (22, 32, 45)
CYCLES, M, K, N = 1_179_648, 512, 768, 768  # the worked example, on a mesh of 16 x 16
ITA_PJ = 2 / 16.9  # pJ a MAC of 16.9 TOPS/W all in, arXiv 2307.03493


@cache
def _page(name: str) -> str:
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def _priced() -> Iterator[str]:
    """What an event costs."""
    table = energy.cost_table(GEMMINI)
    registers = area.units()["pe"].register_bits
    idle = 1e14 * float(table.pe_idle_j[1]) / event_pj(table, "pe_active")[1]
    yield f"| + {registers} flip-flops |"
    yield f"| 0 (gated clock) | {idle:.0f} % of one with work | clock and data of {registers} flip"
    low, nominal, high = (pj / 8 for pj in event_pj(table, "dram_read_bytes"))
    yield f"| {low:.0f} pJ/bit | {nominal:.0f} | {high:.0f} |"
    yield f"the flat {nominal:.0f} pJ/bit is Accelergy's"
    gigabytes = GEMMINI.bus_bytes * GEMMINI.clock_hz * 1e-9
    low, nominal, high = (1e3 * table.dram_background_w / gigabytes).tolist()
    yield f"{low:.1f} mW per GB/s (LPDDR3) | {nominal:.1f} (LPDDR4) | {high:.1f} (DDR4)"
    low, nominal, high = event_pj(table, "host_cycles")
    yield f"{low:.0f} pJ (Rocket, scaled) | {nominal:.0f} pJ (Ariane, 22FDX) | {high:.0f} pJ |"
    state = area.units()["state"]
    own = state.memory(22)
    assert own is not None
    yield f"{state.memory_rows} rows of {state.memory_row_bits} bits in a macro of {own.area_mm2[1]:.4f} mm2"
    yield "a weight preloaded: 8 bits through (dim + 1) / 2 registers"  # test_energy counts them


def _technology() -> Iterator[str]:
    """Nodes, supplies, memories and silicon."""
    silicon = sram.read_toml("technology.toml")["gemmini_22ffl"]
    parts = ("mesh_um2", "scratchpad_um2", "accumulator_um2", "cpu_um2")
    rest = silicon["total_um2"] - sum(silicon[part] for part in parts)
    yield f"({silicon['cpu_um2']:,.0f} um2 beside Gemmini)"
    yield f"beside mesh, memories and CPU, {rest:,.0f} um2 at {silicon['node_nm']} nm"
    supplies = sram.read_toml("technology.toml")["supply_v"]
    volts = " / ".join(f"{supplies[str(node)]:.1f}" for node in NODES)
    nodes = " / ".join(map(str, NODES))
    yield f"({volts} V at {nodes} nm)"
    yield "**Above 45 nm and below 22 nm** there are no tables"
    yield (
        f"45 nm 1.1 V to 22 nm 0.8 V is x{energy.energy_scale(45, 1.1, 22, 0.8):.3f}, "
        f"from 0.9 V x{energy.energy_scale(45, 0.9, 22, 0.8):.3f} "
        f"(interpolating linearly between nodes would say {_linear_scale(1.1):.3f} "
        f"and {_linear_scale(0.9):.3f})"
    )
    for name, source in (("horowitz45", "ISSCC 2014"), ("aladdin40", "ISCA 2014")):
        table = area.operator_table(name)
        volts = f"{table.supply_v} V" if name == "horowitz45" else "operators for 1 ns"
        yield f"({source}, {table.node_nm} nm, {volts}"
    yield f"{area.operator_table('aladdin40').supply_v} V assumed"
    yield f"Rows beyond {sram.MAX_ROW_BITS} bits are macros side by side"
    rows = [row for row in sram.read_csv("sram_cacti7.csv") if row["profile"] == "lstp_1r1w"]
    yield f"banks beyond {max(float(row['size_kb']) for row in rows):.0f} KB several macros"
    errors = {column: _left_one_out(column) for column in ("read_pj", "write_pj", "area_mm2")}
    read, write, mm2 = (100 * sum(found) / len(found) for found in errors.values())
    worst = 100 * max(max(found) for found in errors.values())
    yield (
        f"leaving out a grid point at 22 nm costs {read:.0f} % (read), {write:.0f} % (write) "
        f"and {mm2:.0f} % (area) on average, {worst:.0f} % at worst"
    )
    low, high = sram.energy_spread(22, "read_pj")
    yield f"10th and 90th percentile: {low:.2f} and {high:.2f} for a read at 22 nm"
    low, high = sram.area_spread(22)
    yield f"one shared port ({low:.2f}) to the density of Gemmini's silicon ({high:.2f})"
    yield f"it is {high:.1f} times denser than 22FFL"
    yield f"by a factor of {sram.leakage_spread(22):.0f} at 22 nm"


def _growth() -> Iterator[str]:
    """What levelling takes off CACTI's macros, and what it leaves."""
    wider_area, wider_leakage, area_left, energy_left = [], [], [], []
    for node in NODES:
        grid, levelled = sram.cacti(node, "1R1W"), sram.levelled(node, "1R1W")
        for bits, size in [(row_bits, kb) for row_bits in grid for kb in grid[row_bits]]:
            own, level, wider = grid[bits][size], levelled[bits][size], grid.get(2 * bits, {})
            if size in wider:
                wider_area.append(wider[size][3] / own[3])
                wider_leakage.append(wider[size][2] / own[2])
            area_left.append(level[3] / own[3])
            energy_left += [level[0] / own[0], level[1] / own[1]]
    smaller, leaks, area_off, energy_off = (
        f"{100 - 100 * min(found):.0f} %"
        for found in (wider_area, wider_leakage, area_left, energy_left)
    )
    yield f"a macro of twice the row width can come out up to {smaller} smaller"
    yield f"That takes up to {area_off} off an area and {energy_off} off an energy"
    yield f"by up to {leaks} between row widths of the same bytes"
    banks = 100 - 100 * least_area_of_twice_the_banks()
    yield f"but the area may be up to {banks:.0f} % smaller"


def _linear_scale(from_v: float) -> float:
    """Stillmaker and Baas' energies with 22 nm on the straight line between 20 and 32 nm."""
    polynomials = sram.read_toml("technology.toml")["stillmaker"]["energy"]

    def at(node: str, volts: float) -> float:
        a, b, c = polynomials[node]
        return float((a * volts + b) * volts + c)

    there = at("20", 0.8) + (at("32", 0.8) - at("20", 0.8)) * (22 - 20) / (32 - 20)
    return there / at("45", from_v)


def _left_one_out(column: str) -> list[float]:
    """Relative errors of log-log interpolation at each inner point of the 22 nm 1R1W grid."""
    rows = [row for row in sram.read_csv("sram_cacti7.csv") if row["profile"] == "lstp_1r1w"]
    grid = {
        (row["row_bits"], float(row["size_kb"])): float(row[column])
        for row in rows
        if int(row["node_nm"]) == 22
    }
    inner = [(b, kb) for b, kb in grid if (b, kb / 2) in grid and (b, 2 * kb) in grid]
    return [
        abs(math.sqrt(grid[bits, kb / 2] * grid[bits, 2 * kb]) / grid[bits, kb] - 1)
        for bits, kb in inner
    ]


def _worked_example() -> Iterator[str]:
    config = replace(GEMMINI, clock_hz=1_000_000_000)
    table, events = energy.cost_table(config), matmul_priced(M, K, N, 16)
    total = 1e6 * energy.energy_j(table, events, CYCLES)
    background = 1e6 * table.dram_background_w * CYCLES / config.clock_hz
    low, nominal, high = (total - background).tolist()
    yield (
        f"| {_by_hand_uj():.0f} uJ by hand, MAC at equal supplies, single-port macros "
        f"| {nominal:.0f} ({low:.0f} to {high:.0f}) |"
    )
    yield f"the ends of the worked example below are a factor of {high / low:.1f} apart"
    share = 100 * background[1] / total[1]
    yield f"**DRAM background** is {share:.0f} % of the nominal energy of the worked example"
    parts = energy.breakdown(table, events, CYCLES)
    low, nominal, high = (1e6 * parts["static"]).tolist()
    yield f"leaks {low:.1f} uJ with low-standby-power cells, {nominal:.1f} with SRAM"
    yield f"{high:.0f} with hot fast cells throughout"
    yield f"as much as the {1e6 * parts['mesh'][1]:.0f} of its mesh"
    chip = sum(float(parts[c][1]) for c in energy.COMPONENTS if c not in ("dram", "host"))
    yield f"| ITA, 22FDX, all in | {ITA_PJ:.3f} pJ/MAC | {1e12 * chip / (M * K * N):.2f} on chip"
    relative = energy.cost_table(GEMMINI, "timeloop-pat")
    units = sum(1e6 * float(j[1]) for j in energy.breakdown(relative, events, CYCLES).values())
    # 684 is Timeloop's own closed forms, which test_energy writes out
    yield f"| {M} x {K} x {N} in `timeloop-pat` units | 684 | {units:.1f} |"


def _by_hand_uj() -> float:
    """The worked example from published digits: Aladdin's MAC, CACTI's macros, 8 pJ a DRAM bit."""
    mac = (12.68 / 16 + 0.21) * energy.energy_scale(40, 0.9, 22, 0.9)
    scratchpad_read, scratchpad_write = 8.96588, 7.60143  # 64 KB, 128 bits, one port
    accumulator = sram.memory("macro", 32 << 10, 1, 512, 22, "1RW")
    k_tiles, n_tiles = K // 16, N // 16
    results = M * k_tiles * n_tiles
    picojoules = M * K * N * mac + 64 * (M * K + K * N + M * N)
    picojoules += scratchpad_read * (results + K * n_tiles)
    picojoules += scratchpad_write * (M * K + K * N) / 16
    picojoules += results * 1e12 * (accumulator.read_j[1] + accumulator.write_j[1])
    return 1e-6 * picojoules


def _silicon() -> Iterator[str]:
    """The table of checks, areas and published operators."""
    digits = (17.7687, 15.2845, 0.255441)  # CACTI, as in test_sram, where all seven are
    read_pj, write_pj, _, area_mm2, _ = sram.cacti(22, "1RW")[128][256]
    ours = (read_pj, write_pj, area_mm2)
    assert ours == pytest.approx(digits, rel=5e-5)
    yield (
        "| 7 macros at three nodes = CACTI, run for the test | "
        f"{digits[0]} / {digits[1]} pJ, {digits[2]} mm2 (22 nm, 256 KB, 128 bits) "
        "| equal to the 5 digits kept |"
    )
    slow = area.operator_table("aladdin40-5ns")
    mac = sum(
        area.operator_value(slow, op, bits, lambda e: e.energy_pj)
        for op, bits in (("multiply", 64), ("add", 8))
    )
    yield f"| Aladdin MAC at 5 ns | 0.5608 pJ | {mac:.4f} |"
    table = energy.cost_table(replace(preset("ibert"), technology_nm=45))
    nominal = {event: event_pj(table, event)[1] for event in GATE_LEVEL_45NM}
    simulated = ", ".join(f"{low:.3g}-{high:.3g}" for low, high in GATE_LEVEL_45NM.values())
    yield (
        f"| gate-level simulation at 45 nm, 1.1 V (PE, exp, gelu, divide, sqrt) | {simulated} pJ "
        f"| {nominal['pe_active']:.2f}, "
        + ", ".join(f"{pj:.1f}" for event, pj in nominal.items() if event != "pe_active")
        + " |"
    )
    scratchpad, accumulator = memories_mm2()
    yield (
        f"area (DAC 2021) | {PUBLISHED_SHARES[1] / PUBLISHED_SHARES[2]:.2f} "
        f"| {scratchpad / accumulator:.2f}"
    )
    pe = area.lane_area_um2(area.units()["gemmini_pe"], "aladdin40", 22)
    yield f"| Gemmini PE, 22FFL | {116e3 / 256:.0f} um2 | {pe:.0f} |"
    shares = shares_of(256e-6 * pe, scratchpad, accumulator)
    off = max(abs(a - b) for a, b in zip(shares, PUBLISHED_SHARES, strict=True))
    yield f"{_listed(PUBLISHED_SHARES)} % | **{_listed(shares)}: fails by {off:.0f} points** |"
    fitted = area.area_mm2(DAC21, calibration="22ffl").components
    yield f"| {_listed(shares_of(*(fitted[c][1] for c in ('mesh', 'scratchpad', 'accumulator'))))} (a"
    low, mid, high = area.area_mm2(DAC21).total
    published = 1e-6 * (1_029_000 - 171_000)  # DAC 2021, Fig. 6: all of it, and the CPU
    yield f"| Gemmini without CPU | {published:.3f} mm2 | {mid:.2f} ({low:.2f} to {high:.2f}) |"
    base = preset("gemmini")
    more = area.area_mm2(replace(base, normalization=True)).total[1]
    growth = 100 * (more / area.area_mm2(base).total[1] - 1)
    yield f"I-BERT units (arXiv 2302.14017, ASAP7) | +14 % | +{growth:.0f} % |"


def _listed(shares: list[float]) -> str:
    return " / ".join(f"{share:.1f}" for share in shares)


def _baselines() -> Iterator[str]:
    """What a slow machine spends."""
    slow, fast = (_evaluated(name) for name in ("gemmini", "ibert"))
    background = [
        100 * float(r.table.dram_background_w[1] * r.latency_s / r.energy_j[1])
        for r in (slow, fast)
    ]
    dram = 100 * float(slow.breakdown()["dram"][1] / slow.energy_j[1])
    hosted = 100 * slow.host_cycles / slow.cycles
    yield (
        f"GPT-2 at L = 128 computes {hosted:.0f} % of the time on the host, and DRAM is "
        f"{dram:.0f} % of its energy (background alone {background[0]:.0f} %). "
        f"On `ibert` background is {background[1]:.0f} %."
    )


@cache
def _evaluated(machine: str) -> Result:
    return evaluate(load_model("gpt2", seq=128).graph, preset(machine))


def _clocks() -> Iterator[str]:
    megahertz = {config.clock_hz // 10**6 for config in PRESETS.values()}
    (clock,) = megahertz
    slow = {
        (name, node): warning
        for name, config in PRESETS.items()
        for node in NODES
        for warning in sram.timing_warnings(replace(config, technology_nm=node))
    }
    (((name, node), warning),) = slow.items()
    memory, _, size = warning.partition(": a bank of ")
    most = re.search(r"at most (\d+) MHz", warning)
    assert most is not None
    fitting = " and ".join(str(n) for n in NODES if n != node)
    yield (
        f"At {clock} MHz every preset fits at {fitting} nm; at {node} nm the "
        f"{size.split()[0].removesuffix('K')} KB {memory} banks of `{name}` allow {most[1]} MHz"
    )


def _host() -> Iterator[str]:
    """The arithmetic of the calibration, step by step from the figure."""
    speed_up = f"{PUBLISHED_SPEED_UP}x"
    names = ("quantize", "softmax", "add", "gelu", "layernorm", "matmul")
    titles = ("de/quantization", "softmax", "residual add", "GELU", "LayerNorm", "matmul")
    shares = [100 * PUBLISHED[name] for name in names]
    listed = [f"{t} {s:.0f} %" for t, s in zip(titles, shares, strict=True)]
    yield f"{', '.join(listed)}; and {speed_up} from adding"
    yield f"The shares sum to {sum(shares):.0f} %"
    after = IDEAL_CYCLES / 0.91 / 0.87
    implied = IDEAL_CYCLES / 0.74 / 0.01
    yield (
        "Matmul at 1 % and 74 % utilization would make the baseline "
        f"{implied / 1e9:.1f} Gcycles, {implied / after:.0f}x the optimised machine instead of "
        f'{speed_up}; the text\'s "96 % non-matmul" agrees with {speed_up}.'
    )
    yield f"We follow the latter family: {speed_up} and the shares of the five host functions"
    yield f"The unnamed {100 - sum(shares):.0f} % is left out"
    yield (
        f"| MACs of 12 layers, L = 512 | {MACS / 1e9:.1f} G; / 256 a cycle = "
        f"{IDEAL_CYCLES / 1e6:.1f} Mcycles |"
    )
    yield (
        "| optimised: 91 % utilization (Fig. 13), matmul + GELU 87 % (Fig. 14 middle) | "
        f"{IDEAL_CYCLES / 1e6:.1f} / 0.91 / 0.87 = {after / 1e6:.1f} M |"
    )
    baseline = PUBLISHED_SPEED_UP * after
    yield f"| baseline = {PUBLISHED_SPEED_UP} x | {baseline / 1e9:.2f} G |"
    yield from _calibrated(baseline)
    rebuilt = on_the_baseline()
    whole = sum(rebuilt.values())
    share = {name: f"{100 * cycles / whole:.0f}" for name, cycles in rebuilt.items()}
    yield (
        f"conversions {share['quantize']} %, softmax {share['softmax']}, add {share['add']}, GELU "
        f"{share['gelu']}, LayerNorm {share['layernorm']}, matmul {share['matmul']} %; "
        f"{whole / after:.1f}x."
    )
    yield from _not_calibrated()


def _calibrated(baseline: float) -> Iterator[str]:
    """Cycles an element of what the figure names, on a baseline of so many cycles."""
    cost = {name: PUBLISHED[name] * baseline / count for name, count in ELEMENTS.items()}
    millions = {name: count / 1e6 for name, count in ELEMENTS.items()}
    ours = {name: host.cycles_per_element(name) for name in (*ELEMENTS, "quantize")}
    for name, text in (
        (
            "softmax",
            f"softmax: 19 % over 12 x 12 x 512 x 512 = {millions['softmax']:.1f} M elements",
        ),
        ("gelu", f"GELU: 10 % over 12 x 512 x 3072 = {millions['gelu']:.1f} M"),
        ("layernorm", f"LayerNorm: 4 % over 24 x 512 x 768 = {millions['layernorm']:.2f} M"),
        ("add", f"residual add: 11 % over {millions['add']:.2f} M"),
    ):
        assert cost[name] == pytest.approx(ours[name], abs=0.6)
        yield f"| {text} | {cost[name]:.1f}: **{ours[name]}** |"
    passes = sum((3 if name == "add" else 2) * count for name, count in ELEMENTS.items())
    yield (
        f"| conversions: 49 % over 2 x {millions['softmax']:.1f} + 2 x {millions['gelu']:.1f} + "
        f"2 x {millions['layernorm']:.2f} + 3 x {millions['add']:.2f} M passes | "
        f"{PUBLISHED['quantize'] * baseline / passes:.1f}: **{ours['quantize']}** |"
    )


def _not_calibrated() -> Iterator[str]:
    assert {host.cycles_per_element(name) for name in ("tanh", "sigmoid", "no such")} == {
        host.cycles_per_element("generic")
    }
    assert host.cycles_per_element("relu") == host.cycles_per_element("argmax")
    yield (
        f"not calibrated: {host.cycles_per_element('generic')} cycles an element for tanh, sigmoid, "
        f"pooling and whatever is unknown, {host.cycles_per_element('relu')} for ReLU and arg-max, "
        f"{host.cycles_per_element('mask')} for a mask, {host.cycles_per_element('embedding')} for "
        "an embedding look-up (8-byte copies)"
    )
    yield (
        f"{host.cycles_per_element('copy_rows')} cycle a byte written where bytes move in runs of at "
        f"least a word of {WORD_BYTES} bytes"
    )
    yield f"{host.cycles_per_element('copy_bytes')} cycles where single bytes move"
    yield f"compare int8 values, {host.cycles_per_element('maxpool')} cycles a value of a window"


PAGES: dict[str, tuple[Callable[[], Iterator[str]], ...]] = {
    "energy.md": (_priced, _technology, _growth, _worked_example, _silicon, _baselines, _clocks),
    "host.md": (_host,),
}


@cache
def _claims(source: Callable[[], Iterator[str]]) -> tuple[str, ...]:
    return tuple(source())


# Numbers that are names, sources or settings of a source, not results.
GIVEN = (
    r"CACTI 7\b|LPDDR\d|DDR\d|DRAMsim3|22FDX|22FFL|22ffl|ASAP7|1R1W|int\d+|energy x delay\^2|8-bit|32-bit",
    r"arXiv \d+\.\d+|\b(?:ISSCC|ISCA|DAC|MICRO|TACO|Integration) \d{4}|Accelergy v0\.4|Fig\. \d+",
    r"\bat (?:22|32|45) nm|\b22 nm\b|300 K|350 K|Aladdin at 5 ns|close 1 ns at 40 nm|is 2008 planar",
    r"Aladdin, 1 ns",
    r"L = 512|(?<=\s)\d\. (?=\*\*|~)",  # and the numbers of a list
)


@pytest.mark.parametrize(
    ("page", "source"),
    [(page, source) for page, sources in PAGES.items() for source in sources],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_page_says_what_is_computed(page: str, source: Callable[[], Iterator[str]]) -> None:
    for claim in _claims(source):
        assert claim in _page(page)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_other_numbers(page: str) -> None:
    text = _page(page)
    claims = [claim for source in PAGES[page] for claim in _claims(source)]
    for claim in sorted(claims, key=len, reverse=True):
        text = text.replace(claim, "~")
    for given in GIVEN:
        text = re.sub(given, "~", text)
    found = [text[max(0, m.start() - 30) : m.end() + 20] for m in re.finditer(r"\d[\d,.]*", text)]
    assert not found
