"""The report of a joint search: one HTML file that needs no network, or Markdown.

It reads the run directory alone (`data`), decides what to say once (`content`, `charts`) and
leaves the form to the templates.
"""

import itertools
import json
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.hw.machine.memories import SHOWN
from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.text import printable
from codesign.models.zoo.axes import Axis
from codesign.search.joint.objectives import COSTS
from codesign.search.joint.published import PUBLISHED_SOURCE
from codesign.search.joint.search_records import FrontPoint
from codesign.search.joint.winners import KNEE, LEAST_EDP
from codesign.search.report import charts, content
from codesign.search.report.data import JsonObject, SearchRun, read_search, winners_by_role
from codesign.search.report.story import story
from codesign.search.runs.output import print_json, write_file
from codesign.search.runs.records import REMEDY, RunError
from codesign.search.terminal.messages import say

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_DRAWN = (
    "perplexity", "perplexity_is_proxy", "dim",
    *(memory.size for memory in SHOWN), *(memory.banks for memory in SHOWN if memory.banks), "bus_bytes",
    "clock_hz", "technology_nm", "latency_s", "energy_j", "energy_low_j", "energy_high_j", "edp_js",
    "edp_low_js", "edp_high_js", "area_mm2", "power_w", "utilization",
)  # fmt: skip


def report_html(run: Path) -> str:
    """Return the report of a run directory as one HTML document without references to others.

    Raises RunError, one line, where a file of the run is missing or damaged.
    """
    return _rendered(run, "report.html")


def report_markdown(run: Path) -> str:
    """Return the report of a run directory as Markdown, tables instead of charts.

    Raises RunError, one line, where a file of the run is missing or damaged.
    """
    return _rendered(run, "report.md")


def _rendered(run: Path, template: str) -> str:
    """A page of what is in a folder, which may be anything: what is not found there is its fault."""
    found = read_search(run)
    with refuse_damage(run, RunError, f"{REMEDY} (--debug shows more)"):
        said = _said(found)
        return _environment(html=template.endswith("html")).get_template(template).render(said)


def write_report(run: Path, out: Path | None = None, form: str = "html") -> Path:
    """Write the report ("html" or "md") as `out`, by default into the run, and return its path."""
    path = out or run / f"report.{form}"
    write_file(path, (report_html(run) if form == "html" else report_markdown(run)).encode())
    return path


def run_report(run: Path, out: Path | None, form: str, as_json: bool) -> None:
    """Write the report and say where it is."""
    path = write_report(run, out, form)
    if as_json:
        size = path.stat().st_size
        print_json({"run": str(run), "report": str(path), "format": form, "bytes": size})
    else:
        say(f"the report is {path}")


def _said(run: SearchRun) -> dict[str, Any]:
    """Everything that the templates show."""
    axes = content.metrics(run)
    drawn, maps = charts.curves(run, axes), charts.heatmaps(run)
    parts, ranks = charts.spending(run, axes), charts.robustness(run)
    improvements = content.improvements(run, axes)
    return {
        "run": run,
        "axes": axes,
        "objectives": content.objectives_text(run, axes),
        "searched": content.searched(run),
        "headlines": content.headlines(run, axes),
        "story": story(run, axes, parts, ranks),
        "winners": content.winners_table(run, axes),
        "front": content.report_front(run, axes),
        "improvements": improvements,
        "thinned": improvements is not None and content.best_is_left_out(improvements),
        "baseline": content.baseline_text(run, axes),
        "published_source": PUBLISHED_SOURCE,
        "verified": content.verified_text(run),
        "two_stage": content.two_stage_table(run),
        "generations": charts.generations_table(run, drawn),
        "heatmap": charts.heatmap_table(run, maps, axes),
        "spending": charts.spending_table(run, parts),
        "parts": parts,
        "ranks": charts.robustness_table(ranks) if ranks else None,
        "ranks_text": charts.robustness_text(ranks) if ranks else [],
        "command": _command(run),
        "settings": _settings(run),
        "network": _network(run),
        "data": _embedded(_data(run, axes, drawn, maps, parts, ranks)),
    }


