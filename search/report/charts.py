"""What the charts of a report draw, and the tables that say the same in numbers."""

from collections.abc import Mapping, Sequence

from codesign.hw.sizes import format_size
from codesign.search.joint.objectives import COSTS
from codesign.search.joint.search_records import ENERGIES, HEAT_AXES
from codesign.search.report.content import Metric, ReportTable, scaled, words
from codesign.search.report.data import JsonObject, SearchRun, kept_order, winners_by_role
from codesign.search.terminal.figures import prefix, significant

_MOST_PARTS = 8  # colours of a stacked bar
_AT_LOSS = "edp_js_at_"  # least EDP at a loss of perplexity, a column of the generations
_POWERS = {2: "²", 3: "³"}


def curves(run: SearchRun, axes: Mapping[str, Metric]) -> list[JsonObject]:
    """Return the charts of convergence: hypervolume, and the best of each objective so far."""
    rows = run.generations
    if len(rows) < 2:
        return []
    x = [row["evaluations"] for row in rows]

    def series(name: str, key: str, factor: float = 1.0) -> JsonObject:
        raw = [row[key] for row in rows]
        return {"name": name, "values": [None if v is None else factor * v for v in raw]}

    def chart(title: str, unit: str, *drawn: JsonObject) -> JsonObject:
        return {"title": title, "unit": unit, "x": x, "series": list(drawn)}

    known, edp, found = rows[0].keys(), axes["edp_js"], []
    if "hypervolume" in known:
        dimensions = len(run.inputs.get("objectives") or ()) or 2
        unit = f"decades{_POWERS.get(dimensions, f'^{dimensions}')}"
        found.append(chart("Hypervolume of the front", unit, series("hypervolume", "hypervolume")))
    least = [series("best", "best_edp_js", edp.factor)] if "best_edp_js" in known else []
    for key in (k for k in known if k.startswith(_AT_LOSS)):
        name = f"at most +{key.removeprefix(_AT_LOSS)} {run.quality_label}"
        least.append(series(name, key, edp.factor))
    if least:
        found.append(chart("Least EDP", f"EDP ({edp.unit})", *least))
    for key, metric in axes.items():
        if key != "edp_js" and f"best_{key}" in known:
            name = run.quality_label if key == "perplexity" else words(key)
            drawn = series(name, f"best_{key}", metric.factor)
            found.append(chart(f"Best {name}", metric.title, drawn))
    if "front_size" in known:
        found.append(chart("Size of the front", "points", series("points", "front_size")))
    return found


def two_stage_fronts(run: SearchRun, over: Sequence[str]) -> JsonObject | None:
    """Return the fronts of joint search and of two stages over two objectives: points by search."""
    rows = run.two_stage_fronts
    if not rows or any(key not in rows[0] for key in over):
        return None
    names = dict.fromkeys(str(row["strategy"]) for row in rows)
    series = [
        {
            "name": name if name == "joint" else f"two stages, {name}",
            "points": sorted([row[key] for key in over] for row in rows if row["strategy"] == name),
        }
        for name in names
    ]
    return {"x": over[0], "y": over[1], "series": series}


def generations_table(run: SearchRun, charts: Sequence[JsonObject]) -> ReportTable | None:
    """Return the numbers of the convergence charts, at most some 20 generations."""
    if not charts:
        return None
    last = len(run.generations) - 1
    shown = sorted({round(i * last / min(last, 20)) for i in range(min(last, 20) + 1)})
    columns = [("generation", ""), ("evaluated", "candidates")]
    columns += [(f"{c['title']}: {s['name']}" if len(c["series"]) > 1 else c["title"], c["unit"]) for c in charts for s in c["series"]]  # fmt: skip
    rows = []
    for i in shown:
        row = run.generations[i]
        cells = [s["values"][i] for c in charts for s in c["series"]]
        rows.append([str(row["generation"]), f"{row['evaluations']:,}", *map(_number, cells)])
    return ReportTable("Convergence by generation", tuple(columns), rows)


