"""A table of measured subnets, as a file."""

import csv
from pathlib import Path

import numpy as np
from joint_space import SMALL

from codesign.search.space.quality import (
    ScalingLaw,
)


def write_table(path: Path, rows: int, noise: float = 0.0) -> Path:
    genes = SMALL.sample(rows, np.random.default_rng(4))
    truth = ScalingLaw().perplexity(SMALL, genes)
    truth = truth * np.exp(noise * np.random.default_rng(5).standard_normal(rows))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layers", "d_model", "heads", "d_ff", "perplexity", "seed"])
        for row, value in zip(genes, truth, strict=True):
            shape = SMALL.shape(row)
            heads, d_ff = (",".join(map(str, v)) for v in (shape["heads"], shape["d_ff"]))
            writer.writerow([shape["layers"], shape["d_model"], heads, d_ff, repr(float(value)), 7])
    return path
