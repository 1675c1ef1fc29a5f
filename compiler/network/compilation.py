"""A network in int8, compiled of a trained ONNX model for a machine.

float model ──► graph ──► plan ──► ranges, constants ──► integers ──► Program and DRAM image
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.network.inference import Network, NoCode, by_kernels, host_piece, run
from codesign.compiler.network.quantized_program import quantized_program
from codesign.compiler.numerics.file_scales import given_scales, rounded_besides, uneven
from codesign.compiler.numerics.options import DEFAULT, Options
from codesign.compiler.numerics.quantized import Quantized
from codesign.compiler.onnx.float_model import Feeds, FloatModel, load_float_model
from codesign.compiler.onnx.load import Dimensions, input_shapes
from codesign.compiler.onnx.precision import in_float32
from codesign.compiler.placement.clamps import lost_clamps
from codesign.compiler.placement.formats import format_notes, narrow_gates, unfit
from codesign.compiler.placement.gelu_error import gelu_notes
from codesign.compiler.placement.host_notes import host_notes
from codesign.compiler.placement.host_rounding import Amplified, without_bound
from codesign.compiler.placement.operands import moved_by_host
from codesign.compiler.placement.settle import Observer, Remedies, Settled, settle
from codesign.compiler.plan.lower import Plan, lower
from codesign.compiler.plan.work import LOW
from codesign.compiler.program.cache import cached_tensors
from codesign.compiler.program.image import pack
from codesign.compiler.rewrite.branches import without_branches
from codesign.compiler.rewrite.dequantize import Dequantized
from codesign.compiler.rewrite.given_scales import Codes, GivenScales
from codesign.compiler.rewrite.in_float import as_recognised, in_float
from codesign.hw.costs.energy import CostTable, cost_table
from codesign.hw.errors import ModelError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Program

WATCHED = 4  # samples on which the host's rounding is looked at


def compile_network(
    source: Path | onnx.ModelProto,
    config: HardwareConfig,
    samples: Iterable[Feeds],
    *,
    seq: int | None = None,
    batch: int | None = 1,
    dims: Mapping[str, int] | None = None,
    objective: str = "cycles",
    table: CostTable | None = None,
    options: Options = DEFAULT,
    accurate: bool = True,
    past: Collection[str] = (),
    codes: Mapping[str, Codes] | None = None,
) -> Network:
    """Quantize a float model on calibration samples and compile it; a quantized one keeps its scales.

    Samples are inputs by name, all of the sequence length of the Program. `seq`, `batch` (1, or None
    where the file fixes it) and `dims` are `import_onnx`'s. What kernels read of the inputs `past` is
    kept in DRAM for the next run; `codes` of tensors, by name, are another Program's of the same file.
    Raises ModelError, UnsupportedError, MappingError, CalibrationError or QuantizationError.
    """
    name = source.stem if isinstance(source, Path) else None
    shapes = Dimensions(batch, seq, dict(dims or {}))
    file = in_float32(load_float_model(source))
    file = without_branches(file, input_shapes(file, shapes))

    every, whole, one = as_recognised(file, shapes)
    clipped, remedies, alone = frozenset[str](), Remedies(whole), set[str]()
    clamped = FloatModel(every.model)
    limits = {c.integers: (c.source, c.low, c.high) for c in every.clamps}
    observer = Observer(clamped, tuple(samples), limits)
    costs = table or cost_table(config)
    lowered = partial(lower, config=config, objective=objective, table=costs, accurate=accurate)
    imported = partial(import_onnx, batch=batch, seq=seq, dims=dims, name=name, shares=False)
    made: tuple[Quantized, Program] | None = None
    while made is None:
        found = in_float(file, shapes, clipped, one)[0] if every.clamps else every
        model = FloatModel(found.model) if every.clamps else clamped
        graph = imported(found.model, integers=found.weights)
        settled = settle(model, observer, graph, remedies)
        by_host = unfit(settled.graph, settled.constants, settled.observed)
        given, notes = _given(found, model, settled, by_host, codes or {})
        plan = _plan(lowered, settled, given, alone, by_host.keys() | remedies.sums())
        lost = lost_clamps(found.clamps, plan, given, settled.observed)
        if not lost <= clipped:
            clipped |= lost
            continue
        kept = tuple(cached_tensors(plan, past)[0])
        made = quantized_program(plan, settled, given, options, model, remedies, alone, kept)
    quantized, program = made
    notes += (*format_notes(plan.graph, quantized, settled.observed),)
    notes += (*_roundings_besides(given if found.activations else GivenScales(), file, plan),)
    image = pack(plan, program, quantized, settled.matrices)
    integers = plan, program, image, quantized, settled.constants, settled.matrices
    host = host_notes(plan, model, remedies, by_host, quantized.scales)
    inputs = settled.observed.shapes_of_inputs
    network = Network(*integers, model, clamped, found.scaled, inputs, host=host, kept=kept)
    _require_one_way(network)
    return replace(network, notes=(*notes, *_seen_in_runs(network, settled, observer.samples)))


def _given(
    found: Dequantized,
    model: FloatModel,
    settled: Settled,
    by_host: Collection[str],
    codes: Mapping[str, Codes],
) -> tuple[GivenScales, tuple[str, ...]]:
    """What the file and `codes` fix of a settled graph; notes on what is lost."""
    graph, constants, matrices = settled.graph, settled.constants, settled.matrices
    given, notes = given_scales(found, graph, constants, matrices, settled.observed, by_host)
    moved = moved_by_host(graph, model)
    return replace(given, activations={**given.activations, **codes}, moved=moved), notes


def _plan(
    lowered: Callable[..., Plan],
    settled: Settled,
    given: GivenScales,
    alone: Collection[str],
    by_host: Collection[str],
) -> Plan:
    """The plan of a settled graph. Kernels of their own are matmuls in `alone`, and those that write int8
    in scales of the file or whose sums are too wide for what follows.
    """
    graph = settled.graph
    narrow = narrow_gates(graph, settled.constants, settled.observed)
    apart = {*uneven(given, graph), *narrow, *alone}
    moved = {tensor for tensor, codes in given.activations.items() if codes.zero}
    return lowered(graph, apart=apart, moved=moved, by_host=by_host)


def _roundings_besides(given: GivenScales, file: onnx.ModelProto, plan: Plan) -> Iterator[str]:
    """What is said of tensors of a plan whose eight bits are not the file's; `given` has these."""
    return rounded_besides(given.activations, _named(file), _in_eight_bits(plan))


