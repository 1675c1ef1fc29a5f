"""From text to table and predictor, killed and resumed on the way."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from codesign.hw.errors import ModelError
from codesign.models import perplexities, tokens
from codesign.models.space import Space

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")
measurement = pytest.importorskip("codesign.models.measurement")
supernet = pytest.importorskip("codesign.models.supernet")
torch.set_num_threads(1)  # the networks are small, and tests run beside each other

TEXT = tokens.built_in(8_000, 2_000)
SPACE = Space(1, 16, layers=(1, 2), d_model=(12, 24), heads=(4, 12), d_ff=(16, 48))
TRAINING = supernet.Training(epochs=1, batch=16, seq=16, learning_rate=1e-2)


class Killed(Exception):
    pass


def test_a_killed_measurement_resumes_to_the_same_table(tmp_path: Path) -> None:
    def run(folder: str, **options: Any) -> Any:
        out = tmp_path / folder
        return measurement.train_and_measure(TEXT, SPACE, TRAINING, out, decoders=36, **options)

    def kill(count: int, _row: perplexities.Measured) -> None:
        if count == 12:
            raise Killed

    whole = run("whole")
    with pytest.raises(Killed):
        run("cut", on_measured=kill)
    assert len(perplexities.read(tmp_path / "cut/perplexities.parquet").rows) == 12
    counts: list[int] = []
    resumed = run("cut", resume=True, on_measured=lambda count, _: counts.append(count))
    assert counts == list(range(13, 37))
    assert resumed.table == whole.table
    assert perplexities.read(tmp_path / "cut/perplexities.csv").rows == whole.table.rows
    assert len({(r.d_model, r.heads, r.d_ff) for r in whole.table.rows}) == 36
    assert whole.table.metadata["space"]["vocab_size"] == len(TEXT.vocabulary)
    assert -1 <= whole.predictor.kendall_tau <= 1
    other = dataclasses.replace(TEXT, validation=TEXT.validation[:1000])
    with pytest.raises(ModelError, match="was measured with another text: choose another folder"):
        measurement.train_and_measure(
            other, SPACE, TRAINING, tmp_path / "cut", decoders=36, resume=True
        )


def test_a_space_smaller_than_asked(tmp_path: Path) -> None:
    """Four decoders are all measured, and are too few for a predictor."""
    space = dataclasses.replace(SPACE, layers=(1,), d_model=(12,))
    found = measurement.train_and_measure(TEXT, space, TRAINING, tmp_path, decoders=10)
    assert len(found.table.rows) == 4 and found.predictor is None
