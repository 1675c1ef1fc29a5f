"""How well a Transformer of the space models language: measured perplexities, or a labelled proxy.

A table of measured subnets (`models.perplexities`) is used as it stands where it has a candidate;
between its rows a fit predicts: `models.predictor` where scikit-learn is installed, else a ridge
regression. Without a table the scaling law of Kaplan et al. (arXiv 2001.08361) stands in: a proxy,
which sees the number of parameters alone, and says so wherever its numbers appear.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.models import perplexities, predictor
from codesign.models.perplexities import Measured
from codesign.search.space import Genes, SearchSpace, Shape

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Fit = Callable[[Ints, Ints, Ints], Floats]  # d_model [n], heads and d_ff [n, layers] to log ppl [n]

# Kaplan et al. 2020, Table 5 and eq. 1.1: L(N) = (N_c / N)^alpha_N in nats a token.
KAPLAN_PARAMETERS, KAPLAN_EXPONENT = 8.8e13, 0.076
LEAST_ROWS = 8  # that a regression is fitted to
RIDGE = 1e-3
DECIMALS = 9  # of a predicted logarithm: beyond them it may depend on what it is predicted beside


class QualityError(CodesignError):
    """A table of measured subnets that cannot be used."""


class Quality(Protocol):
    """Perplexities of candidates, and where they come from."""

    @property
    def source(self) -> str:
        """What the numbers are computed from."""

    @property
    def label(self) -> str:
        """What a number of it is called wherever it is shown."""

    @property
    def is_proxy(self) -> bool:
        """Whether nothing of it was measured on these Transformers."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the numbers do."""

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity of each candidate [n]."""


def non_embedding_parameters(d_model: Any, heads: Any, d_ff: Any) -> Any:
    """Weights of all layers [n] of widths [n], heads [n, layers] and FFN widths [n, layers].

    Kaplan et al., eq. 2.1: 2 d_model (2 d_attention + d_ff) a layer, biases and embeddings left
    out. Heads are d_model / 12 wide; absent layers are 0.
    """
    attention = np.asarray(heads) * (np.asarray(d_model)[..., None] // 12)
    return 2 * np.asarray(d_model) * (2 * attention + np.asarray(d_ff)).sum(axis=-1)


@dataclass(frozen=True)
class ScalingLaw:
    """The analytic proxy: exp((8.8e13 / N)^0.076) of the non-embedding parameters N."""

    source: str = "scaling law of Kaplan et al. (arXiv 2001.08361), non-embedding parameters"
    label: str = "perplexity (proxy)"
    is_proxy: bool = True

    @property
    def fingerprint(self) -> str:
        """Its constants."""
        return f"kaplan {KAPLAN_PARAMETERS} {KAPLAN_EXPONENT}"

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity [n] by the scaling law."""
        parameters = non_embedding_parameters(
            space.d_model(genes), space.heads(genes), space.d_ff(genes)
        )
        found: Floats = np.exp((KAPLAN_PARAMETERS / parameters) ** KAPLAN_EXPONENT)
        return found


