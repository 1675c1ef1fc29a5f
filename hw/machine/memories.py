"""The memories on the chip, as one table: what sizes each, what counts its accesses, what it is called.

Configuration, SRAM macros, energy, area, reference tables, spaces, tables of machines and reports
are loops over it. DRAM is not on the chip: its costs follow the bus.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One memory: banks of rows of dim words, each bank with one read and one write port.

    `actions` pairs what is done to it, as reference tables call it, with the event that counts it;
    "read" and "write" move a row and cost what its macro says. A memory without actions of its own
    is `part_of` another component.
    """

    name: str
    size: str  # field of HardwareConfig: its size in entries
    banks: str | None = None  # field of HardwareConfig; None is one bank
    entry_bytes: int = 1
    word_bytes: int = 1
    actions: tuple[tuple[str, str], ...] = ()
    part_of: str | None = None  # component of energy and area; None is one of its own
    label: str = ""  # in tables and reports, where "" is not shown
    short_label: str | None = None  # where room is scarce
    addressed: bool = True  # by instructions; of others a machine may have none, a size of 0

    @property
    def component(self) -> str:
        """The component of energy and area whose it is."""
        return self.part_of or self.name

    @property
    def short(self) -> str:
        """Its label where room is scarce."""
        return self.short_label or self.label

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of HardwareConfig that shape it."""
        return (self.size,) if self.banks is None else (self.size, self.banks)

    @property
    def events(self) -> tuple[str, ...]:
        """What counts its accesses."""
        return tuple(event for _, event in self.actions)

    @property
    def accesses(self) -> tuple[str, ...]:
        """The events that move a row."""
        return tuple(event for action, event in self.actions if action in ("read", "write"))

    def size_bytes(self, machine: object) -> int:
        """Its bytes in a machine, which is a HardwareConfig or has its columns."""
        return int(getattr(machine, self.size)) * self.entry_bytes

    def bank_count(self, machine: object) -> int:
        """Its banks in a machine."""
        return 1 if self.banks is None else int(getattr(machine, self.banks))


SCRATCHPAD = Memory(
    name="scratchpad",
    size="scratchpad_bytes",
    banks="scratchpad_banks",
    actions=(("read", "scratchpad_reads"), ("write", "scratchpad_writes")),
    label="scratchpad",
)
ACCUMULATOR = Memory(
    name="accumulator",
    size="accumulator_bytes",
    banks="accumulator_banks",
    word_bytes=4,  # int32
    actions=(("read", "accumulator_reads"), ("write", "accumulator_writes"),
             ("add", "accumulator_adds")),
    label="accumulator",
    short_label="acc.",
)  # fmt: skip
PARAMETERS = Memory(
    name="parameters",
    size="parameter_channels",
    entry_bytes=8,
    word_bytes=8,  # of the drain, per channel: int32 bias, 24-bit multiplier, 8-bit shift
    part_of="requantize",
)

MEMORIES = (SCRATCHPAD, ACCUMULATOR, PARAMETERS)
COUNTED = tuple(memory for memory in MEMORIES if memory.actions)
SHOWN = tuple(memory for memory in MEMORIES if memory.label)


def present(machine: object) -> tuple[Memory, ...]:
    """The memories that a machine has."""
    return tuple(memory for memory in MEMORIES if memory.size_bytes(machine))