def heatmaps(run: SearchRun) -> list[JsonObject]:
    """Return the machines around each winner: role, point, cells without those of equal machines."""
    costs = [key for key, cost in COSTS.items() if cost.mapped]
    roles: dict[int, str] = {}
    for role, p in winners_by_role(run).items():
        known = roles.get(p.point)
        roles[p.point] = f"{known}, {role}" if known else role
    found = []
    for point, role in roles.items():
        mine = [cell for cell in run.heatmap if cell.point == point]
        cells = {tuple(getattr(cell, key) for key in HEAT_AXES): cell for cell in mine}
        if cells:
            shown = [
                {key: v for key in (*HEAT_AXES, *costs) if (v := getattr(cell, key)) is not None}
                for cell in cells.values()
            ]
            found.append({"role": role, "point": point, "cells": shown})
    return found


def mapped(axes: Mapping[str, Metric]) -> list[str]:
    """Return the columns that heat maps show, of those that the run has."""
    return [key for key, cost in COSTS.items() if cost.mapped and key in axes]


def heatmap_table(
    run: SearchRun, maps: Sequence[JsonObject], axes: Mapping[str, Metric]
) -> ReportTable | None:
    """Return the ten best machines of every heat map by EDP."""
    if not maps:
        return None
    costs = mapped(axes)
    columns = [("winner", ""), ("mesh", "PEs"), ("scratchpad", "bytes"), ("accumulator", "bytes"), ("bus", "bytes")]  # fmt: skip
    columns += [(axes[k].label, axes[k].unit) for k in costs]
    rows = []
    for one in maps:
        fitting = [c for c in one["cells"] if c.get("edp_js") is not None]
        for cell in sorted(fitting, key=lambda c: c["edp_js"])[:10]:
            rows.append([
                f"{one['role']} (point {one['point']})", f"{cell['dim']}×{cell['dim']}",
                format_size(cell["scratchpad_bytes"]), format_size(cell["accumulator_bytes"]),
                str(cell["bus_bytes"]), *(scaled(cell.get(k), axes[k]) for k in costs),
            ])  # fmt: skip
    return ReportTable("The ten machines of least EDP for each winner", tuple(columns), rows)


def spending(run: SearchRun, axes: Mapping[str, Metric]) -> list[JsonObject]:
    """Return cycles by kind of kernel, energy by kind, energy by component: names, a list a point.

    The rarest parts become "other" where there are more than the colours of a chart.
    """
    if not run.spending:
        return []
    energy = axes["energy_j"]
    cycles_factor, si = prefix([p.cycles for p in run.front])
    known = {p.point for p in run.front}
    rows = [row for row in run.spending if row.point in known]
    cycles: dict[tuple[int, str], float] = {}
    kinds: dict[tuple[int, str], float] = {}
    components: dict[tuple[int, str], float] = {}
    for row in rows:
        kind, component = (row.point, row.kind), (row.point, row.component)
        joules = energy.factor * row.energy_j
        cycles[kind] = max(cycles.get(kind, 0.0), cycles_factor * row.cycles)
        kinds[kind] = kinds.get(kind, 0.0) + joules
        components[component] = components.get(component, 0.0) + joules
    by_kind = _ranked(cycles, kinds)  # one order, so that a kind has one colour
    return [
        _parts(("cycles", "kind of kernel"), f"{si} cycles".strip(), cycles, by_kind),
        _parts(("energy", "kind of kernel"), energy.unit, kinds, by_kind),
        _parts(("energy", "component"), energy.unit, components, _ranked(components)),
    ]


