"""The predictor ranks decoders that it never saw, of a perplexity whose form it does not know."""

import numpy as np
import pytest

from codesign.hw.errors import ModelError
from codesign.models.quality.perplexities import Measured
from codesign.models.quality.predictor import features, fit_predictor
from codesign.models.supernet.space import subnets
from codesign.models.zoo.decoder import DecoderConfig

SPACE = subnets(vocab_size=100)


def law(config: DecoderConfig, noise: float) -> float:
    """A power law in parameters (arXiv 2001.08361) that early layers weigh on more."""
    size = sum(
        (4 * config.d_model**2 / 12 * heads + 2 * config.d_model * d_ff) / (1 + 0.3 * layer)
        for layer, (heads, d_ff) in enumerate(zip(config.heads, config.d_ff, strict=True))
    )
    return float(20 * (size / 1e6) ** -0.076 * np.exp(noise))


def networks(count: int, seed: int, **choices: tuple[int, ...]) -> list[DecoderConfig]:
    found = subnets(vocab_size=100, **choices).sample(count, seed)  # type: ignore[arg-type]
    return [config for config in found if isinstance(config, DecoderConfig)]


def rows(count: int, seed: int, noise: float = 0.002) -> list[Measured]:
    rng = np.random.default_rng(seed)
    return [Measured(c.chosen, law(c, rng.normal(0, noise))) for c in networks(count, seed)]


def test_it_ranks_decoders_that_it_never_saw() -> None:
    from scipy.stats import kendalltau

    predictor = fit_predictor(rows(300, seed=0), DecoderConfig)
    fresh = networks(200, seed=1)
    truth = [law(c, 0.0) for c in fresh]
    tau = kendalltau(predictor([c.chosen for c in fresh]), truth).statistic
    print(f"{predictor.kind}: tau {tau:.3f}, stated {predictor.kendall_tau:.3f}")
    assert tau > 0.9
    assert predictor.kendall_tau == pytest.approx(tau, abs=0.08)
    assert predictor.error < 0.01
    np.testing.assert_array_equal(
        predictor([c.chosen for c in fresh]),
        fit_predictor(rows(300, seed=0), DecoderConfig)([c.chosen for c in fresh]),
    )


def test_it_does_not_rank_noise() -> None:
    rng = np.random.default_rng(0)
    noise = [Measured(c.chosen, float(rng.uniform(20, 30))) for c in SPACE.sample(200, seed=2)]
    assert abs(fit_predictor(noise, DecoderConfig).kendall_tau) < 0.3


@pytest.mark.parametrize("count", [8, 29])
def test_a_small_table_is_judged_row_by_row(count: int) -> None:
    """Nothing can be held out; what is stated of each row left out holds for rows never seen."""
    predictor = fit_predictor(rows(count, seed=3), DecoderConfig)
    fresh = networks(200, seed=4)
    error = np.sqrt(
        np.mean((predictor([c.chosen for c in fresh]) / [law(c, 0.0) for c in fresh] - 1) ** 2)
    )
    print(f"{predictor.describe()}; on fresh ones {100 * error:.2f} %")
    assert predictor.kind == "ridge regression on sizes"
    assert predictor.judged_on == "each row left out"
    assert predictor.error == pytest.approx(error, rel=1.0) and error < 0.02
    assert predictor.kendall_tau > 0.5


def test_perplexities_all_alike() -> None:
    """There is no order to find, and no error to make."""
    for count in (8, 40):
        alike = [Measured(c.chosen, 20.0) for c in SPACE.sample(count, seed=2)]
        predictor = fit_predictor(alike, DecoderConfig)
        assert predictor.kendall_tau == 0
        assert predictor.error == pytest.approx(0, abs=1e-9)
        assert predictor([SPACE.largest.chosen]) == pytest.approx(20)


def test_features() -> None:
    """Of decoders that differ in one layer alone, one place and the sums differ."""
    a, b = SPACE.smallest, SPACE.largest
    table = features(DecoderConfig, [a.chosen, b.chosen], 6)
    assert table.shape == (2, 17)
    assert table[0, 5:].tolist() == [4, 4, 4, 0, 0, 0, 768, 768, 768, 0, 0, 0]
    parameters = 6 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert table[1, :5].tolist() == pytest.approx([6, np.log(768), 12, 3072, np.log(parameters)])


def test_errors() -> None:
    with pytest.raises(ModelError, match="7 measured networks fit no predictor: measure 8 or more"):
        fit_predictor(rows(7, seed=0), DecoderConfig)
    shallow = [Measured(c.chosen, law(c, 0.0)) for c in networks(40, 0, layers=(3, 4))]
    with pytest.raises(ModelError, match="6 layers is deeper than any measured, 4"):
        fit_predictor(shallow, DecoderConfig)([SPACE.largest.chosen])
