"""What no model means is refused in one line that says why; what nobody foresaw names node and file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.importer.operators import HANDLERS
from codesign.compiler.onnx.evaluation import node_outputs
from codesign.compiler.onnx.float_model import FloatModel, load_float_model
from codesign.compiler.onnx.limits import MOST_DEPTH
from codesign.compiler.onnx.shapes import Node
from codesign.hw.errors import ModelError
from codesign.hw.platform.text import csv_cell, printable
from codesign.search.cli import app

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 32])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
W = numpy_helper.from_array(np.eye(32, dtype=np.float32), "w")
EMPTY = helper.make_graph([helper.make_node("Relu", ["h"], ["e"])], "e", [],
                          [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)])  # fmt: skip
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["h"], name="product")


def model(*nodes: onnx.NodeProto, opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph([PRODUCT, *nodes], "g", [X], [Y], [W])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def node(op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, ["y"], name="n", domain=domain, **attributes)


def refusal(source: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as error:
        import_onnx(source, name="file")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (node("Transpose", "h", perm=1.5), "attribute perm is FLOAT but must be INTS"),
        (node("Softmax", "h", axis="last"), "attribute axis is STRING but must be INT"),
        (node("Add", "h"), "has 1 inputs but takes at least 2"),
        (node("Add", "h", "h", "h"), "has 3 inputs but takes at most 2"),
        (node("Where", "", "h", "h"), "its input 0 is left out"),
        (node("Cast", "h"), "it has no attribute to"),
        (node("If", "w"), "it has no attribute else_branch"),
        (node("Add", "h", "nowhere"), "it reads 'nowhere', which nothing before it writes"),
        (node("Attention", "h", "w", domain="com.microsoft"), "it has no attribute num_heads"),
        (
            node("MultiHeadAttention", "h", "h", "h", domain="com.microsoft", num_heads=0),
            "its attribute num_heads is 0 but must be at least 1",
        ),
        (node("Constant"), "Constant"),
        (helper.make_node("Relu", ["h"], ["h"], name="n"), "it writes 'h', which is there already"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.op_type,
)
def test_nodes_without_a_meaning(damaged: onnx.NodeProto, reason: str) -> None:
    text = refusal(model(damaged))
    assert text.startswith(f"file: node {damaged.op_type} 'n' cannot be read (")
    assert reason in text


def test_what_a_handler_does_not_foresee_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(
        "codesign.compiler.importer.import_onnx.HANDLERS", {**HANDLERS, "Relu": broken}
    )
    text = refusal(model(node("Relu", "h")))
    assert text.startswith("file: node Relu 'n' cannot be read (no form of Relu that is known has")
    assert "its inputs (1x16x32)" in text and "unforeseen" not in text
    assert "--debug" in text
    try:
        import_onnx(model(node("Relu", "h")))
    except ModelError as error:
        assert isinstance(error.__cause__, KeyError)  # what --debug shows


def functions(calls: Callable[[int], list[str]], count: int) -> onnx.ModelProto:
    """Functions f0, f1, ... of one input and output, and a node that calls the last."""
    made = []
    for index in range(count):
        called = calls(index)
        names = ["a", *(f"t{i}" for i in range(len(called) - 1)), "b"]
        body = [
            helper.make_node(name, [names[i]], [names[i + 1]], domain="" if name == "Relu" else "f")
            for i, name in enumerate(called)
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        made.append(helper.make_function("f", f"f{index}", ["a"], ["b"], body, opsets))
    source = model(node(f"f{count - 1}", "h", domain="f"))
    source.functions.extend(made)
    source.opset_import.append(helper.make_opsetid("f", 1))
    return source


def test_functions_that_double_forty_times_are_counted_not_inlined() -> None:
    bomb = functions(lambda i: [f"f{i - 1}"] * 2 if i else ["Relu"] * 2, 40)
    assert "more than 10^12 nodes with its functions inlined" in refusal(bomb)


@pytest.mark.parametrize("ring", [1, 2])
def test_functions_that_call_themselves(ring: int) -> None:
    assert "calls itself" in refusal(functions(lambda i: [f"f{(i + 1) % ring}"], ring))


def test_functions_in_a_long_chain() -> None:
    chain = functions(lambda i: [f"f{i - 1}"] if i else ["Relu"], MOST_DEPTH + 1)
    assert f"nested deeper than {MOST_DEPTH}" in refusal(chain)


@pytest.mark.parametrize("extent", [2**63 - 1, 2**40])
def test_extents_that_no_tensor_has(extent: int) -> None:
    source = model(node("Relu", "h"))
    source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = extent
    assert "2^40" in refusal(source)


def test_a_symbol_of_thousands_of_terms() -> None:
    source = model(node("Relu", "h"))
    dim = source.graph.input[0].type.tensor_type.shape.dim[0]
    dim.dim_param = "+".join(["batch"] * 5000)
    matmul, *_ = import_onnx(source, batch=2).operators()
    assert matmul.m == 16 * 2 * 5000  # type: ignore[attr-defined]
    dim.dim_param = "batch+nothing"
    assert "'batch+nothing'" in refusal(source)


def test_branches_in_branches_that_hide_each_others_names() -> None:
    """Twenty-five deep: names that doubled with each level would fill gigabytes."""
    result = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    deep = helper.make_graph([helper.make_node("Relu", ["h"], ["o"])], "g", [], [result])
    for _ in range(25):
        inner = helper.make_node("If", ["yes"], ["o"], then_branch=deep, else_branch=EMPTY)
        deep = helper.make_graph([inner], "g", [], [result])
    source = model(node("If", "yes", then_branch=deep, else_branch=EMPTY))
    source.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    *_, last = import_onnx(source).operators()
    assert len(last.output) < 1000


@pytest.mark.parametrize("levels", [1, 3, 20])
def test_a_node_deep_in_branches_is_named_once_with_the_way_to_it(levels: int) -> None:
    result = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    bad = helper.make_node("Softmax", ["h"], ["o"], name="bad", axis="last")
    deep = helper.make_graph([bad], "g", [], [result])
    for level in range(levels - 1):
        inner = helper.make_node(
            "If", ["yes"], ["o"], name=f"level{level}", then_branch=deep, else_branch=EMPTY
        )
        deep = helper.make_graph([inner], "g", [], [result])
    source = model(node("If", "yes", then_branch=deep, else_branch=EMPTY))
    source.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    text = refusal(source)
    assert text.startswith("file: node Softmax 'bad' in 'n'") and text.count("node ") == 1
    assert ("'n' > 'level1' > 'level0' cannot" in text) == (levels == 3)
    assert len(text) < 300 and ("…" in text) == (levels == 20)
    assert "attribute axis is STRING" in text


def test_a_type_of_elements_that_does_not_exist() -> None:
    for number in (0, 39, 99):
        source = model(node("Relu", "h"))
        source.graph.initializer[0].data_type = number
        assert f"constant 'w' cannot be read (its element type {number} is" in refusal(source)
        source = model(node("Relu", "h"))
        source.graph.input[0].type.tensor_type.elem_type = number
        assert f"input 'x' cannot be read (its element type {number} is" in refusal(source)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    content = model(node("Relu", "h")).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content.replace(b"product", b"prod\xff\xfet"))
    with pytest.raises(ModelError, match=r"m\.onnx cannot be read \(a name is not UTF-8\)"):
        load_float_model(tmp_path / "m.onnx")


def test_inputs_of_another_number_of_axes() -> None:
    attention = node("Attention", "h", "flat", domain="com.microsoft", num_heads=2)
    source = model(attention)
    source.graph.initializer.append(numpy_helper.from_array(np.ones(96, np.float32), "flat"))
    assert "Attention 'n' (its input 1 has 1 axes, and 2 are meant)" in refusal(source)


@pytest.mark.parametrize(
    ("entries", "size", "reason"),
    [
        ({}, 4, r"its weights in \S*w\.bin are 4 bytes, but its extents take 4,096"),
        ({"length": "4096"}, 4, r"its weights are bytes 0 to 4,096 of \S*w\.bin, which has 4"),
        ({"offset": "9"}, 4, r"its weights are bytes from 9 on of \S*w\.bin, which has 4"),
        ({"length": "8"}, 4096, r"its weights in \S*w\.bin are 8 bytes"),
        ({}, None, r"its weights in \S*w\.bin: No such file"),
    ],
)
def test_external_weights_that_are_not_there_name_their_file(
    tmp_path: Path, entries: dict[str, str], size: int | None, reason: str
) -> None:
    source = model(node("Relu", "h"))
    tensor = source.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    (tmp_path / "m.onnx").write_bytes(source.SerializeToString())
    if size is not None:
        (tmp_path / "w.bin").write_bytes(bytes(size))
    pattern = rf"m\.onnx: constant 'w' cannot be read \({reason}\S*.*\): put the whole file"
    with pytest.raises(ModelError, match=pattern):
        load_float_model(tmp_path / "m.onnx")


def test_types_that_no_inference_tells() -> None:
    """ONNX's inference refuses an operator inside a function's body; the session says what is wrong."""
    foreign = model(node("Trilu", "h", domain="elsewhere"))
    assert "x" in FloatModel(foreign).types


def test_a_tensor_beyond_all_bounds_is_named_with_its_reason() -> None:
    source = model(
        helper.make_node("Transpose", ["h"], ["t"], perm=[0, 2, 1]), node("MatMul", "h", "t")
    )
    source.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 30
    assert "MatMul 'n' (extents 1x1073741824x1073741824 are beyond 2^40" in refusal(source)


def test_an_opset_that_does_not_exist() -> None:
    source = model(node("Relu", "h"))
    source.opset_import[0].version = 2**40
    assert "no opset 1099511627776" in refusal(source)


def test_constants_that_take_too_long() -> None:
    large = numpy_helper.from_array(np.zeros((1 << 10, 1 << 12), dtype=np.int64), "large")
    body = [helper.make_node("Neg", [f"c{i}" if i else "large"], [f"c{i + 1}"]) for i in range(40)]
    body += [helper.make_node("Cast", ["c40"], ["c"], to=1), node("Add", "h", "c")]
    source = model(*body)
    source.graph.initializer.append(large)
    assert "docs/limits.md" in refusal(source)


def test_one_operator_that_loops_over_elements_is_not_run() -> None:
    """ONNX's reference of it takes minutes; what its result is worth is its shape."""
    data = numpy_helper.from_array(np.zeros((1 << 8, 1 << 9), dtype=np.int64), "data")
    scattered = helper.make_node("ScatterElements", ["data", "data", "data"], ["c"])
    cast = helper.make_node("Cast", ["c"], ["f"], to=1)
    narrow = helper.make_node("ReduceSum", ["f"], ["s"])
    source = model(scattered, cast, narrow, node("Mul", "h", "s"))
    source.graph.initializer.append(data)
    assert len(list(import_onnx(source).operators())) == 1


