"""Counts equal the printed tables of arXiv 2302.14017v1, digit by digit, deviations listed."""

import dataclasses

import numpy as np
import pytest
from workload import Count, workload

from codesign.hw.errors import ModelError
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import lm
from codesign.models.zoo.families import family
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig

LENGTHS = (128, 256, 512, 1024, 2048, 4096)

# Table 3, BERT-Base: GFLOP, GMOP, arithmetic intensity, as printed.
PER_OPERATOR = {
    128: {
        "projections": ("7.25", "0.04", "192.00"),
        "attention": ("0.60", "0.006", "63.62"),
        "ffn": ("14.50", "0.07", "211.86"),
        "other": ("0.08", "0.02", "3.14"),
        "total": ("22.42", "0.14", "159.68"),
    },
    512: {
        "projections": ("28.99", "0.07", "438.86"),
        "attention": ("9.62", "0.09", "101.95"),
        "ffn": ("57.98", "0.10", "558.54"),
        "other": ("0.42", "0.16", "2.73"),
        "total": ("97.02", "0.42", "231.0"),
    },
    4096: {
        "projections": ("231.93", "0.33", "702.17"),
        "attention": ("616.02", "4.98", "123.63"),
        "ffn": ("463.86", "0.43", "1068.52"),
        "other": ("11.85", "5.47", "2.16"),
        "total": ("1323.66", "11.22", "117.96"),
    },
}

# Printed figures that the convention cannot reach, with what it gives instead.
MISSED = {
    (128, "attention", "0.006"): 0.00944,
    (512, "ffn", "558.54"): 558.545,
    (4096, "other", "2.16"): 2.1655,
}


def agrees(value: float, printed: str) -> bool:
    """Whether `printed` is `value` rounded to its digits (a tie may go either way)."""
    last_digit = float(10.0 ** -len(printed.partition(".")[2]))
    return abs(value - float(printed)) <= 0.5 * last_digit * (1 + 1e-9)


def table(counts: tuple[Count, ...]) -> dict[str, Count]:
    return {count.group: count for count in counts}


@pytest.mark.parametrize("seq", PER_OPERATOR)
def test_bert_base_per_operator(seq: int) -> None:
    counts = table(workload(family("bert-base"), seq))
    assert counts.keys() == PER_OPERATOR[seq].keys()
    for group, (gflops, gmops, intensity) in PER_OPERATOR[seq].items():
        count = counts[group]
        ours = (count.flops / 1e9, count.bytes / 1e9, count.intensity)
        for value, printed in zip(ours, (gflops, gmops, intensity), strict=True):
            missed = MISSED.get((seq, group, printed))
            if missed is None:
                assert agrees(value, printed), (group, value, printed)
            else:
                assert not agrees(value, printed)
                assert value == pytest.approx(missed, rel=1e-3)


def test_bert_base_end_to_end() -> None:
    """Figures 4-6. At 4096 the figure has intensity 117 where table 3 has 117.96."""
    gflops = ("22", "46", "97", "214", "505", "1324")
    gmops = ("0.1", "0.2", "0.4", "1.1", "3.2", "11.2")
    intensity = ("160", "215", "231", "202", "156", "118")
    for i, seq in enumerate(LENGTHS):
        total = workload(family("bert-base"), seq)[-1]
        assert agrees(total.flops / 1e9, gflops[i])
        assert agrees(total.bytes / 1e9, gmops[i])
        assert agrees(total.intensity, intensity[i])


def test_bert_large_is_printed_one_square_product_per_layer_short() -> None:
    """Figures 4-6: all six FLOP totals are those of the model less d x d per layer and token.

    With those weights left out, bytes and intensity are within 0.5 % of the printed ones.
    """
    gflops = ("73", "149", "310", "673", "1554", "3942")
    intensity = (171, 239, 266, 235, 179, 131)
    square = 24 * 1024**2
    for i, seq in enumerate(LENGTHS):
        total = workload(family("bert-large"), seq)[-1]
        assert not agrees(total.flops / 1e9, gflops[i])
        flops, size = total.flops - 2 * square * seq, total.bytes - square
        assert agrees(flops / 1e9, gflops[i])
        assert flops / size == pytest.approx(intensity[i], rel=5e-3)


