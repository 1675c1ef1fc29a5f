"""`import codesign`: what it gives, that the page says so, and that it is what the command line does."""

import ast
import inspect
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.hw.machine.config import preset
from codesign.search.cli.app import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
API = "codesign.search.api"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FUNCTIONS = {name for name in codesign.__all__ if inspect.isfunction(getattr(codesign, name))}


def test_what_is_exported_is_what_is_documented() -> None:
    assert sorted(codesign.__all__) == codesign.__all__
    described = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert described == FUNCTIONS and "ten functions" in PAGE and len(FUNCTIONS) == 10
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert set(codesign.__all__) <= named
    for name in codesign.__all__:
        assert inspect.getdoc(getattr(codesign, name)), name


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/api.md", "exec"), scope)  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{preset('ibert').dim} {preset('ibert').scratchpad_bytes}"
    assert re.fullmatch(r"[\d,]+ cycles, [\d.]+ µJ \([\d.]+ to [\d.]+\)", printed[1])
    assert printed[2].startswith("4 ") and set(eval(printed[3])) == {""}
    assert re.fullmatch(r"[\d.]+ ms, \d+ tokens/s, [\d.]+ µJ a token", printed[-1])


def test_import_loads_nothing_heavy() -> None:
    text = (
        "import sys, codesign; print([m for m in ('numpy', 'onnx', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        getattr(codesign, "serch")  # noqa: B009 - what a typing error does
    assert "price" in dir(codesign)


def test_prices_are_the_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "bert-tiny", "--scratchpad", "32K,64K", "-j", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = codesign.sweep("bert-tiny", codesign.machine(), {"scratchpad_bytes": ["32K", "64K"]})
    assert codesign.table(found).to_pylist() == rows
    small = codesign.machine(scratchpad_bytes="32K")
    assert codesign.price(codesign.load_model("bert-tiny"), small).cycles == rows[0]["cycles"]


def test_a_search_is_deterministic_and_exact() -> None:
    results = [codesign.joint_search(budget=80, population=20, seed=3, points=4) for _ in range(2)]
    assert results[0].front == results[1].front and len(results[0].front) <= 4
    assert all(point.perplexity_is_proxy for point in results[0].front)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: codesign.machine("nobody"), "nobody"),
        (lambda: codesign.machine(scratchpad="64K"), "no 'scratchpad': choose"),
        (lambda: codesign.load_model("bert-tinny"), "bert-tiny"),
        (
            lambda: codesign.sweep("bert-tiny", codesign.machine(), {"size": [1]}),
            "axes: a machine has no 'size': choose dim",
        ),
        (lambda: codesign.joint_search(minimize=("edp",)), "two or more"),
        (lambda: codesign.price("bert-tiny", codesign.machine(), objective="speed"), "speed"),
        (
            lambda: codesign.load_model("bert-tiny", batch=10**30),
            "is beyond 1,099,511,627,776: give less",
        ),
        (lambda: codesign.machine("tests"), "is a folder: give the .toml"),
        (lambda: codesign.Options(smoothing="x"), "smoothing x is not from 0"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_line(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(codesign.CodesignError, match=re.escape(words)) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_int8_is_the_same_on_every_backend() -> None:
    feeds = {
        "input_ids": np.arange(8).reshape(1, 8),
        "attention_mask": np.ones((1, 8), np.int64),
        "token_type_ids": np.zeros((1, 8), np.int64),
    }
    network = codesign.compile("bert-tiny", codesign.machine(), [feeds], seq=8)
    machine, plain = (codesign.run(network, feeds, b) for b in ("functional", "integers"))
    assert machine.keys() == plain.keys()
    for name, value in machine.items():
        np.testing.assert_array_equal(value, plain[name])


# What a command would do beside the interface, and the modules that do it with a reason: of a network
# that it has compiled itself, of points that a run keeps, of what is not priced.
_BESIDE: dict[str, set[str]] = {
    "lower": {"verify_run"},
    "evaluate": set(),
    "result": {"compile", "verify_run"},
    "SweepJob": set(),
    "compile_network": set(),
    "load_model": set(),
    "load_machine": set(),
    "load_tables": set(),
    "load_area_tables": set(),
    "kernels": set(),
    "NetworkTables": set(),
    "PriceStore": set(),
}


def test_commands_do_what_it_does_by_it() -> None:
    """No command imports what a function of the interface is made of, or calls it in its module."""
    folder = Path(__file__).resolve().parents[3] / "search" / "commands"
    found: dict[str, set[str]] = {name: set() for name in _BESIDE}
    by_it = set()
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(API):
                by_it.add(path.stem)
            elif isinstance(node, ast.ImportFrom):
                for name in {alias.name for alias in node.names} & found.keys():
                    found[name].add(path.stem)
            elif (
                isinstance(node, ast.Attribute)
                and node.attr in found
                and ast.unparse(node.value) in ("sources", "breakdown")
            ):
                found[node.attr].add(path.stem)
    assert found == _BESIDE
    assert by_it >= {"request", "catalog", "sweep", "simulate", "check", "compile", "network"}


def test_errors_survive_a_process() -> None:
    with pytest.raises(codesign.CodesignError) as raised:
        codesign.machine("nobody", dim=3)
    again = pickle.loads(pickle.dumps(raised.value))
    assert type(again) is type(raised.value) and str(again) == str(raised.value)
    assert again.__dict__ == raised.value.__dict__


def test_rows_of_another_sweep_are_refused() -> None:
    rows = codesign.sweep("bert-tiny", codesign.machine(), {"dim": [8, 16]})
    assert codesign.sweep("bert-tiny", codesign.machine(), {"dim": [8, 16]}, done=rows) == rows
    for model, axes in (("t5-mini", {"dim": [8, 16]}), ("bert-tiny", {"dim": [16, 8]}),
                        ("bert-tiny", {"dim": [8]})):  # fmt: skip
        with pytest.raises(codesign.CodesignError, match="is of another sweep"):
            codesign.sweep(model, codesign.machine(), axes, done=rows)


def test_a_network_computes_on_inputs_of_its_shape_also_elsewhere() -> None:
    feeds = {
        "input_ids": np.arange(8).reshape(1, 8),
        "attention_mask": np.ones((1, 8), np.int64),
        "token_type_ids": np.zeros((1, 8), np.int64),
    }
    network = codesign.compile("bert-tiny", codesign.machine(), [feeds], seq=8)
    found = codesign.run(network, feeds, "integers")
    again = codesign.run(pickle.loads(pickle.dumps(network)), feeds, "integers")
    for name, value in found.items():
        np.testing.assert_array_equal(again[name], value)
    for name in feeds:
        with pytest.raises(codesign.CodesignError, match=r"is \[1, 4\] but .* for \[1, 8\]"):
            codesign.run(network, {**feeds, name: feeds[name][:, :4]}, "integers")