def _named(file: onnx.ModelProto) -> set[str]:
    """The tensors of a file."""
    return {value.name for value in file.graph.input} | {
        name for node in file.graph.node for name in node.output
    }


def _in_eight_bits(plan: Plan) -> Iterator[str]:
    """The tensors that kernels read and write, but for the finer halves of sums."""
    for step in plan.steps:
        if step.work.problem is not None:
            reads = (read.tensor for read in step.work.reads(plan.config))
            yield from (each for each in (*reads, *step.work.outputs) if not each.endswith(LOW))


def _require_one_way(network: Network) -> None:
    """Raise ModelError where outputs would be computed in float of what lies before the last kernels:
    they would not be the machine's.
    """
    given, wanted = network.plan.graph.outputs, network.clamped.outputs
    if around := by_kernels(network, given, wanted):
        raise ModelError(
            f"the file reads {wanted[0]!r} by a way around {around[0]!r}, which a kernel writes: this "
            "is a bug in codesign; report it with the file"
        )


def _seen_in_runs(network: Network, settled: Settled, samples: Sequence[Feeds]) -> Iterator[str]:
    """What only running calibration samples shows, a line each."""
    yield from _amplified(network, samples)
    feeds = settled.observed.feeds
    whole = partial(run, network, feeds, "integers")
    integers = network.plan, network.constants, network.matrices
    yield from gelu_notes(*integers, network.clamped, feeds, whole)


def _amplified(network: Network, samples: Sequence[Feeds]) -> Iterator[str]:
    """A line of the host's operators that amplify the rounding of some sample without bound."""
    model = network.clamped
    pieces = (host_piece(network, step.work) for step in network.plan.steps)
    last = (network.plan.graph.outputs, model.outputs)
    if not any(without_bound(model, *piece) for piece in (*filter(None, pieces), last)):
        return
    watch = Amplified(model, {})
    for feeds in samples[:WATCHED]:
        watch.feeds = feeds
        with suppress(NoCode):  # the operator is named by then
            run(network, feeds, "integers", watch)
    yield from watch.note()
