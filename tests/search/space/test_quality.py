"""Quality of candidates: the scaling law against its paper, tables of measured subnets, bad tables."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joint_space import SMALL
from quality_table import write_table

from codesign.hw.errors import CodesignError
from codesign.models.quality.perplexities import Measured, Perplexities, write_perplexities
from codesign.models.zoo.axes import NetworkShape
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.weights import parameter_shapes
from codesign.search.space.networks import networks
from codesign.search.space.quality import (
    QualityError,
    ScalingLaw,
    load_quality,
)
from codesign.search.space.space import SearchSpace


def test_parameters_are_those_of_the_exported_network() -> None:
    """Against the weights themselves: matrices of the layers, without biases and norms."""
    space = SearchSpace()
    genes = space.sample(20, np.random.default_rng(0))
    values = space.all_values(genes)
    counted = space.transformer.kind.layer_parameters(values, {})
    np.testing.assert_array_equal(counted, _one_by_one(space, values))
    for row, count in zip(genes, counted, strict=True):
        shapes = parameter_shapes(space.network(space.shape(row)))
        layers = {n: s for n, s in shapes.items() if n.startswith("layer") and len(s) == 2}
        assert count == sum(map(math.prod, layers.values()))


def _one_by_one(space: SearchSpace, values: dict[str, Any]) -> Any:
    """As every family counts that does not know better."""
    options = dict(space.transformer.options)
    return ModelConfig.layer_parameters.__func__(space.transformer.kind, values, options)  # type: ignore[attr-defined]


def test_the_law_of_the_paper() -> None:
    """arXiv 2001.08361, Fig. 1 and eq. 1.1: N = 8.8e13 has a loss of one nat."""
    quality = ScalingLaw()
    space = SearchSpace()
    small, large = quality.perplexity(space, space.corners())
    assert quality.is_proxy and "proxy" in quality.label
    # By hand: 6 layers of 12 x 768^2 weights.
    assert large == pytest.approx(math.exp((8.8e13 / (6 * 12 * 768**2)) ** 0.076), rel=1e-12)
    assert small > large


def test_perplexity_does_not_depend_on_the_batch() -> None:
    genes = SearchSpace().sample(1001, np.random.default_rng(3))
    together = ScalingLaw().perplexity(SearchSpace(), genes)
    alone = [ScalingLaw().perplexity(SearchSpace(), row[None])[0] for row in genes]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(("rows", "fit"), [(60, "held-out fifth"), (25, "each row left out")])
def test_measured_subnets_are_used_as_they_stand_and_predict_the_rest(
    tmp_path: Path, rows: int, fit: str
) -> None:
    quality = load_quality(write_table(tmp_path / "subnets.csv", rows), SMALL)
    assert not quality.is_proxy and "measured subnets of subnets.csv" in quality.source
    assert fit in quality.source and "Kendall tau" in quality.source
    assert quality.label == "perplexity"
    known = SMALL.sample(rows, np.random.default_rng(4))
    np.testing.assert_allclose(
        quality.perplexity(SMALL, known), ScalingLaw().perplexity(SMALL, known), rtol=1e-15
    )
    other = SMALL.sample(500, np.random.default_rng(6))
    truth = ScalingLaw().perplexity(SMALL, other)
    found = quality.perplexity(SMALL, other)
    np.testing.assert_array_equal(found[7:9], quality.perplexity(SMALL, other[7:9]))
    error = np.log(found / truth)
    assert np.sqrt(np.mean(error**2)) < 0.01  # the table spans more than a factor of two
    assert truth.max() > 1.5 * truth.min()
    assert quality.perplexity(SMALL, other[:0]).shape == (0,)  # a generation with none feasible


AXES = networks().axes


def _shape(d_model: int, d_ff: int) -> NetworkShape:
    return NetworkShape.of(layers=1, d_model=d_model, heads=(4,), d_ff=(d_ff,))


def space(**choices: tuple[int, ...]) -> SearchSpace:
    narrow = networks(layers=(1,), d_model=(48,), heads=(4,), d_ff=(64, 512))
    return SearchSpace(narrow.changed(**choices))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = tuple(Measured(_shape(48, 64 * n), 3.0 + n) for n in range(1, 9))
    metadata = {"text": {"name": "the built-in grammar"}, "space": {"vocab_size": 99}}
    write_perplexities(Perplexities(AXES, rows, metadata), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def test_a_table_is_called_after_its_text(table: Path) -> None:
    """What a grammar's words cost is not taken for what English costs."""
    quality = load_quality(table, space())
    assert quality.label == "perplexity of the built-in grammar"
    assert "8 measured subnets of table.parquet on the built-in grammar" in quality.source
    assert "measured with a vocabulary of 99, not 33,278" in quality.source
    told = [f"Measured(layers=1, d_model=48, heads=(4,), d_ff=({64 * n},), perplexity={3.0 + n})"
            for n in range(1, 9)]  # fmt: skip
    how = quality.source.partition("on the built-in grammar")[2]
    content = f"[{', '.join(told)}] the built-in grammar {how}"
    kept = hashlib.sha256(content.encode()).hexdigest()[:16]
    assert quality.fingerprint == kept, "runs that keep it could not be resumed"


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"layers": (1, 2)}, "layers 1 to 2, measured 1"),
        ({"d_model": (24,)}, "d_model 24, measured 48"),
        ({"heads": (4, 12)}, "heads 4 to 12, measured 4"),
        ({"d_ff": (32, 512)}, "d_ff 32 to 512, measured 64 to 512"),
    ],
)
def test_a_space_beyond_the_table_is_refused(
    table: Path, choices: dict[str, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(QualityError, match=f"reaches beyond .*{said}.*: measure such"):
        load_quality(table, space(**choices))


def test_a_width_between_measured_ones_is_said(tmp_path: Path) -> None:
    rows = tuple(Measured(_shape(24 * n, 64), 19.0 - n) for n in (1, 3, 4, 5, 6, 7, 8, 9))
    write_perplexities(Perplexities(AXES, rows), tmp_path / "table.csv")
    quality = load_quality(tmp_path / "table.csv", space(d_model=(24, 48, 72), d_ff=(64,)))
    assert "no subnet of d_model 48 was measured" in quality.source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers,d_model\n1,2\n", "no column heads, d_ff, perplexity"),
        ("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,abc\n", "line 2"),
        ('layers,d_model,heads,d_ff,perplexity\n2,48,"4,4,4",64,30\n', "must list 2 layers"),
        ("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,nan\n", "line 2"),
        ("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,30\n", "1 subnets but at least 8"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CodesignError) as caught:
        load_quality(path, SMALL)
    assert said in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CodesignError, match="No such file"):
        load_quality(tmp_path / "none.csv", SMALL)
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(CodesignError, match="no table of perplexities"):
        load_quality(tmp_path / "no.parquet", SMALL)
