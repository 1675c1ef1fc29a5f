"""How well a Transformer of the space models language: measured perplexities, or a labelled proxy.

A table of measured subnets (columns layers, d_model, heads, d_ff, perplexity) is used as it stands
where it has a candidate; between its rows a regression fitted to it predicts. Without a table the
scaling law of Kaplan et al. (arXiv 2001.08361) stands in: a proxy, which sees the number of
parameters alone, and says so wherever its numbers appear.
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.search.space import Genes, SearchSpace, Shape

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Kaplan et al. 2020, Table 5 and eq. 1.1: L(N) = (N_c / N)^alpha_N in nats a token.
KAPLAN_PARAMETERS, KAPLAN_EXPONENT = 8.8e13, 0.076
COLUMNS = ("layers", "d_model", "heads", "d_ff", "perplexity")
LEAST_ROWS = 8  # that a regression is fitted to
RIDGE = 1e-3


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
    """A table of measured subnets, and the ridge regression of log perplexity between them."""

    source: str
    label: str
    fingerprint: str
    measured: dict[Shape, float]
    mean: Floats
    scale: Floats
    weights: Floats
    is_proxy: bool = False

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity [n]: as measured, else as predicted."""
        values = _features(space.d_model(genes), space.heads(genes), space.d_ff(genes))
        logs = ((values - self.mean) / self.scale * self.weights[1:]).sum(axis=1) + self.weights[0]
        found: Floats = np.exp(logs)
        d_model, layers = space.d_model(genes), space.layers(genes)
        widths = {shape.d_model for shape in self.measured}
        depths = {shape.layers for shape in self.measured}
        for row in np.flatnonzero(np.isin(d_model, [*widths]) & np.isin(layers, [*depths])):
            known = self.measured.get(space.shape(genes[row]))
            if known is not None:
                found[row] = known
        return found


def load_quality(path: Path | None) -> Quality:
    """The proxy, or the measured subnets of a CSV or Parquet file; raises QualityError."""
    if path is None:
        return ScalingLaw()
    try:
        content = path.read_bytes()
        rows = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    except OSError as error:
        raise QualityError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise QualityError(f"{path} is no table of subnets: {error}") from error
    measured = {}
    for number, row in enumerate(rows, 1):
        shape, perplexity = _row(path, number, row)
        measured[shape] = perplexity
    if len(measured) < LEAST_ROWS:
        raise QualityError(
            f"{path} has {len(measured)} subnets but at least {LEAST_ROWS} are needed"
        )
    return _fit(path.name, hashlib.sha256(content).hexdigest()[:16], measured)


def _fit(name: str, fingerprint: str, measured: dict[Shape, float]) -> MeasuredSubnets:
    deep = max(shape.layers for shape in measured)
    heads = np.array([[*s.heads, *[0] * (deep - s.layers)] for s in measured])
    d_ff = np.array([[*s.d_ff, *[0] * (deep - s.layers)] for s in measured])
    values = _features(np.array([s.d_model for s in measured]), heads, d_ff)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1.0
    design = np.concatenate([np.ones((len(values), 1)), (values - mean) / scale], axis=1)
    logs = np.log(np.array([*measured.values()]))
    penalty = RIDGE * len(values) * np.diag([0.0, *np.ones(values.shape[1])])
    inverse = np.linalg.inv(design.T @ design + penalty)
    weights = inverse @ design.T @ logs
    leverage = ((design @ inverse) * design).sum(axis=1)
    left_out = (logs - design @ weights) / np.maximum(1 - leverage, 1e-6)
    error = 100 * float(np.sqrt(np.mean(left_out**2)))
    return MeasuredSubnets(
        f"{len(measured)} measured subnets of {name}, ridge regression between them "
        f"(leave-one-out error {error:.2f} %)",
        "perplexity",
        fingerprint,
        measured,
        mean,
        scale,
        weights,
    )


def _features(d_model: Ints, heads: Ints, d_ff: Ints) -> Floats:
    """What log perplexity is regressed on [n, features]: sizes in logarithms, and their squares."""
    layers = (heads > 0).sum(axis=1)
    size = np.log(non_embedding_parameters(d_model, heads, d_ff))
    parts = [size, size**2, np.log(layers), np.log(d_model)]
    parts += [np.log(heads.sum(axis=1) / layers), np.log(d_ff.sum(axis=1) / layers)]
    return np.stack(parts, axis=1)


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(line for line in file if not line.startswith("#"))
        rows = list(reader)
        _require_columns(reader.fieldnames or [])
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error
    _require_columns(table.column_names)
    rows: list[dict[str, Any]] = table.select(list(COLUMNS)).to_pylist()
    return rows


def _require_columns(names: Any) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")


def _row(path: Path, number: int, row: dict[str, Any]) -> tuple[Shape, float]:
    try:
        layers = int(row["layers"])
        heads, d_ff = (_list(row[name], layers) for name in ("heads", "d_ff"))
        perplexity = float(row["perplexity"])
        shape = Shape(int(row["d_model"]), heads, d_ff)
        if not (perplexity > 1 and np.isfinite(perplexity) and min(*heads, *d_ff, layers) > 0):
            raise ValueError(f"perplexity {perplexity} of {layers} layers")
    except (TypeError, ValueError) as error:
        raise QualityError(f"{path}, row {number}: {error}; see docs/search.md") from error
    return shape, perplexity


def _list(value: Any, layers: int) -> tuple[int, ...]:
    """One number for every layer, or a list of them: "12,6,12", "[12, 6, 12]" or a real list."""
    if isinstance(value, str):
        value = [int(part) for part in value.strip("[]() ").replace(" ", ",").split(",") if part]
    values = [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]
    values = values * layers if len(values) == 1 else values
    if len(values) != layers:
        raise ValueError(f"{len(values)} values for {layers} layers")
    return tuple(values)
