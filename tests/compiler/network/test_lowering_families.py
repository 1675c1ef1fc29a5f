"""Every built-in family in int8: the machine equals plain integers, and both are near the float model."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from float_reference import random_inputs
from onnx_builder import ModelBuilder
from onnx_builder import run as onnxruntime_run

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.compiler.plan.work import PATCHES
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.export import export
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig

SEQ = 20
BERT = BertConfig("bert", 2, d_model=48, heads=4, d_ff=112, vocab_size=50, max_positions=32)
PRUNED = DecoderConfig("lm", 96, (7, 11), (128, 80), vocab_size=48, max_positions=32)
T5 = T5Config("t5", 1, 2, d_model=48, heads=5, d_kv=12, d_ff=96, vocab_size=50)
VIT = VitConfig("vit", 2, d_model=48, heads=3, d_ff=96, image_size=32, patch_size=8, classes=10)
RESNET = ResnetConfig("resnet", (1, 1), width=8, image_size=32, classes=10)

# What the host computes, by the kind of its work: all else is on chip.
HOST = {
    "bert": {"embedding", "add", "mask", "tanh"},
    "lm": {"embedding", "add"},
    "t5": {"embedding", "mask"},
    "vit": {PATCHES, "concat", "add"},
}
# With the drawn weights of these models; the worst of all outputs, machines and inputs is above.
COSINE = {"bert": 0.998, "lm": 0.998, "t5": 0.997, "vit": 0.998}


def inputs(config: ModelConfig, seed: int) -> dict[str, Array]:
    """Random tokens or pixels; every other seed hides the last keys."""
    feeds = random_inputs(config, batch=1, seq=SEQ, seed=seed)
    if "attention_mask" in feeds and seed % 2:
        feeds["attention_mask"][:, SEQ - 1 - seed % (SEQ // 2) :] = 0
    return feeds


def samples(config: ModelConfig) -> Iterator[Feeds]:
    return (inputs(config, seed) for seed in range(8))


def network(config: ModelConfig, machine: HardwareConfig, objective: str = "cycles") -> Network:
    model = export(config, batch=1, seq=SEQ)
    return compile_network(model, machine, samples(config), objective=objective)


def check(net: Network, config: ModelConfig, bound: float) -> None:
    for seed in (100, 101):
        feeds = inputs(config, seed)
        on_machine, plain = run(net, feeds), run(net, feeds, "integers")
        for name, wanted in net.model.part((), net.model.outputs)(feeds).items():
            np.testing.assert_array_equal(on_machine[name], plain[name])
            value = on_machine[name]
            cosine = (value * wanted).sum() / np.linalg.norm(value) / np.linalg.norm(wanted)
            assert cosine > bound, f"{name} of seed {seed}: {cosine}"


@pytest.mark.parametrize("machine", ("edge", "ibert", "large"))
@pytest.mark.parametrize("config", (BERT, PRUNED, T5, VIT), ids=lambda config: config.name)
def test_families(config: ModelConfig, machine: str) -> None:
    """dim 8, 16 and 32; heads of 12, 8 and 16 columns."""
    net = network(config, preset(machine))
    functions = {
        getattr(net.plan.graph.dag[step.operators[0]], "function", PATCHES)
        for step in net.plan.steps
        if step.work.problem is None
    }
    assert functions == HOST[config.name]
    check(net, config, COSINE[config.name])


# Attention in one kernel needs three banks, for Q, for K and V, and for the probabilities.
SMALL = replace(
    preset("edge"),
    name="small",
    scratchpad_bytes=1024,
    scratchpad_banks=2,
    accumulator_bytes=2048,
    accumulator_banks=4,
)


@pytest.mark.parametrize("config", (BERT, PRUNED, T5), ids=lambda config: config.name)
def test_attention_that_does_not_fit_in_one_kernel(config: ModelConfig) -> None:
    """Masks over keys are parameters, causal ones row numbers, biases operands, in any kernel."""
    net = network(config, SMALL)
    softmaxes = [step for step in net.quantized.steps.values() if step.added is not None]
    assert softmaxes and all(len(step.epilogues) == 1 for step in softmaxes)
    check(net, config, COSINE[config.name] - 0.01)


def test_convolutions_that_overlap_run_on_the_host_and_are_said() -> None:
    net = network(RESNET, preset("ibert"))
    said = [line for line in net.host if "'stem/Conv'" in line]
    assert len(said) == 1 and "each is a convolution whose patches overlap" in said[0]
    check(net, RESNET, 0.998)


def test_what_convolutions_on_the_host_write_is_read_on_chip() -> None:
    """A depthwise 3x3, then pixels times 1x1, then a residual: channels as many as columns."""
    b = ModelBuilder()
    x = b.input("x", (1, 16, 16, 16))
    deep = b.node("Conv", x, b.const(b.rng.normal(0, 0.3, (16, 1, 3, 3))), group=16, pads=[1] * 4)
    wide = b.node("Conv", b.node("Relu", deep), b.const(b.rng.normal(0, 0.25, (16, 16, 1, 1))))
    whole = b.node("Conv", x, b.const(b.rng.normal(0, 0.08, (16, 16, 3, 3))), pads=[1] * 4)
    model = b.model(b.node("Relu", b.node("Add", whole, wide)))
    rng = np.random.default_rng(1)
    samples = [{"x": rng.normal(size=(1, 16, 16, 16)).astype(np.float32)} for _ in range(4)]
    net = compile_network(model, preset("ibert"), samples, batch=None)
    assert {step.work.outputs for step in net.plan.steps if not step.work.problem} == {
        (deep,),
        (whole,),
    }
    assert len(net.host) == 2 and all("is a convolution" in line for line in net.host)
    (name,) = net.model.outputs
    on_machine, plain = run(net, samples[0])[name], run(net, samples[0], "integers")[name]
    np.testing.assert_array_equal(on_machine, plain)
    (wanted,) = onnxruntime_run(model, **samples[0])
    assert np.square(wanted - plain).sum() < 10**-3 * np.square(wanted).sum()


def test_a_machine_that_holds_no_row_is_refused() -> None:
    tiny = replace(SMALL, name="tiny", accumulator_banks=2)
    tiny = replace(tiny, scratchpad_bytes=256, accumulator_bytes=512, parameter_channels=8)
    with pytest.raises(MappingError, match="fits no tile of machine 'tiny'"):
        network(BERT, tiny)


@pytest.mark.parametrize("function", ("Relu", "Gelu"))
@pytest.mark.parametrize("heads", (1, 2, 3))
def test_heads_behind_an_activation_are_padded_where_they_are_read(
    function: str, heads: int
) -> None:
    """Attention without a softmax, heads of 8 columns on a mesh of 16: relu(scores V) W."""
    rows, width, b = 12, 8 * heads, ModelBuilder(opset=20)
    x = b.input("x", (rows, width))

    def projected() -> str:
        columns = b.node("MatMul", x, b.const(b.rng.normal(0, width**-0.5, (width, width))))
        return str(b.node("Transpose", b.node("Reshape", columns, split), perm=[1, 0, 2]))

    split = b.ints(rows, heads, 8)
    q, k, v = projected(), projected(), projected()
    context = b.node("MatMul", b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1])), v)
    found = b.node("Transpose", b.node(function, context), perm=[1, 0, 2])
    joined = b.node("Reshape", found, b.ints(rows, width))
    model = b.model(b.node("MatMul", joined, b.weights(width, 24)))
    rng = np.random.default_rng(1)
    samples = [{"x": rng.normal(size=(rows, width)).astype(np.float32)} for _ in range(4)]
    net = compile_network(model, preset("ibert"), samples, batch=None)
    assert all(step.work.problem is not None for step in net.plan.steps)
    (name,) = net.model.outputs
    on_machine, plain = run(net, samples[0])[name], run(net, samples[0], "integers")[name]
    np.testing.assert_array_equal(on_machine, plain)
    (wanted,) = onnxruntime_run(model, **samples[0])
    assert np.square(wanted - plain).sum() < 10**-2.5 * np.square(wanted).sum()
