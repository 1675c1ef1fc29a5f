"""Quality of candidates: the scaling law against its paper, tables of measured subnets, bad tables."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from joint_space import SMALL

from codesign.hw.errors import CodesignError
from codesign.models.perplexities import Measured, Perplexities, write
from codesign.models.weights import parameter_shapes
from codesign.search.quality import (
    QualityError,
    ScalingLaw,
    load_quality,
    non_embedding_parameters,
)
from codesign.search.space import Architectures, SearchSpace


def test_parameters_are_those_of_the_exported_network() -> None:
    """Against the weights themselves: matrices of the layers, without biases and norms."""
    space = SearchSpace()
    genes = space.sample(20, np.random.default_rng(0))
    counted = non_embedding_parameters(space.d_model(genes), space.heads(genes), space.d_ff(genes))
    for row, count in zip(genes, counted, strict=True):
        shapes = parameter_shapes(space.network(space.shape(row)))
        layers = {n: s for n, s in shapes.items() if n.startswith("layer") and len(s) == 2}
        assert count == sum(map(math.prod, layers.values()))


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


def _table(path: Path, rows: int, noise: float = 0.0) -> Path:
    genes = SMALL.sample(rows, np.random.default_rng(4))
    truth = ScalingLaw().perplexity(SMALL, genes)
    truth = truth * np.exp(noise * np.random.default_rng(5).standard_normal(rows))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layers", "d_model", "heads", "d_ff", "perplexity", "seed"])
        for row, value in zip(genes, truth, strict=True):
            shape = SMALL.shape(row)
            heads, d_ff = (",".join(map(str, v)) for v in (shape.heads, shape.d_ff))
            writer.writerow([shape.layers, shape.d_model, heads, d_ff, repr(float(value)), 7])
    return path


@pytest.mark.parametrize(("rows", "fit"), [(60, "held-out fifth"), (25, "each row left out")])
def test_measured_subnets_are_used_as_they_stand_and_predict_the_rest(
    tmp_path: Path, rows: int, fit: str
) -> None:
    quality = load_quality(_table(tmp_path / "subnets.csv", rows))
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


def test_a_table_is_called_after_its_text(tmp_path: Path) -> None:
    """What a grammar's words cost is not taken for what English costs."""
    rows = tuple(Measured(1, 48, (4,), (64 * n,), 3.0 + n) for n in range(1, 9))
    path = tmp_path / "table.parquet"
    write(Perplexities(rows, {"text": {"name": "the built-in grammar"}}), path)
    quality = load_quality(path)
    assert quality.label == "perplexity of the built-in grammar"
    assert "8 measured subnets of table.parquet on the built-in grammar" in quality.source
    deeper = SearchSpace(Architectures(layers=(1, 2), d_model=(48,), heads=(4,), d_ff=(64,)))
    with pytest.raises(QualityError, match="no measured subnet has more than 1 layers.*measure"):
        quality.perplexity(deeper, deeper.corners())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers,d_model\n1,2\n", "no column heads, d_ff, perplexity"),
        ("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,abc\n", "row 0"),
        ('layers,d_model,heads,d_ff,perplexity\n2,48,"4,4,4",64,30\n', "must list 2 layers"),
        ("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,nan\n", "row 0"),
        ("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,30\n", "1 subnets but at least 8"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CodesignError) as caught:
        load_quality(path)
    assert said in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CodesignError, match="No such file"):
        load_quality(tmp_path / "none.csv")
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(CodesignError, match="no table of perplexities"):
        load_quality(tmp_path / "no.parquet")
