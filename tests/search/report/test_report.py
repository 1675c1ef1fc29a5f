"""The report of a joint search: what it says, that it stands alone, and what it does with bad runs."""

import html.parser
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_run

from codesign.models.zoo.decoder import DecoderConfig
from codesign.search.cli import app
from codesign.search.commands import search_plots
from codesign.search.pricing import plots
from codesign.search.report import content, pages
from codesign.search.report.data import kept_order, read_search, winners_by_role
from codesign.search.runs.records import RunError

HOSTILE = """</script><img src=x onerror=alert(1)>'"&|`*_"""
LIMIT_BYTES = 5_000_000


class Page(html.parser.HTMLParser):
    """The elements of a page, and its text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()
        if tag in ("td", "th", "li", "p"):
            self.text += "\n"

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.text += data


LAYERS, _, HEADS, _ = DecoderConfig.axes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("search") / "run"
    report_run.write_run(run)
    return run


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def embedded(page: str) -> dict[str, Any]:
    match = re.search(
        r'<script type="application/json" id="run-data">(.*?)</script>', page, re.DOTALL
    )
    assert match is not None
    document: dict[str, Any] = json.loads(match[1])
    return document


def edit(run: Path, **inputs: Any) -> None:
    document = json.loads((run / "run.json").read_text())
    document["inputs"] |= inputs
    (run / "run.json").write_text(json.dumps(document))


def rewrite(run: Path, name: str, change: Any) -> None:
    rows = pq.read_table(run / name).to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows), run / name)


def numbers(text: str) -> Iterator[float]:
    yield from (float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", text))


def test_every_point_of_the_front_is_in_the_table_and_in_the_chart(whole: Path) -> None:
    rows = pq.read_table(whole / "front.parquet").to_pylist()
    page = pages.report_html(whole)
    drawn = {p["point"]: p for p in embedded(page)["front"]}
    assert set(drawn) == {row["point"] for row in rows}
    for row in rows:
        shown = drawn[row["point"]]
        for column in ("perplexity", "edp_js", "latency_s", "energy_j", "area_mm2", "dim"):
            assert shown[column] == row[column]
        assert ",".join(map(str, shown["heads"])) == row["heads"]
        cells = re.search(rf'<tr data-point="{row["point"]}">(.*?)</tr>', page)
        assert cells is not None
        values = [float(v) for v in re.findall(r'data-value="([^"]*)"', cells[1])]
        assert row["perplexity"] in values and row["edp_js"] in values


def test_it_stands_alone_and_is_small(whole: Path) -> None:
    page = pages.report_html(whole)
    assert len(page.encode()) < LIMIT_BYTES
    for tag, attributes in Page(page).elements:
        assert not (tag == "script" and "src" in attributes)
        assert tag not in ("iframe", "object", "img", "base")
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    urls = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", page))
    assert urls <= {"http://www.w3.org/2000/svg"}  # the name of SVG's vocabulary
    assert "@import" not in page and "url(" not in page


def test_a_page_with_100000_candidates_stays_small(copy: Path) -> None:
    few = pq.read_table(copy / "evaluated.parquet")
    pq.write_table(pa.concat_tables([few] * 3200), copy / "evaluated.parquet")
    page = pages.report_html(copy)
    assert len(page.encode()) < LIMIT_BYTES
    assert f"{3200 * few.num_rows:,}" in Page(page).text


def test_ids_are_unique_and_every_control_has_a_name(whole: Path) -> None:
    page = pages.report_html(whole)
    elements = Page(page).elements
    ids = [a["id"] for _, a in elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in elements if t == "a" and a["href"]}
    assert targets <= set(ids)
    for control in re.findall(r"<(?:select|input)[^>]*>", page):
        inside = re.search(rf"<label>[^\n]*{re.escape(control)}", page)
        assert inside is not None or "hidden" in control, control


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_proxy_is_called_one_at_every_perplexity(whole: Path, form: str) -> None:
    text = Page(pages.report_html(whole)).text if form == "html" else pages.report_markdown(whole)
    for line in text.splitlines():
        for after in re.findall(r"[Pp]erplexity(.{0,25})", line):
            if any(True for _ in numbers(after)):
                assert "proxy" in after, line
    assert "a proxy, not measurements" in text


def test_measured_perplexities_are_not_called_a_proxy(copy: Path) -> None:
    edit(
        copy, quality={"source": "subnets.csv", "label": "perplexity (measured)", "is_proxy": False}
    )
    rewrite(copy, "front.parquet", lambda row: row.update(perplexity_is_proxy=False))
    text = Page(pages.report_html(copy)).text
    assert "proxy" not in text and "subnets.csv" in text
    assert "proxy" not in pages.report_markdown(copy)


def test_improvements_are_those_of_the_front_over_the_baseline(whole: Path) -> None:
    rows = pq.read_table(whole / "front.parquet").to_pylist()
    base = json.loads((whole / "baseline.json").read_text())
    text = pages.report_markdown(whole)
    for loss, published in ((0.1, "2.2×"), (1.0, "10.6×")):
        ours = base["edp_js"] / min(
            r["edp_js"] for r in rows if r["perplexity"] <= base["perplexity"] + loss
        )
        (line,) = [x for x in text.splitlines() if x.startswith(f"| +{loss:g} ")]
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        assert float(cells[1].rstrip("×")) == pytest.approx(ours, rel=5e-3)
        assert cells[-1] == published


def test_winners_are_the_ends_and_the_point_farthest_below_their_line(whole: Path) -> None:
    found = winners_by_role(read_search(whole))
    rows = pq.read_table(whole / "front.parquet").to_pylist()
    assert found["least EDP"].edp_js == min(row["edp_js"] for row in rows)
    assert found["best quality"].perplexity == min(row["perplexity"] for row in rows)
    assert found["knee"] not in (found["least EDP"], found["best quality"])


def test_spending_adds_up_to_the_points_energy(whole: Path) -> None:
    data = embedded(pages.report_html(whole))
    factor = data["metrics"]["energy_j"]["factor"]
    energies = {str(p["point"]): p["energy_j"] * factor for p in data["front"]}
    for part in data["spending"]:
        if part["of"] == "energy":
            for point, values in part["points"].items():
                assert sum(values) == pytest.approx(energies[point], rel=1e-4)


def test_more_parts_than_colours_become_other(copy: Path) -> None:
    rewrite(
        copy, "spending.parquet", lambda row: row.update(kind=f"{row['kind']} {row['component']}")
    )
    part = embedded(pages.report_html(copy))["spending"][1]
    assert len(part["names"]) == 8 and part["names"][-1] == "other"


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_space_searched_is_said(copy: Path, form: str) -> None:
    space = json.loads((copy / "run.json").read_text())["inputs"]["space"]
    space["transformer"]["d_ff"] = list(range(768, 3073, 128))
    edit(copy, space=space | {"size": 3_710_000_000_000})
    text = Page(pages.report_html(copy)).text if form == "html" else pages.report_markdown(copy)
    for said in (
        "FFN width 768 to 3072 (19 values)", "scratchpad 16K, 32K bytes", "area at most 2.0 mm²",
        "of 3.7×10¹² in the space", "sequence length 16", "memory access within a clock period",
    ):  # fmt: skip
        assert said in text
    space["constraints"]["sram_timing"] = False
    edit(copy, space=space)
    assert "memory access of any duration" in pages.report_markdown(copy)


@pytest.mark.parametrize("form", ["html", "md"])
def test_what_won_and_why_is_said(whole: Path, form: str) -> None:
    rows = pq.read_table(whole / "front.parquet").to_pylist()
    knee = winners_by_role(read_search(whole))["knee"]
    text = Page(pages.report_html(whole)).text if form == "html" else pages.report_markdown(whole)
    text = text.replace("\u00a0", " ")
    area = max(row["area_mm2"] for row in rows)
    spent = [
        r for r in pq.read_table(whole / "spending.parquet").to_pylist() if r["point"] == knee.point
    ]
    dram = sum(r["energy_j"] for r in spent if r["component"] == "dram") / knee.energy_j
    for said in (
        f"The knee, point {knee.point}: {knee.on(LAYERS)[0]} layers",
        f"of 2.000 mm² ({100 * area / 2:.0f} %)", f"dram {100 * dram:.0f} %",
        f"of {len(rows)} points stay on the front and",
    ):  # fmt: skip
        assert said in text, said


def test_a_kind_of_kernel_has_one_colour(whole: Path) -> None:
    cycles, energy, _ = embedded(pages.report_html(whole))["spending"]
    assert cycles["names"] == energy["names"]


def test_quality_edp_and_the_transformer_are_the_first_columns(whole: Path) -> None:
    run = read_search(whole)
    table = content.report_front(run, content.metrics(run))
    names = [name for name, _ in table.columns]
    assert names[:7] == ["point", "Perplexity (proxy)", "EDP", "layers", "d_model", "heads", "FFN"]
    assert table.spans == [("", 3), ("Transformer", 5), ("Machine", 4), ("Cost and use", len(names) - 12)]  # fmt: skip
    alike, mixed = (next(r for r, p in zip(table.rows, run.front, strict=True) if len(set(p.on(HEADS))) == n) for n in (1, 2))  # fmt: skip
    assert alike[5] in ("4", "12") and mixed[5] == "4 12"


@pytest.mark.parametrize("form", ["html", "md"])
def test_inputs_are_said_once_and_only_where_they_are_given(copy: Path, form: str) -> None:
    edit(copy, seed=3, warm_start=None, nested={"given": 1, "not": None})
    text = Page(pages.report_html(copy)).text if form == "html" else pages.report_markdown(copy)
    lines = [" ".join(line.replace("|", " ").split()) for line in text.splitlines()]
    said = "".join(lines).replace(" ", "")
    assert "None" not in said and "warm" not in said and "nested" in said and "given:1" in said
    assert len(re.findall(r"(?<!-)seed\W*3", text)) == 1


@pytest.mark.parametrize("option", ["--space ../mine/small.toml", "--space=small.toml", ""])
def test_the_command_names_the_space_of_the_run(copy: Path, option: str) -> None:
    run = json.loads((copy / "run.json").read_text())
    run["command"] = f"codesign search {option} --seed 3"
    (copy / "run.json").write_text(json.dumps(run))
    expected = "codesign search --space space.toml --seed 3"
    assert expected in Page(pages.report_html(copy)).text
    assert expected in pages.report_markdown(copy) and "small.toml" not in pages.report_html(copy)
    (copy / "space.toml").unlink()
    assert run["command"] in pages.report_markdown(copy)


@pytest.mark.parametrize(
    ("low", "high", "some"),
    [(40, 600, {"40", "60", "100", "200", "600"}), (200, 20_000, {"1,000", "10,000"}), (4, 9, {"4", "6", "8"})],
)  # fmt: skip
def test_logarithmic_axes_of_plots_have_plain_numbers(low: int, high: int, some: set[str]) -> None:
    rows = [{"evaluations": n, "hypervolume": 0.5} for n in (low, high)]
    problem: Any = SimpleNamespace(minimize=("perplexity", "edp"))
    done: Any = SimpleNamespace(generations=rows)
    with plots.figure_style():
        figure = search_plots._convergence(problem, done)
        figure.draw_without_rendering()
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert some <= set(labels)
    assert not [label for label in labels if "10^" in label]


def test_plots_have_the_units_of_the_report(whole: Path) -> None:
    run = read_search(whole)
    problem: Any = SimpleNamespace(quality=SimpleNamespace(label="perplexity (proxy)"))
    for name, key in (("edp", "edp_js"), ("latency", "latency_s"), ("area", "area_mm2")):
        metric = content.metrics(run)[key]
        title, factor = search_plots._axis(problem, name, [getattr(p, key) for p in run.front])
        assert title.endswith(f"({metric.unit})") and np.isclose(factor, metric.factor)


@pytest.mark.parametrize("form", ["html", "md"])
def test_what_was_verified_and_compared_is_said(copy: Path, form: str) -> None:
    before = pages.write_report(copy, form=form).read_text(encoding="utf-8")
    assert "RTL-verified" not in before and "two stages, the knee" not in before
    report_run.write_studies(copy)
    text = pages.write_report(copy, form=form).read_text(encoding="utf-8")
    points = len(pq.read_table(copy / "front.parquet"))
    assert f"{points - 1} of {points} points are RTL" in text
    for said in ("two stages, the knee", "25.0", "0.5000", "none", "2.00× more"):
        assert said in text, said


def test_kept_order_counts_pairs() -> None:
    assert kept_order([1, 2, 3], [1, 2, 3]) == 1.0
    assert kept_order([1, 2, 3], [3, 2, 1]) == 0.0
    assert kept_order([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(5 / 6)
    assert kept_order([1], [1]) == 1.0


def test_hostile_names_stay_text(copy: Path) -> None:
    edit(
        copy,
        quality={"source": HOSTILE, "label": f"perplexity (proxy) {HOSTILE}", "is_proxy": True},
    )
    rewrite(copy, "front.parquet", lambda row: row.update(hardware=HOSTILE, model=HOSTILE))
    rewrite(copy, "spending.parquet", lambda row: row.update(kind=HOSTILE + row["kind"]))
    run = json.loads((copy / "run.json").read_text()) | {"command": HOSTILE}
    (copy / "run.json").write_text(json.dumps(run))
    (copy / "space.toml").write_text(f"{HOSTILE}\n```\n# heading")
    page = pages.report_html(copy)
    parsed = Page(page)
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert not [a for _, a in parsed.elements if "onerror" in a]
    assert sum(tag == "script" for tag, _ in parsed.elements) == page.count("</script>") == 2
    assert HOSTILE in parsed.text
    assert any(HOSTILE in name for name in embedded(page)["spending"][0]["names"])
    markdown = pages.report_markdown(copy)
    outside = re.sub(r"^(````*)\n.*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<img" not in re.sub(r"\\.", "", outside)
    assert "# heading" not in outside.splitlines()
    for line in outside.splitlines():
        if line.startswith("| "):  # a bar of a name would be another column
            assert len(re.findall(r"(?<!\\)\|", line)) >= 3


def test_markdown_tables_are_rectangular(whole: Path) -> None:
    width = 0
    for line in pages.report_markdown(whole).splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (width and bars) or bars == width, line
        width = bars


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("evaluated.parquet", "Candidates evaluated"),
        ("generations.parquet", "history of two or more generations"),
        ("spending.parquet", "break-down of cycles and energy"),
        ("heatmap.parquet", "machines around its winners"),
        ("robustness.parquet", "ranking under other energy tables"),
        ("baseline.json", "baseline"),
    ],
)
def test_a_file_that_a_run_does_not_have_is_said(copy: Path, name: str, what: str) -> None:
    (copy / name).unlink()
    text = Page(pages.report_html(copy)).text
    if name == "evaluated.parquet":
        assert what not in text
    else:
        assert f"This run has no {what} ({name} is not in its folder)" in text
    assert pages.report_markdown(copy)


@pytest.mark.parametrize("name", ["run.json", "front.parquet"])
def test_a_run_without_its_front_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    for render in (pages.report_html, pages.report_markdown):
        with pytest.raises(RunError, match=name) as caught:
            render(copy)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["run.json", "front.parquet", "evaluated.parquet", "generations.parquet", "spending.parquet",
     "heatmap.parquet", "robustness.parquet", "baseline.json", "space.toml"],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"\xff\x00 no table", None])
def test_a_damaged_file_is_named_in_one_line(copy: Path, name: str, content: bytes | None) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    if name == "space.toml" and content != b"\xff\x00 no table":
        assert pages.report_html(copy)  # any text will do: it is shown, not read
        return
    with pytest.raises(RunError, match=re.escape(name)) as caught:
        pages.report_html(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("front.parquet", "edp_js", "x"),
        ("front.parquet", "dim", -1),
        ("spending.parquet", "kind", b"\xff"),
        ("heatmap.parquet", "cycles", 0.5),
        ("robustness.parquet", "on_front", 7),
        ("generations.parquet", "hypervolume", "x"),
    ],
)
def test_a_column_of_something_else_is_named_in_one_line(
    copy: Path, name: str, column: str, value: object
) -> None:
    rewrite(copy, name, lambda row: row.update({column: value}))
    pattern = rf"{name} is damaged \(row 1: {column} is .* but must be .*\): resume"
    with pytest.raises(RunError, match=pattern):
        pages.report_html(copy)


def test_what_a_page_cannot_be_made_of_is_the_folders_fault(copy: Path) -> None:
    report_run.write_studies(copy)
    (copy / "two_stage.json").write_text('{"objectives": 3}')
    with pytest.raises(RunError, match=r"is damaged \(.*\): resume or repeat its search"):
        pages.report_html(copy)


def test_a_table_of_other_columns_is_named_in_one_line(copy: Path) -> None:
    pq.write_table(pa.table({"point": [1]}), copy / "spending.parquet")
    with pytest.raises(RunError, match="spending.parquet is damaged .no column kind, component"):
        pages.report_html(copy)


@pytest.mark.parametrize("heads", ["4", "4,x", "4,4,4", ""])
def test_layers_that_do_not_fit_their_lists_are_an_error(copy: Path, heads: str) -> None:
    rewrite(copy, "front.parquet", lambda row: row.update(heads=heads, layers=2))
    with pytest.raises(RunError, match=r"front.parquet is damaged \(row 1: heads is"):
        pages.report_html(copy)


def test_a_path_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RunError):
            pages.report_html(path)


def test_a_front_of_one_point_is_a_report(copy: Path) -> None:
    row = pq.read_table(copy / "front.parquet").to_pylist()[:1]
    pq.write_table(pa.Table.from_pylist(row), copy / "front.parquet")
    assert "The 1 point below is its answer" in Page(pages.report_html(copy)).text


def test_the_same_run_gives_the_same_bytes(whole: Path, copy: Path) -> None:
    assert pages.report_html(whole) == pages.report_html(copy)


def test_write_report_writes_into_the_run_or_where_it_is_told(copy: Path, tmp_path: Path) -> None:
    assert pages.write_report(copy) == copy / "report.html"
    assert pages.write_report(copy, tmp_path / "r.md", "md").read_text() == pages.report_markdown(
        copy
    )


def test_improvements_that_the_search_counted_are_shown_as_counted(copy: Path) -> None:
    base = json.loads((copy / "baseline.json").read_text())
    gains = [
        {"loss": 0.1, "edp_js": base["edp_js"] / 7.5, "improvement": 7.5, "published": 2.2},
        {"loss": 2.0, "edp_js": None, "improvement": None, "published": None},
    ]
    (copy / "baseline.json").write_text(json.dumps(base | {"improvements": gains}))
    lines = pages.report_markdown(copy).splitlines()
    (first,) = [line for line in lines if line.startswith("| +0.1 ")]
    assert [cell.strip() for cell in first.split("|")][2:5:2] == ["7.50×", "–"]
    (second,) = [line for line in lines if line.startswith("| +2 ")]
    assert "none found" in second


def test_a_point_with_two_roles_has_one_heat_map(copy: Path) -> None:
    rows = pq.read_table(copy / "heatmap.parquet").to_pylist()
    twice = rows + [row | {"winner": "knee"} for row in rows]
    pq.write_table(pa.Table.from_pylist(twice), copy / "heatmap.parquet")
    (one,) = embedded(pages.report_html(copy))["heatmaps"]
    assert one["role"] == "least EDP, knee" and len(one["cells"]) == len(rows)


def test_a_run_of_the_search_itself_has_every_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space.toml").write_text(report_run.SPACE)
    run, options = tmp_path / "run", ["--budget", "60", "--population", "20", "-j", "1"]
    found = app.main(["search", "--space", str(tmp_path / "space.toml"), "-o", str(run), *options])
    assert found == 0
    assert app.main(["report", str(run), "--format", "md"]) == 0
    for text in (Page(pages.report_html(run)).text, (run / "report.md").read_text()):
        assert "This run has no" not in text
        assert "EDP improvement" in text and "stay on the front" in text
    data = embedded((run / "report.html").read_text())
    rows = pq.read_table(run / "front.parquet").to_pylist()
    assert [p["edp_js"] for p in data["front"]] == [row["edp_js"] for row in rows]
    assert {len(data[key]) > 0 for key in ("curves", "heatmaps", "spending", "cloud")} == {True}
    assert len(data["robustness"]["lines"]) == len(rows)
    (command,) = re.findall(
        r"codesign search --space space.toml .*", (run / "report.md").read_text()
    )
    monkeypatch.chdir(run)
    assert app.main([*shlex.split(command)[1:], "-o", str(tmp_path / "again"), "-j", "1"]) == 0
    assert (tmp_path / "again/front.csv").read_bytes() == (run / "front.csv").read_bytes()


def test_values_are_shown_as_they_are() -> None:
    """Not as others that are equal to them."""
    shown = pages._environment(html=True).from_string("{{ a }} {{ b }} {{ c }} {{ d }}")
    assert shown.render(a=1, b=True, c=1.0, d=[1]) == "1 True 1.0 [1]"
