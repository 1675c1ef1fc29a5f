"""The Python interface, function by function; docs/api.md shows them at work.

A model is a file, the name of a built-in one, or what `load_model` returned; a machine is a
`HardwareConfig` from `machine`. Nothing here prints or writes a file. Bad input raises a
`CodesignError` whose text is one line that says how to mend it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

from codesign.compiler.network import inference
from codesign.compiler.network.inference import Network
from codesign.compiler.network.rtl_backend import KernelCheck, Rtl
from codesign.compiler.numerics.options import DEFAULT, Options
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.compiler.plan.lower import lower
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.sizes import parse_size
from codesign.models.zoo.export import export
from codesign.models.zoo.families import FAMILIES
from codesign.search.checks import verify as checks
from codesign.search.checks.verify import Check
from codesign.search.inputs import grid, sources
from codesign.search.inputs.sources import Model
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.price_store import PriceStore, cache_folder
from codesign.search.joint.pricing_pool import pool_of
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.results import Results, collect
from codesign.search.joint.search import Settings, search
from codesign.search.pricing import breakdown
from codesign.search.pricing import sweep as sweeping
from codesign.search.pricing.breakdown import KernelRow
from codesign.search.pricing.evaluate import Result, evaluate
from codesign.search.pricing.sweep import Row, SweepJob
from codesign.search.runs.output import arrow_table
from codesign.search.space.quality import load_quality
from codesign.search.space.space import SearchSpace
from codesign.search.space.space_file import read_space

Named = str | PathLike[str]


def load_model(
    source: Named,
    *,
    seq: int | None = None,
    batch: int | None = None,
    dimensions: Mapping[str, int] | None = None,
) -> Model:
    """Read an ONNX file, or a built-in model by its name, as its graph of operators.

    `seq` and `batch` are the extents of dynamic axes (128 and 1 unless given), `dimensions` those of
    other symbolic ones. Raises ModelError or UnsupportedError.
    """
    return sources.load_model(str(source), seq, batch, tuple((dimensions or {}).items()))


def machine(source: Named = "ibert", **fields: int | str) -> HardwareConfig:
    """A preset machine or a TOML file's, with fields of `HardwareConfig` replaced.

    Sizes in bytes may be text, as on the command line: `scratchpad_bytes="64K"`. Raises ConfigError
    that names everything that contradicts itself.
    """
    base = sources.load_machine(str(source))
    known = asdict(base)
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ConfigError([f"a machine has no {unknown[0]!r}: choose {', '.join(known)}"])
    return replace(base, **{name: _size(value) for name, value in fields.items()})  # type: ignore[arg-type]


def price(
    model: Model | Named,
    config: HardwareConfig,
    *,
    objective: str = "edp",
    energy_table: Named = "default",
    area_table: Named = "default",
) -> Result:
    """Map one inference of a model onto a machine and price it, kernel by kernel.

    Kernels are mapped for `objective`: "cycles", "energy" or "edp". Energies, EDP and areas of the
    result are arrays of low, nominal and high, in J, J s and mm2. Raises MappingError or TableError.
    """
    tables = sources.load_tables(str(energy_table))
    areas = sources.load_area_tables(str(area_table))
    return evaluate(_model(model).graph, config, objective, tables, areas)


def kernels(result: Result) -> list[KernelRow]:
    """What each kernel of a priced network takes, a row each, in order."""
    return breakdown.kernels(result)


def sweep(
    model: Model | Named,
    base: HardwareConfig,
    axes: Mapping[str, Iterable[int | str]],
    *,
    objective: str = "edp",
    energy_table: Named = "default",
    area_table: Named = "default",
    workers: int = 1,
) -> list[Row]:
    """Price a model on every machine of a grid: a row each, in order, the last axis fastest.

    `axes` are fields of `HardwareConfig` with their values. A machine that cannot be, or cannot run
    the model, is a row whose `infeasible` says why; `table` takes rows. More than one of `workers`
    are processes. Raises ConfigError for a grid that is too large.
    """
    values = {name: tuple(map(_size, chosen)) for name, chosen in axes.items()}
    unknown = [name for name in values if name not in sweeping.MACHINE_FIELDS]
    if unknown:
        known = ", ".join(sweeping.MACHINE_FIELDS)
        raise ConfigError([f"a machine has no axis {unknown[0]!r}: choose {known}"])
    points = grid.points(base, values)
    tables = sources.load_tables(str(energy_table))
    job = SweepJob(
        _model(model).graph, objective, tables, sources.load_area_tables(str(area_table))
    )
    rows: list[Row] = []
    sweeping.sweep(job, points, base, workers, rows.append)
    return sorted(rows, key=lambda row: row.index)


def joint_search(
    space: SearchSpace | Named | None = None,
    *,
    minimize: Sequence[str] = ("perplexity", "edp"),
    quality: Named | None = None,
    method: str = "nsga2",
    budget: int = 10_000,
    population: int = 200,
    seed: int = 0,
    points: int = 40,
    energy_table: Named = "default",
    area_table: Named = "default",
    workers: int = 1,
) -> Results:
    """Search machines and Transformers together; at most `points` of the front, priced in full.

    `space` is that of UCB/EECS-2023-92 unless given, `quality` a file of measured subnets; without
    one perplexity is a scaling law's, and every point says that it is a proxy. Nothing is kept but
    prices in the user's cache: `codesign search` keeps runs, and resumes them. Raises CodesignError
    where a setting is wrong or no candidate keeps the constraints.
    """
    if not isinstance(space, SearchSpace):
        space = SearchSpace() if space is None else read_space(Path(space))
    judged = load_quality(None if quality is None else Path(quality), space)
    tables = sources.load_tables(str(energy_table))
    areas = sources.load_area_tables(str(area_table))
    asked = Settings(tuple(minimize), method, budget, population, seed)
    store = PriceStore(cache_folder(), lambda message: None)
    with pool_of(workers, None) as pool:
        priced = NetworkTables(space, "edp", tables, areas, store, pool)
        problem = SearchProblem(space, priced, judged, asked.minimize)
        try:
            done = search(problem, asked.within(space.size), None)
            return collect(problem, done, points)
        finally:
            store.save()


def compile(
    source: Named,
    config: HardwareConfig,
    samples: Iterable[Feeds],
    *,
    seq: int | None = None,
    batch: int | None = 1,
    dimensions: Mapping[str, int] | None = None,
    options: Options = DEFAULT,
) -> Network:
    """Quantize a model to int8 on calibration samples and compile it for a machine.

    `source` is an ONNX file, float or quantized, or a built-in model, whose weights are random.
    Samples are the model's inputs by name, as arrays. Raises ModelError, UnsupportedError,
    MappingError, CalibrationError or QuantizationError.
    """
    name = str(source)
    file = (
        export(sources.built_in(name, seq), batch=batch, seq=seq or 1)
        if name in FAMILIES
        else Path(name)
    )
    shape = {"seq": None if name in FAMILIES else seq, "batch": batch, "dims": dimensions}
    return inference.compile_network(file, config, samples, options=options, **shape)  # type: ignore[arg-type]


def run(network: Network, feeds: Feeds, backend: str = "functional") -> dict[str, Array]:
    """The outputs of a compiled network on one input, by name, in float.

    `backend` is "functional", the machine's functional model; "integers", the same numbers without
    a machine and faster; or "rtl", where every kernel must also agree with functional model and
    timing: it raises Disagreement where one does not, SimulatorError where RTL cannot run.
    """
    if backend != "rtl":
        return inference.run(network, feeds, backend)
    seen: list[KernelCheck] = []
    return inference.run(network, feeds, Rtl(network, seen.append))


def verify(
    model: Model | Named,
    config: HardwareConfig,
    *,
    backend: str = "rtl",
    kernel: str | None = None,
    objective: str = "edp",
    seed: int = 0,
) -> list[Check]:
    """Hold every distinct kernel of a model on a machine against the views of that machine.

    Each runs on random operands of `seed` on the "functional" model, or on the "rtl" beside it; only
    kernels with `kernel` in their names where that is given. A check's `difference` is empty where
    all agrees, in every byte, cycle and count. Raises SimulatorError where RTL cannot run.
    """
    plan = lower(_model(model).graph, config, objective, cost_table(config))
    options = checks.CheckOptions(backend, kernel, seed)
    chosen = checks.select(checks.distinct(plan), options)
    checks.build_rtl(config, options, lambda message: None)
    return [checks.check(one, config, options).check for one in chosen]


def table(records: Sequence[Any]) -> Any:
    """Rows of one kind (of a sweep, of kernels, of a front, of checks) as a pyarrow.Table.

    Columns have the names and units of the command line's files; `.to_pandas()` makes it a frame.
    Raises ValueError for no rows, whose columns nobody knows.
    """
    if not records:
        raise ValueError("a table of no rows has no columns")
    return arrow_table(records)


def _model(model: Model | Named) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def _size(value: int | str) -> int:
    return parse_size(value) if isinstance(value, str) else value
