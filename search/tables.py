"""Tables for people: the rows of a sweep, the kernels of a simulation, models and machines.

Each column says its unit under its name and its values share one SI prefix. Where a terminal is too
narrow the columns that matter least are left out; pipes, files and `--json` have all of them.
"""

import codecs
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import Box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from codesign.hw.config import HardwareConfig
from codesign.hw.sizes import format_size
from codesign.hw.text import printable
from codesign.search.breakdown import groups
from codesign.search.evaluate import Result
from codesign.search.sweep import Row, best

if TYPE_CHECKING:
    from codesign.search.verify import Checked, Summary

MOST_ROWS = 60
MOST_REASONS = 3
_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
# A rule below the header and above totals, nothing else.
_BOX = Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
_ASCII = {"µ": "u", "·": "*", "²": "2", "³": "3", "×": "x", "–": "-", "─": "-", "…": "~", "★": "*",
          "█": "#"}  # fmt: skip
_ENDLESS = 10_000  # columns of output that is no terminal: nothing is left out

_AXIS_COLUMNS = (
    ("dim", "dim", "PEs"),
    ("scratchpad_bytes", "scratchpad", "bytes"),
    ("scratchpad_banks", "scratchpad", "banks"),
    ("accumulator_bytes", "accumulator", "bytes"),
    ("accumulator_banks", "accumulator", "banks"),
    ("bus_bytes", "bus", "bytes"),
    ("dram_latency_cycles", "DRAM latency", "cycles"),
)
_ALWAYS = ("scratchpad_bytes", "accumulator_bytes")


@dataclass(frozen=True)
class _Column:
    name: str
    unit: str
    cells: Sequence[str]
    rank: int = 0  # the highest go first where room is short
    left: bool = False


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the encoding of an output does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("codesign.ascii", _spelled)


class _Console(Console):
    """A console on which names and other text from outside can only be read."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, with what is not printable escaped."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=printable(segment.text, keep="\n"))


class _Piped(_Console):
    """A console whose output is read by programs: no line ends in spaces."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as a Console does."""
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def console(stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that prints names as they are, endlessly wide where it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = terminal_width(stream) if width is None else width
    kind = _Piped if width is None else _Console
    # Rich would read [brackets] in the names of ONNX nodes as its own markup.
    made = kind(stderr=stderr, width=width or _ENDLESS, highlight=False, markup=False, emoji=False)
    if hasattr(made.file, "reconfigure"):
        made.file.reconfigure(errors="codesign.ascii")
    return made


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that `stream` writes to; None where it is no terminal."""
    return Console(file=stream).width if stream.isatty() else None


def significant(value: float, digits: int = 4) -> str:
    """Return `value` to so many significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, places)}f}"


def aligned(values: Sequence[float | None], digits: int = 5) -> list[str]:
    """Return `values` with equally many decimals, the largest with `digits` digits; "" for None."""
    largest = max((abs(v) for v in values if v), default=0.0)
    whole = math.floor(math.log10(largest)) + 1 if largest else 1
    places = max(0, digits - max(whole, 1))
    return ["" if value is None else f"{value:.{places}f}" for value in values]


