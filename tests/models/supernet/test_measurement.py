"""From text to table and predictor, killed and resumed on the way."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from codesign.hw.errors import ModelError
from codesign.models.quality import perplexities
from codesign.models.supernet import schedule
from codesign.models.supernet.space import subnets
from codesign.models.text import tokens
from codesign.models.zoo.axes import NetworkShape

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")
measurement = pytest.importorskip("codesign.models.supernet.measurement")
from_scratch = pytest.importorskip("codesign.models.supernet.from_scratch")
torch.set_num_threads(1)  # the networks are small, and tests run beside each other

TEXT = tokens.built_in_tokens(8_000, 2_000)
SPACE = subnets(1, 16, layers=(1, 2), d_model=(12, 24), heads=(4, 12), d_ff=(16, 48))
_SPACE_OF_TEXT = dataclasses.replace(SPACE, vocab_size=len(TEXT.vocabulary))
TRAINING = schedule.Training(epochs=1, batch=16, seq=16, learning_rate=1e-2)

AXES = SPACE.kind.axes()


class Killed(Exception):
    pass


def test_a_killed_measurement_resumes_to_the_same_table(tmp_path: Path) -> None:
    def run(folder: str, **options: Any) -> Any:
        out = tmp_path / folder
        return measurement.train_and_measure(TEXT, SPACE, TRAINING, out, networks=36, **options)

    def kill(count: int, _row: perplexities.Measured) -> None:
        if count == 12:
            raise Killed

    whole = run("whole")
    with pytest.raises(Killed):
        run("cut", on_measured=kill)
    assert (
        len(perplexities.read_perplexities(tmp_path / "cut/perplexities.parquet", AXES).rows) == 12
    )
    counts: list[int] = []
    resumed = run("cut", resume=True, on_measured=lambda count, _: counts.append(count))
    assert counts == list(range(13, 37))
    assert resumed.table == whole.table
    assert (
        perplexities.read_perplexities(tmp_path / "cut/perplexities.csv", AXES).rows
        == whole.table.rows
    )
    assert len({r.shape for r in whole.table.rows}) == 36
    assert whole.table.metadata["space"]["vocab_size"] == len(TEXT.vocabulary)
    assert -1 <= whole.predictor.kendall_tau <= 1
    other = dataclasses.replace(TEXT, validation=TEXT.validation[:1000])
    with pytest.raises(ModelError, match="was measured with another text: delete it, .* again"):
        measurement.train_and_measure(
            other, SPACE, TRAINING, tmp_path / "cut", networks=36, resume=True
        )
    assert len(run("cut", resume=True).table.rows) == 36
    few = measurement.train_and_measure(
        TEXT, SPACE, TRAINING, tmp_path / "cut", networks=10, resume=True
    )
    assert few.table == whole.table, "what is there is kept"
    _check_foreign_rows(tmp_path / "cut", whole.table)


def _check_foreign_rows(out: Path, table: perplexities.Perplexities) -> None:
    """Rows that this run did not choose are refused, whatever their metadata says."""
    path, rows = out / "perplexities.parquet", table.rows
    swapped = rows[:5] + (dataclasses.replace(rows[6], perplexity=rows[5].perplexity),) + rows[6:]
    for other, place in (
        ((rows[1], rows[0], *rows[2:]), 1),
        ((*rows[:9], rows[8], *rows[9:]), 10),
        ((*rows, rows[0]), 37),
        (swapped[:6], 6),
    ):
        perplexities.write_perplexities(
            perplexities.Perplexities(AXES, other, table.metadata), path
        )
        message = f"row {place} of .* is not the subnet of its place: delete it"
        with pytest.raises(ModelError, match=message):
            measurement.kept(TEXT, _SPACE_OF_TEXT, TRAINING, out)
    path.write_bytes(b"PAR1")
    with pytest.raises(ModelError, match="is damaged .*: delete it, and it is measured again"):
        measurement.kept(TEXT, _SPACE_OF_TEXT, TRAINING, out)


def test_a_space_smaller_than_asked(tmp_path: Path) -> None:
    """Four decoders are all measured, and are too few for a predictor."""
    space = subnets(1, 16, layers=(1,), d_model=(12,), heads=(4, 12), d_ff=(16, 48))
    found = measurement.train_and_measure(TEXT, space, TRAINING, tmp_path, networks=10**23)
    assert len(found.table.rows) == 4 and found.predictor is None


def _shape(layers: int, heads: int) -> NetworkShape:
    return NetworkShape.of(layers=layers, d_model=12, heads=(heads,) * layers, d_ff=(16,) * layers)


def test_a_deep_decoder_trains_alone(tmp_path: Path) -> None:
    """Its folder has a name that a file system takes."""
    words = len(TEXT.vocabulary)
    space = subnets(words, 16, layers=(1, 60), d_model=(12, 24), heads=(1, 2), d_ff=(16, 48))
    deep = perplexities.Measured(_shape(60, 1), 9.0)
    text = dataclasses.replace(TEXT, train=TEXT.train[:300], validation=TEXT.validation[:100])
    (pair,) = from_scratch.compare_alone(text, space, TRAINING, [deep], tmp_path, workers=4)
    assert pair.supernet == deep and pair.alone > 1
    (folder,) = (tmp_path / from_scratch.FOLDER).iterdir()
    assert folder.name.startswith("60x12-") and len(folder.name) < 32


@pytest.mark.parametrize(
    "alike", [((5.0, 6.0), (2.0, 2.0)), ((1.0, 1.0), (3.0, 4.0)), ((5.0,), (4.0,))]
)
def test_an_order_that_is_none_has_no_tau(alike: tuple[tuple[float, ...], ...]) -> None:
    pairs = [
        from_scratch.Compared(perplexities.Measured(_shape(1, 4), supernet), alone)
        for supernet, alone in zip(*alike, strict=True)
    ]
    assert from_scratch.kendall_tau(pairs) is None
