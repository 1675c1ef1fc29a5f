"""Tables for people: columns with units, as many as a terminal has room for; pipes get all of them.

Each column says its unit under its name. Where a terminal is too narrow the columns that matter least
are left out; pipes, files and `--json` have all of them.
"""

import codecs
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.box import Box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from codesign.hw.platform.text import printable

# A rule below the header and above totals, nothing else.
_BOX = Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
_ASCII = {"µ": "u", "·": "*", "²": "2", "³": "3", "×": "x", "–": "-", "─": "-", "…": "~", "★": "*",
          "█": "#"}  # fmt: skip
_ENDLESS = 10_000  # columns of output that is no terminal: nothing is left out


@dataclass(frozen=True)
class Column:
    """A column: its name, its unit, its cells, and how readily it goes where room is short."""

    name: str
    unit: str
    cells: Sequence[str]
    rank: int = 0  # the highest go first where room is short
    left: bool = False


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the encoding of an output does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("codesign.ascii", _spelled)


class _Console(Console):
    """A console on which names and other text from outside can only be read."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, with what is not printable escaped."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=printable(segment.text, keep="\n"))


class _Piped(_Console):
    """A console whose output is read by programs: no line ends in spaces."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as a Console does."""
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def console(stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that prints names as they are, endlessly wide where it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = terminal_width(stream) if width is None else width
    kind = _Piped if width is None else _Console
    # Rich would read [brackets] in the names of ONNX nodes as its own markup.
    made = kind(stderr=stderr, width=width or _ENDLESS, highlight=False, markup=False, emoji=False)
    if hasattr(made.file, "reconfigure"):
        made.file.reconfigure(errors="codesign.ascii")
    return made


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that `stream` writes to; None where it is no terminal."""
    return Console(file=stream).width if stream.isatty() else None


def plain_table(
    headers: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    title: str,
    width: int,
    texts: int = 1,
) -> RenderableType:
    """Return a table of ready cells; headers are (name, unit), the first `texts` columns are text."""
    columns = [
        Column(name, unit, [row[i] for row in rows], rank=i, left=i < texts)
        for i, (name, unit) in enumerate(headers)
    ]
    return fit(columns, title, width, [""] * len(rows))


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Without the operator type that exporters append, where the rest still tells them apart.

    Two fifths of the width are all that a name gets.
    """
    longest = 2 * width // 5
    short = [re.sub(r"/[A-Z][A-Za-z]*$", "", name) for name in names]
    kept = [s if short.count(s) == 1 and s else n for s, n in zip(short, names, strict=True)]
    half = longest // 2
    return [n if len(n) <= longest else f"{n[: half - 1]}…{n[-half:]}" for n in kept]


def fit(
    columns: Sequence[Column], title: str, width: int, styles: Sequence[str], total: bool = False
) -> Table:
    """Build the table from the columns that `width` has room for; closer together, then fewer.

    With `total` the last row is set off. What is left out is said below the table.
    """
    kept = list(columns)
    probe = console(width=10_000)
    while True:
        for gap in (1, 0):
            table = _build(kept, styles, total, gap)
            if Measurement.get(probe, probe.options, table).maximum <= width:
                break
        droppable = [column for column in kept if column.rank]
        if Measurement.get(probe, probe.options, table).maximum <= width or not droppable:
            table.title = title
            out = [column.name for column in columns if column not in kept]
            if out:
                table.caption = f"no room for {', '.join(out)}: widen the terminal, or take --json"
            return table
        kept.remove(max(droppable, key=lambda column: column.rank))


def _build(columns: Sequence[Column], styles: Sequence[str], total: bool, gap: int) -> Table:
    table = Table(
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="dim",
        box=_BOX,
        show_edge=False,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        header_style="bold",
        border_style="dim",
    )
    units = any(column.unit for column in columns)
    for column in columns:
        header = Text(column.name)
        if units:
            header.append(f"\n{column.unit}", style="dim")
        table.add_column(
            header, justify="left" if column.left else "right", no_wrap=True, overflow="ellipsis"
        )
    for index, style in enumerate(styles):
        if total and index == len(styles) - 1:
            table.add_section()
        table.add_row(*(column.cells[index] for column in columns), style=style)
    return table


def with_notes(table: Table, notes: Sequence[str]) -> RenderableType:
    """Return the table with lines below it."""
    return Group(table, *(Text(note, style="dim") for note in notes))
