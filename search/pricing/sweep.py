"""Sweep: one network on every machine of a grid, on all cores, a row each.

Rows come as they finish, so that a caller can keep them; `sweep` itself stores nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from codesign.compiler.graph import Graph
from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import CodesignError, MappingError, StaleEvaluator, TableError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.platform.processes import workers
from codesign.search.inputs.decoders import Decoder
from codesign.search.inputs.grid import Point
from codesign.search.pricing.evaluate import Result, cost_columns, evaluate, token_columns


class FailedMachines(CodesignError):
    """A bug of ours kept machines of a sweep from being priced; all others are done."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One machine of a sweep; costs are None where the network does not fit it (`infeasible`) and
    where we broke down on it (`failed`)."""

    index: int
    model: str
    hardware: str
    dim: int
    scratchpad_bytes: int
    accumulator_bytes: int
    bus_bytes: int
    cycles: int | None = None
    latency_s: float | None = None
    energy_j: float | None = None
    energy_low_j: float | None = None
    energy_high_j: float | None = None
    edp_js: float | None = None
    area_mm2: float | None = None
    utilization: float | None = None
    macs: int | None = None
    dram_bytes: int | None = None
    edp_low_js: float | None = None
    edp_high_js: float | None = None
    area_low_mm2: float | None = None
    area_high_mm2: float | None = None
    host_cycles: int | None = None
    scratchpad_banks: int
    accumulator_banks: int
    dram_latency_cycles: int
    clock_hz: int
    technology_nm: int
    infeasible: str = ""  # why, where it is
    failed: str = ""  # the exception, where a bug of ours has kept the answer from us

    @property
    def feasible(self) -> bool:
        """Whether the network is known to run on the machine."""
        return not self.infeasible and not self.failed

    def is_of(self, point: Point) -> bool:
        """Whether it is of this machine."""
        values = dict(point.values)
        if point.config is not None:
            values = {name: getattr(point.config, name) for name in MACHINE_FIELDS}
        return all(getattr(self, name) == value for name, value in values.items())

    @property
    def answered(self) -> bool:
        """Whether it says what the machine costs, or why it cannot run the network."""
        costs = (getattr(self, field.name) for field in fields(Row) if field.default is None)
        return bool(self.infeasible) or (not self.failed and None not in costs)


@dataclass(frozen=True, kw_only=True)
class DecoderRow(Row):
    """One machine of a decoder's sweep: the first token, and of a step each token."""

    time_to_first_token_s: float | None = None
    first_token_unknown: str = ""  # why, where it is
    tokens_per_s: float | None = None
    energy_per_token_j: float | None = None
    energy_per_token_low_j: float | None = None
    energy_per_token_high_j: float | None = None

    @property
    def answered(self) -> bool:
        """As a Row, and what is known of the first token."""
        known = self.time_to_first_token_s is not None or bool(self.first_token_unknown)
        return super().answered and (known or bool(self.infeasible))


MACHINE_FIELDS = tuple(
    f.name for f in fields(Row) if f.name in {g.name for g in fields(HardwareConfig)}
)


@dataclass(frozen=True)
class SweepJob:
    """What every machine of a sweep is asked: the network, the objective and the tables."""

    graph: Graph
    objective: str
    tables: str | EnergyOverrides
    area_tables: str | AreaOverrides = "default"
    decoder: Decoder | None = None  # of a network that is one

    def describes(self, row: Row, point: Point, base: HardwareConfig) -> bool:
        """Whether a row is of this network, on the machine of a point around `base`."""
        machine = _machine(point, base)
        return row.model == self.graph.name and all(getattr(row, f) == machine[f] for f in machine)


def _machine(point: Point, base: HardwareConfig) -> dict[str, int]:
    return {name: getattr(base, name) for name in MACHINE_FIELDS} | dict(point.values)


