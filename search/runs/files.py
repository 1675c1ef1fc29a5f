"""The names of everything that a run may write into its directory.

One list, so that nothing else can be there under such a name unseen: `output` looks for them before
a run begins, and writes no other.
"""

LOG_FILE = "log.txt"  # lines are only added to it
RUN_FILE, JOURNAL_FILE = "run.json", "rows.jsonl"

_RECORDS = (  # each as .parquet and .csv
    "comparison", "errors", "front", "generations", "heatmap", "kernels", "mapping", "memory",
    "perplexities", "results", "robustness", "spending", "verification",
)  # fmt: skip
_FIGURES = ("breakdown", "heatmap", "pareto", "roofline")  # each as .png and .svg
_OTHERS = (
    "baseline.json", "candidates.bin", "checkpoint.npz", "convergence.png", "evaluated.parquet",
    "front.png", "hardware.toml", "outputs.npz", "program.bin", "program.txt", "report.html",
    "scales.json", "space.toml", "summary.json", "supernet.pt", "timeline.json", "training.csv",
    "training.png", "two_stage.json", "two_stage.parquet", "verification.jsonl", "weights.bin",
)  # fmt: skip

RESULTS = frozenset(  # what a run writes anew
    {RUN_FILE, JOURNAL_FILE, *_OTHERS}
    | {f"{stem}.{kind}" for stem in _RECORDS for kind in ("parquet", "csv")}
    | {f"{stem}.{kind}" for stem in _FIGURES for kind in ("png", "svg")}
)
