"""The points of a front that are looked into: heat maps around them, and the story of a report."""

from collections.abc import Sequence

import numpy as np

from codesign.search.joint.search_records import FrontPoint

LEAST_EDP, KNEE, BEST_QUALITY = "least EDP", "knee", "best quality"


def winners(front: Sequence[FrontPoint]) -> dict[str, int]:
    """Places in a front by role; a point may have two, and a front of equals has no knee.

    The knee is farthest below the line between least EDP and best quality, with logarithmic EDP
    (Das, Struct. Optim. 18, 1999).
    """
    edp = np.log10([p.edp_js for p in front])
    quality = np.array([p.perplexity for p in front])
    found = {LEAST_EDP: int(np.argmin(edp)), BEST_QUALITY: int(np.argmin(quality))}
    if np.ptp(edp) > 0 and np.ptp(quality) > 0:
        x, y = (quality - quality.min()) / np.ptp(quality), (edp - edp.min()) / np.ptp(edp)
        found[KNEE] = int(np.argmin(x + y))
    return found
