"""HardwareConfig: everything that shapes the machine, and nothing else.

Frozen, validated on construction with every violation reported at once, read from and written to
TOML. Named presets are starting points for `dataclasses.replace`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from codesign.hw.errors import ConfigError, Violation
from codesign.hw.machine.limits import (
    ADDRESS_BITS,
    BANKS,
    BUS_BYTES,
    DIM,
    LATENCY_CYCLES,
    PARAMETER_ADDRESS_BITS,
    QUEUE_DEPTH,
)
from codesign.hw.machine.memories import ACCUMULATOR, MEMORIES, PARAMETERS, Memory
from codesign.hw.platform.text import nearest, said
from codesign.hw.platform.toml_file import load_toml
from codesign.hw.sizes import parse_size

TECHNOLOGY_NODES_NM = (22, 32, 45)
ALL_FIELDS = "codesign hardware ibert prints all"
LARGEST = 1 << 62  # of any number here
LONGEST_NAME = 200


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class HardwareConfig:
    """One machine. Sizes are bytes, times cycles unless the name says otherwise.

    Raises ConfigError naming every violation when the fields contradict each other.
    """

    name: str = "ibert"
    dim: int = 16  # side of the mesh: dim x dim PEs
    scratchpad_bytes: int = 64 << 10  # int8 rows of dim bytes
    scratchpad_banks: int = 16  # each one read and one write port
    accumulator_bytes: int = 256 << 10  # int32 rows of dim words
    accumulator_banks: int = 8  # each one read and one write port
    parameter_channels: int = 2048  # per-channel bias and scale, or gamma and beta, of the drain
    bus_bytes: int = 16  # one AXI4 beat; one beat per cycle and direction
    dram_latency_cycles: int = 50  # first beat after the request
    load_queue_depth: int = 8
    execute_queue_depth: int = 16
    drain_queue_depth: int = 8
    clock_hz: int = 500_000_000
    technology_nm: int = 22
    normalization: bool = True  # i-GELU, i-softmax, i-LayerNorm, RMSNorm and residual-add units

    def __post_init__(self) -> None:
        violations = list(self._violations())
        if violations:
            raise ConfigError(violations)

    @property
    def scratchpad_rows(self) -> int:
        """Rows of dim int8 values in the scratchpad."""
        return self.scratchpad_bytes // self.dim

    @property
    def scratchpad_bank_rows(self) -> int:
        """Rows in one scratchpad bank."""
        return self.scratchpad_rows // self.scratchpad_banks

    @property
    def accumulator_row_bytes(self) -> int:
        """Bytes of one accumulator row: dim int32 words."""
        return self.dim * ACCUMULATOR.word_bytes

    @property
    def accumulator_rows(self) -> int:
        """Rows of dim int32 words in the accumulator."""
        return self.accumulator_bytes // self.accumulator_row_bytes

    @property
    def accumulator_bank_rows(self) -> int:
        """Rows in one accumulator bank."""
        return self.accumulator_rows // self.accumulator_banks

    @property
    def macs_per_cycle(self) -> int:
        """Peak multiply-accumulates of the mesh in one cycle."""
        return self.dim * self.dim

    def _violations(self) -> Iterator[str]:
        for field in fields(self):
            value = getattr(self, field.name)
            expected = type(field.default)
            if type(value) is not expected:
                kind = "a whole number" if expected is int else f"a {expected.__name__}"
                yield Violation(f"{field.name} is {said(value)} but must be {kind}", field.name)
            elif isinstance(value, int) and abs(value) > LARGEST:
                text = f"{field.name} is {said(value)} but must be at most {LARGEST}"
                yield Violation(text, field.name)
            elif isinstance(value, str) and not (
                value.isprintable() and len(value) <= LONGEST_NAME
            ):
                text = f"{field.name} must be {LONGEST_NAME} printable characters at most"
                yield Violation(text, field.name)
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if type(f.default) is int}
        if any(type(value) is not int or abs(value) > LARGEST for value in numbers.values()):
            return
        if not (_power_of_two(self.dim) and self.dim in DIM):
            yield Violation(f"dim is {self.dim} but must be a power of two {DIM}", "dim")
            return
        for memory in MEMORIES:
            if memory is not PARAMETERS:  # whose addresses are shorter
                yield from self._memory_violations(memory)
        widest = min(BUS_BYTES.most, self.dim * self.dim)
        if not (_power_of_two(self.bus_bytes) and self.bus_bytes <= widest):
            yield Violation(
                f"bus_bytes is {self.bus_bytes} but must be a power of two from 1 to {widest}",
                "bus_bytes",
            )
        most = self.dim << PARAMETER_ADDRESS_BITS
        if self.parameter_channels % self.dim or not 1 <= self.parameter_channels <= most:
            yield Violation(
                f"parameter_channels is {self.parameter_channels} but must be a multiple of dim "
                f"({self.dim}) up to {most}",
                "parameter_channels",
            )
        for unit in ("load", "execute", "drain"):
            depth = numbers[f"{unit}_queue_depth"]
            if depth not in QUEUE_DEPTH:
                name = f"{unit}_queue_depth"
                yield Violation(f"{name} is {depth} but must be {QUEUE_DEPTH}", name)
        if self.dram_latency_cycles not in LATENCY_CYCLES:
            cycles = self.dram_latency_cycles
            text = f"dram_latency_cycles is {cycles} but must be {LATENCY_CYCLES}"
            yield Violation(text, "dram_latency_cycles")
        if self.clock_hz <= 0:
            yield Violation(f"clock_hz is {self.clock_hz} but must be positive", "clock_hz")
        if self.technology_nm not in TECHNOLOGY_NODES_NM:
            text = f"technology_nm is {self.technology_nm} but must be one of 22, 32, 45"
            yield Violation(text, "technology_nm")

    def _memory_violations(self, memory: Memory) -> Iterator[str]:
        size, banks = memory.size_bytes(self), memory.bank_count(self)
        if size == 0 and not memory.addressed:
            return
        if memory.banks is not None and not (_power_of_two(banks) and banks in BANKS):
            yield Violation(
                f"{memory.banks} is {banks} but must be a power of two {BANKS}", memory.banks
            )
            return
        row_bytes = memory.word_bytes * self.dim
        granule = banks * row_bytes
        if size <= 0 or size % granule:
            rows = f"{row_bytes}-byte rows"
            yield Violation(
                f"{memory.size} is {size} but must be {'a positive' if memory.addressed else '0 or a'} multiple of "
                f"{granule} ({rows if memory.banks is None else f'{banks} banks of {rows}'})",
                memory.size,
            )
        elif not memory.addressed:
            return
        elif size // granule < self.dim:
            yield Violation(
                f"{memory.size} is {size} but a bank must hold {self.dim} rows: at least {granule * self.dim}",
                memory.size,
            )
        elif size // row_bytes > 1 << ADDRESS_BITS:
            yield Violation(
                f"{memory.size} is {size} but must be at most {row_bytes << ADDRESS_BITS} "
                f"(addresses reach {1 << ADDRESS_BITS} rows)",
                memory.size,
            )


PRESETS = {
    config.name: config
    for config in (
        HardwareConfig(
            name="gemmini",
            scratchpad_bytes=256 << 10,
            scratchpad_banks=4,
            accumulator_bytes=64 << 10,
            accumulator_banks=2,
            normalization=False,
        ),
        HardwareConfig(name="ibert"),
        HardwareConfig(
            name="edge",
            dim=8,
            scratchpad_bytes=32 << 10,
            scratchpad_banks=8,
            accumulator_bytes=64 << 10,
            bus_bytes=8,
        ),
        HardwareConfig(
            name="large",
            dim=32,
            scratchpad_bytes=256 << 10,
            accumulator_bytes=512 << 10,
            bus_bytes=32,
        ),
    )
}


def preset(name: str) -> HardwareConfig:
    """Return the preset machine called `name`; raises ConfigError with the names that come near."""
    if name not in PRESETS:
        raise ConfigError([f"no preset is called {name!r}: {nearest(name, PRESETS)}"])
    return PRESETS[name]


def from_dict(values: dict[str, Any]) -> HardwareConfig:
    """Return a machine from TOML-like values: an optional `preset`, then fields that replace its own.

    Sizes may be written as text (`"64K"`). Raises ConfigError naming every unknown field and
    every violation together.
    """
    values = dict(values)
    base = preset(str(values.pop("preset", "ibert"))[:LONGEST_NAME])
    known = [field.name for field in fields(HardwareConfig)]
    violations = [
        f"unknown field {name!r}: {nearest(name, known, ALL_FIELDS)}"
        for name in values
        if name not in known
    ]
    overrides = {name: value for name, value in values.items() if name in known}
    name = overrides.get("name")
    if isinstance(name, str) and not name.strip():
        violations.append("name is blank: give one, or leave it out")
    for name, value in overrides.items():
        if name.endswith("_bytes") and isinstance(value, str):
            try:
                overrides[name] = parse_size(value)
            except ValueError as error:
                violations.append(f"{name}: {str(error)[:200]}")
                overrides[name] = getattr(base, name)
    try:
        config = replace(base, **overrides)
    except ConfigError as error:
        violations.extend(error.violations)
    if violations:
        raise ConfigError(violations)
    return config


def from_toml(path: Path) -> HardwareConfig:
    """Read a machine from a TOML file; raises ConfigError for anything wrong in it."""
    try:
        values = load_toml(path)
    except OSError as error:
        raise ConfigError([f"cannot read {path}: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"{path} is not TOML: {error}"]) from error
    try:
        return from_dict(values)
    except ConfigError as error:
        raise ConfigError(error.violations, str(path)) from error


def to_toml(config: HardwareConfig) -> str:
    """Return the machine as TOML text that `from_toml` reads back equal."""
    return tomli_w.dumps(asdict(config))