def test_gpt2_token_by_token_end_to_end() -> None:
    """Figures 4-6 and table 11 (two more digits at 128, 512 and 4096; intensity 2.0)."""
    gflops = ("22.12", "45", "92.15", "194", "428", "1012.04")
    gmops = ("11.08", "22.5", "46.17", "97.3", "214.3", "507.80")
    for i, seq in enumerate(LENGTHS):
        total = workload(family("gpt2"), seq, token_by_token=True)[-1]
        assert agrees(total.flops / 1e9, gflops[i])
        assert agrees(total.bytes / 1e9, gmops[i])
        assert agrees(total.intensity, "2.0")


def test_bert_base_with_four_heads() -> None:
    """Table 10: intensity of attention and of the total."""
    config = family("bert-base")
    assert isinstance(config, BertConfig)
    config = dataclasses.replace(config, heads=4)
    printed = {128: ("95.69", "167.14"), 512: ("219.04", "303.59"), 4096: ("350.61", "276.00")}
    for seq, (attention, total) in printed.items():
        counts = table(workload(config, seq))
        assert agrees(counts["attention"].intensity, attention)
        assert agrees(counts["total"].intensity, total)


def test_t5_mini_is_near_the_printed_total() -> None:
    """UCB/EECS-2023-92 table 4.4 prints 1.909 GFLOP at 64 + 64 tokens, by another convention."""
    assert workload(family("t5-mini"), 64)[-1].flops / 1e9 == pytest.approx(1.909, rel=0.03)


def test_search_baseline_has_24_giga_macs() -> None:
    """Six layers of d = 768 at 512 tokens, by hand: weights 12 d^2, attention 2 L d per token."""
    config = lm(layers=6, d_model=768, heads=12, d_ff=3072)
    macs = 6 * 512 * (12 * 768**2 + 2 * 512 * 768)
    counts = table(workload(config, 512))
    products = sum(counts[group].flops for group in ("projections", "attention", "ffn"))
    assert products / 2 == pytest.approx(macs, rel=1e-3)


def test_token_by_token_is_the_sum_of_its_steps() -> None:
    """One token against n keys, counted from the products' shapes."""
    config = lm(layers=1, d_model=24, heads=5, d_ff=40)
    counts = table(workload(config, 9, token_by_token=True))
    flops = sum(5 * ((2 * 2 - 1) * n + (2 * n - 1) * 2) for n in range(1, 10))
    moved = sum(2 * 5 * (2 + 2 * n + n) for n in range(1, 10))
    assert (counts["attention"].flops, counts["attention"].bytes) == (flops, moved)
    assert counts["ffn"].flops == 9 * 2 * 2 * 24 * 40
    assert counts["projections"].bytes == 9 * 4 * (24 + 24 * 10 + 10)


def test_counts_grow_with_the_shape() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        layers, heads, d_ff = (int(v) for v in rng.integers(1, [7, 12, 400]))
        d_model, seq = int(rng.integers(1, 20)) * 12, int(rng.integers(1, 600))
        small = workload(lm(layers=layers, d_model=d_model, heads=heads, d_ff=d_ff), seq)
        wider = lm(layers=layers, d_model=d_model, heads=heads + 1, d_ff=d_ff + 1)
        for larger in (workload(wider, seq), workload(wider, seq + 1)):
            assert all(a.flops < b.flops for a, b in zip(small, larger, strict=True))
            assert all(a.bytes < b.bytes for a, b in zip(small, larger, strict=True))


def test_vision_length_comes_from_the_image() -> None:
    config = family("vit-tiny")
    assert isinstance(config, VitConfig)
    bert = BertConfig("twin", 12, 192, 3, 768)
    assert workload(config, 5) == workload(bert, 197)


def test_what_cannot_be_counted_is_refused() -> None:
    for config in (family("bert-tiny"), T5Config("t5", 1, 1, 8, 1, 8, 8), family("resnet50")):
        with pytest.raises(ModelError, match=config.name):
            workload(config, 8, token_by_token=True)
    with pytest.raises(ModelError, match="no Transformer"):
        workload(family("resnet50"))
    with pytest.raises(ModelError, match="seq is 0"):
        workload(family("bert-tiny"), 0)
