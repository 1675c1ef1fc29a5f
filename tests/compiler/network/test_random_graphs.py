"""Random networks on random machines: the machine leaves the bytes of the plain integers.

The oracle is `integers.integer_outputs`: operator after operator, whole matrices, nothing tiled or placed.
It knows the quantized network and nothing of the machine.
"""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from both_ways import Both
from float_reference import random_inputs
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from random_networks import Recipe, build, machines, recipes

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.numerics.quantized import QuantizationError
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.compiler.plan.lower import Plan
from codesign.compiler.program import emit
from codesign.hw.errors import CodesignError, MappingError, UnsupportedError
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.export import export

# What a network or a machine may be refused for, and nothing else.
REFUSALS = (
    (MappingError, "fits no tile of machine"),
    (QuantizationError, "its layout is not supported"),
    (QuantizationError, "starts inside a beat"),
    (QuantizationError, "is no int24 multiplier"),
    (UnsupportedError, "a softmax whose mask is causal or the same for every query"),
)


def compiled(
    model: onnx.ModelProto,
    feeds: list[Feeds],
    machine: HardwareConfig,
    objective: str = "cycles",
    accurate: bool = True,
) -> Network | str:
    """The network, or the one line that refuses it."""
    try:
        return compile_network(model, machine, feeds[:2], objective=objective, accurate=accurate)
    except CodesignError as error:
        assert "\n" not in str(error)
        known = [isinstance(error, kind) and words in str(error) for kind, words in REFUSALS]
        if not any(known):
            raise
        return str(error)


def check(
    recipe: Recipe, machine: HardwareConfig, objective: str = "cycles", accurate: bool = True
) -> str:
    model, feeds = build(recipe)
    network = compiled(model, feeds, machine, objective, accurate)
    if isinstance(network, str):
        return network
    found = run(network, feeds[2], Both(network))
    plain = run(network, feeds[2], "integers")
    for name, value in plain.items():
        np.testing.assert_array_equal(found[name], value)
    return ""


@pytest.mark.parametrize(
    ("end", "found"),
    (
        (lambda born, last_read: max(born, last_read - 1), "its own kernel reads"),
        (lambda born, last_read: min(born + 2, last_read), "overwritten before its last reader"),
    ),
    ids=("one-early", "two-kernels-long"),
)
def test_lifetimes_that_end_too_early_are_found(
    end: Callable[[int, int], int], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifetimes = emit._lifetimes

    def shortened(plan: Plan) -> dict[str, emit._Tensor]:
        tensors = lifetimes(plan)
        for tensor in tensors.values():
            tensor.last_read = end(tensor.born, tensor.last_read)
        return tensors

    monkeypatch.setattr(emit, "_lifetimes", shortened)
    config = BertConfig("bert", 2, 64, heads=4, d_ff=128, vocab_size=50, max_positions=32)
    feeds = [random_inputs(config, batch=1, seq=20, seed=seed) for seed in range(2)]
    network = compile_network(export(config, batch=1, seq=20), preset("ibert"), feeds)
    with pytest.raises(AssertionError, match=found):
        run(network, feeds[0], Both(network))


QUIET = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
OBJECTIVES = st.sampled_from(("cycles", "energy", "edp"))


@settings(QUIET, max_examples=60)
@given(recipe=recipes(), machine=machines(), objective=OBJECTIVES, accurate=st.booleans())
def test_random_networks(
    recipe: Recipe, machine: HardwareConfig, objective: str, accurate: bool
) -> None:
    note(check(recipe, machine, objective, accurate))


@settings(QUIET, max_examples=60)
@given(recipe=recipes(quantized=True), machine=machines(), accurate=st.booleans())
def test_random_quantized_networks(recipe: Recipe, machine: HardwareConfig, accurate: bool) -> None:
    """With zero points and clamps in the codes of all kinds of tensors."""
    note(check(recipe, machine, accurate=accurate))


def int8_tensors(network: Network) -> frozenset[str]:
    """What settles the bits of a network: the tensors between which nothing is rounded to int8."""
    operators = network.plan.graph.dag
    found: set[str] = set()
    for step in network.plan.steps:
        found.update(step.work.outputs)
        if step.kind == "attention":
            found.add(operators[step.operators[1]].output)  # the probabilities
    return frozenset(found)


@settings(QUIET, max_examples=15)
@given(
    recipe=recipes(),
    machines=st.lists(machines(smallest=2), min_size=3, max_size=3),
    objective=OBJECTIVES,
)
def test_no_machine_changes_a_bit(
    recipe: Recipe, machines: list[HardwareConfig], objective: str
) -> None:
    """One network on several machines: the same int8 tensors, the same bits."""
    model, feeds = build(recipe)
    outputs: dict[frozenset[str], dict[str, Array]] = {}
    for machine in (*machines, preset("ibert")):
        network = compiled(model, feeds, machine, objective)
        if isinstance(network, Network):
            found = run(network, feeds[2])
            first = outputs.setdefault(int8_tensors(network), found)
            for name, value in found.items():
                np.testing.assert_array_equal(value, first[name])


@pytest.mark.long
@settings(QUIET, max_examples=3000)
@given(recipe=recipes(quantized=True), machine=machines(), accurate=st.booleans())
def test_many_random_quantized_networks(
    recipe: Recipe, machine: HardwareConfig, accurate: bool
) -> None:
    check(recipe, machine, accurate=accurate)


@pytest.mark.long
@settings(QUIET, max_examples=5000)
@given(recipe=recipes(), machine=machines(), objective=OBJECTIVES, accurate=st.booleans())
def test_many_random_networks(
    recipe: Recipe, machine: HardwareConfig, objective: str, accurate: bool
) -> None:
    check(recipe, machine, objective, accurate)
