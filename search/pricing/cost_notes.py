"""What a reader of energies and areas has to know of the tables behind them.

Said on standard error beside what `sweep` and `simulate` print: costs that are another machine's or
the shipped ones in a user's table, memories too small for any macro that is known, and a host of
estimated cost that most of the time is spent on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from codesign.compiler.graph import Activation, HostOp, Operator
from codesign.compiler.plan.lower import Plan, Step
from codesign.hw.costs import host
from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.costs.sram import macros
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import DRAIN_FUNCTIONS
from codesign.hw.machine.memories import present

MOST_OF_THE_TIME = 0.5  # of a network's cycles
_NAMED_FUNCTIONS = 4
_IN_THE_TABLE = {"gate": "mul", "rotary": "rotaryembedding"}  # where a kind has another name there


def cost_notes(
    configs: Sequence[HardwareConfig], energy: str | EnergyOverrides, areas: str | AreaOverrides
) -> list[str]:
    """Return one line for each thing to know, each once."""
    notes: dict[str, None] = {}
    if energy == "timeloop-pat":
        notes["timeloop-pat has relative units: its energies compare but are not joules"] = None
    for table, quantity in ((energy, "costs"), (areas, "areas")):
        if not isinstance(table, str):
            notes.update(dict.fromkeys(_of_a_table(configs, table, quantity)))
    for config in configs:
        notes.update(dict.fromkeys(_of_memories(config, energy, areas)))
    return list(notes)


def _of_a_table(
    configs: Sequence[HardwareConfig], table: EnergyOverrides | AreaOverrides, quantity: str
) -> Iterator[str]:
    if len(configs) > 1:
        yield f"{table.source}: every machine of the grid gets the same {quantity}"
    else:
        from codesign.hw.costs.accelergy import cost_fields  # yaml is slow to load

        here = dict(cost_fields(configs[0]))
        other = [f"{name} {value}, not {here[name]}" for name, value in table.machine
                 if value != here[name]]  # fmt: skip
        if other:
            yield f"{table.source} has the {quantity} of another machine: {'; '.join(other)}"
    if table.missing:
        yield (
            f"{table.source} leaves out {', '.join(table.missing)}: "
            f"{'it keeps its' if len(table.missing) == 1 else 'they keep their'} shipped {quantity}"
        )


def _of_memories(
    config: HardwareConfig, energy: str | EnergyOverrides, areas: str | AreaOverrides
) -> Iterator[str]:
    """Memories that are priced as larger ones, where a shipped cost of theirs is used."""
    for memory in present(config):
        macro, named = macros(memory, config), {*memory.accesses, "leakage"}
        kept = energy == "default" or (
            isinstance(energy, EnergyOverrides) and named & set(energy.missing)
        )
        kept = kept or isinstance(areas, str) or memory.component in areas.missing
        if macro.exactness == "clamped" and kept:
            yield (
                f"{macro.name}: a bank of {macro.bank_bytes:,} bytes is smaller than any SRAM macro "
                f"of {macro.row_bits}-bit rows in the tables: it costs as much as the smallest"
            )


def host_note(plan: Plan) -> str | None:
    """Return a line where a host whose cost is estimated takes most of the cycles, with what it computes
    there and what the machine's own units would; None where it does not."""
    operators = {op.name: op for op in plan.graph.operators()}
    cycles: Counter[str] = Counter()
    for step in plan.steps:
        function = _of_the_host(step, operators)
        if step.host_cycles and not host.is_calibrated(function):
            cycles[function] += step.host_cycles
    total = sum(step.cycles for step in plan.steps)
    if cycles.total() <= MOST_OF_THE_TIME * total:
        return None
    counted = [(name, count) for name, count in cycles.most_common() if count > total / 100]
    shown = [f"{name} {count / total:.0%}" for name, count in counted[:_NAMED_FUNCTIONS]]
    if len(cycles) > len(shown):
        shown.append(f"{len(cycles) - len(shown)} more")
    units = [
        of.name
        for of in DRAIN_FUNCTIONS
        if of.operands == 1
        and of.name not in ("copy", *cycles)
        and (plan.config.normalization or not of.normalization)
    ]
    return (
        f"{cycles.total() / total:.0%} of the cycles are a host's whose cost is estimated, not calibrated "
        f"(docs/host.md): {', '.join(shown)}; on chip run products, sums and {', '.join(units)}: export "
        "what is one of these as one operator"
    )


def _of_the_host(step: Step, operators: dict[str, Operator]) -> str:
    """What the host's table calls what a step of the host does."""
    if step.work.copied_bytes:
        return "copy"
    op = operators[step.operators[0]]
    if op.output not in step.work.outputs:  # what a kernel turns rows by
        return "embedding"
    if isinstance(op, HostOp | Activation):
        return op.function
    return _IN_THE_TABLE.get(op.kind, op.kind)
