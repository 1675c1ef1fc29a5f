"""What `import codesign` takes for an argument, and what it refuses, in one line that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import codesign
from codesign.hw.machine.config import preset
from codesign.search.api.arguments import ArgumentError, feeds, numbers, whole

ROWS, WIDTH = 4, 16
EDGE = preset("edge")
X = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = relu(x w), of a batch that is fixed at ROWS."""
    weights = np.random.default_rng(1).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("model") / "one.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def network(file: Path) -> codesign.Network:
    """The file, compiled as people do: without a batch, for a machine by its name."""
    return codesign.compile(file, "edge", [{"x": X}])


@pytest.fixture(scope="module")
def small() -> codesign.Model:
    return codesign.load_model("bert-tiny", seq=np.int64(16))


def refuses(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(codesign.CodesignError) as raised:
        call()
    text = str(raised.value)
    assert "\n" not in text and "--" not in text
    for word in words:
        assert word in text


def test_whole_numbers_are_pythons_and_numpys() -> None:
    for value in (16, np.int64(16), np.uint8(16), np.array(16)):
        found = whole("seq", value, 1)
        assert type(found) is int and found == 16
    for wrong in ("16", True, np.True_, 16.0, np.float32(16), None, [16], 0):
        refuses(lambda wrong=wrong: whole("seq", wrong, 1), "seq is", "whole number")  # type: ignore[misc]


def test_numbers_are_one_several_or_text() -> None:
    def parse(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(",")))

    assert numbers("dim", np.int64(8), parse) == (8,)
    assert numbers("dim", "8,16", parse) == numbers("dim", np.array([8, 16]), parse) == (8, 16)
    assert numbers("dim", (each for each in (8, "16,32")), parse) == (8, 16, 32)
    for wrong in (None, 8.0, True, [True], [], {"dim": 8}, "x", b"8", np.array(8.0)):
        refuses(lambda wrong=wrong: numbers("dim", wrong, parse), "dim")  # type: ignore[misc]


def test_feeds_hold_the_same_numbers() -> None:
    types = {"ids": np.int64, "x": np.float32}
    found = feeds("feeds", {"x": [[1, 2.5]], "ids": np.array([3], np.int8)}, types, {"x": (1, 2)})
    assert found["x"].dtype == np.float32 and found["ids"].dtype == np.int64
    assert found["x"].tolist() == [[1, 2.5]] and found["ids"].tolist() == [3]
    rounded = feeds("feeds", {"x": np.array([0.1])}, {"x": np.float32}, {})["x"]
    assert rounded[0] == np.float32(0.1)
    for name, wrong in {
        "ids": 2.5, "x": 1e300}.items():  # fmt: skip
        given = {"ids": [0], "x": [0.0]} | {name: [wrong]}
        refuses(lambda given=given: feeds("feeds", given, types, {}), f"{name!r} holds")  # type: ignore[misc]
    refuses(lambda: feeds("f", {"x": [2**24 + 1]}, {"x": np.float32}, {}), "does not: round it")


@pytest.mark.parametrize("value", [None, 3, 1.5, [EDGE], preset, object()])
def test_machines_of_other_kinds_are_refused(value: Any, small: codesign.Model, file: Path) -> None:
    for call in (
        lambda: codesign.machine(value),
        lambda: codesign.price(small, value),
        lambda: codesign.sweep(small, value, {"dim": [8]}),
        lambda: codesign.compile(file, value, [{"x": X}]),
        lambda: codesign.verify(small, value, backend="functional"),
    ):
        refuses(call, "HardwareConfig", "preset or a TOML file")


@pytest.mark.parametrize("value", [None, 3, [1], EDGE, object()])
def test_models_of_other_kinds_are_refused(value: Any, small: codesign.Model) -> None:
    for call in (
        lambda: codesign.load_model(value),
        lambda: codesign.price(value, EDGE),
        lambda: codesign.price(value, small),  # type: ignore[arg-type]
        lambda: codesign.sweep(value, EDGE, {}),
        lambda: codesign.compile(value, EDGE, []),
        lambda: codesign.verify(value, EDGE),
    ):
        refuses(call, "ONNX file or the name of a built-in model")


