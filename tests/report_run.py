"""A run directory as a joint search leaves it, of real numbers from a tiny space.

Every architecture meets every machine through `search.evaluate`; the front is found by comparing
all pairs, so nothing here stands on the code of the search.
"""

import itertools
import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codesign.compiler.graph import Graph
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.hw.costs import energy
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.models.zoo import decoder, export
from codesign.search.pricing import evaluate
from codesign.search.runs import output

SPACE = """[transformer]
layers = [1, 2]
d_model = [48, 96]
heads = [4, 12]
d_ff = [64, 192]
sequence = 16

[hardware]
dim = [8, 16]
scratchpad_bytes = [16384, 32768]
accumulator_bytes = [32768]
bus_bytes = [8, 16]

[constraints]
area_mm2 = 2.0
sram_timing = true
"""
Architecture = tuple[int, int, tuple[int, ...], tuple[int, ...]]
ARCHITECTURES: tuple[Architecture, ...] = (
    (1, 48, (4,), (64,)),
    (1, 96, (12,), (192,)),
    (2, 48, (4, 12), (64, 192)),
    (2, 96, (12, 12), (192, 192)),
)
_HARDWARE = ("dim", "scratchpad_bytes", "accumulator_bytes", "scratchpad_banks", "accumulator_banks",
             "bus_bytes", "dram_latency_cycles", "clock_hz", "technology_nm")  # fmt: skip
_AXES = ("dim", "scratchpad_bytes", "accumulator_bytes", "bus_bytes")


def machines() -> list[HardwareConfig]:
    """Return the eight machines of the tiny space."""
    return [
        replace(preset("ibert"), dim=dim, scratchpad_bytes=scratchpad, accumulator_bytes=32 << 10, bus_bytes=bus)
        for dim, scratchpad, bus in itertools.product((8, 16), (16 << 10, 32 << 10), (8, 16))
    ]  # fmt: skip


def perplexity(parameters: int) -> float:
    """Return the proxy of these tests: a power law of the parameters outside the embeddings."""
    return float(20.0 * (1e6 / parameters) ** 0.076)


