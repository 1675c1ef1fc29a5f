"""What only moves int8 values costs a copy by the host, or nothing where it is a view."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_builder import ModelBuilder, run
from price_forms import price

from codesign.compiler.graph import HostOp, Matmul
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.network import inference
from codesign.compiler.network.compilation import compile_network
from codesign.hw.costs import host
from codesign.hw.machine.config import preset
from codesign.hw.machine.events import EVENT_INDEX
from codesign.search.cli.app import main
from codesign.search.pricing.evaluate import Result, evaluate

Step = Callable[[ModelBuilder, str], str]
BATCH, ROWS, WIDTH = 2, 6, 32
ROW, BYTE = host.cycles_per_element("copy_rows"), host.cycles_per_element("copy_bytes")


def after_a_product(step: Step, batch: int = 1, opset: int = 17) -> onnx.ModelProto:
    """`step` on what the machine wrote, [batch, 6, 32]."""
    b = ModelBuilder(opset)
    x = b.input("x", (batch, ROWS, WIDTH))
    return b.model(step(b, b.linear(x, WIDTH, WIDTH)))


def image(step: Step, channels: int = 16) -> onnx.ModelProto:
    """`step` on an image that a convolution wrote, [1, channels, 8, 8]."""
    b = ModelBuilder()
    x = b.input("x", (1, 32, 8, 8))
    return b.model(step(b, b.node("Conv", x, b.weights(channels, 32, 1, 1))))


def evaluated(model: onnx.ModelProto) -> Result:
    return evaluate(import_onnx(model), preset("ibert"))


def pad(pads: list[int]) -> Step:
    return lambda b, x: b.node("Pad", x, b.ints(*pads))


def sliced(start: int, end: int, axis: int, step: int = 1) -> Step:
    return lambda b, x: b.node("Slice", x, *(b.ints(n) for n in (start, end, axis, step)))


def gathered(indices: list[int], axis: int) -> Step:
    return lambda b, x: b.node("Gather", x, b.ints(*indices), axis=axis)


def joined(rows: int, axis: int = 1, batch: int = 1) -> Step:
    shape = [batch, ROWS, WIDTH]
    shape[axis] = rows
    return lambda b, x: b.node("Concat", b.weights(*shape), x, axis=axis)


def rolled(b: ModelBuilder, x: str) -> str:
    parts = sliced(2, ROWS, 1)(b, x), sliced(0, 2, 1)(b, x)
    return str(b.node("Concat", *parts, axis=1))


def put_together(b: ModelBuilder, x: str) -> str:
    parts = b.node("Split", x, b.ints(2, 4), outputs=2, axis=1)
    return str(b.node("Concat", *parts, axis=1))


ONE = ROWS * WIDTH
COPIES: dict[str, tuple[onnx.ModelProto, int, int]] = {  # bytes, cycles a byte
    "pad nothing": (after_a_product(pad([0] * 6)), 0, ROW),
    "pad behind": (after_a_product(pad([0, 0, 0, 0, 2, 0])), 2 * WIDTH, ROW),
    "pad in a batch": (
        after_a_product(pad([0, 0, 0, 0, 2, 0]), BATCH),
        BATCH * (ROWS + 2) * WIDTH,
        ROW,
    ),
    "cut": (after_a_product(sliced(1, 4, 1)), 0, ROW),
    "every second row": (after_a_product(sliced(0, 6, 1, 2)), ONE // 2, ROW),
    "every second column": (after_a_product(sliced(0, WIDTH, 2, 2)), ONE // 2, BYTE),
    "neighbours": (after_a_product(gathered([2, 3], 1)), 0, ROW),
    "rows in another order": (after_a_product(gathered([2, 0, 1], 1)), ONE // 2, ROW),
    "a token before": (after_a_product(joined(1)), WIDTH, ROW),
    "a token before each": (
        after_a_product(joined(1, batch=BATCH), BATCH),
        BATCH * (ROWS + 1) * WIDTH,
        ROW,
    ),
    "columns before": (after_a_product(joined(16, 2, BATCH), BATCH), BATCH * ROWS * 16, ROW),
    "rolled": (after_a_product(rolled), ONE, ROW),
    "put together again": (after_a_product(put_together), 0, ROW),
    "enlarged": (
        image(
            lambda b, x: b.node("Resize", x, "", b.const([1, 1, 2, 2]), mode="nearest"),
        ),
        16 * 16 * 16,
        ROW,
    ),
    "depth to space": (
        image(lambda b, x: b.node("DepthToSpace", x, blocksize=2), channels=32),
        32 * 64,
        ROW,
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_cost_the_bytes_they_move(name: str) -> None:
    model, size, cycles = COPIES[name]
    feeds = {
        value.name: np.zeros([d.dim_value for d in value.type.tensor_type.shape.dim], np.float32)
        for value in model.graph.input
    }
    run(model, **feeds)
    priced = evaluated(model)
    moved = [kernel for kernel in priced.kernels if kernel.host_cycles]
    assert priced.host_cycles == size * cycles
    for event in ("dram_read_bytes", "dram_write_bytes"):
        assert sum(int(kernel.events[EVENT_INDEX[event]]) for kernel in moved) == size


def test_a_window_compares_each_of_its_values() -> None:
    model = image(lambda b, x: b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]))
    assert evaluated(model).host_cycles == 9 * 16 * 3 * 3 * host.cycles_per_element("maxpool")


def test_pad_of_nothing_costs_what_nothing_does() -> None:
    assert price(after_a_product(pad([0] * 6))) == price(after_a_product(lambda b, x: x))


def convolution(
    x: tuple[int, ...], w: tuple[int, ...], before: tuple[int, ...] = (), **attributes: Any
) -> onnx.ModelProto:
    """One convolution of an input, or of what another one (of one pixel) wrote."""
    b = ModelBuilder()
    name = b.input("x", (x[0], *before[1:], *x[2:]) if before else x)
    if before:
        name = b.node("Conv", name, b.weights(*before, *[1] * (len(x) - 2)))
    return b.model(b.node("Conv", name, b.weights(*w), **attributes))


CONVOLUTIONS: dict[str, tuple[onnx.ModelProto, int, int]] = {  # values of all patches, cycles each
    "patches of an image": (
        convolution((1, 3, 32, 32), (24, 3, 8, 8), strides=[8, 8]), 3 * 32 * 32, ROW,
    ),
    "overlapping": (
        convolution((1, 16, 8, 8), (24, 16, 3, 3), pads=[1, 1, 1, 1]), 9 * 16 * 64, ROW,
    ),
    "in one dimension": (
        convolution((1, 16, 32), (24, 16, 3), pads=[1, 1], strides=[2]), 3 * 16 * 16, ROW,
    ),
    "of few channels": (
        convolution((1, 4, 8, 8), (24, 4, 3, 3), (4, 16), pads=[1, 1, 1, 1]), 9 * 4 * 64, BYTE,
    ),
    "one channel at a time": (
        convolution((1, 16, 8, 8), (16, 1, 3, 3), pads=[1, 1, 1, 1], group=16), 9 * 16 * 64, BYTE,
    ),
    "every second pixel": (
        convolution((1, 16, 8, 8), (24, 16, 1, 1), strides=[2, 2]), 16 * 16, ROW,
    ),
    "every pixel": (convolution((1, 16, 8, 8), (24, 16, 1, 1)), 0, ROW),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_pay_for_their_patches(name: str) -> None:
    model, size, cycles = CONVOLUTIONS[name]
    graph = import_onnx(model)
    priced = evaluate(graph, preset("ibert"))
    products = [op for op in graph.operators() if isinstance(op, Matmul)]
    assert not [op for op in graph.operators() if isinstance(op, HostOp)]
    assert priced.host_cycles == size * cycles
    plain = evaluate(import_onnx(as_products(products)), preset("ibert"))
    assert priced.cycles - priced.host_cycles == plain.cycles
    assert priced.dram_bytes - 2 * size == plain.dram_bytes


def as_products(products: list[Matmul]) -> onnx.ModelProto:
    """The same products of matrices that lie ready."""
    b = ModelBuilder()
    outputs = []
    for index, op in enumerate(products):
        lead = (op.batch,) if op.batch > 1 else ()
        x = b.input(f"x{index}", (*lead, op.m, op.k))
        outputs.append(b.node("MatMul", x, b.weights(*lead, op.k, op.n)))
    return b.model(*outputs)


@pytest.mark.parametrize("command", [["sweep"], ["simulate"], ["sweep", "--json"]])
def test_what_patches_cost_is_said_once(
    command: list[str], tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path_factory.mktemp("convolution") / "model.onnx"
    onnx.save(CONVOLUTIONS["overlapping"][0], path)
    assert main([command[0], str(path), *command[1:]]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("9,216 bytes in 9,216 cycles") == 1
    if "--json" in command:
        json.loads(printed.out)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("overlapping", "whose patches overlap, leave gaps or are padded"),
        ("in one dimension", "whose patches overlap, leave gaps or are padded"),
        ("one channel at a time", "of 16 groups"),
        ("every second pixel", "whose patches overlap, leave gaps or are padded"),
    ],
)
def test_what_no_kernel_computes_is_the_hosts_and_says_why(name: str, reason: str) -> None:
    model = CONVOLUTIONS[name][0]
    network = compiled(model)
    assert network.host == (
        f"the host computes matmul 'Conv_0' in float: it is a convolution {reason}",
    )
    assert_exact(network, model)


def test_patches_of_what_the_machine_wrote_are_the_hosts() -> None:
    model = convolution((1, 16, 8, 8), (24, 16, 2, 2), (16, 32), strides=[2, 2])
    (said,) = compiled(model).host
    assert said.endswith(
        "'Conv_1' in float: it is a convolution over patches of what the machine wrote"
    )


def assert_exact(network: inference.Network, model: onnx.ModelProto) -> None:
    """The host's float is onnxruntime's."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    (expected,) = run(model, x=x)
    (got,) = inference.run(network, {"x": x}, "integers").values()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def compiled(model: onnx.ModelProto) -> inference.Network:
    (x,) = model.graph.input
    shape = [d.dim_value for d in x.type.tensor_type.shape.dim]
    rng = np.random.default_rng(0)
    samples = [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(4)]
    return compile_network(model, preset("ibert"), samples, batch=None)


@pytest.mark.parametrize(
    "model",
    [
        convolution((1, 8, 16), (12, 8, 4), strides=[4]),
        convolution((1, 8, 16), (12, 8, 1)),
        convolution((1, 3, 16, 8), (32, 3, 4, 2), strides=[4, 2]),
        convolution((1, 2, 4, 4, 6), (8, 2, 2, 2, 3), strides=[2, 2, 3]),
    ],
    ids=["1-D", "1-D pixels", "2-D", "3-D"],
)
def test_whole_patches_run_in_any_number_of_dimensions(model: onnx.ModelProto) -> None:
    network = compiled(model)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    (expected,) = run(model, x=x)
    (got,) = inference.run(network, {"x": x}, "integers").values()
    assert np.square(expected).sum() > 1e3 * np.square(got - expected).sum()
