"""Tables of `codesign run`: outputs beside the float model's, similarities, kernels on the RTL."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from codesign.compiler.network.rtl_backend import KernelCheck
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.plan.lower import Plan
from codesign.search.checks.verify import distinct
from codesign.search.commands.run_results import Comparison, KernelError
from codesign.search.pricing.breakdown import common_name
from codesign.search.terminal.figures import significant
from codesign.search.terminal.tables import plain_table

LONGEST_INPUT = 40  # characters
NOT_FINITE = "not finite"
ERROR_COLUMNS = 30  # characters of three columns of decibels and the gaps


@dataclass(frozen=True)
class Verdict:
    """What all kernels on the RTL come to."""

    kernels: int
    instructions: int
    cycles: int
    rtl_cycles: int
    kernels_differing: int
    rtl_seconds: float
    wall_seconds: float  # with the functional and the timing model beside it

    @classmethod
    def of(cls, checks: Sequence[KernelCheck], wall_seconds: float, differs: bool) -> "Verdict":
        """Add the checks up; `differs` where a kernel failed before it could be checked."""
        differing = sum(bool(check.agreement.difference) for check in checks)
        return cls(
            kernels=len(checks),
            instructions=sum(check.instructions for check in checks),
            cycles=sum(check.cycles for check in checks),
            rtl_cycles=sum(check.agreement.rtl_cycles for check in checks),
            kernels_differing=max(differing, int(differs)),
            rtl_seconds=sum(check.seconds for check in checks),
            wall_seconds=wall_seconds,
        )

    @property
    def words(self) -> str:
        """In a few lines."""
        differs = self.kernels_differing > 0
        speed = self.rtl_cycles / self.rtl_seconds / 1e3 if self.rtl_seconds else 0.0
        return (
            f"RTL {'differs' if differs else 'agrees'}: {self.kernels} kernels, "
            f"{self.instructions:,} instructions, {self.rtl_cycles:,} cycles, "
            f"{self.kernels_differing or 'no'} differences\n"
            f"{self.rtl_seconds:.1f} s of simulation, {speed:.0f} thousand cycles/s; "
            f"{self.wall_seconds:.1f} s with the two models"
        )


def comparison_table(rows: Sequence[Comparison], width: int) -> RenderableType:
    """Outputs in int8 beside the float model's in onnxruntime."""
    headers = [("input", ""), ("output", ""), ("shape", ""), ("cosine", ""), ("largest", "error"),
               ("SQNR", "dB")]  # fmt: skip
    cells = [
        (
            _short(row.input),
            row.output,
            row.shape,
            "" if row.cosine is None else f"{row.cosine:.4f}",
            NOT_FINITE if row.max_abs_error is None else significant(row.max_abs_error, 3),
            _decibels(row),
        )
        for row in rows
    ]
    return plain_table(headers, cells, "", width, texts=2)


def _decibels(row: Comparison) -> str:
    if row.sqnr_db is None:
        return NOT_FINITE if row.not_finite else ""
    return f"{row.sqnr_db:.1f}"


def similarity_table(
    names: Sequence[str], ours: Array, floats: Array, width: int
) -> RenderableType:
    """Cosines between embeddings, in int8 and in float."""
    headers = [("text", ""), *((str(i + 1), "int8 (float)") for i in range(len(names)))]
    cells = [
        (
            f"{i + 1} {_short(name)}",
            *(f"{a:.3f} ({b:.3f})" for a, b in zip(ours[i], floats[i], strict=True)),
        )
        for i, name in enumerate(names)
    ]
    return plain_table(headers, cells, "Cosine of embeddings", width)


def kernels_table(
    plan: Plan, checks: Sequence[tuple[int, KernelCheck]], width: int
) -> RenderableType:
    """Kernels on the RTL, those of one problem and mapping together."""
    index_of = {id(step): index for index, step in enumerate(plan.steps)}
    rows = []
    for group in distinct(plan):
        members = {index_of[id(step)] for step in group.steps}
        found = [check for _, check in checks if check.index in members]
        if found:
            rows.append(_kernel_row(found))
    headers = [("kernel", ""), ("count", ""), ("instr.", "each"), ("cycles", "timing"),
               ("cycles", "RTL"), ("times", "differ"), ("bytes", "differ"), ("counts", "differ")]  # fmt: skip
    return plain_table(headers, rows, "Kernels on the RTL", width)


def error_table(errors: Sequence[KernelError], width: int) -> RenderableType:
    """The errors of kernels in the order given, with what mends them where they matter."""
    headers = [("kernel", ""), ("outputs", "dB"), ("along", "dB"), ("alone", "dB"), ("remedy", "")]
    room = max(20, width - max(len(e.kernel) for e in errors) - ERROR_COLUMNS)
    widest = min(room, max(len(e.remedy) for e in errors))

    def decibels(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    cells = [
        (
            e.kernel,
            *map(decibels, (e.effect_db, e.accumulated_db, e.own_db)),
            _short(e.remedy, room).ljust(widest),
        )
        for e in errors
    ]
    title = "Signal to error of every kernel: on the outputs, along the run, alone"
    return plain_table(headers, cells, title, width)


def _kernel_row(found: Sequence[KernelCheck]) -> list[str]:
    """Equal kernels: the cycles of each, the differences of all."""
    agreements = [check.agreement for check in found]
    worst = max(agreements, key=lambda one: abs(one.rtl_cycles - found[0].cycles))
    name = common_name(list(dict.fromkeys(check.name for check in found)))
    numbers = (len(found), found[0].instructions, found[0].cycles, worst.rtl_cycles)
    differing = (
        sum(getattr(one, f"{what}_differing") for one in agreements)
        for what in ("times", "bytes", "counts")
    )
    return [name, f"{numbers[0]}×", *(f"{n:,}" for n in (*numbers[1:], *differing))]


def _short(text: str, longest: int = LONGEST_INPUT) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
