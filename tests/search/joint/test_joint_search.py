"""The joint search: against exhaustive and random search, resumed, and in whatever number of workers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from joint_space import SMALL, problem

from codesign.hw.errors import CodesignError
from codesign.search.joint.front import Archive, Floats, hypervolume, non_dominated, thinned
from codesign.search.joint.misses import NO_MACHINE, Misses
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.search import Listener, Settings, search
from codesign.search.joint.search_state import Checkpoint, SearchProgress
from codesign.search.runs.output import OutputError
from codesign.search.space.quality import ScalingLaw

BUDGET = 4000


@pytest.fixture(scope="module")
def small() -> SearchProblem:
    """The small space, every table filled once."""
    return problem()


@pytest.fixture(scope="module")
def truth(small: SearchProblem) -> SearchProgress:
    return search(small, Settings(method="exhaustive", budget=SMALL.size), None)


def _found(small: SearchProblem, method: str, seed: int) -> SearchProgress:
    return search(small, Settings(method=method, budget=BUDGET, population=80, seed=seed), None)


def test_exhaustive_search_tries_everything(small: SearchProblem, truth: SearchProgress) -> None:
    assert truth.evaluated == SMALL.size >= 50_000
    _, objectives = small.evaluate(truth.archive.genes)
    np.testing.assert_array_equal(objectives, truth.archive.objectives)


def test_nsga2_finds_the_front_and_beats_random_search(
    small: SearchProblem, truth: SearchProgress
) -> None:
    """At a fifteenth of the space, over five seeds: at least 99 % of the true hypervolume."""
    reference = truth.archive.objectives.max(axis=0) * 1.01
    whole = hypervolume(truth.archive.objectives, reference)
    for seed in range(5):
        found = _found(small, "nsga2", seed)
        assert found.evaluated == BUDGET
        covered = hypervolume(found.archive.objectives, reference)
        assert covered >= 0.99 * whole
        chance = _found(small, "random", seed)
        assert chance.evaluated == BUDGET
        assert covered > hypervolume(chance.archive.objectives, reference)


def _same(a: SearchProgress, b: SearchProgress) -> None:
    assert a.archive.genes.tobytes() == b.archive.genes.tobytes()
    assert a.archive.objectives.tobytes() == b.archive.objectives.tobytes()
    assert a.generations == b.generations


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("method", ["nsga2", "random", "exhaustive"])
def test_a_killed_search_goes_on_to_the_same_front(
    small: SearchProblem, tmp_path: Path, method: str
) -> None:
    settings = Settings(method=method, budget=20_000 if method != "nsga2" else 1500, population=60)
    whole = search(small, settings, Checkpoint(_made(tmp_path / "a"), len(SMALL.cardinalities)))
    stops = {1, 2, 7}

    def stop(done: SearchProgress) -> None:
        if len(done.generations) in stops:
            stops.discard(len(done.generations))
            raise _Killed

    parts = Checkpoint(_made(tmp_path / "b"), len(SMALL.cardinalities))
    resume = False
    for _ in range(4):
        try:
            done = search(small, settings, parts, resume=resume, listener=Listener(generation=stop))
            break
        except _Killed:
            resume = True
            with (tmp_path / "b" / "candidates.bin").open("ab") as file:
                file.write(b"a generation cut short")  # written, but not yet in the checkpoint
    _same(whole, done)
    for name in ("checkpoint.npz", "candidates.bin"):
        if name == "candidates.bin":
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_damaged_checkpoint_is_one_line(small: SearchProblem, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, len(SMALL.cardinalities))
    search(small, Settings(budget=200, population=40), checkpoint)
    path = tmp_path / "checkpoint.npz"
    content = path.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"PK"):
        path.write_bytes(bad)
        with pytest.raises(OutputError, match="is damaged") as caught:
            checkpoint.load()
        assert "\n" not in str(caught.value) and "pickle" not in str(caught.value)


def test_candidates_that_were_changed_are_noticed(small: SearchProblem, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, len(SMALL.cardinalities), "a request")
    search(small, Settings(budget=200, population=40), checkpoint)
    with pytest.raises(OutputError, match="is of another search"):
        Checkpoint(tmp_path, len(SMALL.cardinalities), "another").load()
    path = tmp_path / "candidates.bin"
    content = bytearray(path.read_bytes())
    content[0] ^= 1  # the other dim
    path.write_bytes(content)
    with pytest.raises(OutputError, match="has other candidates"):
        checkpoint.load()


def test_a_space_without_feasible_candidates_says_so() -> None:
    tight = dataclasses.replace(
        SMALL, constraints=dataclasses.replace(SMALL.constraints, area_mm2=0.001)
    )
    hopeless = SearchProblem(tight, NetworkTables(tight), ScalingLaw(), ("perplexity", "edp"))
    with pytest.raises(CodesignError, match="none of 200 candidates keeps the constraints"):
        search(hopeless, Settings(budget=200, population=40), None)


@pytest.mark.parametrize(
    ("limits", "name", "unit"),
    [
        ({"area_mm2": 0.001}, "area_mm2", "mm²"),
        ({"power_w": 1e-4}, "power_w", "W"),
        ({"area_mm2": 0.1, "power_w": 1e-4}, "area_mm2", "mm²"),
    ],
)
def test_a_hopeless_search_says_what_is_broken_and_by_how_much(
    limits: dict[str, float], name: str, unit: str, small: SearchProblem, tmp_path: Path
) -> None:
    kept = dataclasses.replace(SMALL.constraints, **limits)  # type: ignore[arg-type]
    tight = dataclasses.replace(SMALL, constraints=kept)
    hopeless = SearchProblem(
        tight, NetworkTables(tight, store=small.tables.store), small.quality, small.minimize
    )
    checkpoint = Checkpoint(tmp_path, len(SMALL.cardinalities))
    said = []
    for resume in (False, True):
        with pytest.raises(CodesignError) as caught:
            search(hopeless, Settings(budget=100, population=20), checkpoint, resume=resume)
        said.append(str(caught.value))
    assert said[0] == said[1] and "\n" not in said[0]
    genes = checkpoint.candidates(100)
    costs = hopeless.tables.costs(genes)
    column = 1 if name == "area_mm2" else 2
    at = int(np.argmin(costs.violation.sum(axis=1)))
    value, limit = getattr(costs, name)[at], limits[name]
    assert f"{np.count_nonzero(costs.violation[:, column] > 0)} break {name}" in said[0]
    over = f"{name} by {value - limit:.3g} {unit} ({value:.4g}, at most {limit:g})"
    assert f"the nearest misses {over}" in said[0]


def test_machines_that_cannot_be_and_memories_that_are_slow_are_named() -> None:
    base = dataclasses.replace(SMALL.base, clock_hz=4_000_000_000)
    fast = dataclasses.replace(SMALL, base=base)
    genes = SMALL.sample(50, np.random.default_rng(0))
    tables = NetworkTables(fast)
    misses = Misses(tables)
    misses.add(genes, tables.costs(genes))
    assert "50 break sram_timing" in misses.describe()
    assert "the nearest misses sram_timing (" in misses.describe()
    odd = dataclasses.replace(
        SMALL, axes=(SMALL.axes[0], ("scratchpad_bytes", (512, 8 << 10)), *SMALL.axes[2:])
    )
    genes = odd.sample(50, np.random.default_rng(0))
    genes[:, :2] = 1, 0  # dim 16: a bank of 64 bytes has no 16 rows
    tables = NetworkTables(odd)
    misses = Misses(tables)
    misses.add(genes, tables.costs(genes))
    assert f"50 break {NO_MACHINE}" in misses.describe()
    assert "scratchpad_bytes is 512" in misses.describe()


@pytest.mark.parametrize("minimize", [("perplexity",), ("edp", "edp"), ("perplexity", "speed")])
def test_objectives_are_two_or_more_known_ones(minimize: tuple[str, ...]) -> None:
    with pytest.raises(CodesignError):
        Settings(minimize=minimize)


def test_three_objectives(small: SearchProblem) -> None:
    objectives = ("perplexity", "latency", "area")
    three = SearchProblem(SMALL, small.tables, small.quality, objectives)
    done = search(three, Settings(minimize=objectives, budget=600, population=60), None)
    front = done.archive.objectives
    assert front.shape[1] == 3 and non_dominated(front).all()


# -- Fronts ------------------------------------------------------------------------------------------


def _dominated(points: Floats, row: int) -> bool:
    """By definition, one pair at a time; of equal points the later one."""
    for other, point in enumerate(points):
        if (point <= points[row]).all() and ((point < points[row]).any() or other < row):
            return True
    return False


@pytest.mark.parametrize("width", [2, 3])
def test_archives_hold_what_is_not_dominated(width: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(1, 12, (120, width)).astype(float)
    archive = Archive(np.empty((0, 1), dtype=np.uint8))
    for start in range(0, 120, 17):
        part = points[start : start + 17]
        archive.add(np.arange(start, start + len(part), dtype=np.uint8)[:, None], part)
    expected = [row for row in range(120) if not _dominated(points, row)]
    assert sorted(archive.genes[:, 0].tolist()) == expected


def test_hypervolume_of_two_points_by_hand() -> None:
    points = np.array([[1.0, 100.0], [10.0, 1.0]])
    # In decades to (100, 1000): 2 x 1 for the first, 1 x 3 for the second, 1 x 1 is shared.
    assert hypervolume(points, np.array([100.0, 1000.0])) == pytest.approx(2 * 1 + 1 * 3 - 1)


def test_thinning_keeps_the_ends_and_most_of_the_hypervolume() -> None:
    x = np.geomspace(1, 100, 2000)
    front = np.stack([x, 1000 / x**1.5], axis=1)
    kept = thinned(front, 40)
    assert len(kept) == 40 and {0, 1999} <= set(kept.tolist())
    reference = front.max(axis=0) * 1.01
    assert hypervolume(front[kept], reference) > 0.97 * hypervolume(front, reference)
    np.testing.assert_array_equal(thinned(front[:30], 40), np.arange(30))
