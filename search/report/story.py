"""What a search found, in sentences: what won, why, where its cost goes and how far that holds."""

from collections import Counter
from collections.abc import Mapping, Sequence

from codesign.search.joint.search_records import FrontPoint
from codesign.search.joint.winners import KNEE, LEAST_EDP
from codesign.search.report.content import Metric, architecture, machine_text, scaled
from codesign.search.report.data import JsonObject, SearchRun, winners_by_role
from codesign.search.terminal.figures import significant

_LIMITS = {"area_mm2": "area", "power_w": "power"}
_MOST_NAMED = 2  # parts of a point's cycles or energy that are named


def story(
    run: SearchRun,
    axes: Mapping[str, Metric],
    parts: Sequence[JsonObject],
    ranks: JsonObject | None,
) -> list[tuple[str, str]]:
    """Return question and answer of all that the run can answer.

    `parts` are the break-downs of `report_charts.spending`, `ranks` is its `robustness`.
    """
    role, point = _hero(run)
    answers = {
        "What won": _won(run, axes, role, point),
        "Which machine": _machines(run),
        "What limits it": _limits(run, axes),
        "Why this mesh": _meshes(run, role, point),
        "Where cost goes": _cost(parts, role, point),
        "How robust": _robust(ranks),
    }
    return [(question, answer) for question, answer in answers.items() if answer]


def _hero(run: SearchRun) -> tuple[str, FrontPoint]:
    """The winner that is told about: the knee, or on a front without one the least EDP."""
    found = winners_by_role(run)
    role = KNEE if KNEE in found else LEAST_EDP
    return role, found[role]


def _won(run: SearchRun, axes: Mapping[str, Metric], role: str, point: FrontPoint) -> str:
    quality, edp = axes["perplexity"], axes["edp_js"]
    return (
        f"The {role}, point {point.point}: {architecture(point)}. {quality.label} "
        f"{scaled(point.perplexity, quality)}, EDP {scaled(point.edp_js, edp)} {edp.unit}."
    )


def _machines(run: SearchRun) -> str:
    used = Counter(machine_text(p) for p in run.front)
    name, points = used.most_common(1)[0]
    if len(run.front) == 1:
        return f"{name}."
    if len(used) == 1:
        return f"All {len(run.front)} points use one: {name}. The Transformer alone varies."
    share = f"{points} of {len(run.front)} points"
    return f"{len(used)} machines are on the front; {share} use one: {name}."


def _limits(run: SearchRun, axes: Mapping[str, Metric]) -> str:
    """How near the front comes to each limit of the space."""
    limits = (run.inputs.get("space") or {}).get("constraints") or {}
    said = []
    for key, name in _LIMITS.items():
        values = [getattr(p, key) for p in run.front]
        limit = limits.get(key)
        if values and isinstance(limit, int | float) and limit > 0:
            metric, most = axes[key], max(values)
            said.append(
                f"{name} up to {scaled(most, metric)} of {scaled(limit, metric)} {metric.unit} "
                f"({_percent(most / limit)})"
            )
    return f"On the front, {'; '.join(said)}." if said else ""


def _meshes(run: SearchRun, role: str, point: FrontPoint) -> str:
    """The least EDP of the point's Transformer on each other mesh, over its own."""
    found = [c for c in run.heatmap if c.point == point.point]
    of_mesh = Counter(c.dim for c in found if c.bus_bytes == point.bus_bytes)
    if len(set(of_mesh.values())) > 1:
        return ""  # of some meshes only the nearest machines were priced
    least: dict[int, float] = {}
    for cell in found:
        if cell.edp_js is not None:
            least[cell.dim] = min(least.get(cell.dim, cell.edp_js), cell.edp_js)
    others = [
        f"{significant(edp / point.edp_js, 2)} times on {dim}×{dim}"
        for dim, edp in sorted(least.items(), reverse=True)
        if dim != point.dim
    ]
    if not others:
        return ""
    return f"Least EDP of the {role}’s Transformer on other meshes, over its own: {_and(others)}."


def _cost(parts: Sequence[JsonObject], role: str, point: FrontPoint) -> str:
    """The largest parts of the cycles and of the energy."""
    said = []
    for part in parts:
        amounts = part["points"].get(str(point.point)) or []
        whole = sum(amounts)
        if whole <= 0:
            continue
        largest = sorted(zip(amounts, part["names"], strict=True), reverse=True)[:_MOST_NAMED]
        shares = ", ".join(f"{name} {_percent(amount / whole)}" for amount, name in largest)
        said.append(f"{part['of']} by {part['by']}: {shares}")
    return f"At the {role}: {'; '.join(said)}." if said else ""


def _robust(ranks: JsonObject | None) -> str:
    if ranks is None:
        return ""
    lines, tables = ranks["lines"], ranks["tables"]
    kept = sum(all(line["onFront"]) for line in lines)
    still = sum(len(set(line["ranks"])) == 1 for line in lines)
    return (
        f"Under {_and(tables)} energies {kept} of {len(lines)} points stay on the front and "
        f"{still} keep their rank."
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
