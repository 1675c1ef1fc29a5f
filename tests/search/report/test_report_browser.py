"""The report in a real browser: no error on the console, every control works, it fits a phone.

Needs selenium and an installed Chromium with its driver; skipped where one is missing.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import report_run

from codesign.search.report import pages

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium with chromedriver is installed (Debian: chromium, chromium-driver)",
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
CSS = "css selector"
PHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("browser") / "run"
    report_run.write_run(run)
    report_run.write_studies(run)
    return pages.write_report(run)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    """The page in a desk-sized window; whatever a test does must leave the console empty."""
    yield _open(browser, page, DESK)
    assert browser.get_log("browser") == []


def _open(browser: Any, page: Path, width: int, scheme: str = "light") -> Any:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page.as_uri())
    _wait(lambda: browser.find_elements(CSS, "html.ready"))
    return browser


def _printed(browser: Any, page: Path, width: int) -> Any:
    """The page as it is laid out on paper of that width in pixels."""
    _open(browser, page, width)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    return browser


def _clipped(browser: Any, inside: str) -> list[str]:
    """Tables and charts within `inside` that are wider than the page has room for."""
    return list(
        browser.execute_script(
            "const room = document.documentElement.clientWidth + 1;"
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent || e.ownerSVGElement"
            " || e.tagName === 'svg').filter(e => { const r = e.getBoundingClientRect();"
            "const box = e.closest('.scroll') ?? e.parentElement;"
            "return r.right > room || box.scrollWidth > box.clientWidth + 1; })"
            ".map(e => e.caption?.textContent ?? e.getAttribute('aria-label'))", inside
        )
    )  # fmt: skip


def _overlapping(browser: Any, selector: str) -> list[list[str]]:
    """Pairs of texts whose boxes overlap."""
    return list(
        browser.execute_script(
            "const all = [...document.querySelectorAll(arguments[0])].map(e => [e, e.getBoundingClientRect()]);"
            "return all.flatMap(([e, a], i) => all.slice(i + 1).filter(([, b]) => a.left < b.right &&"
            " b.left < a.right && a.top < b.bottom && b.top < a.bottom).map(([f]) => [e.textContent, f.textContent]))",
            selector,
        )
    )  # fmt: skip


def _wait(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.02)


def _click(browser: Any, element: Any) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def _chart(browser: Any, host: str) -> str:
    return str(
        browser.execute_script("return document.getElementById(arguments[0]).innerHTML", host)
    )


def _selected(browser: Any) -> dict[str, str]:
    """The selected point as each part of the page shows it."""
    points = browser.find_elements(CSS, ".point.selected")
    rows = browser.find_elements(CSS, "#front-table tr.selected")
    ranks = browser.find_elements(CSS, ".rank.selected title")
    assert len(points) == len(rows) == len(ranks) == 1
    return {
        "chart": points[0].get_attribute("data-point"),
        "table": rows[0].get_attribute("data-point"),
        "card": browser.find_element(CSS, "#card").get_attribute("data-shown"),
        "ranks": ranks[0].get_attribute("textContent").split()[1].rstrip(":"),
    }


def _points(browser: Any) -> list[Any]:
    return list(browser.find_elements(CSS, ".point"))


def _is_selected(browser: Any, point: str) -> bool:
    return set(_selected(browser).values()) == {point}


def test_it_loads_without_a_request_or_an_error(browser: Any, page: Path) -> None:
    browser.get_log("performance")
    _open(browser, page, DESK)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    others = [u for u in asked - {page.as_uri()} if not u.startswith(("data:", "about:", "chrome"))]
    assert page.as_uri() in asked and not others, asked
    assert browser.get_log("browser") == []
    for host in ("front-chart", "curves", "heatmaps", "spending", "robustness"):
        assert browser.find_elements(CSS, f"#{host} svg"), host
    assert "NaN" not in browser.execute_script("return document.querySelector('main').innerHTML")


def test_a_click_on_a_point_selects_it_everywhere(opened: Any) -> None:
    for index in range(len(_points(opened))):
        node = _points(opened)[index]
        point = node.get_attribute("data-point")
        _click(opened, node)
        assert _is_selected(opened, point)
        assert f"Point {point}" in opened.find_element(CSS, "#card").text
        assert f"Point {point}" in opened.find_element(CSS, "#spending").text


def test_the_card_draws_every_head_and_layer(opened: Any, page: Path) -> None:
    rows = {row["point"]: row for row in report_run.write_run(page.parent)}
    for index in range(len(_points(opened))):
        node = _points(opened)[index]
        row = rows[int(node.get_attribute("data-point"))]
        _click(opened, node)
        heads = sum(map(int, row["heads"].split(",")))
        assert len(opened.find_elements(CSS, "#card .head")) == heads
        assert len(opened.find_elements(CSS, "#card .ffn")) == row["layers"]


def test_hovering_shows_a_point_and_leaving_returns_to_the_selected(opened: Any) -> None:
    selected = _selected(opened)["card"]
    other = next(n for n in _points(opened) if n.get_attribute("data-point") != selected)
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", other)
    webdriver.ActionChains(opened).move_to_element(other).perform()
    tip = opened.find_element(CSS, ".tip")
    assert tip.is_displayed() and other.get_attribute("data-point") in tip.text
    assert opened.find_element(CSS, "#card").get_attribute("data-shown") != selected
    webdriver.ActionChains(opened).move_to_element(
        opened.find_element(CSS, "#front-title")
    ).perform()
    _wait(lambda: opened.find_element(CSS, "#card").get_attribute("data-shown") == selected)
    assert not opened.find_element(CSS, ".tip").is_displayed()


def test_keys_walk_along_the_front(opened: Any) -> None:
    keys = {"home": "\ue011", "end": "\ue010", "right": "\ue014"}
    opened.find_element(CSS, ".point.selected").send_keys(keys["home"])
    seen = [_selected(opened)["chart"]]
    for _ in range(len(_points(opened)) - 1):
        opened.switch_to.active_element.send_keys(keys["right"])
        seen.append(_selected(opened)["chart"])
    assert sorted(seen) == sorted(n.get_attribute("data-point") for n in _points(opened))
    opened.switch_to.active_element.send_keys(keys["home"], keys["end"])
    assert _selected(opened)["chart"] == seen[-1]
    assert len(opened.find_elements(CSS, ".point[tabindex='0']")) == 1


def test_every_pair_of_axes_draws_every_point(opened: Any) -> None:
    points = len(_points(opened))
    choices = [o.get_attribute("value") for o in opened.find_elements(CSS, "#x-axis option")]
    assert choices[:2] == ["perplexity", "edp_js"] and len(choices) >= 5
    for axis in ("x-axis", "y-axis"):
        for choice in choices:
            option = opened.find_element(CSS, f"#{axis} option[value={choice}]")
            option.click()
            assert len(_points(opened)) == points
            assert option.text in opened.find_element(CSS, "#front-chart").text
            inside = opened.execute_script(
                "const b = document.querySelector('#front-chart svg').getBoundingClientRect();"
                "return [...document.querySelectorAll('.point circle')].every(c => {"
                "const r = c.getBoundingClientRect(); return r.left >= b.left && r.right <= b.right &&"
                " r.top >= b.top && r.bottom <= b.bottom; })"
            )
            assert inside, (axis, choice)


def test_every_switch_changes_the_chart_and_back(opened: Any) -> None:
    for switch in ("x-log", "y-log", "show-cloud", "zoom"):
        before = _chart(opened, "front-chart")
        for same in (False, True):
            _click(opened, opened.find_element(CSS, f"#{switch}"))
            assert (_chart(opened, "front-chart") == before) is same, switch


def test_every_choice_of_the_other_charts_redraws(opened: Any) -> None:
    for control, host in (
        ("heat-winner", "heatmaps"), ("heat-metric", "heatmaps"),
        ("spend-scale", "spending"),
    ):  # fmt: skip
        drawn = []
        for option in opened.find_elements(CSS, f"#{control} option"):
            option.click()
            drawn.append(_chart(opened, host))
        assert len(set(drawn)) == len(drawn) >= 1, control


def test_the_fronts_of_two_stages_are_drawn(opened: Any) -> None:
    lines = opened.find_elements(CSS, "#two-stage-chart polyline.curve")
    names = [item.text for item in opened.find_elements(CSS, "#two-stage-chart .legend li")]
    assert len(lines) == 2 and names == [
        "joint",
        "two stages, every winner",
        "two stages, the knee",
    ]


def test_columns_sort_both_ways(opened: Any) -> None:
    headers = opened.find_elements(CSS, "#front-table th[scope=col]")
    for column, header in enumerate(headers):
        for direction in ("ascending", "descending"):
            opened.execute_script("arguments[0].querySelector('button').click()", header)
            assert header.get_attribute("aria-sort") == direction
            values = opened.execute_script(
                "return [...document.querySelector('#front-table').tBodies[0].rows]"
                ".map(r => Number(r.cells[arguments[0]].dataset.value))", column
            )  # fmt: skip
            assert values == sorted(values, reverse=direction == "descending")


def test_a_row_of_the_table_selects_its_point(opened: Any) -> None:
    for button in opened.find_elements(CSS, "#front-table td button"):
        _click(opened, button)
        assert _is_selected(opened, button.text)


def test_a_line_of_the_ranks_selects_its_point(opened: Any) -> None:
    for index in range(len(_points(opened))):
        circle = opened.find_elements(CSS, ".rank circle")[3 * index]
        _click(opened, circle)
        assert len(set(_selected(opened).values())) == 1


def test_every_table_opens(opened: Any) -> None:
    for details in opened.find_elements(CSS, "details"):
        was = details.get_attribute("open")
        _click(opened, details.find_element(CSS, "summary"))
        assert details.get_attribute("open") != was


@pytest.mark.parametrize(
    ("width", "scheme"), [(320, "dark"), (PHONE, "light"), (768, "light"), (DESK, "dark")]
)
def test_it_fits_its_window(browser: Any, page: Path, width: int, scheme: str) -> None:
    _open(browser, page, width, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    assert browser.get_log("browser") == []


def test_a_desk_shows_every_column_of_the_points(opened: Any) -> None:
    assert _clipped(opened, "#front-table, .winners") == []


@pytest.mark.parametrize("width", [320, PHONE, 768])
def test_a_narrow_window_shows_the_transformers_of_all_points(
    browser: Any, page: Path, width: int
) -> None:
    _open(browser, page, width)
    assert _clipped(browser, "#front-table, .winners") == []
    row = browser.find_element(CSS, "#front-table tbody tr:not(.selected)")
    cells = row.find_elements(CSS, "td")
    assert [cell.is_displayed() for cell in cells[:12]] == [True] * 7 + [False] + [True] * 4
    assert not any(cell.is_displayed() for cell in cells[12:])
    row.find_element(CSS, "button").click()
    assert all(cell.is_displayed() for cell in cells)
    names = [cell.get_attribute("data-label") for cell in cells[1:7]]
    assert names == ["Perplexity (proxy)", "EDP", "layers", "d_model", "heads", "FFN"]


@pytest.mark.parametrize(
    ("width", "inside"),
    [(688, "section:not(#points) :is(table, svg.chart)"), (1046, "#front-table")],
)  # A4 between its margins, upright and on its side
def test_no_table_or_chart_is_clipped_in_print(
    browser: Any, page: Path, width: int, inside: str
) -> None:
    _printed(browser, page, width)
    assert _clipped(browser, inside) == []
    heading = browser.find_element(CSS, "#front-table thead")
    assert heading.value_of_css_property("display") == "table-header-group"
    assert not browser.find_element(CSS, "#front .controls").is_displayed()
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_names_in_the_chart_do_not_overlap(
    browser: Any, page: Path, tmp_path: Path, width: int
) -> None:
    run = Path(shutil.copytree(page.parent, tmp_path / "run"))
    best = min(report_run.write_run(run), key=lambda row: row["perplexity"])
    near = {"perplexity": best["perplexity"], "edp_js": 1.02 * best["edp_js"], "model": "largest"}
    (run / "baseline.json").write_text(json.dumps(near))
    _open(browser, pages.write_report(run), width)
    names = [e.text for e in browser.find_elements(CSS, "#front-chart text.mark")]
    assert {"baseline", "best quality"} <= set(names)
    assert _overlapping(browser, "#front-chart text.mark") == []


@pytest.mark.parametrize("width", [320, PHONE, DESK])
def test_titles_of_axes_do_not_overlap_their_numbers(browser: Any, page: Path, width: int) -> None:
    _open(browser, page, width)
    for chart in ("#front-chart", "#two-stage-chart", "#curves > div"):
        for index in range(1, 1 + len(browser.find_elements(CSS, chart))):
            one = f"{chart}:nth-child({index})" if chart.startswith("#curves") else chart
            assert _overlapping(browser, f"{one} .axis text") == [], one


def test_a_tap_on_a_phone_selects_the_nearest_point(browser: Any, page: Path) -> None:
    _open(browser, page, PHONE)
    node = next(n for n in _points(browser) if "selected" not in n.get_attribute("class"))
    point = node.get_attribute("data-point")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
    where = browser.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]",
        node,
    )
    touch = {"x": where[0] - 6, "y": where[1] + 6}  # a finger is not exact
    for kind, points in (("touchStart", [touch]), ("touchEnd", [])):
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    _wait(lambda: _is_selected(browser, point))
    assert browser.get_log("browser") == []


def test_colours_of_text_have_contrast_in_both_schemes(browser: Any, page: Path) -> None:
    for scheme in ("light", "dark"):
        _open(browser, page, DESK, scheme)
        colours = browser.execute_script(
            "const s = getComputedStyle(document.documentElement);"
            "return Object.fromEntries(['ground', 'panel', 'ink', 'muted', 'accent', 'second']"
            ".map(n => [n, s.getPropertyValue('--' + n).trim()]))"
        )
        for ground in ("ground", "panel"):
            for ink in ("ink", "muted", "accent", "second"):
                assert _contrast(colours[ink], colours[ground]) >= 4.5, (scheme, ink, ground)


@pytest.mark.parametrize(("scheme", "least"), [("light", 1.9), ("dark", 3.0)])
def test_candidates_are_visible(browser: Any, page: Path, scheme: str, least: float) -> None:
    _open(browser, page, DESK, scheme)
    ground, cloud, opacity = browser.execute_script(
        "const s = getComputedStyle(document.documentElement);"
        "return [s.getPropertyValue('--ground').trim(), s.getPropertyValue('--cloud').trim(),"
        "Number(getComputedStyle(document.querySelector('path.cloud')).opacity)]"
    )
    under, over = (_channels(colour) for colour in (ground, cloud))
    seen = [round(opacity * b + (1 - opacity) * a) for a, b in zip(under, over, strict=True)]
    assert _contrast("#" + "".join(f"{c:02x}" for c in seen), ground) >= least


def _channels(colour: str) -> list[int]:
    """Red, green and blue, 0..255, of #rgb or #rrggbb."""
    digits = colour.lstrip("#")
    pairs = [c * 2 for c in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
    return [int(pair, 16) for pair in pairs]


def _contrast(first: str, second: str) -> float:
    """WCAG 2's contrast ratio of two colours written as #rgb or #rrggbb."""

    def luminance(colour: str) -> float:
        channels = [c / 255 for c in _channels(colour)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
