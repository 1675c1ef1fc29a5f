"""YAML from outside, within bounds: aliases may stand for more than memory holds.

A file of some hundred bytes can name itself a billion times over ("billion laughs"). What it comes to is
counted on its events, without recursion, before anything is built.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from codesign.hw.errors import TableError

MOST_BYTES = 4 << 20
MOST_NODES = 200_000  # with every alias expanded
MOST_DEPTH = 32

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some ten times faster


class _Loader(_SafeLoader):  # type: ignore[misc]
    """A safe loader that reads 1e-12 as a number, as YAML 1.2 does; to YAML 1.1 it is text."""


_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: Path) -> Any:
    """Return the one document of a file. Raises TableError where it is no YAML or beyond the bounds."""
    if path.stat().st_size > MOST_BYTES:
        raise TableError(f"{path} is larger than {MOST_BYTES >> 20} MiB: that is no table of costs")
    try:
        text = path.read_text(encoding="utf-8")
        _require_bounds(text, path)
        return yaml.load(text, Loader=_Loader)  # a safe one
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not YAML: it is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise TableError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _require_bounds(text: str, path: Path) -> None:
    """Raise TableError for more nodes or depth than is read."""
    sizes: dict[str, int] = {}  # nodes below each anchor
    open_nodes: list[
        tuple[str | None, int]
    ] = []  # anchors of what is open, and the count before it
    count = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(str(event.anchor), MOST_NODES)  # within itself: without end
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: count - before} if anchor else {}
        if count > MOST_NODES:
            raise TableError(
                f"{path} comes to more than {MOST_NODES:,} nodes: write it without aliases"
            )
        if len(open_nodes) > MOST_DEPTH:
            raise TableError(
                f"{path} is nested deeper than {MOST_DEPTH}: that is no table of costs"
            )
