"""Between what an ONNX file may say and what the importer expects of it: one net under all steps.

Steps of the import state the true reason of what they refuse. Whatever else goes wrong while one reads
a node (an attribute of another type, an input too few, extents that contradict) is the file's, and
becomes one line that names the node and the file; `--debug` shows where it came from.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from codesign.compiler.onnx_shapes import UnknownShape
from codesign.hw import text
from codesign.hw.errors import CodesignError, ModelError

_REMEDY = "the file is damaged or has a form unknown here: export it again (--debug shows more)"


class Unreadable(ModelError):
    """A place of a model (a file, a node) that has no meaning, or that no step of the import foresees."""

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(f"{place} cannot be read ({reason}): {_REMEDY}")


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn foreign exceptions of the block into Unreadable, which names `place`.

    Errors of codesign's own pass, an Unreadable from within with `place` before its own.
    """
    try:
        yield
    except Unreadable as error:
        if error.place == place:
            raise
        raise Unreadable(f"{place}: {error.place}", error.reason) from error.__cause__
    except CodesignError:
        raise
    except Exception as error:
        raise Unreadable(place, reason(error)) from error


def node_place(op_type: str, name: str) -> str:
    """What messages call a node."""
    return f"node {op_type} {name!r}"


def reason(error: BaseException) -> str:
    """What an exception says, in a part of a line."""
    if isinstance(error, UnicodeDecodeError):
        return "a name is not UTF-8"
    if isinstance(error, onnx.checker.ValidationError | UnknownShape):
        return " ".join(str(error).split())[:200]
    return text.reason(error)