@dataclass(frozen=True)
class MeasuredSubnets:
    """A table of measured subnets, and a fit of log perplexity between them."""

    source: str
    label: str
    fingerprint: str
    measured: Mapping[Shape, float]
    fit: Fit
    is_proxy: bool = False

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity [n]: as measured, else as predicted; raises QualityError of deeper ones."""
        d_model, layers = space.d_model(genes), space.layers(genes)
        widths = {shape.d_model for shape in self.measured}
        depths = {shape.layers for shape in self.measured}
        if len(layers) and max(layers) > max(depths):
            raise QualityError(
                f"no measured subnet has more than {max(depths)} layers, a candidate has "
                f"{max(layers)}: measure such, or leave them out of the space"
            )
        logs = self.fit(d_model, space.heads(genes), space.d_ff(genes))
        found: Floats = np.exp(np.round(logs, DECIMALS))
        for row in np.flatnonzero(np.isin(d_model, [*widths]) & np.isin(layers, [*depths])):
            known = self.measured.get(space.shape(genes[row]))
            if known is not None:
                found[row] = known
        return found


def load_quality(path: Path | None) -> Quality:
    """The proxy, or the measured subnets of a CSV or Parquet file.

    Raises QualityError, or ModelError naming what is wrong in the file.
    """
    if path is None:
        return ScalingLaw()
    table = perplexities.read(path)
    rows = [*{(row.d_model, row.heads, row.d_ff): row for row in table.rows}.values()]
    if len(rows) < LEAST_ROWS:
        raise QualityError(f"{path} has {len(rows)} subnets but at least {LEAST_ROWS} are needed")
    text = _mapping(table.metadata.get("text")).get("name")
    learnt = importlib.util.find_spec("sklearn") and len(rows) >= predictor.FEWEST_ROWS
    fit, how = _predictor(rows, table.metadata) if learnt else _ridge(rows)
    content = f"{rows} {text} {how}"
    return MeasuredSubnets(
        f"{len(rows)} measured subnets of {path.name}" + (f" on {text}" if text else "") + how,
        f"perplexity of {text}" if text else "perplexity",
        hashlib.sha256(content.encode()).hexdigest()[:16],
        {Shape(row.d_model, row.heads, row.d_ff): row.perplexity for row in rows},
        fit,
    )


def _predictor(rows: Sequence[Measured], metadata: Mapping[str, Any]) -> tuple[Fit, str]:
    """The predictor of `models`, and what is said of it."""
    fitted = predictor.fit(rows, int(metadata.get("seed", 0)))

    def fit(d_model: Ints, heads: Ints, d_ff: Ints) -> Floats:
        heads, d_ff = (_padded(values, fitted.longest) for values in (heads, d_ff))
        found: Floats = fitted.model.predict(predictor.features_of(d_model, heads, d_ff))
        return found

    return fit, (
        f", {fitted.kind} between them (on a held-out fifth: Kendall tau "
        f"{fitted.kendall_tau:.3f}, error {100 * fitted.error:.2f} %)"
    )


def _ridge(rows: Sequence[Measured]) -> tuple[Fit, str]:
    """A ridge regression of log perplexity on `_features`, and its leave-one-out error."""
    deep = max(row.layers for row in rows)
    heads, d_ff = (
        np.array([[*values, *[0] * (deep - len(values))] for values in columns])
        for columns in ([row.heads for row in rows], [row.d_ff for row in rows])
    )
    values = _features(np.array([row.d_model for row in rows]), heads, d_ff)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1.0
    design = np.concatenate([np.ones((len(values), 1)), (values - mean) / scale], axis=1)
    logs = np.log([row.perplexity for row in rows])
    penalty = RIDGE * len(values) * np.diag([0.0, *np.ones(values.shape[1])])
    inverse = np.linalg.inv(design.T @ design + penalty)
    weights = inverse @ design.T @ logs
    leverage = ((design @ inverse) * design).sum(axis=1)
    left_out = (logs - design @ weights) / np.maximum(1 - leverage, 1e-6)
    error = 100 * float(np.sqrt(np.mean(left_out**2)))

    def fit(d_model: Ints, heads: Ints, d_ff: Ints) -> Floats:
        scaled = (_features(d_model, heads, d_ff) - mean) / scale
        found: Floats = (scaled * weights[1:]).sum(axis=1) + weights[0]
        return found

    return fit, f", ridge regression between them (leave-one-out error {error:.2f} %)"


def _features(d_model: Ints, heads: Ints, d_ff: Ints) -> Floats:
    """What log perplexity is regressed on [n, features]: sizes in logarithms, and their squares."""
    layers = (heads > 0).sum(axis=1)
    size = np.log(non_embedding_parameters(d_model, heads, d_ff))
    parts = [size, size**2, np.log(layers), np.log(d_model)]
    parts += [np.log(heads.sum(axis=1) / layers), np.log(d_ff.sum(axis=1) / layers)]
    return np.stack(parts, axis=1)


def _padded(values: Ints, width: int) -> Ints:
    """[n, layers] as [n, width]: of no more layers than that."""
    padded: Ints = np.zeros((len(values), width), dtype=np.int64)
    padded[:, : values.shape[1]] = values[:, :width]
    return padded


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
