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

from codesign.search import report

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
    return report.write_report(run)


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
        ("spend-what", "spending"), ("spend-scale", "spending"),
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
    headers = opened.find_elements(CSS, "#front-table th")
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


def _contrast(first: str, second: str) -> float:
    """WCAG 2's contrast ratio of two colours written as #rgb or #rrggbb."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        pairs = (
            [c * 2 for c in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
        )
        channels = [int(pair, 16) / 255 for pair in pairs]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
