"""Do heads and FFN widths of their own in every layer beat the same in all? From two searches' runs.

    codesign search --space FILE.toml --quality TABLE -o free
    codesign search --space FILE.toml --quality TABLE -o uniform --uniform
    python tests/benchmarks/bench_uniform.py free uniform

Prints the hypervolume of both fronts (decades of perplexity and EDP) up to the worst that either
evaluated, and the EDP of each at equal perplexity: at that of every point of the uniform front the
least EDP of no worse perplexity, as a geometric mean, least and greatest ratio.
"""

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from codesign.search.joint.front import hypervolume, non_dominated


def evaluated(run: Path) -> npt.NDArray[np.float64]:
    """Perplexity and EDP [n, 2] of every feasible candidate of a search."""
    columns = pq.read_table(run / "evaluated.parquet", columns=["perplexity", "edp_js", "feasible"])
    values = np.stack([columns["perplexity"].to_numpy(), columns["edp_js"].to_numpy()], axis=1)
    found: npt.NDArray[np.float64] = values[columns["feasible"].to_numpy()]
    return found


def main(free: Path, uniform: Path) -> None:
    """Print the comparison."""
    costs = {"free": evaluated(free), "uniform": evaluated(uniform)}
    worst = np.concatenate(list(costs.values())).max(axis=0) * 1.01
    fronts = {name: values[non_dominated(values)] for name, values in costs.items()}
    for name, run in (("free", free), ("uniform", uniform)):
        baseline = json.loads((run / "baseline.json").read_text())
        gains = ", ".join(
            f"{entry['improvement']:.2f}x at +{entry['loss']:g}"
            for entry in baseline["improvements"]
            if entry["improvement"]
        )
        covered = hypervolume(fronts[name], worst)
        print(f"{name:8} {len(costs[name]):7,} candidates, front of {len(fronts[name]):4}, "
              f"hypervolume {covered:.4f}, EDP {gains}")  # fmt: skip
    ratios = np.array([
        edp / fronts["free"][fronts["free"][:, 0] <= perplexity, 1].min(initial=np.inf)
        for perplexity, edp in fronts["uniform"]
    ])  # fmt: skip
    mean = np.exp(np.log(ratios[ratios > 0]).mean())
    print(f"EDP of uniform over free at equal perplexity: {mean:.3f} on average, "
          f"{ratios.min():.3f} to {ratios.max():.3f}")  # fmt: skip


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