def test_time_follows_neither_indices_nor_attributes() -> None:
    """Small constants for which ONNX's reference would count to 2^62, or multiply 2^48 numbers."""
    far = numpy_helper.from_array(np.full((1, 16), 1 << 62), "far")
    vector = numpy_helper.from_array(np.ones(1 << 12, np.float32), "vector")
    gathered = helper.make_node("GatherElements", ["far", "far"], ["g"], axis=1)
    cast = helper.make_node("Cast", ["g"], ["f"], to=1)
    narrow = helper.make_node("ReduceSum", ["f"], ["s"])
    outer = helper.make_node("Einsum", ["vector"] * 4, ["e"], equation="a,b,c,d->")
    source = model(gathered, cast, narrow, outer, helper.make_node("Mul", ["s", "e"], ["se"]),
                   node("Mul", "h", "se"))  # fmt: skip
    source.graph.initializer.extend([far, vector])
    assert len(list(import_onnx(source).operators())) == 1


def test_elements_gathered_by_index() -> None:
    """Of fewer rows than there are, and from the end."""
    data, indices = np.arange(12.0, dtype=np.float32).reshape(3, 4), np.array([[3, -4], [0, 1]])
    proto = helper.make_node("GatherElements", ["d", "i"], ["y"], axis=1)
    gather = Node("n", "GatherElements", "", ("d", "i"), ("y",), {"axis": 1})
    (result,) = node_outputs(gather, proto, {"d": data, "i": indices}, 17)
    assert result.tolist() == [[3, 0], [4, 5]]
    assert node_outputs(gather, proto, {"d": data, "i": indices + 4}, 17) == []


