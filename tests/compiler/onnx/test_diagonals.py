"""Views of diagonals: what operators make of them, against the same on whole matrices."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import codesign
from codesign.compiler.graph import Softmax
from codesign.compiler.onnx.diagonals import by_distance, diagonals, shown
from codesign.compiler.onnx.evaluation import node_outputs
from codesign.compiler.onnx.shapes import Node

Array = np.ndarray[Any, Any]


@given(
    rows=st.integers(2, 7), columns=st.integers(2, 7), leading=st.sampled_from(((), (1,), (2, 1)))
)
def test_a_view_shows_its_diagonals(rows: int, columns: int, leading: tuple[int, ...]) -> None:
    numbers = np.arange(rows - 1 + columns, dtype=np.float32)
    view = shown(numbers, (*leading, rows, columns))
    distance = np.arange(columns) - np.arange(rows)[:, np.newaxis]
    np.testing.assert_array_equal(view, np.broadcast_to(distance + rows - 1, view.shape))
    found = diagonals(view)
    assert found is not None
    np.testing.assert_array_equal(found, numbers)
    assert diagonals(np.array(view)) is None  # the same numbers, each stored


@st.composite
def programs(draw: st.DrawFn) -> tuple[dict[str, Array], list[Node], tuple[int, int]]:
    """Constants, and nodes that compute on them and on what nodes before computed."""
    rows, columns = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    step, first, second = (draw(st.integers(low, 3)) for low in (1, -3, -3))
    values: dict[str, Array] = {
        "row": first + step * np.arange(columns),
        "column": second + draw(st.sampled_from((step, step, step + 1))) * np.arange(rows)[:, None],
        "uneven": np.array([0, 1, 3, 7, 8, 9])[:columns],
        "low": np.array(-1e4, np.float32),
        "none": np.broadcast_to(np.float32(0), (rows, columns)),
        "one": np.array([1], np.int64),
        "whole": np.arange(rows * columns).reshape(rows, columns),
    }
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 5))):
        name = f"y{number}"
        known = [*values, *(node.outputs[0] for node in nodes)]
        op, arity = draw(
            st.sampled_from((
                ("Greater", 2), ("LessOrEqual", 2), ("Sub", 2), ("Add", 2), ("Mul", 2), ("Where", 3),
                ("Not", 1), ("Cast", 1), ("Unsqueeze", 2), ("Trilu", 1), ("And", 2), ("Equal", 2),
            ))
        )  # fmt: skip
        inputs = tuple(draw(st.sampled_from(known)) for _ in range(arity))
        attributes: dict[str, Any] = {}
        if op == "Unsqueeze":
            values["axis"], inputs = np.array([0]), (inputs[0], "axis")
        if op == "Cast":
            attributes = {"to": draw(st.sampled_from((TensorProto.FLOAT, TensorProto.INT64)))}
        if op == "Trilu":
            attributes = {"upper": draw(st.integers(0, 1))}
        nodes.append(Node(name, op, "", inputs, (name,), attributes))
    return values, nodes, (rows, columns)


@given(programs())
def test_operators_on_views_are_those_on_matrices(
    program: tuple[dict[str, Array], list[Node], tuple[int, int]],
) -> None:
    """Of every node that ONNX computes on whole matrices, where a view comes out it shows the same."""
    values, nodes, _ = program
    whole, views = dict(values), dict(values)
    for node in nodes:
        proto = helper.make_node(node.op_type, node.inputs, node.outputs, **node.attributes)
        if any(name not in whole for name in node.inputs):
            continue
        computed = node_outputs(node, proto, whole, 17)
        if not computed:
            continue
        (exact,) = computed
        found = by_distance(node, proto, {n: views[n] for n in node.inputs}, 17, exact.shape)
        (name,) = node.outputs
        whole[name] = exact
        views[name] = exact if found is None else found
        if found is not None:
            assert found.shape == exact.shape and diagonals(found) is not None
            np.testing.assert_array_equal(found, exact)


def test_a_mask_of_places_is_a_view() -> None:
    """Not any of the operators that exporters write one with falls back to a matrix."""
    rows, columns = 40, 50
    values: dict[str, Array] = {
        "keys": np.arange(columns), "queries": np.arange(10, columns)[:, np.newaxis],
        "low": np.array(-1e4, np.float32), "none": np.array(0, np.float32), "axis": np.array([0]),
    }  # fmt: skip
    for op, inputs, shape in (
        ("Greater", ("keys", "queries"), (rows, columns)),
        ("Where", ("y0", "low", "none"), (rows, columns)),
        ("Unsqueeze", ("y1", "axis"), (1, rows, columns)),
        ("Expand", ("y2", "axis"), (3, rows, columns)),
    ):
        name = f"y{len(values) - 5}"
        node = Node(name, op, "", inputs, (name,))
        found = by_distance(node, None, values, 17, shape)
        assert found is not None and found.shape == shape and diagonals(found) is not None
        values[name] = found
    expected = np.where(np.tri(rows, columns, 10, dtype=bool), 0, -1e4).astype(np.float32)
    np.testing.assert_array_equal(values["y3"], np.broadcast_to(expected, (3, rows, columns)))


@pytest.mark.parametrize("past", (None, 5_000))
def test_a_built_in_model_is_causal_at_32768_tokens(past: int | None) -> None:
    graph = codesign.load_model("stories260k", seq=32_768, past=past).graph
    masks = [op for op in graph.operators() if isinstance(op, Softmax)]
    assert len(masks) == 5
    assert all(op.causal and op.masked and not op.bias_elements for op in masks)
