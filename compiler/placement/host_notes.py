"""What the host does for a compiled network beyond looking up rows and making masks: a line a reason.

Nothing falls to the host in silence. It rearranges operands; it computes what no kernel computes as the
file has it (`settle`), what the machine's number formats do not hold (`formats`), and what no unit does.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from codesign.compiler.graph import Activation, HostOp, LayerNorm, Operator, Rearrange, Rotary
from codesign.compiler.numerics.constants import Floats
from codesign.compiler.onnx.float_model import FloatModel, needed
from codesign.compiler.placement.operands import MOVES
from codesign.compiler.placement.settle import Remedies
from codesign.compiler.plan.lower import Plan

LISTED = 3  # operators that a note names, and steps of one of them
OWN = frozenset({"embedding", "mask", "rearrange"})  # the host's in every network, or said apart


def host_notes(
    plan: Plan,
    model: FloatModel,
    remedies: Remedies,
    by_host: Mapping[str, str],
    scales: Mapping[str, Floats],
) -> tuple[str, ...]:
    """The lines; `model` has the file's nodes, `by_host` the reasons of `formats.unfit` by operator,
    `scales` those of int8 tensors.
    """
    host = (op for op in plan.graph.operators() if isinstance(op, HostOp))
    copies = [op for op in host if _moves_codes(op, scales)]
    return (
        *_rearranged(plan, remedies),
        *_looked_up(plan),
        *_copied(copies),
        *_refused(model, remedies),
        *_unfit(plan, by_host),
        *_without_unit(plan, model, remedies, {*by_host, *(op.name for op in copies)}),
    )


def _rearranged(plan: Plan, remedies: Remedies) -> Iterator[str]:
    tensors = remedies.rearranged - remedies.on_host.keys()
    names = [repr(op.name) for op in plan.graph.operators() if op.output in tensors]
    if names:
        yield f"the host rearranges what {_listed(names)} read"


def _looked_up(plan: Plan) -> Iterator[str]:
    """Angles that kernels turn by and that are a run's."""
    kernels = [step.work for step in plan.steps if step.work.problem is not None]
    ops = [plan.graph.dag[name] for work in kernels for name in work.operators]
    count = sum(isinstance(op, Rotary) and op.computed for op in ops)
    if count:
        what = "the angles of 1 rotation" if count == 1 else f"the angles of {count} rotations"
        yield f"the host looks up {what}, by places that are an input"


def _moves_codes(op: HostOp, scales: Mapping[str, Floats]) -> bool:
    """Whether the host only moves int8 values, of tensors in one scale."""
    found = [scales[tensor] for tensor in (*op.inputs, op.output) if tensor in scales]
    return (
        bool(op.copy) and len(found) > 1 and all(np.array_equal(scale, found[0]) for scale in found)
    )


def _copied(copies: Sequence[HostOp]) -> Iterator[str]:
    counts = Counter(op.function for op in copies)
    if counts:
        found = ", ".join(f"{count} {function}" for function, count in counts.items())
        yield f"the host copies int8 values as they are: {found}"


def _refused(model: FloatModel, remedies: Remedies) -> Iterator[str]:
    """What a kernel does not compute as it is in the file; a node that stays whole by its own name."""
    by_reason: dict[str, list[str]] = {}
    for tensor, (op, reason) in remedies.on_host.items():
        title = f"{_kind(op)} {op.name!r}"
        if tensor in remedies.whole:
            node = model.nodes[model.writers[tensor]]
            title = f"{node.op_type} {node.name!r}"
        by_reason.setdefault(reason, []).append(title)
    for reason, titles in by_reason.items():
        subject = "it" if len(titles) == 1 else "each"
        yield f"the host computes {_listed(titles)} in float: {subject} {reason}"


def _unfit(plan: Plan, by_host: Mapping[str, str]) -> Iterator[str]:
    kinds = {op.name: _kind(op) for op in plan.graph.operators()}
    by_reason: dict[str, list[str]] = {}
    for name, reason in by_host.items():
        by_reason.setdefault(reason, []).append(f"{kinds[name]} {name!r}")
    for reason, titles in by_reason.items():
        each = "" if len(titles) == 1 else "of each, "
        yield f"the host computes {_listed(titles)} in float: {each}{reason}"


def _without_unit(
    plan: Plan, model: FloatModel, remedies: Remedies, said: Collection[str]
) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for step in plan.steps:
        op = plan.graph.dag[step.work.operators[0]]
        named = op.output in remedies.on_host or op.name in said or isinstance(op, Rearrange)
        named |= op.output not in step.work.outputs  # of a kernel's operator, for the kernel
        if step.work.problem is None and not named and _kind(op) not in OWN:
            counts[_steps(model, op)] += 1
    if counts:
        found = ", ".join(f"{count} {steps}" for steps, count in counts.items())
        yield f"the host computes what has no unit, in float: {found}"


def _steps(model: FloatModel, op: Operator) -> str:
    """The file's operators that the host goes through for one of the graph's, joined by " + "."""
    if not model.has(op.output):
        return _kind(op)
    numbers, _ = needed(model, set(op.inputs), [op.output])
    nodes = [model.nodes[index] for index in sorted(numbers)]
    varying = [node.op_type for node in nodes if any(map(model.depends, node.input))]
    computed = [kind.lower() for kind in varying if kind not in MOVES]
    kinds = list(dict.fromkeys(computed)) or [_kind(op)]
    more = [f"{len(kinds) - LISTED} more"] if len(kinds) > LISTED else []
    return " + ".join([*kinds[:LISTED], *more])


def _kind(op: Operator) -> str:
    match op:
        case Activation() | HostOp():
            return op.function
        case LayerNorm(rms=True):
            return "rmsnorm"
    return op.kind


def _listed(titles: Sequence[str]) -> str:
    more = len(titles) - LISTED
    shown = ", ".join(titles[:LISTED])
    return f"{shown} and {more} more" if more > 0 else shown
