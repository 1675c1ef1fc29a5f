"""A group of commands as click makes it, but for two things: summaries are whole, exceptions are ours.

click cuts the summary of a command to the width of a line, and turns an interrupt or a reader that has
gone into an exit of its own, without what the exception says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

WHOLE = 1_000  # characters of a summary: its first sentence, however long


class Escaped(Exception):
    """Carries an exception past click's own handling of it, as `__cause__`."""


class CommandGroup(click.Group):
    """The group that `codesign` and its subgroups are."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole summaries."""
        names = self.list_commands(ctx)
        commands = [(name, self.get_command(ctx, name)) for name in names]
        rows = [(name, c.get_short_help_str(WHOLE)) for name, c in commands if c and not c.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse, with exceptions as they are."""
        with _escaping():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with exceptions as they are."""
        with _escaping():
            return super().invoke(ctx)


@contextmanager
def _escaping() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, EOFError, OSError) as error:
        raise Escaped from error
