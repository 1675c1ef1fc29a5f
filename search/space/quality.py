"""How well a Transformer of the space models language: measured perplexities, or a labelled proxy.

A table of measured subnets (`models.perplexities`) is used as it stands where it has a candidate;
between its rows a fit predicts (`models.predictor`). Without a table the scaling law of Kaplan et al.
(arXiv 2001.08361) stands in: a proxy, which sees the number of parameters alone, and says so
wherever its numbers appear.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.models.quality import perplexities, predictor
from codesign.models.quality.perplexities import Measured
from codesign.models.quality.predictor import Predictor
from codesign.models.zoo.axes import NetworkShape
from codesign.search.space.space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]

# Kaplan et al. 2020, Table 5 and eq. 1.1: L(N) = (N_c / N)^alpha_N in nats a token.
KAPLAN_PARAMETERS, KAPLAN_EXPONENT = 8.8e13, 0.076
LOW_TAU = 0.5  # Kendall's tau of held-out rows below which a fit is doubted: 3 of 4 pairs right
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

    @property
    def doubt(self) -> str:
        """Why its ranking should not be trusted, in one line; empty where nothing speaks against it."""

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity of each candidate [n]."""


@dataclass(frozen=True)
class ScalingLaw:
    """The analytic proxy: exp((8.8e13 / N)^0.076) of the non-embedding parameters N."""

    source: str = "scaling law of Kaplan et al. (arXiv 2001.08361), non-embedding parameters"
    label: str = "perplexity (proxy)"
    is_proxy: bool = True
    doubt: str = ""  # beyond being a proxy, which is said wherever its numbers are

    @property
    def fingerprint(self) -> str:
        """Its constants."""
        return f"kaplan {KAPLAN_PARAMETERS} {KAPLAN_EXPONENT}"

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity [n] by the scaling law."""
        t = space.transformer
        parameters = t.kind.layer_parameters(space.all_values(genes), dict(t.options))
        found: Floats = np.exp((KAPLAN_PARAMETERS / parameters) ** KAPLAN_EXPONENT)
        return found


@dataclass(frozen=True)
class MeasuredSubnets:
    """A table of measured subnets, and a fit of log perplexity between them."""

    source: str
    label: str
    fingerprint: str
    measured: Mapping[NetworkShape, float]
    fitted: Predictor
    is_proxy: bool = False

    @property
    def doubt(self) -> str:
        """That the fit ranks poorly what it was not fitted to."""
        tau = self.fitted.kendall_tau
        if tau >= LOW_TAU:
            return ""
        return (
            f"perplexities between the measured subnets are a weak guess: on {self.fitted.judged_on} "
            f"Kendall's tau is {tau:.2f}, below {LOW_TAU:g} ({50 * (1 + tau):.0f} % of pairs in the "
            "right order): measure more subnets"
        )

    def perplexity(self, space: SearchSpace, genes: Genes) -> Floats:
        """Perplexity [n]: as measured, else as predicted; of the space it was loaded for."""
        values = space.all_values(genes)
        logs = self.fitted.log_perplexity(values)
        found: Floats = np.exp(np.round(logs, DECIMALS))
        alike = np.ones(len(genes), dtype=bool)  # in what a network has once to a measured one
        for axis in space.transformer.axes:
            if axis.scope != "layer":
                known = [*{shape[axis.name] for shape in self.measured}]
                alike &= np.isin(values[axis.name], known)
        rows = np.flatnonzero(alike)
        for row, shape in zip(rows.tolist(), space.shapes(genes[rows]), strict=True):
            found[row] = self.measured.get(shape, found[row])
        return found


def load_quality(path: Path | None, space: SearchSpace) -> Quality:
    """The proxy, or the measured subnets of a CSV or Parquet file.

    Raises QualityError when they are too few or the space reaches beyond them, or ModelError naming
    what is wrong in the file.
    """
    if path is None:
        return ScalingLaw()
    table = perplexities.read_perplexities(path, space.transformer.axes)
    rows = [*dict.fromkeys(table.rows)]
    if len(rows) < predictor.FEWEST_ROWS:
        raise QualityError(
            f"{path} has {len(rows)} subnets but at least {predictor.FEWEST_ROWS} are needed"
        )
    beyond = "; ".join(_beyond(rows, space))
    if beyond:
        raise QualityError(
            f"the space reaches beyond what {path} measured ({beyond}): measure such subnets, or "
            "leave them out of the space"
        )
    text = _mapping(table.metadata.get("text")).get("name")
    seed = table.metadata.get("seed")
    fitted = predictor.fit_predictor(
        rows, space.transformer.kind, seed if isinstance(seed, int) else 0
    )
    how = "; ".join([f", between them {fitted.describe()}", *_notes(rows, table.metadata, space)])
    content = f"[{', '.join(map(_told, rows))}] {text} {how}"
    return MeasuredSubnets(
        f"{len(rows)} measured subnets of {path.name}" + (f" on {text}" if text else "") + how,
        f"perplexity of {text}" if text else "perplexity",
        hashlib.sha256(content.encode()).hexdigest()[:16],
        {row.shape: row.perplexity for row in rows},
        fitted,
    )


def _told(row: Measured) -> str:
    """A row as fingerprints have it: runs keep them, so it stays as it is."""
    return f"Measured({', '.join(f'{name}={value!r}' for name, value in row.document().items())})"


def _beyond(rows: Sequence[Measured], space: SearchSpace) -> Iterator[str]:
    """The choices of a space that lie outside what was measured, where no fit can be trusted."""
    for axis in space.transformer.axes:
        own = [row.shape[axis.name] for row in rows]
        values = [value for one in own for value in one] if axis.scope == "layer" else own
        choices = space.transformer[axis.name]
        if min(choices) < min(values) or max(choices) > max(values):
            yield f"{axis.name} {_range(choices)}, measured {_range(values)}"


def _notes(
    rows: Sequence[Measured], metadata: Mapping[str, Any], space: SearchSpace
) -> Iterator[str]:
    """What a reader of the numbers should know of a table and a space that differ."""
    for name, choices in space.transformer.of_network:
        unseen = sorted({*choices} - {row.shape[name] for row in rows})
        if unseen:
            yield f"no subnet of {name} {', '.join(map(str, unseen))} was measured"
    words = _mapping(metadata.get("space")).get("vocab_size")
    own = dict(space.transformer.options).get("vocab_size")
    if None not in (words, own) and words != own:
        yield f"measured with a vocabulary of {words:,}, not {own:,}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