def spending_table(run: SearchRun, parts: Sequence[JsonObject]) -> ReportTable | None:
    """Return what the winners spend, a part a row."""
    if not parts:
        return None
    points = {p.point: role for role, p in reversed(winners_by_role(run).items())}
    shown = [p for p in points if str(p) in parts[0]["points"]]
    columns = [("what", ""), ("part", ""), ("unit", "")]
    columns += [(f"point {p} ({points[p]})", "") for p in shown]
    rows = [
        [part["title"], name, part["unit"], *(_number(part["points"][str(p)][i]) for p in shown)]
        for part in parts
        for i, name in enumerate(part["names"])
    ]
    return ReportTable("What the winners spend", tuple(columns), rows)


def robustness(run: SearchRun) -> JsonObject | None:
    """Return each point's rank by EDP under each energy table, and whether it stays on the front."""
    known = {p.point: p for p in run.front}
    rows = [row for row in run.robustness if row.point in known]
    places = {table: place for place, table in enumerate(ENERGIES)}
    tables = sorted({row.table for row in rows}, key=lambda t: (places.get(t, len(places)), t))
    cells = {(row.point, row.table): row for row in rows}
    points = [p for p in known if all((p, t) in cells for t in tables)]
    if not points or not tables:
        return None
    lines = [
        {
            "point": p,
            "ranks": [cells[p, t].rank for t in tables],
            "onFront": [cells[p, t].on_front for t in tables],
        }
        for p in points
    ]
    return {"tables": tables, "lines": sorted(lines, key=lambda line: line["ranks"])}


def robustness_text(found: JsonObject) -> list[str]:
    """Return what the ranks say, a sentence a table."""
    tables, lines = found["tables"], found["lines"]
    middle = tables.index("nominal") if "nominal" in tables else 0
    said = []
    for i, name in enumerate(tables):
        kept = sum(line["onFront"][i] for line in lines)
        order = kept_order(*([line["ranks"][j] for line in lines] for j in (middle, i)))
        same = "" if i == middle else f"; {100 * order:.1f} % of all pairs rank as under nominal energy"  # fmt: skip
        said.append(f"{name} energy: {kept} of {len(lines)} points stay on the front{same}.")
    return said


def robustness_table(found: JsonObject) -> ReportTable:
    """Return the ranks, a point a row."""
    columns = [("point", "")]
    for name in found["tables"]:
        columns += [(f"rank, {name} energy", "by EDP"), (f"on the front, {name} energy", "")]
    rows = [
        [str(line["point"]), *(cell for rank, on in zip(line["ranks"], line["onFront"], strict=True) for cell in (str(rank), "yes" if on else "no"))]
        for line in found["lines"]
    ]  # fmt: skip
    return ReportTable("Rank by EDP under each energy table", tuple(columns), rows)


def _ranked(*amounts: Mapping[tuple[int, str], float]) -> list[str]:
    """Names that any of `amounts` has something of, by their total in the first."""
    totals = dict.fromkeys((n for some in amounts for (_, n), v in some.items() if v > 0), 0.0)
    for (_, name), value in amounts[0].items():
        if name in totals:
            totals[name] += value
    return sorted(totals, key=lambda n: -totals[n])


def _parts(
    what: tuple[str, str], unit: str, amounts: Mapping[tuple[int, str], float], names: Sequence[str]
) -> JsonObject:
    """`what` is spent and on what: ("energy", "component"); `names` are all that it is spent on."""
    of, by = what
    kept = list(names) if len(names) <= _MOST_PARTS else list(names[: _MOST_PARTS - 1])
    points: dict[str, list[float]] = {}
    for point in dict.fromkeys(point for point, _ in amounts):
        values = [amounts.get((point, name), 0.0) for name in kept]
        if len(kept) < len(names):
            values.append(sum(amounts.get((point, n), 0.0) for n in names[len(kept) :]))
        points[str(point)] = [float(f"{v:.6g}") for v in values]
    labels = kept + (["other"] if len(kept) < len(names) else [])
    title = f"{of.capitalize()} by {by}"
    return {"title": title, "of": of, "by": by, "unit": unit, "names": labels, "points": points}


def _number(value: float | None) -> str:
    return "–" if value is None else significant(value)
