"""Tables of machines and of networks on them: the rows of a sweep, the kernels of a simulation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.memories import ACCUMULATOR, SCRATCHPAD, SHOWN, Memory, present
from codesign.hw.sizes import format_size
from codesign.search.pricing.breakdown import groups
from codesign.search.pricing.evaluate import Result
from codesign.search.pricing.sweep import DecoderRow, Row, best
from codesign.search.terminal.figures import aligned, percent, prefix, significant, span
from codesign.search.terminal.tables import Column, fit, short_names, with_notes

MOST_ROWS = 60
MOST_REASONS = 3

_AXIS_COLUMNS = (
    ("dim", "dim", "PEs"),
    *(
        (field, memory.label, "banks" if field == memory.banks else "bytes")
        for memory in SHOWN
        for field in memory.fields
    ),
    ("bus_bytes", "bus", "bytes"),
    ("dram_latency_cycles", "DRAM latency", "cycles"),
)
_SIZES = {memory.size: memory for memory in SHOWN}


def machine_title(config: HardwareConfig) -> str:
    """Return one line that says which machine this is."""
    units = "" if config.normalization else ", no nonlinear units"
    memories = (memory for memory in present(config) if memory in SHOWN)
    sizes = (f"{memory.label} {format_size(memory.size_bytes(config))}" for memory in memories)
    return (
        f"{config.name}: {config.dim}×{config.dim} mesh, {', '.join(sizes)}, "
        f"bus {config.bus_bytes} B, DRAM latency {config.dram_latency_cycles}, {config.clock_hz / 1e6:g} MHz, "
        f"{config.technology_nm} nm{units}"
    )


def sweep_table(rows: Sequence[Row], title: str, width: int) -> RenderableType:
    """Return the rows of a sweep, the best EDP marked, with what is to be said below them."""
    shown, left_out = _shown(rows)
    winner = best(rows) if len(rows) > 1 else None
    columns = []
    if winner is not None:
        columns.append(Column("", "", ["★" if row is winner else "" for row in shown]))
    shown_sizes = {memory.size for memory in had(rows)}
    for field, name, unit in _AXIS_COLUMNS:
        values = {getattr(row, field) for row in rows}
        if field in shown_sizes or len(values) > 1:
            show = format_size if field in _SIZES else str
            columns.append(Column(name, unit, [show(getattr(row, field)) for row in shown]))
    columns += _cost_columns(shown)
    columns += _token_columns([row for row in shown if isinstance(row, DecoderRow)])
    styles = ["bold green" if row is winner else "" if row.feasible else "dim" for row in shown]
    notes = [*_ranking(rows), *_reasons(rows, "failed"), *_reasons(rows, "infeasible")]
    if all(isinstance(row, DecoderRow) for row in rows):
        notes += _reasons(rows, "first_token_unknown", "time to first token unknown")
    if left_out:
        notes.append(f"{left_out} more machines are not shown: --out keeps all of them")
    return with_notes(fit(columns, title, width, styles), notes)


def kernel_table(result: Result, title: str, width: int) -> RenderableType:
    """Return the kernels of `result`, identical ones together, with their totals."""
    rows = groups(result)
    low, nominal, high = result.energy_j.tolist()
    factor, si = prefix([nominal])

    ends = [(row.energy_low_j, row.energy_high_j) for row in rows] + [(low, high)]
    bounds = aligned([factor * bound for pair in ends for bound in pair])
    spans = [f"{a}–{b}" for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
    shares = [percent(row.cycles, result.cycles) for row in rows]
    utilization = [f"{100 * row.utilization:.1f}" if row.macs else "" for row in rows]
    intensity = ["" if row.intensity is None else significant(row.intensity, 3) for row in rows]
    energy = aligned([*(row.energy_j * factor for row in rows), nominal * factor])
    dram = aligned([*(row.dram_bytes / 1e6 or None for row in rows), result.dram_bytes / 1e6], 4)
    names = short_names([row.name for row in rows], width)
    columns = [
        Column("kernel", "", [*names, "total"], left=True),
        Column("kind", "", [*(row.kind for row in rows), ""], 5, left=True),
        Column("count", "", [*(f"{row.count}×" for row in rows), ""]),
        Column("cycles", "", [*(f"{row.cycles:,}" for row in rows), f"{result.cycles:,}"]),
        Column("cycles", "%", [*shares, "100.0"]),
        Column("util.", "%", [*utilization, f"{100 * result.utilization:.1f}"], 1),
        Column("energy", f"{si}J", energy),
        Column("low–high", f"{si}J", spans, 3),
        Column("DRAM", "MB", dram, 2),
        Column("intensity", "MACs/B", [*intensity, ""], 4),
        Column("mapping", "", [*(row.mapping for row in rows), ""], 6, left=True),
    ]
    styles = ["yellow" if row.host_cycles else "" for row in rows]
    return fit(columns, title, width, [*styles, "bold"], total=True)


def energy_table(result: Result, width: int) -> RenderableType:
    """Return the energy of `result` by component, low / nominal / high, with bars."""
    parts = {name: joules.tolist() for name, joules in result.breakdown().items()}
    total = result.energy_j.tolist()
    factor, si = prefix([total[1]])
    ordered = sorted(parts.items(), key=lambda item: -item[1][1])
    shares = [values[1] / total[1] if total[1] else 0.0 for _, values in ordered]
    lines = [*(values for _, values in ordered), total]
    columns = [Column("component", "", [*(name for name, _ in ordered), "total"], left=True)]
    for bound, name in enumerate(("low", "nominal", "high")):
        cells = aligned([values[bound] * factor for values in lines])
        columns.append(Column(name, f"{si}J", cells))
    columns.append(Column("share", "%", [*(f"{100 * share:.1f}" for share in shares), "100.0"]))
    bars = [*("█" * round(24 * share) for share in shares), ""]
    columns.append(Column("", "", bars, 1, left=True))
    styles = [*[""] * len(ordered), "bold"]
    return fit(columns, "Energy by component", width, styles, total=True)


def totals_table(result: Result) -> RenderableType:
    """Return what one inference costs in all: low / nominal / high where it is uncertain."""
    table = Table.grid(padding=(0, 2))
    latency, latency_unit = prefix([result.latency_s])
    lines = [
        ("cycles", f"{result.cycles:,}", f"{result.host_cycles:,} of them on the host"),
        ("latency", f"{significant(result.latency_s * latency)} {latency_unit}s", ""),
        ("utilization", f"{100 * result.utilization:.2f} %", f"{result.macs:,} MACs"),
        ("DRAM traffic", f"{result.dram_bytes / 1e6:,.1f} MB", ""),
    ]
    for name, values, unit in (
        ("energy", result.energy_j.tolist(), "J"),
        ("EDP", result.edp_js.tolist(), "J·s"),
        ("area", result.area_mm2.tolist(), "mm²"),
    ):
        factor, si = (1.0, "") if unit == "mm²" else prefix([values[1]])
        low, nominal, high = (significant(value * factor) for value in values)
        lines.append((name, f"{nominal} {si}{unit}", f"low {low}, high {high}"))
    lines += _token_lines(result)
    for name, value, remark in lines:
        table.add_row(Text(name), Text(value, style="bold", justify="right"), Text(remark, "dim"))
    return table


def _token_lines(result: Result) -> Iterator[tuple[str, str, str]]:
    """What is to be said of a decoder: name, value, remark."""
    decoder, first, energy = result.decoder, result.time_to_first_token_s, result.energy_per_token_j
    if decoder is None:
        return
    if first is None:
        yield "time to first token", "unknown", decoder.unknown
    else:
        prompt = "" if result.prefill is None else f", a prompt of {decoder.past:,} tokens"
        cycles = (result.prefill or result).cycles
        factor, si = prefix([first])
        yield (
            "time to first token",
            f"{significant(first * factor)} {si}s",
            f"{cycles:,} cycles{prompt}",
        )
    if result.tokens_per_s is None or energy is None:
        return
    step = "1 token" if decoder.tokens == 1 else f"{decoder.tokens:,} tokens"
    behind = f"a step of {step} behind {decoder.past:,}"
    yield "tokens per second", significant(result.tokens_per_s), behind
    factor, si = prefix([energy.tolist()[1]])
    low, nominal, high = (significant(joules * factor) for joules in energy.tolist())
    yield "energy per token", f"{nominal} {si}J", f"low {low}, high {high}"


def mapping_table(result: Result, title: str, width: int) -> RenderableType:
    """Return the mapping of every kernel of `result`, identical ones together."""
    rows = [row for row in groups(result) if row.mapping]
    columns = [
        Column("kernel", "", short_names([row.name for row in rows], width), left=True),
        Column("count", "", [f"{row.count}×" for row in rows], 2),
        Column("cycles", "", [f"{row.cycles:,}" for row in rows], 1),
        Column("mapping", "", [row.mapping for row in rows], left=True),
    ]
    return fit(columns, title, width, [""] * len(rows))


def hardware_table(
    machines: Mapping[str, HardwareConfig], areas: Mapping[str, Sequence[float]], width: int
) -> RenderableType:
    """Return machines by name with what they are built of; `areas` are low, nominal, high mm2."""
    configs = list(machines.values())
    columns = [
        Column("name", "", list(machines), left=True),
        Column("dim", "PEs", [str(c.dim) for c in configs]),
        *(column for memory in had(configs) for column in _memory_columns(memory, configs)),
        Column("bus", "bytes", [str(c.bus_bytes) for c in configs]),
        Column("DRAM latency", "cycles", [str(c.dram_latency_cycles) for c in configs], 4),
        Column("clock", "MHz", [f"{c.clock_hz / 1e6:g}" for c in configs], 2),
        Column("node", "nm", [str(c.technology_nm) for c in configs], 2),
        Column("nonlinear", "", ["chip" if c.normalization else "host" for c in configs]),
        Column("peak", "GMAC/s", [f"{c.macs_per_cycle * c.clock_hz / 1e9:g}" for c in configs], 1),
        Column("area", "mm²", [significant(areas[name][1], 3) for name in machines], 1),
    ]
    return fit(columns, "Preset machines", width, [""] * len(configs))


def _memory_columns(memory: Memory, configs: Sequence[HardwareConfig]) -> Iterator[Column]:
    sizes = [format_size(memory.size_bytes(config)) for config in configs]
    yield Column(memory.label, "bytes", sizes)
    if memory.banks is not None:
        yield Column("banks", "", [str(memory.bank_count(config)) for config in configs], 3)


def had(machines: Sequence[Row | HardwareConfig]) -> tuple[Memory, ...]:
    """Return the memories that have a name in tables and are in one of the machines at least."""
    return tuple(m for m in SHOWN if any(m.size_bytes(machine) for machine in machines))


def _shown(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """All rows, or those of the lowest EDP where there are too many."""
    if len(rows) <= MOST_ROWS:
        return list(rows), 0
    feasible = [row for row in rows if row.edp_js is not None]
    chosen = sorted(feasible, key=lambda row: (row.edp_js, row.index))[:MOST_ROWS]
    return chosen, len(rows) - len(chosen)


def _scaled(rows: Sequence[Row], field: str, digits: int = 4) -> tuple[list[str], str]:
    """The cells of a column, and the SI prefix of its unit."""
    values = [getattr(row, field) for row in rows]
    factor, si = prefix(value for value in values if value is not None)
    return ["" if v is None else significant(v * factor, digits) for v in values], si


def _token_columns(rows: Sequence[DecoderRow]) -> list[Column]:
    """The columns of a decoder that any of its machines has a number of."""
    columns = []
    for name, field, unit in (
        ("first token", "time_to_first_token_s", "s"),
        ("tokens", "tokens_per_s", "1/s"),
        ("energy/token", "energy_per_token_j", "J"),
    ):
        cells, si = _scaled(rows, field)
        if any(cells):
            unit = f"{si}/s" if unit == "1/s" and si else f"{si}{unit}"
            columns.append(Column(name, unit, cells, 1))
    return columns


def _cost_columns(rows: Sequence[Row]) -> list[Column]:
    """The columns of what a machine costs, in units of their own."""

    def cells(show: Callable[[Any], str]) -> list[str]:
        return [show(row) if row.feasible else "" for row in rows]

    energy, energy_si = _scaled(rows, "energy_j")
    factor = prefix(row.energy_j for row in rows if row.energy_j is not None)[0]
    latency, latency_si = _scaled(rows, "latency_s")
    edp, edp_si = _scaled(rows, "edp_js")
    dram, dram_si = _scaled(rows, "dram_bytes")
    macs, macs_si = _scaled(rows, "macs")
    without = ("failed" if row.failed else "infeasible" for row in rows)
    cycles = [
        w if r.cycles is None else f"{r.cycles:,}" for r, w in zip(rows, without, strict=True)
    ]
    return [
        Column("cycles", "", cycles),
        Column("latency", f"{latency_si}s", latency, 3),
        Column("energy", f"{energy_si}J", energy),
        Column(
            "low–high",
            f"{energy_si}J",
            cells(lambda r: span(r.energy_low_j * factor, r.energy_high_j * factor)),
        ),
        Column("EDP", f"{edp_si}J·s", edp),
        Column("area", "mm²", cells(lambda r: significant(r.area_mm2, 3)), 2),
        Column("util.", "%", cells(lambda r: f"{100 * r.utilization:.1f}"), 1),
        Column("MACs", macs_si, macs, 5),
        Column("DRAM", f"{dram_si}B", dram, 4),
    ]


def _ranking(rows: Sequence[Row]) -> list[str]:
    """Whether the winner stays the winner at both ends of the energy range."""
    feasible = [row for row in rows if row.feasible]
    if len(feasible) < 2:
        return []
    winners = [best(feasible, column) for column in ("edp_low_js", "edp_js", "edp_high_js")]
    low, nominal, high = (machine_label(row, rows) for row in winners if row is not None)
    if low == nominal == high:
        return [f"★ best EDP: {nominal} ({size_names(rows)}) with low and high energies too"]
    ends = f"with low energies {low}, with high energies {high}"
    return [f"★ best EDP: {nominal} ({size_names(rows)}); {ends}"]


def size_names(rows: Sequence[Row]) -> str:
    """Return what the sizes of a `machine_label` are of."""
    return " / ".join(memory.label for memory in had(rows))


def machine_label(row: Row, rows: Sequence[Row]) -> str:
    """Return the sizes of a machine's memories and whatever else differs between `rows`."""
    text = " / ".join(format_size(memory.size_bytes(row)) for memory in had(rows))
    fields = {name: field for name, field in varying(rows).items() if field not in _SIZES}
    return ", ".join([text, *(f"{name} {getattr(row, field)}" for name, field in fields.items())])


def varying(rows: Sequence[Row]) -> dict[str, str]:
    """Return what differs between the machines of `rows` beside the sizes of scratchpad and
    accumulator: name to column."""
    return {
        f"{name} banks" if unit == "banks" else name: field
        for field, name, unit in _AXIS_COLUMNS
        if field not in (SCRATCHPAD.size, ACCUMULATOR.size)
        and len({getattr(row, field) for row in rows}) > 1
    }


def _reasons(rows: Sequence[Row], field: str, label: str = "") -> list[str]:
    """One line a reason ("failed" or "infeasible"), with the number of machines that have it."""
    label = label or field
    reasons: dict[str, int] = {}
    for row in rows:
        reason: str = getattr(row, field)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    lines = [f"{label} ({count}): {reason}" for reason, count in ordered[:MOST_REASONS]]
    others = sum(count for _, count in ordered[MOST_REASONS:])
    return [*lines, f"{label} ({others}): for other reasons"] if others else lines
