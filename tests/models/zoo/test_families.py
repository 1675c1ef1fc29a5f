"""Configurations: published sizes, and bad ones refused with every violation named."""

from collections.abc import Callable

import numpy as np
import pytest

from codesign.hw.errors import ModelError
from codesign.models.zoo.axes import Axis, depth_axis, wrong_axes
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import DecoderConfig, lm
from codesign.models.zoo.families import FAMILIES, SEARCHED, family
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig
from codesign.models.zoo.weights import parameter_count, parameter_shapes, random_weights


@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [
        # Hugging Face checkpoints: bert-base-uncased and bert-large-uncased with pooler, gpt2.
        ("bert-base", 109.48, 2),
        ("bert-large", 335.14, 2),
        ("gpt2", 124.44, 2),
        # Sums of the tensors in the released safetensors files, and of the llama2.c file.
        ("stories260k", 260_032 / 1e6, 6),
        ("smollm-135m", 134.515008, 6),
        ("qwen2-0.5b", 494.032768, 6),
        ("tinyllama-1.1b", 1100.048384, 6),
        ("llama-3.2-1b", 1235.8144, 6),
        ("bert-tiny", 4.4, 1),  # arXiv 1908.08962
        ("vit-tiny", 5.717, 3),  # DeiT-tiny, timm deit_tiny_patch16_224
        # torchvision resnet50 has 25,557,032; folding leaves one bias of each norm's pair.
        ("resnet50", (25_557_032 - 26_560) / 1e6, 6),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, millions: float, digits: int) -> None:
    assert round(parameter_count(family(name)) / 1e6, digits) == pytest.approx(millions)


def test_t5_mini_has_31_million_parameters_only_with_heads_of_64() -> None:
    """UCB/EECS-2023-92 ch. 4 says 31 M; google/t5-efficient-mini has d_kv = 64."""
    wide = T5Config("t5", 4, 4, d_model=384, heads=8, d_kv=64, d_ff=1536)
    assert round(parameter_count(wide) / 1e6, 2) == 31.22
    narrow = family("t5-mini")
    embeddings = 32_128 * 384
    assert round((parameter_count(narrow) - embeddings) / 1e6, 3) == 14.165


def test_lm_of_full_width_is_gpt2() -> None:
    twin = lm(
        name="gpt2",
        layers=12,
        d_model=768,
        heads=[12] * 12,
        d_ff=[3072] * 12,
        vocab_size=50_257,
        max_positions=1024,
    )
    assert twin == FAMILIES["gpt2"]


def test_published_subnet_can_be_said() -> None:
    """The example of arXiv 2302.14017 table 9: heads keep d / 12 = 56 when they are pruned."""
    config = lm(
        layers=6,
        d_model=672,
        heads=(12, 6, 12, 8, 10, 6),
        d_ff=(1280, 1280, 2560, 768, 2048, 1024),
    )
    assert config.layers == 6 and config.head_dim == 56
    shapes = parameter_shapes(config)
    assert shapes["layer1.attention.query.weight"] == (672, 336)
    assert shapes["layer4.attention.output.weight"] == (560, 672)
    assert shapes["layer3.ffn.up.weight"] == (672, 768)


def test_every_violation_of_a_bad_lm_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        lm(layers=3, d_model=100, heads=(12, 13), d_ff=(64, 64, 64, 64))
    message = str(caught.value)
    for words in (
        "heads lists 2 values for 3 layers",
        "d_ff lists 4 values for 3 layers",
        "d_model is 100 but must be divisible by 12",
        "heads[1] is 13",
    ):
        assert words in message
    assert "\n" not in message


def test_bad_configurations_are_refused() -> None:
    cases: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: BertConfig("b", 2, 50, 4, 0), ["d_ff is 0", "50 is not divisible by 4"]),
        (lambda: DecoderConfig("d", 24, (), ()), ["names no layer"]),
        (lambda: DecoderConfig("d", 24, (1, 2), (8,)), ["d_ff lists 1", "heads lists 2"]),
        (lambda: lm(layers=0, d_model=24, heads=1, d_ff=8), ["names no layer"]),
        (lambda: lm(layers=1, d_model=24, heads=1, d_ff=-8), ["d_ff is (-8,)"]),
        (lambda: T5Config("t", 1, 1, 8, 1, 8, 8, relative_buckets=6), ["relative_buckets is 6"]),
        (
            lambda: T5Config("t", 1, 1, 8, 1, 8, 8, relative_max_distance=16),
            ["relative_max_distance is 16"],
        ),
        (lambda: VitConfig("v", 1, 8, 3, 8, image_size=30), ["by 3 heads", "image_size 30"]),
        (lambda: ResnetConfig("r", ()), ["names no stage"]),
        (lambda: ResnetConfig("r", (1, 0)), ["blocks is (1, 0)"]),
    ]
    for build, words in cases:
        with pytest.raises(ModelError) as caught:
            build()
        for word in words:
            assert word in str(caught.value)


def test_unknown_family_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean bert-base"):
        family("bert-bse")
    with pytest.raises(ModelError, match="choose from bert-tiny"):
        family("???")


def test_names_in_the_registry_are_the_configurations_own() -> None:
    assert all(name == config.name for name, config in FAMILIES.items())


@pytest.mark.parametrize("kind", SEARCHED.values(), ids=lambda kind: str(kind.family))
def test_axes_are_fields_of_the_networks_that_they_make(kind: type[ModelConfig]) -> None:
    axes = kind.axes()
    assert list(wrong_axes(axes, kind.layer_parts())) == []
    depth = depth_axis(axes)
    layers = 2 if depth else 1
    values: dict[str, int | tuple[int, ...]] = {
        axis.name: (axis.choices[0], axis.choices[-1]) if axis.scope == "layer" else axis.choices[0]
        for axis in axes
    }
    if depth:
        values[depth.name] = layers
    config = kind.point(values, 16, kind.options())
    assert {axis.name: getattr(config, axis.name) for axis in axes} == values


def test_axes_that_contradict_are_named() -> None:
    width, deep = Axis("width", (8,), "", "layer"), Axis("layers", (1,), "", "depth")
    assert [*wrong_axes((width,), (("width",),))] == [
        "width is chosen in each layer but no axis is the depth"
    ]
    assert [*wrong_axes((deep, deep), ())] == ["it has several depth axes"]
    assert "do not share out" in " ".join(wrong_axes((deep, width), ()))
    assert [*wrong_axes((deep, width), (("width",),))] == []


def test_random_weights_depend_on_seed_and_name_alone() -> None:
    config = family("bert-tiny")
    one, same, other = (random_weights(config, seed) for seed in (1, 1, 2))
    assert {name: value.shape for name, value in one.items()} == parameter_shapes(config)
    for name, value in one.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, same[name]) and not np.array_equal(value, other[name])
    assert not np.array_equal(
        one["layer0.attention.query.weight"], one["layer0.attention.key.weight"]
    )