def _parameters(architecture: Architecture) -> int:
    _, d, heads, d_ff = architecture
    return sum(4 * d * h * d // 12 + 2 * d * f for h, f in zip(heads, d_ff, strict=True))


def _graph(architecture: Architecture) -> Graph:
    layers, d_model, heads, d_ff = architecture
    config = decoder.lm(
        layers=layers, d_model=d_model, heads=heads, d_ff=d_ff, lm_head=False, max_positions=16
    )
    return import_onnx(export.export(config, seq=16, weights="splat"))


@cache
def _results() -> list[tuple[Architecture, evaluate.Result]]:
    return [
        (architecture, evaluate.evaluate(graph, machine))
        for architecture in ARCHITECTURES
        for graph in [_graph(architecture)]
        for machine in machines()
    ]


def _row(index: int, architecture: Architecture, result: evaluate.Result) -> dict[str, Any]:
    layers, d_model, heads, d_ff = architecture
    joules, edp, parameters = (
        result.energy_j.tolist(),
        result.edp_js.tolist(),
        _parameters(architecture),
    )
    return {
        "point": index, "layers": layers, "d_model": d_model,
        "heads": ",".join(map(str, heads)), "d_ff": ",".join(map(str, d_ff)),
        "perplexity": perplexity(parameters), "perplexity_is_proxy": True,
        "model": "lm", "hardware": result.config.name,
        **{name: getattr(result.config, name) for name in _HARDWARE},
        "cycles": result.cycles, "latency_s": result.latency_s, "energy_j": joules[1],
        "energy_low_j": joules[0], "energy_high_j": joules[2], "edp_js": edp[1],
        "edp_low_js": edp[0], "edp_high_js": edp[2], "area_mm2": result.area_mm2.tolist()[1],
        "utilization": result.utilization, "macs": result.macs, "dram_bytes": result.dram_bytes,
        "power_w": joules[1] / result.latency_s, "parameters": parameters,
    }  # fmt: skip


def front(rows: Sequence[dict[str, Any]], cost: str = "edp_js") -> list[dict[str, Any]]:
    """Return the rows that none is as good as in quality and `cost` and better in one."""

    def beats(a: dict[str, Any], b: dict[str, Any]) -> bool:
        first, second = (a["perplexity"], a[cost]), (b["perplexity"], b[cost])
        return all(x <= y for x, y in zip(first, second, strict=True)) and first != second

    return [row for row in rows if not any(beats(other, row) for other in rows)]


def _spending(index: int, result: evaluate.Result) -> list[dict[str, Any]]:
    """Cycles by kind of kernel, energy by kind and component."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for kernel in result.kernels:
        parts = energy.breakdown(result.table, kernel.events, kernel.cycles)
        for component, joules in parts.items():
            key = (kernel.kind, component)
            row = rows.setdefault(
                key,
                {"point": index, "kind": kernel.kind, "component": component, "cycles": 0, "energy_j": 0.0},
            )  # fmt: skip
            row["cycles"] += kernel.cycles
            row["energy_j"] += joules.tolist()[1]
    return list(rows.values())


def _heatmap(
    rows: Sequence[dict[str, Any]], chosen: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    winner = min(chosen, key=lambda row: row["edp_js"])
    columns = ("cycles", "edp_js", "latency_s", "energy_j", "area_mm2")
    same = [
        r for r in rows if all(r[k] == winner[k] for k in ("layers", "d_model", "heads", "d_ff"))
    ]
    return [
        {"winner": "least EDP", "point": winner["point"], **{k: row[k] for k in (*_AXES, *columns)}}
        for row in same
    ]


def _robustness(chosen: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for table, suffix in (("low", "_low"), ("nominal", ""), ("high", "_high")):
        column, energy_column = f"edp{suffix}_js", f"energy{suffix}_j"
        ranked = sorted(chosen, key=lambda row: row[column])
        kept = [row["point"] for row in front(chosen, column)]
        found += [
            {"point": row["point"], "table": table, "energy_j": row[energy_column],
             "edp_js": row[column], "rank": rank, "on_front": row["point"] in kept}
            for rank, row in enumerate(ranked, 1)
        ]  # fmt: skip
    return found


def write_studies(path: Path) -> None:
    """Add what `codesign verify` and `codesign study two-stage` leave: one point differs."""
    rows = pq.read_table(path / "front.parquet").to_pylist()
    checks = [
        {"point": row["point"], "model": row["model"], "hardware": row["hardware"],
         "kernels": 9, "distinct_kernels": 5, "instructions": 100, "cycles": row["cycles"],
         "rtl_cycles": row["cycles"] - (k == 0), "host_cycles": 0, "times_differing": 0,
         "bytes_differing": 0, "counts_differing": 0, "verified": k > 0,
         "difference": "" if k else "one cycle less"}
        for k, row in enumerate(rows)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(checks), path / "verification.parquet")
    found = [
        (name, row, worse)
        for name, worse in (("joint", 1.0), ("every winner", 1.5))
        for row in rows
    ]
    fronts = [
        {"strategy": name, "perplexity": row["perplexity"], "edp_js": row["edp_js"] * worse,
         "model": row["model"], "hardware": row["hardware"]}
        for name, row, worse in [*found, ("the knee", rows[0], 1.0)]
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(fronts), path / "two_stage.parquet")
    strategies = [
        {"name": name, "winners": winners, "machines_each": winners and 8, "evaluated": 32,
         "front_size": len(rows), "hypervolume": covered, "share": covered / 2, "beaten_by_joint": 0,
         "beats_of_joint": 0, "edp_js": [None, 1e-6], "improvement": [None, covered]}
        for name, winners, covered in (("joint", None, 2.0), ("every winner", 4, 1.5), ("the knee", 1, 0.5))
    ]  # fmt: skip
    document = {
        "objectives": ["perplexity", "edp"],
        "losses": [0.1, 1.0],
        "published": [2.2, 10.6],
        "strategies": strategies,
    }
    (path / "two_stage.json").write_text(json.dumps(document))


def write_run(path: Path) -> list[dict[str, Any]]:
    """Write the run directory and return the rows of its front."""
    priced = [(_row(i, a, r), r) for i, (a, r) in enumerate(_results())]
    rows = [row for row, _ in priced]
    chosen = front(rows)
    best = min(rows, key=lambda row: row["edp_js"])
    start = max(rows, key=lambda row: (row["parameters"], row["edp_js"]))
    tables = {
        "front": chosen,
        "evaluated": [{k: r[k] for k in ("perplexity", "edp_js", "latency_s", "energy_j", "area_mm2")} | {"feasible": True} for r in rows],
        "generations": [
            {"generation": g, "evaluations": 8 * (g + 1), "feasible": 8 * (g + 1), "front_size": len(chosen),
             "hypervolume": 0.5 + g / 10, "best_perplexity": chosen[0]["perplexity"], "best_edp_js": best["edp_js"] * (4 - g),
             "edp_js_at_0.1": None if g < 2 else start["edp_js"] / g, "edp_js_at_1": start["edp_js"] / (g + 1)}
            for g in range(4)
        ],
        "spending": [row for one, result in priced if one in chosen for row in _spending(one["point"], result)],
        "heatmap": _heatmap(rows, chosen),
        "robustness": _robustness(chosen),
    }  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    for name, records in tables.items():
        pq.write_table(pa.Table.from_pylist(records), path / f"{name}.parquet")
    inputs = {
        "objectives": ["perplexity", "edp"], "budget": 32, "population": 8, "energy_tables": "default",
        "quality": {"source": "a scaling law", "label": "perplexity (proxy)", "is_proxy": True},
        "space": {"size": 32, **tomllib.loads(SPACE)}, "machine": "ibert", "seq": 16,
    }  # fmt: skip
    run = output.describe_run("codesign search --space space.toml --seed 3", inputs, seed=3)
    (path / "run.json").write_text(output.json_text(run))
    (path / "space.toml").write_text(SPACE)
    gains = [
        {
            "loss": loss,
            "edp_js": least,
            "improvement": start["edp_js"] / least,
            "published": published,
        }
        for loss, published in ((0.1, 2.2), (1.0, 10.6))
        for least in [
            min(r["edp_js"] for r in rows if r["perplexity"] <= start["perplexity"] + loss)
        ]
    ]
    kept = (
        "perplexity",
        "perplexity_is_proxy",
        "cycles",
        "latency_s",
        "energy_j",
        "edp_js",
        "area_mm2",
    )
    baseline = {
        "model": "largest",
        "hardware": "ibert",
        **{k: start[k] for k in kept},
        "improvements": gains,
    }
    (path / "baseline.json").write_text(json.dumps(baseline))
    return chosen