def sweep(
    job: SweepJob,
    points: Sequence[Point],
    base: HardwareConfig,
    jobs: int,
    keep: Callable[[Row], None],
) -> None:
    """Evaluate `job` on every point and hand each row to `keep` as it finishes.

    `base` is the machine that the points vary: it fills in what an infeasible row cannot. More
    than one of `jobs` are processes of their own. KeyboardInterrupt stops them all at once.
    """
    jobs = min(jobs, len(points))
    if jobs <= 1:
        for point in points:
            keep(evaluate_point(job, point, base))
        return
    for row in _in_parallel(job, points, base, jobs):
        keep(row)


def evaluate_point(job: SweepJob, point: Point, base: HardwareConfig) -> Row:
    """Return the row of one point; a machine or mapping that cannot be is a row that says so.

    So is an exception that only a bug can raise: the other machines do not go down with it.
    """
    if point.config is None:
        return _empty_row(job, point, base, infeasible=point.reason)
    try:
        priced = evaluate(
            job.graph, point.config, job.objective, job.tables, job.area_tables, job.decoder
        )
        return feasible_row(point.index, priced)
    except (MappingError, TableError) as error:
        return _empty_row(job, point, base, infeasible=str(error))
    except StaleEvaluator:  # of all rows
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, one row must not cost the others
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return _empty_row(job, point, base, failed=message)


def row_kind(decoder: Decoder | None) -> type[Row]:
    """What the rows of a network are."""
    return Row if decoder is None else DecoderRow


def feasible_row(index: int, result: Result) -> Row:
    """Return a result as the row numbered `index`, a DecoderRow of a decoder."""
    tokens = {} if result.decoder is None else token_columns(result)
    return row_kind(result.decoder)(
        index=index,
        model=result.model,
        hardware=result.config.name,
        area_low_mm2=float(result.area_mm2[0]),
        area_high_mm2=float(result.area_mm2[2]),
        host_cycles=result.host_cycles,
        **cost_columns(result),
        **{name: getattr(result.config, name) for name in MACHINE_FIELDS},
        **tokens,
    )


def _empty_row(
    job: SweepJob, point: Point, base: HardwareConfig, infeasible: str = "", failed: str = ""
) -> Row:
    """The row of a point without costs, and why it has none."""
    machine = _machine(point, base)
    return row_kind(job.decoder)(
        index=point.index,
        model=job.graph.name,
        hardware=base.name,
        infeasible=infeasible,
        failed=failed,
        **{name: machine[name] for name in MACHINE_FIELDS},
    )


def best(rows: Iterable[Row], column: str = "edp_js") -> Row | None:
    """Return the feasible row with the lowest `column`, the first of several; None without one."""
    feasible = [row for row in rows if row.feasible]
    return min(feasible, key=lambda row: (getattr(row, column), row.index), default=None)


def pareto(rows: Iterable[Row], x: str = "latency_s", y: str = "energy_j") -> list[Row]:
    """Return the feasible rows that no other beats in both columns, in order of `x`."""
    front: list[Row] = []
    feasible = [row for row in rows if row.feasible]
    for row in sorted(feasible, key=lambda row: (getattr(row, x), getattr(row, y), row.index)):
        if not front or getattr(row, y) < getattr(front[-1], y):
            front.append(row)
    return front


# What a worker process evaluates, set once when it starts.
_worker_job: tuple[SweepJob, HardwareConfig] | None = None


def _start_worker(job: SweepJob, base: HardwareConfig) -> None:
    global _worker_job
    _worker_job = job, base


def _work(point: Point) -> Row:
    assert _worker_job is not None
    job, base = _worker_job
    return evaluate_point(job, point, base)


def _in_parallel(
    job: SweepJob, points: Sequence[Point], base: HardwareConfig, jobs: int
) -> Iterator[Row]:
    from concurrent.futures import as_completed

    with workers(jobs, _start_worker, (job, base)) as pool:
        for future in as_completed([pool.submit(_work, point) for point in points]):
            yield future.result()
