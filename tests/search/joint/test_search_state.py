"""A search goes on from the state after any of its generations, whatever constraints leave feasible."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_space import SMALL

from codesign.hw.errors import CodesignError
from codesign.search.joint import search_state
from codesign.search.joint.front import Archive
from codesign.search.joint.network_tables import Costs, NetworkTables
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.search import Listener, Settings, search
from codesign.search.joint.search_state import Checkpoint, SearchProgress
from codesign.search.space.networks import networks
from codesign.search.space.quality import ScalingLaw
from codesign.search.space.space import Genes, SearchSpace

OBJECTIVES = ("perplexity", "edp")


class Arbitrary(NetworkTables):
    """Costs by an arbitrary rule that takes no time; a part of each kind of constraint is kept."""

    def __init__(self, space: SearchSpace, kept: tuple[float, float, float]) -> None:
        super().__init__(space)
        self.kept = np.array(kept)

    def costs(self, genes: Genes, progress: Callable[[int, int], None] | None = None) -> Costs:
        """Each column from 0 to 1 by its own mix of the genes, and a thousandth for the order."""
        width = genes.shape[1]
        mixes = np.sin(np.outer(np.arange(1, width + 1), np.arange(1, 6)) * 12.9898)
        values = np.abs(np.sin(genes @ mixes * 78.233))
        violation = np.maximum(values[:, :3] - self.kept, 0)
        good = np.all(violation <= 0, axis=1)
        seconds, joules = (np.where(good, values[:, k] + 1e-3, np.nan) for k in (3, 4))
        return Costs(
            good.astype(np.int64), seconds, joules, joules * seconds, joules / seconds,
            np.ones(len(genes)), violation,
        )  # fmt: skip


def _choices(values: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(sorted).map(tuple)


@st.composite
def problems(draw: st.DrawFn) -> SearchProblem:
    """A small space, of which constraints leave anything from all to nothing."""
    space = replace(
        SMALL,
        transformer=networks(
            layers=draw(_choices((1, 2, 3))),
            d_model=draw(_choices((24, 48, 96))),
            heads=draw(_choices((4, 8, 12))),
            d_ff=draw(_choices((64, 128, 192, 256))),
            sequence=32,
            vocab_size=500,
        ),
        axes=tuple((name, values[: draw(st.integers(1, 2))]) for name, values in SMALL.axes),
    )
    part = st.sampled_from((0.0, 0.02, 0.2, 0.6, 1.0))
    tables = Arbitrary(space, draw(st.tuples(part, part, part)))
    return SearchProblem(space, tables, ScalingLaw(), OBJECTIVES)


def _searched(
    problem: SearchProblem, asked: Settings, checkpoint: Checkpoint, resume: bool, told: Listener
) -> SearchProgress | str:
    """What a search comes to: its progress, or why there is none."""
    try:
        return search(problem, asked, checkpoint, resume=resume, listener=told)
    except CodesignError as error:
        return str(error)


def _same(a: SearchProgress | str, b: SearchProgress | str) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return (
        a.archive.genes.tobytes() == b.archive.genes.tobytes()
        and a.archive.objectives.tobytes() == b.archive.objectives.tobytes()
        and (a.evaluated, a.feasible, a.generations) == (b.evaluated, b.feasible, b.generations)
    )


@settings(max_examples=40)
@given(
    problem=problems(),
    population=st.integers(8, 40),
    generations=st.integers(1, 6),
    seed=st.integers(0, 5),
    method=st.sampled_from(("nsga2", "nsga2", "random")),
)
def test_every_generation_is_one_to_go_on_from(
    problem: SearchProblem, population: int, generations: int, seed: int, method: str
) -> None:
    size = problem.space.size
    asked = Settings(OBJECTIVES, method, population * generations, population, seed)
    if method == "nsga2" and size < 8:
        return  # too few for a generation
    asked = asked.within(size)
    width = len(problem.space.cardinalities)
    kept: list[dict[str, bytes]] = []
    with TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()

        def keep(done: SearchProgress) -> None:
            kept.append({file.name: file.read_bytes() for file in whole.iterdir()})

        result = _searched(
            problem, asked, Checkpoint(whole, width), False, Listener(generation=keep)
        )
        for number, files in enumerate(kept):
            part = Path(name) / str(number)
            part.mkdir()
            for file, content in files.items():
                (part / file).write_bytes(content)
            again = _searched(problem, asked, Checkpoint(part, width), True, Listener())
            assert _same(result, again), f"after generation {number + 1} of {len(kept)}"
            for file in kept[-1]:
                assert (part / file).read_bytes() == (whole / file).read_bytes()


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, 3)
    checkpoint.start()
    genes = np.zeros((2, 3), np.uint8)
    done = SearchProgress(Archive(genes[:0]), evaluated=2)
    with pytest.raises(TypeError, match="state_rank"):
        checkpoint.append(genes, done, {"rank": np.array([1, None])})
    assert not checkpoint.exists


def test_a_state_is_never_without_its_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a search that begins anew is killed as it does."""
    checkpoint = Checkpoint(tmp_path, 3)
    checkpoint.start()
    genes = np.zeros((2, 3), np.uint8)
    checkpoint.append(genes, SearchProgress(Archive(genes[:0]), evaluated=2), {})

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_state, "write_file", killed)
    again = Checkpoint(tmp_path, 3)
    with pytest.raises(KeyboardInterrupt):
        again.start()
    assert not again.exists
