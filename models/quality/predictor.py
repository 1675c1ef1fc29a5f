"""Perplexity of networks that were never measured, from a table of those of their family that were.

Fits of its logarithm: the better, by cross-validation, of ridge regression on second-degree features
and gradient-boosted trees; of a small table, ridge regression on sizes alone. Kendall's tau on rows
that took no part says how well networks are ranked, which is what a search asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.quality.perplexities import Measured
from codesign.models.zoo.axes import NetworkShape, depth_axis
from codesign.models.zoo.model_config import ModelConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FEWEST_ROWS = 8
ROWS_TO_HOLD_OUT = 30  # from so many on a fifth can be spared
FOLDS = 5


@dataclass(frozen=True)
class Predictor:
    """A fit, and how it did on rows that took no part in one."""

    family: type[ModelConfig]
    model: Any  # of scikit-learn: features to log perplexity
    kind: str
    longest: int  # layers that the features have places for
    judged_on: str  # the rows that `kendall_tau` and `error` are of
    kendall_tau: float  # of predicted and measured ranks: 1 when the order is the same
    error: float  # RMS of predicted over measured perplexity - 1

    def __call__(self, shapes: Sequence[NetworkShape]) -> Floats:
        """Return the perplexities of networks, float64[n]; raises ModelError when one is deeper
        than any that was measured."""
        return np.exp(self._predicted(features(self.family, shapes, self.longest)))

    def log_perplexity(self, values: Mapping[str, Ints]) -> Floats:
        """Return the logarithms [n] for values [n] on every axis, on layer axes [n, layers], 0 where
        there is no layer; no more layers than `longest` may be used."""
        return self._predicted(features_of(self.family, values, self.longest))

    def _predicted(self, x: Floats) -> Floats:
        """The logarithms [n] of rows [n, features]; there may be none, which scikit-learn refuses."""
        result: Floats = self.model.predict(x) if len(x) else np.empty(0)
        return result

    def describe(self) -> str:
        """What it is, and how it did."""
        return (
            f"{self.kind}; on {self.judged_on}: Kendall tau {self.kendall_tau:.3f}, "
            f"error {100 * self.error:.2f} %"
        )


def fit_predictor(rows: Sequence[Measured], family: type[ModelConfig], seed: int = 0) -> Predictor:
    """Return the predictor of a table of `FEWEST_ROWS` or more; `seed` draws the rows held out.

    Every row is used in the end, also those that judged. Raises ModelError when there are too few.
    """
    if len(rows) < FEWEST_ROWS:
        raise ModelError(
            f"{len(rows)} measured networks fit no predictor: measure {FEWEST_ROWS} or more"
        )
    shapes = [row.shape for row in rows]
    longest = max(_layers(family, shape) for shape in shapes)
    x = features(family, shapes, longest)
    y = np.log([row.perplexity for row in rows])
    if len(rows) < ROWS_TO_HOLD_OUT:
        return _fit_sizes(family, x, y, longest)
    return _fit_better(family, x, y, longest, seed)


def features(family: type[ModelConfig], shapes: Sequence[NetworkShape], longest: int) -> Floats:
    """Return `features_of` networks, float64[n, ...]; raises ModelError for one of more layers than
    `longest`."""
    deepest = max((_layers(family, shape) for shape in shapes), default=0)
    if deepest > longest:
        raise ModelError(f"a network of {deepest} layers is deeper than any measured, {longest}")
    values = {}
    for axis in family.axes():
        own = [shape[axis.name] for shape in shapes]
        if axis.scope == "layer":
            own = [(*one, *[0] * (longest - len(one))) for one in own]
        values[axis.name] = np.array(own, dtype=np.int64)
    return features_of(family, values, longest)


def features_of(family: type[ModelConfig], values: Mapping[str, Ints], longest: int) -> Floats:
    """Return float64[n, axes + 1 + longest * layer axes] of int64[n] values on every axis, on layer
    axes int64[n, layers], 0 where there is no layer.

    For each axis the depth, the logarithm of a choice that is made once, or the mean over the layers;
    log parameters without embeddings; then layer axes layer by layer, up to `longest`.
    """
    depth = depth_axis(family.axes())
    layered = {
        axis.name: _padded(values[axis.name], longest)
        for axis in family.axes()
        if axis.scope == "layer"
    }
    sums: list[Any] = []
    for axis in family.axes():
        if axis.scope == "layer":
            sums.append(layered[axis.name].sum(axis=1) / values[depth.name])  # type: ignore[union-attr]
        else:
            own = values[axis.name]
            sums.append(own if axis.scope == "depth" else np.log(own))
    parameters = family.layer_parameters({**values, **layered}, family.options())
    table = np.stack([*sums, np.log(parameters)], axis=1)
    return np.concatenate([table, *layered.values()], axis=1)


def _layers(family: type[ModelConfig], shape: NetworkShape) -> int:
    depth = depth_axis(family.axes())
    return 1 if depth is None else int(shape[depth.name])


def _fit_better(
    family: type[ModelConfig], x: Floats, y: Floats, longest: int, seed: int
) -> Predictor:
    """Of ridge regression and trees, judged on a fifth."""
    from sklearn.base import clone
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.model_selection import cross_val_score, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    models = {
        "ridge regression": make_pipeline(
            StandardScaler(), PolynomialFeatures(2), StandardScaler(), _ridge()
        ),
        "boosted trees": GradientBoostingRegressor(
            n_estimators=300, learning_rate=0.05, max_depth=4, subsample=0.7, random_state=seed
        ),
    }
    x_fit, x_held, y_fit, y_held = train_test_split(x, y, test_size=1 / FOLDS, random_state=seed)
    scores = {
        name: cross_val_score(
            model, x_fit, y_fit, cv=FOLDS, scoring="neg_root_mean_squared_error"
        ).mean()
        for name, model in models.items()
    }
    kind = max(scores, key=lambda name: scores[name])
    held = models[kind].fit(x_fit, y_fit).predict(x_held)
    model = clone(models[kind]).fit(x, y)
    return Predictor(family, model, kind, longest, "a held-out fifth", *_judge(held, y_held))


def _fit_sizes(family: type[ModelConfig], x: Floats, y: Floats, longest: int) -> Predictor:
    """Ridge regression on the sums over the layers, judged on each row by the fit to the others."""
    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sizes = ColumnTransformer([("sizes", StandardScaler(), slice(0, len(family.axes()) + 1))])
    model = make_pipeline(sizes, _ridge())
    left_out = cross_val_predict(model, x, y, cv=LeaveOneOut())
    kind = "ridge regression on sizes"
    return Predictor(
        family, model.fit(x, y), kind, longest, "each row left out", *_judge(left_out, y)
    )


def _ridge() -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(np.logspace(-3, 3, 13))


def _judge(predicted: Floats, measured: Floats) -> tuple[float, float]:
    """Kendall's tau and the error of logarithms."""
    from scipy.stats import kendalltau

    error = np.sqrt(np.mean(np.expm1(predicted - measured) ** 2))
    tau = kendalltau(predicted, measured).statistic
    return float(np.nan_to_num(tau)), float(error)  # of perplexities all alike there is no order


def _padded(values: Ints, width: int) -> Ints:
    """[n, layers] as [n, width]: of no more layers than that."""
    padded: Ints = np.zeros((len(values), width), dtype=np.int64)
    padded[:, : values.shape[1]] = values[:, :width]
    return padded
