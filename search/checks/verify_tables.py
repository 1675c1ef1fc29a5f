"""The table of kernels held against the machine."""

from collections.abc import Sequence

from rich.console import RenderableType

from codesign.search.checks.verify import Checked, Summary
from codesign.search.terminal.figures import prefix, significant
from codesign.search.terminal.tables import Column, fit, short_names, with_notes


def verification_table(
    results: Sequence[Checked], total: Summary, title: str, width: int
) -> RenderableType:
    """Return the checked kernels with what was found, and below them what it comes to."""
    checks = [result.check for result in results]

    def counts(field: str) -> list[str]:
        values = [getattr(check, field) for check in checks]
        return ["" if value is None else f"{value:,}" for value in values]

    short = short_names([check.name for check in checks], width)
    names = [f"{name}, …" if c.also else name for name, c in zip(short, checks, strict=True)]
    speeds = [result.kcycles_per_s for result in results]
    columns = [
        Column("kernel", "", names, left=True),
        Column("shape", "", ["host" if c.on_host else c.shape for c in checks], 2, left=True),
        Column("count", "", [f"{check.count}×" for check in checks], 1),
        Column("instr.", "", counts("instructions"), 3),
        Column("cycles", "timing", counts("cycles")),
    ]
    if total.backend == "rtl":
        columns.append(Column("cycles", "RTL", counts("rtl_cycles")))
        columns.append(Column("times", "differ", counts("times_differing")))
        columns.append(Column("bytes", "differ", counts("bytes_differing")))
        columns.append(Column("counts", "differ", counts("counts_differing")))
    columns.append(
        Column("speed", "kcycles/s", ["" if s is None else f"{s:,.0f}" for s in speeds], 4)
    )
    styles = ["bold red" if c.difference else "dim" if c.on_host else "" for c in checks]
    return with_notes(fit(columns, title, width, styles), _verdict(total))


def _verdict(total: Summary) -> list[str]:
    """What all checks come to, in plain words."""
    if not total.kernels:
        return ["no kernel was checked"]
    agrees = "differs" if total.differing else "agrees"
    found = f"{total.differing} of them differ" if total.differing else "0 differences"
    factor, si = prefix([total.cycles])
    cycles = f"{significant(total.cycles * factor, 3)} {si}".rstrip()
    kernels = "1 kernel" if total.kernels == 1 else f"{total.kernels:,} kernels"
    ran = f"{kernels}, {total.instructions:,} instructions, {cycles} cycles"
    lines = [f"{total.view} {agrees}: {ran}, {found}"]
    if total.network_cycles is not None:
        host = f", {total.host_cycles:,} of them on the host, where nothing is checked"
        network = f"{total.network_kernels:,} kernels, {total.network_cycles:,} cycles"
        lines.append(f"the network: {network}{host if total.host_cycles else ''}")
    return lines