def prefix(values: Iterable[float]) -> tuple[float, str]:
    """Return the factor and SI prefix in which the median of `values` has one to three digits."""
    ordered = sorted(abs(v) for v in values if v)
    if not ordered:
        return 1.0, ""
    exponent = 3 * math.floor(math.log10(ordered[len(ordered) // 2]) / 3 + 1e-12)
    exponent = max(min(exponent, max(_PREFIXES)), min(_PREFIXES))
    return 10.0**-exponent, _PREFIXES[exponent]


def machine_title(config: HardwareConfig) -> str:
    """Return one line that says which machine this is."""
    units = "" if config.normalization else ", no nonlinear units"
    return (
        f"{config.name}: {config.dim}×{config.dim} mesh, "
        f"scratchpad {format_size(config.scratchpad_bytes)}, "
        f"accumulator {format_size(config.accumulator_bytes)}, bus {config.bus_bytes} B, "
        f"DRAM latency {config.dram_latency_cycles}, {config.clock_hz / 1e6:g} MHz, "
        f"{config.technology_nm} nm{units}"
    )


def sweep_table(rows: Sequence[Row], title: str, width: int) -> RenderableType:
    """Return the rows of a sweep, the best EDP marked, with what is to be said below them."""
    shown, left_out = _shown(rows)
    winner = best(rows) if len(rows) > 1 else None
    columns = []
    if winner is not None:
        columns.append(_Column("", "", ["★" if row is winner else "" for row in shown]))
    for field, name, unit in _AXIS_COLUMNS:
        values = {getattr(row, field) for row in rows}
        if field in _ALWAYS or len(values) > 1:
            show = format_size if field.endswith("_bytes") and field != "bus_bytes" else str
            columns.append(_Column(name, unit, [show(getattr(row, field)) for row in shown]))
    columns += _cost_columns(shown)
    styles = ["bold green" if row is winner else "" if row.feasible else "dim" for row in shown]
    notes = [*_ranking(rows), *_reasons(rows, "failed"), *_reasons(rows, "infeasible")]
    if left_out:
        notes.append(f"{left_out} more machines are not shown: --out keeps all of them")
    return _with_notes(_fit(columns, title, width, styles), notes)


def kernel_table(result: Result, title: str, width: int) -> RenderableType:
    """Return the kernels of `result`, identical ones together, with their totals."""
    rows = groups(result)
    low, nominal, high = result.energy_j.tolist()
    factor, si = prefix([nominal])

    ends = [(row.energy_low_j, row.energy_high_j) for row in rows] + [(low, high)]
    bounds = aligned([factor * bound for pair in ends for bound in pair])
    spans = [f"{a}–{b}" for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
    shares = [_percent(row.cycles, result.cycles) for row in rows]
    utilization = [f"{100 * row.utilization:.1f}" if row.macs else "" for row in rows]
    intensity = ["" if row.intensity is None else significant(row.intensity, 3) for row in rows]
    energy = aligned([*(row.energy_j * factor for row in rows), nominal * factor])
    dram = aligned([*(row.dram_bytes / 1e6 or None for row in rows), result.dram_bytes / 1e6], 4)
    names = _short_names([row.name for row in rows], width)
    columns = [
        _Column("kernel", "", [*names, "total"], left=True),
        _Column("kind", "", [*(row.kind for row in rows), ""], 5, left=True),
        _Column("count", "", [*(f"{row.count}×" for row in rows), ""]),
        _Column("cycles", "", [*(f"{row.cycles:,}" for row in rows), f"{result.cycles:,}"]),
        _Column("cycles", "%", [*shares, "100.0"]),
        _Column("util.", "%", [*utilization, f"{100 * result.utilization:.1f}"], 1),
        _Column("energy", f"{si}J", energy),
        _Column("low–high", f"{si}J", spans, 3),
        _Column("DRAM", "MB", dram, 2),
        _Column("intensity", "MACs/B", [*intensity, ""], 4),
        _Column("mapping", "", [*(row.mapping for row in rows), ""], 6, left=True),
    ]
    styles = ["yellow" if row.host_cycles else "" for row in rows]
    return _fit(columns, title, width, [*styles, "bold"], total=True)


def energy_table(result: Result, width: int) -> RenderableType:
    """Return the energy of `result` by component, low / nominal / high, with bars."""
    parts = {name: joules.tolist() for name, joules in result.breakdown().items()}
    total = result.energy_j.tolist()
    factor, si = prefix([total[1]])
    ordered = sorted(parts.items(), key=lambda item: -item[1][1])
    shares = [values[1] / total[1] if total[1] else 0.0 for _, values in ordered]
    lines = [*(values for _, values in ordered), total]
    columns = [_Column("component", "", [*(name for name, _ in ordered), "total"], left=True)]
    for bound, name in enumerate(("low", "nominal", "high")):
        cells = aligned([values[bound] * factor for values in lines])
        columns.append(_Column(name, f"{si}J", cells))
    columns.append(_Column("share", "%", [*(f"{100 * share:.1f}" for share in shares), "100.0"]))
    bars = [*("█" * round(24 * share) for share in shares), ""]
    columns.append(_Column("", "", bars, 1, left=True))
    styles = [*[""] * len(ordered), "bold"]
    return _fit(columns, "Energy by component", width, styles, total=True)


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
    for name, value, remark in lines:
        table.add_row(Text(name), Text(value, style="bold", justify="right"), Text(remark, "dim"))
    return table


def mapping_table(result: Result, title: str, width: int) -> RenderableType:
    """Return the mapping of every kernel of `result`, identical ones together."""
    rows = [row for row in groups(result) if row.mapping]
    columns = [
        _Column("kernel", "", _short_names([row.name for row in rows], width), left=True),
        _Column("count", "", [f"{row.count}×" for row in rows], 2),
        _Column("cycles", "", [f"{row.cycles:,}" for row in rows], 1),
        _Column("mapping", "", [row.mapping for row in rows], left=True),
    ]
    return _fit(columns, title, width, [""] * len(rows))


def verification_table(
    results: "Sequence[Checked]", total: "Summary", title: str, width: int
) -> RenderableType:
    """Return the checked kernels with what was found, and below them what it comes to."""
    checks = [result.check for result in results]

    def counts(field: str) -> list[str]:
        values = [getattr(check, field) for check in checks]
        return ["" if value is None else f"{value:,}" for value in values]

    short = _short_names([check.name for check in checks], width)
    names = [f"{name}, …" if c.also else name for name, c in zip(short, checks, strict=True)]
    speeds = [result.kcycles_per_s for result in results]
    columns = [
        _Column("kernel", "", names, left=True),
        _Column("shape", "", ["host" if c.on_host else c.shape for c in checks], 2, left=True),
        _Column("count", "", [f"{check.count}×" for check in checks], 1),
        _Column("instr.", "", counts("instructions"), 3),
        _Column("cycles", "timing", counts("cycles")),
    ]
    if total.backend == "rtl":
        columns.append(_Column("cycles", "RTL", counts("rtl_cycles")))
        columns.append(_Column("times", "differ", counts("times_differing")))
        columns.append(_Column("bytes", "differ", counts("bytes_differing")))
        columns.append(_Column("counts", "differ", counts("counts_differing")))
    columns.append(
        _Column("speed", "kcycles/s", ["" if s is None else f"{s:,.0f}" for s in speeds], 4)
    )
    styles = ["bold red" if c.difference else "dim" if c.on_host else "" for c in checks]
    return _with_notes(_fit(columns, title, width, styles), _verdict(total))


def _verdict(total: "Summary") -> list[str]:
    """What all checks come to, in plain words."""
    if not total.kernels:
        return ["no kernel was checked"]
    agrees = "differs" if total.differing else "agrees"
    found = f"{total.differing} of them differ" if total.differing else "0 differences"
    factor, si = prefix([total.cycles])
    cycles = f"{significant(total.cycles * factor, 3)} {si}".rstrip()
    kernels = "1 kernel" if total.kernels == 1 else f"{total.kernels:,} kernels"
    ran = f"{kernels}, {total.instructions:,} instructions, {cycles} cycles"
    lines = [f"{total.view} {agrees}: {ran}, {found}"]
    if total.network_cycles is not None:
        host = f", {total.host_cycles:,} of them on the host, where nothing is checked"
        network = f"{total.network_kernels:,} kernels, {total.network_cycles:,} cycles"
        lines.append(f"the network: {network}{host if total.host_cycles else ''}")
    return lines


def hardware_table(
    machines: Mapping[str, HardwareConfig], areas: Mapping[str, Sequence[float]], width: int
) -> RenderableType:
    """Return machines by name with what they are built of; `areas` are low, nominal, high mm2."""
    configs = list(machines.values())
    columns = [
        _Column("name", "", list(machines), left=True),
        _Column("dim", "PEs", [str(c.dim) for c in configs]),
        _Column("scratchpad", "bytes", [format_size(c.scratchpad_bytes) for c in configs]),
        _Column("banks", "", [str(c.scratchpad_banks) for c in configs], 3),
        _Column("accumulator", "bytes", [format_size(c.accumulator_bytes) for c in configs]),
        _Column("banks", "", [str(c.accumulator_banks) for c in configs], 3),
        _Column("bus", "bytes", [str(c.bus_bytes) for c in configs]),
        _Column("DRAM latency", "cycles", [str(c.dram_latency_cycles) for c in configs], 4),
        _Column("clock", "MHz", [f"{c.clock_hz / 1e6:g}" for c in configs], 2),
        _Column("node", "nm", [str(c.technology_nm) for c in configs], 2),
        _Column("nonlinear", "", ["chip" if c.normalization else "host" for c in configs]),
        _Column("peak", "GMAC/s", [f"{c.macs_per_cycle * c.clock_hz / 1e9:g}" for c in configs], 1),
        _Column("area", "mm²", [significant(areas[name][1], 3) for name in machines], 1),
    ]
    return _fit(columns, "Preset machines", width, [""] * len(configs))


def plain_table(
    headers: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    title: str,
    width: int,
    texts: int = 1,
) -> RenderableType:
    """Return a table of ready cells; headers are (name, unit), the first `texts` columns are text."""
    columns = [
        _Column(name, unit, [row[i] for row in rows], rank=i, left=i < texts)
        for i, (name, unit) in enumerate(headers)
    ]
    return _fit(columns, title, width, [""] * len(rows))


def _shown(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """All rows, or those of the lowest EDP where there are too many."""
    if len(rows) <= MOST_ROWS:
        return list(rows), 0
    feasible = [row for row in rows if row.edp_js is not None]
    chosen = sorted(feasible, key=lambda row: (row.edp_js, row.index))[:MOST_ROWS]
    return chosen, len(rows) - len(chosen)


def _cost_columns(rows: Sequence[Row]) -> list[_Column]:
    """The columns of what a machine costs, in units of their own."""

    def scaled(field: str, digits: int = 4) -> tuple[list[str], str]:
        values = [getattr(row, field) for row in rows]
        factor, si = prefix(value for value in values if value is not None)
        return ["" if v is None else significant(v * factor, digits) for v in values], si

    def cells(show: Callable[[Any], str]) -> list[str]:
        return [show(row) if row.feasible else "" for row in rows]

    energy, energy_si = scaled("energy_j")
    factor = prefix(row.energy_j for row in rows if row.energy_j is not None)[0]
    latency, latency_si = scaled("latency_s")
    edp, edp_si = scaled("edp_js")
    dram, dram_si = scaled("dram_bytes")
    macs, macs_si = scaled("macs")
    without = ("failed" if row.failed else "infeasible" for row in rows)
    cycles = [
        w if r.cycles is None else f"{r.cycles:,}" for r, w in zip(rows, without, strict=True)
    ]
    return [
        _Column("cycles", "", cycles),
        _Column("latency", f"{latency_si}s", latency, 3),
        _Column("energy", f"{energy_si}J", energy),
        _Column(
            "low–high",
            f"{energy_si}J",
            cells(lambda r: _span(r.energy_low_j * factor, r.energy_high_j * factor)),
        ),
        _Column("EDP", f"{edp_si}J·s", edp),
        _Column("area", "mm²", cells(lambda r: significant(r.area_mm2, 3)), 2),
        _Column("util.", "%", cells(lambda r: f"{100 * r.utilization:.1f}"), 1),
        _Column("MACs", macs_si, macs, 5),
        _Column("DRAM", f"{dram_si}B", dram, 4),
    ]


def _short_names(names: Sequence[str], width: int) -> list[str]:
    """Without the operator type that exporters append, where the rest still tells them apart.

    Two fifths of the width are all that a name gets.
    """
    longest = 2 * width // 5
    short = [re.sub(r"/[A-Z][A-Za-z]*$", "", name) for name in names]
    kept = [s if short.count(s) == 1 and s else n for s, n in zip(short, names, strict=True)]
    half = longest // 2
    return [n if len(n) <= longest else f"{n[: half - 1]}…{n[-half:]}" for n in kept]


def _ranking(rows: Sequence[Row]) -> list[str]:
    """Whether the winner stays the winner at both ends of the energy range."""
    feasible = [row for row in rows if row.feasible]
    if len(feasible) < 2:
        return []
    winners = [best(feasible, column) for column in ("edp_low_js", "edp_js", "edp_high_js")]
    low, nominal, high = (machine_label(row, rows) for row in winners if row is not None)
    if low == nominal == high:
        return [f"★ best EDP: {nominal} (scratchpad / accumulator) with low and high energies too"]
    ends = f"with low energies {low}, with high energies {high}"
    return [f"★ best EDP: {nominal} (scratchpad / accumulator); {ends}"]


def machine_label(row: Row, rows: Sequence[Row]) -> str:
    """Return scratchpad / accumulator of a machine and whatever else differs between `rows`."""
    text = f"{format_size(row.scratchpad_bytes)} / {format_size(row.accumulator_bytes)}"
    fields = varying(rows)
    return ", ".join([text, *(f"{name} {getattr(row, field)}" for name, field in fields.items())])


def varying(rows: Sequence[Row]) -> dict[str, str]:
    """Return what differs between the machines of `rows` beside the sizes: name to column."""
    return {
        f"{name} banks" if unit == "banks" else name: field
        for field, name, unit in _AXIS_COLUMNS
        if field not in _ALWAYS and len({getattr(row, field) for row in rows}) > 1
    }


def _reasons(rows: Sequence[Row], field: str) -> list[str]:
    """One line a reason ("failed" or "infeasible"), with the number of machines that have it."""
    reasons: dict[str, int] = {}
    for row in rows:
        reason: str = getattr(row, field)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    lines = [f"{field} ({count}): {reason}" for reason, count in ordered[:MOST_REASONS]]
    others = sum(count for _, count in ordered[MOST_REASONS:])
    return [*lines, f"{field} ({others}): for other reasons"] if others else lines


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def _span(low: float, high: float) -> str:
    return f"{significant(low, 3)}–{significant(high, 3)}"


def _fit(
    columns: Sequence[_Column], title: str, width: int, styles: Sequence[str], total: bool = False
) -> Table:
    """Build the table from the columns that `width` has room for; closer together, then fewer.

    With `total` the last row is set off. What is left out is said below the table.
    """
    kept = list(columns)
    probe = console(width=10_000)
    while True:
        for gap in (1, 0):
            table = _build(kept, styles, total, gap)
            if Measurement.get(probe, probe.options, table).maximum <= width:
                break
        droppable = [column for column in kept if column.rank]
        if Measurement.get(probe, probe.options, table).maximum <= width or not droppable:
            table.title = title
            out = [column.name for column in columns if column not in kept]
            if out:
                table.caption = f"no room for {', '.join(out)}: widen the terminal, or take --json"
            return table
        kept.remove(max(droppable, key=lambda column: column.rank))


def _build(columns: Sequence[_Column], styles: Sequence[str], total: bool, gap: int) -> Table:
    table = Table(
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="dim",
        box=_BOX,
        show_edge=False,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        header_style="bold",
        border_style="dim",
    )
    units = any(column.unit for column in columns)
    for column in columns:
        header = Text(column.name)
        if units:
            header.append(f"\n{column.unit}", style="dim")
        table.add_column(
            header, justify="left" if column.left else "right", no_wrap=True, overflow="ellipsis"
        )
    for index, style in enumerate(styles):
        if total and index == len(styles) - 1:
            table.add_section()
        table.add_row(*(column.cells[index] for column in columns), style=style)
    return table


def _with_notes(table: Table, notes: Sequence[str]) -> RenderableType:
    return Group(table, *(Text(note, style="dim") for note in notes))
