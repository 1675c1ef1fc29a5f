"""Joint search beside two stages, as headers and cells: for a terminal and for a report."""

from collections.abc import Mapping
from typing import Any

from codesign.search.terminal.figures import times_less


def strategy_rows(
    document: Mapping[str, Any],
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Headers and cells of the comparison, for a terminal and for a report."""
    width = len(document["objectives"])
    decades = f"decades{ {2: '²', 3: '³'}.get(width, f'^{width}') }"
    headers = [("search", ""), ("hypervolume", decades), ("share", "% of joint"),
               *((f"at +{loss:g}", "less EDP") for loss in document["losses"]),
               ("front", "points"), ("beaten", "by joint"), ("beats", "of joint"),
               ("winners", "of stage one"), ("machines", "for each"), ("candidates", "evaluated")]  # fmt: skip
    rows = []
    for one in document["strategies"]:
        two = one["winners"] is not None
        rows.append([
            f"two stages, {one['name']}" if two else one["name"],
            f"{one['hypervolume']:.4f}", f"{100 * one['share']:.1f}",
            *map(gain, one["improvement"]),
            f"{one['front_size']:,}",
            f"{one['beaten_by_joint']:,}" if two else "–",
            f"{one['beats_of_joint']:,}" if two else "–",
            f"{one['winners']:,}" if two else "–",
            f"{one['machines_each']:,}" if two else "–",
            f"{one['evaluated']:,}",
        ])  # fmt: skip
    return headers, rows


def gain(improvement: float | None) -> str:
    """Return how many times less, or that no candidate was found."""
    return "none" if improvement is None else times_less(improvement, 2)