def test_machines_are_taken_by_name(small: codesign.Model, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "edge"\n', encoding="utf-8")
    known = codesign.price(small, EDGE).cycles
    for machine in ("edge", path, str(path), codesign.machine(EDGE)):
        assert codesign.price(small, machine).cycles == known
    (row,) = codesign.sweep(small, "edge", {})
    assert row.cycles == known
    checks = codesign.verify(small, "edge", backend="functional", kernel="ffn")
    assert checks == codesign.verify(small, EDGE, backend="functional", kernel="ffn")


def test_fields_of_a_machine_have_their_kinds() -> None:
    found = codesign.machine(EDGE, dim=np.int64(4), clock_hz="1GHz", name="four")
    assert (found.dim, found.clock_hz, found.name) == (4, 10**9, "four") and type(found.dim) is int
    assert not codesign.machine("edge", normalization=False).normalization
    wrong: dict[str, Any] = {
        "dim": "16", "bus_bytes": True, "scratchpad_bytes": "64 apples", "accumulator_bytes": 65536.0,
        "clock_hz": "1G,2G", "name": 3, "normalization": 1, "technology_nm": None,
    }  # fmt: skip
    for name, value in wrong.items():
        refuses(lambda name=name, value=value: codesign.machine(**{name: value}), name)  # type: ignore[misc]


def test_axes_take_the_notation_of_the_command_line(small: codesign.Model) -> None:
    rows = codesign.sweep(small, EDGE, {"dim": "4:8:x2"})
    assert [row.dim for row in rows] == [4, 8]
    assert codesign.sweep(small, EDGE, {"dim": 8}) == codesign.sweep(small, EDGE, {"dim": ["8"]})
    bad: tuple[Any, ...] = (None, "dim", [8], {"dim": None}, {"dim": []}, {"dim": "4:8"}, {3: [8]})
    for axes in bad:
        word = "dim" if isinstance(axes, dict) and "dim" in axes else "axes "
        refuses(lambda axes=axes: codesign.sweep(small, EDGE, axes), word)  # type: ignore[misc]


def test_tables_are_of_rows_of_one_kind(small: codesign.Model) -> None:
    priced = codesign.price(small, EDGE)
    rows = codesign.kernels(priced)
    assert codesign.table(row for row in rows).equals(codesign.table(rows))
    mixed = [*codesign.sweep(small, EDGE, {}), rows[0]]
    refuses(lambda: codesign.table(mixed), "Row and KernelRow")
    no_rows: tuple[Any, ...] = (None, [], priced, [priced], "rows", [None])
    for wrong in no_rows:
        refuses(lambda wrong=wrong: codesign.table(wrong), "row")  # type: ignore[misc]
    no_results: tuple[Any, ...] = (None, rows, small)
    for wrong in no_results:
        refuses(lambda wrong=wrong: codesign.kernels(wrong), "result is", "Result")  # type: ignore[misc]


def test_a_batch_is_what_the_file_fixes(network: codesign.Network, file: Path) -> None:
    assert codesign.run(network, {"x": X})["y"].shape == (ROWS, WIDTH)
    refuses(lambda: codesign.compile(file, EDGE, [{"x": X}], batch=2), "batch 2", "fixes it at 4")


def test_runs_take_what_numpy_reads(network: codesign.Network) -> None:
    known = codesign.run(network, {"x": X})["y"]
    np.testing.assert_array_equal(codesign.run(network, {"x": X.tolist()})["y"], known)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "'x' is missing"),
        ({"x": "hello"}, "'x' is 'hello'"),
        ({"x": [[1.0], [1.0, 2.0]]}, "'x' is a list"),
        ({"x": None}, "'x' is None"),
        ({"x": X[:2]}, "[2, 16]"),
        ({"x": X, "q": 1}, "no input 'q'"),
        (None, "is None"),
        (X, "is a ndarray"),
    ],
)
def test_feeds_are_the_models_inputs(
    network: codesign.Network, file: Path, given: Any, words: str
) -> None:
    refuses(lambda: codesign.run(network, given), words)
    refuses(lambda: codesign.compile(file, EDGE, [given]), words)


def test_what_is_compiled_and_run_is_of_its_kind(
    network: codesign.Network, file: Path, small: codesign.Model
) -> None:
    refuses(lambda: codesign.run(None, {"x": X}), "network is None")  # type: ignore[arg-type]
    refuses(lambda: codesign.run(network, {"x": X}, backend="foo"), "backend is 'foo'")
    refuses(lambda: codesign.compile(small, EDGE, []), "no weights")  # type: ignore[arg-type]
    for wrong in (None, {"x": X}, "x", 3):
        refuses(lambda wrong=wrong: codesign.compile(file, EDGE, wrong), "write [feeds] for one")  # type: ignore[misc]
    refuses(lambda: codesign.compile("bert-tinny", EDGE, []), "bert-tiny")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "foo"}, "method is 'foo'"),
        ({"budget": "10"}, "budget is '10'"),
        ({"budget": 3}, "8 or more"),
        ({"points": 0}, "points is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": -3}, "workers is -3"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
        ({"population": None}, "population is None"),
        ({"minimize": "edp"}, "two or more"),
        ({"minimize": ("edp", "edp")}, "two or more"),
        ({"minimize": None}, "minimize is None"),
        ({"minimize": [3]}, "minimize is 3"),
        ({"space": 3}, "space is 3"),
        ({"quality": 3}, "quality is 3"),
        ({"energy_table": None}, "energy_table is None"),
    ],
)
def test_settings_of_a_search_are_refused(settings: dict[str, Any], words: str) -> None:
    refuses(lambda: codesign.joint_search(**settings), words)


def test_errors_are_of_one_class(small: codesign.Model) -> None:
    with pytest.raises(ArgumentError, match="the machine comes after it"):
        codesign.price(EDGE, small)  # type: ignore[arg-type]
    refuses(lambda: codesign.sweep(small, EDGE, {}, workers=0), "workers is 0")
    refuses(lambda: codesign.verify(small, EDGE, backend="paper"), "backend is 'paper'")
