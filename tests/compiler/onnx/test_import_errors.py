"""What cannot be imported ends in one line that names the thing, the place and the remedy."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto
from onnx_builder import ModelBuilder

from codesign.compiler.graph import Matmul
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.hw.errors import ModelError, UnsupportedError

DATA = Path(__file__).parents[2] / "data"


def message(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("content", ["missing", "empty", "truncated", "text", "json", "folder"])
def test_files_that_are_not_models(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.onnx"
    if content == "folder":
        path.mkdir()
    elif content != "missing":
        whole = (DATA / "bert_tiny_script.onnx").read_bytes()
        text = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello, world\n"}
        path.write_bytes(text.get(content, b'{"model": []}'))
    with pytest.raises(ModelError) as error:
        import_onnx(path)
    assert str(path) in message(error)


@pytest.mark.parametrize(
    ("batch", "seq", "named", "option"),
    [(None, 16, "batch", "--batch"), (2, None, "sequence", "--seq")],
)
def test_dimension_without_a_value(
    batch: int | None, seq: int | None, named: str, option: str
) -> None:
    with pytest.raises(ModelError) as error:
        import_onnx(DATA / "bert_tiny_script.onnx", batch=batch, seq=seq)
    assert repr(named) in message(error) and option in message(error)


def linear(shape: tuple[int | str, ...], dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    b = ModelBuilder()
    return b.model(b.linear(b.input("x", shape, dtype), 8, 4))


@pytest.mark.parametrize(
    ("shape", "options", "rows"),
    [
        (("batch_size", "sequence_length", 8), {"batch": 3, "seq": 5}, 15),
        (("N", "seq_len", 8), {"batch": 3, "seq": 5}, 15),
        (("unk__7", "unk__8", 8), {"batch": 3, "seq": 5}, 15),
        (("s72", "s70", 8), {"batch": 3, "seq": 5}, 15),
        (("batch", 5, 8), {"batch": 3}, 15),
        ((3, 5, 8), {}, 15),
        ((3, 5, 8), {"batch": 3, "seq": 5}, 15),
        (("batch", "past_length + 1", 8), {"batch": 3, "dims": {"past_length": 4}}, 15),
        (("rows", "cols", 8), {"dims": {"rows": 3, "cols": 5}}, 15),
        (("", "", 8), {"dims": {"x.0": 3, "x.1": 5}}, 15),
        ((3, "width", 2, 8), {"dims": {"width": 5}}, 30),
    ],
)
def test_symbolic_dimensions(
    shape: tuple[int | str, ...], options: dict[str, int], rows: int
) -> None:
    graph = import_onnx(linear(shape), **options)  # type: ignore[arg-type]
    (op,) = graph.operators()
    assert isinstance(op, Matmul) and op.m == rows


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, "width", 2, 8), {}, ["'width'", "--bind width=VALUE"]),
        ((3, "past_length", 8), {}, ["'past_length'"]),
        ((3, 5, 8), {"seq": 7}, ["seq 7", "fixes it at 5"]),
        ((3, 5, 8), {"batch": 1}, ["batch 1", "fixes it at 3"]),
        (("batch", 5, 8), {"batch": 0}, ["--batch is 0"]),
        (("batch", 5, 8), {"batch": 1, "dims": {"sequnce": 7}}, ["sequnce", "has batch"]),
    ],
)
def test_dimensions_that_do_not_fit(
    shape: tuple[int | str, ...], options: dict[str, int], words: list[str]
) -> None:
    with pytest.raises(ModelError) as error:
        import_onnx(linear(shape), **options)  # type: ignore[arg-type]
    assert all(word in message(error) for word in words)


def test_all_unsupported_nodes_are_named() -> None:
    b = ModelBuilder()
    x = b.input("x", ("batch", "seq", 8))
    recurrent = b.node("LSTM", x, b.weights(1, 16, 8), b.weights(1, 16, 4), hidden_size=4)
    custom = b.node("Warp", x, domain="my.ops")
    found = b.node("NonZero", x)
    tail = b.node("Det", b.node("MatMul", x, b.weights(8, 4)))  # known to ONNX, not to us
    with pytest.raises(UnsupportedError) as error:
        import_onnx(b.model(recurrent, custom, found, tail), batch=2, seq=4)
    text = message(error)
    for word in ("LSTM", "LSTM_0", "my.ops::Warp", "Warp_1", "NonZero_2", "Det_4", "replace them"):
        assert word in text


def test_many_unsupported_nodes_are_grouped() -> None:
    b = ModelBuilder()
    x = b.input("x", ("batch", "seq", 8))
    outputs = [b.node("Warp", x, domain="my.ops") for _ in range(12)]
    outputs.append(b.node("Loop", "", b.const(True, "bool"), x, body=onnx.GraphProto(name="body")))
    with pytest.raises(UnsupportedError) as error:
        import_onnx(b.model(*outputs), batch=2, seq=4)
    assert "my.ops::Warp 'Warp_0' and 11 more, Loop 'Loop_12'" in message(error)


def test_if_on_data_is_unsupported() -> None:
    b = ModelBuilder()
    flag = b.input("flag", (), TensorProto.BOOL)
    b.input("x", (1, 8))
    node = onnx.helper.make_node("Relu", ["x"], ["inner"])
    output = onnx.helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = onnx.helper.make_graph([node], "branch", [], [output])
    y = b.node("If", flag, then_branch=branch, else_branch=branch)
    with pytest.raises(UnsupportedError) as error:
        import_onnx(b.model(y))
    alone = "its condition depends on data: export the branch that is meant alone"
    assert f"If 'If_0' ({alone})" in message(error)
    assert "standard ONNX operators" not in message(error)  # it is one


def test_shapes_that_do_not_fit_name_the_node() -> None:
    b = ModelBuilder()
    y = b.node("MatMul", b.input("x", (2, 8)), b.weights(9, 4))
    with pytest.raises(ModelError) as error:
        import_onnx(b.model(y))
    assert "MatMul_0" in message(error)


def test_a_tensor_that_nothing_writes() -> None:
    b = ModelBuilder()
    y = b.node("Add", b.input("x", (2, 8)), "ghost")
    with pytest.raises(ModelError) as error:
        import_onnx(b.model(y))
    assert "'ghost'" in message(error)


def test_a_model_without_activations() -> None:
    b = ModelBuilder()
    y = b.node("Add", b.weights(4), b.weights(4))
    with pytest.raises(ModelError) as error:
        import_onnx(b.model(y))
    assert "nothing to compute" in message(error)


@pytest.mark.parametrize(
    "options", [{"dims": {"rows": 10**14}}, {"dims": {"rows": 1 << 38}}], ids=["", "one too many"]
)
def test_an_extent_that_was_asked_for_is_at_fault_where_it_is_too_large(
    options: dict[str, dict[str, int]],
) -> None:
    with pytest.raises(ModelError, match="open axes.*rows.*--bind") as error:
        import_onnx(linear(("rows", 8)), **options)  # type: ignore[arg-type]
    assert "damaged" not in message(error)


def test_a_tensor_that_grows_beyond_bounds_says_which_options_may_do_it() -> None:
    """2^30 rows are few enough for the input, and their products with one another too many."""
    b = ModelBuilder()
    x = b.input("x", ("rows", 8))
    model = b.model(b.node("MatMul", x, b.node("Transpose", x)))
    with pytest.raises(ModelError, match=r"beyond 2\^40 elements.*--bind") as error:
        import_onnx(model, dims={"rows": 1 << 30})
    assert "MatMul" in message(error)