def _data(
    run: SearchRun,
    axes: dict[str, content.Metric],
    drawn: list[JsonObject],
    maps: list[JsonObject],
    parts: list[JsonObject],
    ranks: JsonObject | None,
) -> JsonObject:
    """What the script of the page draws."""
    roles = {role: point.point for role, point in winners_by_role(run).items()}
    base = {key: v for key in axes if (v := getattr(run.baseline, key, None)) is not None}
    return {
        "metrics": {
            key: {"label": m.label, "unit": m.unit, "factor": m.factor, "proxy": m.proxy}
            for key, m in axes.items()
        },
        "axes": list(axes),
        "memories": [{"label": m.label, "size": m.size, "banks": m.banks} for m in SHOWN],
        "start": content.start_axes(run, axes),
        "front": [_drawn(p) for p in run.front],
        "cloud": run.cloud,
        "baseline": base,
        "baselineName": content.baseline_text(run, axes),
        "roles": roles,
        "selected": roles.get(KNEE, roles[LEAST_EDP]),
        "limits": {
            axis.name: max(max(p.on(axis)) for p in run.front)
            for axis in run.network_axes
            if axis.scope == "layer"
        },
        "curves": drawn,
        "twoStage": charts.two_stage_fronts(run, content.start_axes(run, axes)),
        "heatmaps": maps,
        "heatMetrics": charts.mapped(axes),
        "spending": parts,
        "robustness": ranks,
    }


def _drawn(point: FrontPoint) -> JsonObject:
    """What the script draws of a point: its lists as numbers, and every objective."""
    values = {
        axis.name: point.on(axis) if axis.scope == "layer" else point.on(axis)[0]
        for axis in point.axes
    }
    costs = {key: getattr(point, key) for key in dict.fromkeys((*_DRAWN, *COSTS))}
    return {"point": point.point, **values, **costs}


def _network(run: SearchRun) -> JsonObject:
    """How the script tells networks: JavaScript between backquotes, and whether it draws them."""

    def words(axes: Iterable[Axis]) -> str:
        return ", ".join(
            axis.phrase.format(
                f'${{p.{axis.name}.join(" ")}}' if axis.scope == "layer" else f"${{p.{axis.name}}}"
            )
            for axis in axes
        )

    axes = run.network_axes
    return {
        "words": words(axes),
        "own_words": words(axis for axis in axes if axis.scope != "layer"),
        "is_transformer": {"layers", "d_model", "heads", "d_ff"} <= {axis.name for axis in axes},
    }


def _embedded(document: JsonObject) -> str:
    """JSON that may stand within a script element: no text of it can end the element."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _command(run: SearchRun) -> str:
    """The command that repeats the run where its folder is the current one: on its own space."""
    command = str(run.run.get("command", ""))
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    if not run.space_toml or words[:2] != ["codesign", "search"]:
        return command
    kept = [
        word
        for before, word in itertools.pairwise(words[1:])
        if "--space" not in (before, word) and not word.startswith("--space=")
    ]
    return shlex.join([*words[:2], "--space", "space.toml", *kept])


def _settings(run: SearchRun) -> list[tuple[str, str]]:
    """The inputs of the run that are short, as name and value; the space has its own place."""
    inputs = {"seed": run.run.get("seed"), **run.inputs}
    found = []
    for name, value in inputs.items():
        if name == "quality":
            found.append((name, f"{run.quality_label}, from {run.quality.get('source')}"))
        elif name != "space" and value is not None:
            text = _in_words(value)
            found.append((name, text if len(text) <= 300 else text[:300] + " …"))
    return found


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_in_words(v)}" for key, v in value.items() if v is not None)
    return ", ".join(map(_in_words, value)) if isinstance(value, list) else str(value)


def _shown(value: Any) -> Any:
    """What a page shows of a value: text without marks that turn the direction of writing."""
    return printable(value, keep="\n\t\u00a0") if type(value) is str else value


@cache
def _environment(*, html: bool) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=html,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["md"] = _markdown
    made.filters["fence"] = _fence
    return made


def _markdown(text: str) -> str:
    """Text as one line of Markdown that means itself."""
    line = " ".join(str(text).split())
    for character in "\\`*_[]<>|#&":
        line = line.replace(character, "\\" + character)
    return line


def _fence(text: str) -> str:
    """Text between fences that are longer than any within."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"
