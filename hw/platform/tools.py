"""Tools that are run and say something."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def said_by(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
) -> tuple[int, list[str]]:
    """Run a tool on `text` as its input; return its exit status and the lines that it printed, no
    empty ones.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, [line for line in done.stdout.splitlines() if line.strip()]
