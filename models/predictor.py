"""Perplexity of decoders that were never measured, from a table of those that were.

The better of two fits of its logarithm, by cross-validation: ridge regression on second-degree
features, and gradient-boosted trees. Kendall's tau on rows that took no part says how well decoders
are ranked, which is what a search asks. Needs scikit-learn, of the [train] extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.families import LM_HEADS_OF_FULL_WIDTH, DecoderConfig
from codesign.models.perplexities import Measured

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FEWEST_ROWS = 30
FOLDS = 5


@dataclass(frozen=True)
class Predictor:
    """A fit, and how it did on the fifth of the rows that `kendall_tau` and `error` are of."""

    model: Any  # of scikit-learn: features to log perplexity
    kind: str  # "ridge" or "trees"
    longest: int  # layers that the features have places for
    kendall_tau: float  # of predicted and measured ranks: 1 when the order is the same
    error: float  # RMS of predicted over measured perplexity - 1

    def __call__(self, decoders: Sequence[DecoderConfig | Measured]) -> Floats:
        """Return the perplexities of decoders, float64[n]; raises ModelError when one is deeper
        than any that was measured."""
        result: Floats = np.exp(self.model.predict(features(decoders, self.longest)))
        return result


def fit(rows: Sequence[Measured], seed: int = 0) -> Predictor:
    """Return the predictor of a table; a fifth of it, drawn by `seed`, judges and is then used too.

    Raises ModelError when there are too few rows or scikit-learn is not there.
    """
    try:
        from scipy.stats import kendalltau
        from sklearn.base import clone
        from sklearn.model_selection import cross_val_score, train_test_split
    except ModuleNotFoundError as error:
        raise ModelError("a predictor needs scikit-learn: pip install 'codesign[train]'") from error
    if len(rows) < FEWEST_ROWS:
        raise ModelError(
            f"{len(rows)} perplexities fit no predictor: measure {FEWEST_ROWS} or more"
        )
    longest = max(row.layers for row in rows)
    x = features(rows, longest)
    y = np.log([row.perplexity for row in rows])
    x_fit, x_held, y_fit, y_held = train_test_split(x, y, test_size=1 / FOLDS, random_state=seed)
    models = _models(seed)
    scores = {
        name: cross_val_score(
            model, x_fit, y_fit, cv=FOLDS, scoring="neg_root_mean_squared_error"
        ).mean()
        for name, model in models.items()
    }
    kind = max(scores, key=lambda name: scores[name])
    held = models[kind].fit(x_fit, y_fit).predict(x_held)
    return Predictor(
        clone(models[kind]).fit(x, y),
        kind,
        longest,
        float(kendalltau(held, y_held).statistic),
        float(np.sqrt(np.mean(np.expm1(held - y_held) ** 2))),
    )


def features(decoders: Sequence[DecoderConfig | Measured], longest: int) -> Floats:
    """Return float64[n, 5 + 2 * longest]: layers, log d_model, mean heads and FFN, log parameters
    without embeddings, then heads and d_ff layer by layer, 0 where there is no layer."""
    deepest = max((decoder.layers for decoder in decoders), default=0)
    if deepest > longest:
        raise ModelError(f"a decoder of {deepest} layers is deeper than any measured, {longest}")
    padded = [(*d.heads, *[0] * (longest - d.layers), *d.d_ff, *[0] * (longest - d.layers))
              for d in decoders]  # fmt: skip
    layers = np.array(padded, dtype=np.int64).reshape(-1, 2, longest)
    return features_of(np.array([d.d_model for d in decoders]), layers[:, 0], layers[:, 1])


def features_of(d_model: Ints, heads: Ints, d_ff: Ints) -> Floats:
    """Return `features` of int64[n] widths and int64[n, longest] heads and FFN widths, 0 where there
    is no layer."""
    layers = (heads > 0).sum(axis=1)
    d = d_model[:, None]
    parameters = (4 * d * d / LM_HEADS_OF_FULL_WIDTH * heads + 2 * d * d_ff).sum(axis=1)
    means = heads.sum(axis=1) / layers, d_ff.sum(axis=1) / layers
    sums = np.stack([layers, np.log(d_model), *means, np.log(parameters)], axis=1)
    return np.concatenate([sums, heads, d_ff], axis=1)


def _models(seed: int) -> dict[str, Any]:
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    ridge = make_pipeline(
        StandardScaler(), PolynomialFeatures(2), StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))
    )
    trees = GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_depth=4, subsample=0.7, random_state=seed
    )
    return {"ridge": ridge, "trees": trees}