def test_a_bug_is_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("ours\x1b[2J")

    monkeypatch.setattr("codesign.search.commands.simulate.run_simulate", broken)
    assert app.main(["simulate"]) == app.BUG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("codesign: error: KeyError: ") and "a bug in codesign" in line
    assert "\x1b" not in line
    with pytest.raises(KeyError):
        app.main(["simulate", "--debug"])


def test_external_weights_through_the_links_of_a_hub_cache(tmp_path: Path) -> None:
    weights = np.arange(1024, dtype=np.float32)
    for name in ("snapshots/1", "blobs"):
        (tmp_path / "repo" / name).mkdir(parents=True)
    snapshot = tmp_path / "repo" / "snapshots" / "1"
    (tmp_path / "repo" / "blobs" / "aa").write_bytes(weights.tobytes())
    (tmp_path / "elsewhere").write_bytes(weights.tobytes())
    source = model(node("Relu", "h"))
    tensor = source.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="w.bin"))
    (snapshot / "m.onnx").write_bytes(source.SerializeToString())
    link = snapshot / "w.bin"
    link.symlink_to("../../blobs/aa")
    loaded = load_float_model(snapshot / "m.onnx").graph.initializer[0]
    assert (numpy_helper.to_array(loaded) == weights.reshape(32, 32)).all()
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"m\.onnx: constant 'w' .*w\.bin, a link out of"):
        load_float_model(snapshot / "m.onnx")


def test_text_for_terminals_and_tables() -> None:
    assert printable("a\x1b[2J\u202eb\n", keep="\n") == "a\\x1b[2J\\u202eb\n"
    for text in ("=1+1", "+a", "-a", "@a", "'a", "\ta", "a=b", "", "''"):
        cell = csv_cell(text)
        assert not cell.startswith(("=", "+", "-", "@", "\t")) and cell.removeprefix("'") == text
