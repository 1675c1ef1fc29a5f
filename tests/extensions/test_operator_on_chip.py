"""A toy operator on the chip: |x|, a function of the drain, from the ONNX file to the RTL."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from extension_tree import Extension, Tree
from onnx import TensorProto, helper, numpy_helper
from onnx_builder import ModelBuilder

HEADING = "An operator on chip"

ROW = """\
    DrainFunction("abs", lambda v, valid, columns, epsilon: np.abs(v), normalization=False),
"""
LANE = "      MODE_ABS:  return 32'(saturate8(rounded[19] ? -saturate8(rounded) : rounded));\n"

ABS = Extension(
    {
        "hw/machine/functions.py": [
            ('row_events=_NORM_ROWS,\naffine=True,\nmode="norm",\nhost="layernorm",\n),', ROW)
        ],
        "hw/rtl/drain/requantizer.sv": [
            ("MODE_RELU: return rounded[19] ? '0 : 32'(saturate8(rounded));", LANE)
        ],
        "compiler/importer/operators.py": [("ACTIVATIONS = {", '    "Abs": "abs",\n')],
        "compiler/numerics/elementwise.py": [('"gelu": _gelu,', '    "abs": np.abs,\n')],
    }
)

VALUES = """
import numpy as np
from instructions import instruction
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.views.functional import run

config = HardwareConfig(
    dim=4, scratchpad_bytes=256, scratchpad_banks=2, accumulator_bytes=2048, accumulator_banks=2,
    parameter_channels=64, bus_bytes=4, normalization=False,
)
x = np.arange(-128, 128, dtype=np.int8)[: 64 * 4].reshape(64, 4)
dram = np.concatenate((x.view(np.uint8).ravel(), np.zeros(256, dtype=np.uint8)))
body = (
    instruction("mvin", rows=64, blocks=1, target="accumulator", scale=1),
    instruction("mvout", rows=64, blocks=1, function="abs", multiplier=1, dram=256),
)
run(body, config, dram)
assert (dram[256:].view(np.int8) == np.minimum(np.abs(x.astype(int)), 127).ravel()).all()
"""

# A simulator that runs for a second is compiled without optimization.
ON_THE_RTL = """
import sys
from codesign.hw.simulation import verilator

build = verilator.build
verilator.build = lambda *given, **named: build(*given, **named | {{"optimize": "-O0"}})
from codesign.search.cli.app import main

sys.argv = ["codesign", "simulate", *{arguments}, "--backend", "rtl"]
main()
"""

# The smallest machine: this function needs none of the units.
MACHINE = """
dim = 4
scratchpad_bytes = 512
scratchpad_banks = 4
accumulator_bytes = 2048
accumulator_banks = 4
parameter_channels = 64
bus_bytes = 4
normalization = false
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return ABS.applied(tmp_path_factory.mktemp("abs"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A model with |x| behind a projection and by itself, and a machine."""
    b = ModelBuilder()
    fused = b.node("Abs", b.linear(b.input("x", (9, 12)), 12, 8))
    alone = b.node("Abs", b.input("y", (7, 10)))
    folder = tmp_path_factory.mktemp("files")
    onnx.save(b.model(fused, alone), folder / "abs.onnx")
    (folder / "tiny.toml").write_text(MACHINE)
    return str(folder / "abs.onnx"), str(folder / "tiny.toml")


def test_it_touches_what_the_page_names() -> None:
    ABS.keeps_to(HEADING, 9)


def test_the_functional_model_computes_it(tree: Tree) -> None:
    tree.python(VALUES)


def test_it_is_priced_on_the_chip(tree: Tree, files: tuple[str, str]) -> None:
    said = _simulated(tree, files)
    assert re.search(r"MatMul_0 +matmul +1× +256 ", said)
    assert re.search(r"Abs_3 +activation +1× +153 ", said)  # by itself, and not on the host
    assert "0 of them on the host" in said


def test_its_kernels_have_no_races_and_take_their_cycles(
    tree: Tree, files: tuple[str, str]
) -> None:
    said = _simulated(tree, files, "--backend", "functional")
    assert re.search(r"MatMul_0 +9x12x8, abs ", said) and re.search(r"Abs_3 +7x10, abs ", said)
    assert "functional model agrees: 2 kernels" in said


def test_the_rtl_does_the_same_in_every_byte_and_cycle(tree: Tree, files: tuple[str, str]) -> None:
    """The command ends with an error where anything differs."""
    model, machine = files
    said = tree.python(ON_THE_RTL.format(arguments=[model, "--hw", machine]))
    assert "RTL agrees: 2 kernels, 33 instructions, 409 cycles, 0 differences" in said


def test_a_network_computes_it_on_the_chip(tree: Tree, files: tuple[str, str]) -> None:
    """In int8, near what onnxruntime computes in float."""
    model, machine = files
    said = tree.run("-m", "codesign", "run", model, "--hw", machine)
    for tensor in ("Abs_2.0", "Abs_3.0"):
        (found,) = re.findall(rf"{re.escape(tensor)} +\S+ +(\S+)", said)
        assert float(found) > 0.999


def test_a_zero_point_behind_it_is_no_part_of_its_argument(tree: Tree, tmp_path: Path) -> None:
    """No requantizer follows it that could add one: the host computes it, and that is said."""
    tensor, node = helper.make_tensor_value_info, helper.make_node
    nodes = []
    for name, given, result in (("x", "x", "in"), ("y", "abs", "y")):
        nodes.append(node("QuantizeLinear", [given, f"{name}/s", f"{name}/z"], [f"{name}/q"]))
        nodes.append(node("DequantizeLinear", [f"{name}/q", f"{name}/s", f"{name}/z"], [result]))
    nodes.insert(2, node("Abs", ["in"], ["abs"]))
    numbers = {"x/s": np.float32(0.02), "x/z": np.int8(3), "y/s": np.float32(0.01)}
    numbers["y/z"] = np.int8(-128)
    ends = [tensor(name, TensorProto.FLOAT, (7, 10)) for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in numbers.items()]
    graph = helper.make_graph(nodes, "abs", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "abs.onnx")
    said = tree.run("-m", "codesign", "run", str(tmp_path / "abs.onnx"))
    (found,) = re.findall(r" y +\S+ +(\S+)", said)
    assert float(found) > 0.999


def _simulated(tree: Tree, files: tuple[str, str], *options: str) -> str:
    model, machine = files
    return tree.run("-m", "codesign", "simulate", model, "--hw", machine, *options)
