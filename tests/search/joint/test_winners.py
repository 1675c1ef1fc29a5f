"""The winners of a front: its ends, and the knee by distance from the line between them."""

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest

from codesign.search.joint.winners import BEST_QUALITY, KNEE, LEAST_EDP, winners


def _front(points: list[tuple[float, float]]) -> Any:
    return [SimpleNamespace(perplexity=p, edp_js=e) for p, e in points]


@pytest.mark.parametrize("seed", range(20))
def test_the_knee_is_farthest_below_the_line_between_the_ends(seed: int) -> None:
    rng = random.Random(seed)
    points = [(rng.uniform(10, 30), 10 ** rng.uniform(-9, -4)) for _ in range(200)]
    front = sorted(p for p in points if not any(q[0] <= p[0] and q[1] < p[1] for q in points))
    found = winners(_front(front))
    assert front[found[BEST_QUALITY]] == front[0] and front[found[LEAST_EDP]] == front[-1]
    (x0, y0), (x1, y1) = ((p, math.log(e)) for p, e in (front[0], front[-1]))
    below = [(y0 + (y1 - y0) * (p - x0) / (x1 - x0)) - math.log(e) for p, e in front]
    assert below[found[KNEE]] == pytest.approx(max(below))


def test_a_front_of_equals_has_no_knee() -> None:
    for points in ([(20.0, 1e-6)], [(20.0, 1e-6)] * 3, [(20.0, 1e-6), (20.0, 1e-7)]):
        assert set(winners(_front(points))) == {LEAST_EDP, BEST_QUALITY}
