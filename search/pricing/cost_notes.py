"""What a reader of energies and areas has to know of the tables behind them.

Said on standard error beside what `sweep` and `simulate` print: costs that are another machine's or
the shipped ones in a user's table, and memories too small for any macro that is known.
"""

from collections.abc import Iterator, Sequence

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.costs.sram import macros
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.memories import present


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
