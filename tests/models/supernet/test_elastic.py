"""Subnets in torch, as ONNX and in numpy are the same network, and share the weights they should."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from float_reference import forward, random_inputs

from codesign.hw.errors import ModelError
from codesign.models.supernet.space import subnets
from codesign.models.zoo.decoder import DecoderConfig, lm
from codesign.models.zoo.export import export
from codesign.models.zoo.weights import parameter_shapes, random_weights

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")
elastic = pytest.importorskip("codesign.models.supernet.elastic")

SPACE = subnets(
    97, 24, layers=(1, 2, 3), d_model=(24, 48, 96), heads=(2, 6, 11), d_ff=(40, 64, 100)
)
LARGEST = lm(layers=3, d_model=96, heads=11, d_ff=100, vocab_size=97, max_positions=24)
SHARED = {name: torch.from_numpy(value) for name, value in random_weights(LARGEST, seed=5).items()}
SUBNETS = [LARGEST, SPACE.smallest, *SPACE.sample(8, seed=2)]


def logits(config: DecoderConfig, weights: Any) -> npt.NDArray[np.float32]:
    ids = random_inputs(config, batch=2, seq=19, seed=3)["input_ids"]
    return np.asarray(config.forward(weights, torch.from_numpy(ids)).numpy())


@pytest.mark.parametrize("config", SUBNETS, ids=lambda c: f"{c.d_model}-{c.heads}-{c.d_ff}")
def test_a_subnet_is_its_export(config: DecoderConfig) -> None:
    weights = elastic.subnet(SHARED, LARGEST, config)
    actual = logits(config, weights)
    inputs = random_inputs(config, batch=2, seq=19, seed=3)
    model = export(config, batch=2, seq=19, weights=elastic.arrays(weights))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["logits"], inputs)
    expected = forward(config, elastic.arrays(weights), inputs)["logits"]
    assert expected.std() > 0.1
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)
    np.testing.assert_allclose(actual / scale, exported / scale, atol=1e-5)


def test_fewer_heads_layers_and_ffn_are_the_largest_with_zeros() -> None:
    """Of the same width, a subnet equals the largest whose other heads, layers and units add 0."""
    config = replace(LARGEST, heads=(6, 2), d_ff=(64, 40))
    zeroed = {name: value.clone() for name, value in SHARED.items()}
    for layer, (heads, d_ff) in enumerate([(6, 64), (2, 40), (0, 0)]):
        zeroed[f"layer{layer}.attention.output.weight"][heads * config.head_dim :] = 0
        zeroed[f"layer{layer}.ffn.down.weight"][d_ff:] = 0
    for part in ("attention.output", "ffn.down"):
        zeroed[f"layer2.{part}.bias"][:] = 0
    actual = logits(config, elastic.subnet(SHARED, LARGEST, config))
    np.testing.assert_allclose(actual, logits(LARGEST, zeroed), rtol=1e-4, atol=1e-4)


def test_a_narrower_subnet_has_the_first_channels_of_every_head() -> None:
    """Weights that name their own place: head and channel of every column."""
    large, small = LARGEST, replace(LARGEST, d_model=24)
    place = torch.arange(11 * 8).float()  # 8 channels a head
    shared = dict(SHARED)
    for part in ("query", "key", "value"):
        shared[f"layer0.attention.{part}.weight"] = place.expand(96, -1)
        shared[f"layer0.attention.{part}.bias"] = place
    shared["layer0.attention.output.weight"] = place[:, None].expand(-1, 96)
    weights = elastic.subnet(shared, large, small)
    wanted = torch.tensor([8.0 * head + channel for head in range(11) for channel in range(2)])
    for part in ("query", "key", "value"):
        assert torch.equal(weights[f"layer0.attention.{part}.weight"], wanted.expand(24, -1))
        assert torch.equal(weights[f"layer0.attention.{part}.bias"], wanted)
    output = weights["layer0.attention.output.weight"]
    assert torch.equal(output, wanted[:, None].expand(-1, 24))


def test_gradients_reach_the_shared_weights() -> None:
    """Every weight of the smallest gets a gradient, and none outside it."""
    shared = elastic.initial(LARGEST, seed=0)
    small = SPACE.smallest
    ids = torch.from_numpy(random_inputs(small, batch=4, seq=24, seed=1)["input_ids"])
    small.forward(elastic.subnet(shared, LARGEST, small), ids).square().sum().backward()
    for name, shape in parameter_shapes(small).items():
        touched = shared[name].grad != 0
        # A key's bias adds the same to all scores of a query: softmax takes it away.
        if not name.endswith("key.bias") and not name.startswith("embeddings."):
            assert touched.sum() == np.prod(shape), name
    assert shared["layer2.ffn.up.weight"].grad is None


def test_initial_weights() -> None:
    """They depend on the seed, and a new network says little: about log(vocabulary) nats."""
    first, again = (elastic.initial(LARGEST, seed=1) for _ in range(2))
    other = elastic.initial(LARGEST, seed=2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embeddings.word"], other["embeddings.word"])
    ids = torch.from_numpy(random_inputs(LARGEST, batch=8, seq=24, seed=4)["input_ids"])
    with torch.no_grad():
        out = LARGEST.forward(first, ids)[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(out, ids[:, 1:].flatten())
    assert float(loss) == pytest.approx(np.log(97), abs=0.3)


def test_what_is_no_subnet() -> None:
    assert LARGEST == SPACE.largest
    larger = lm(layers=4, d_model=108, heads=12, d_ff=101, vocab_size=90, max_positions=24)
    with pytest.raises(ModelError) as error:
        elastic.subnet(SHARED, LARGEST, larger)
    for what in ("4 layers exceed 3", "d_model 108 exceeds 96", "heads 12 exceeds 11 in layer 0"):
        assert what in str(error.value)
    assert "vocab_size is 90, not 97" in str(error.value) and "\n" not in str(error.value)
