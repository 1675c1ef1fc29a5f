"""Between what an ONNX file may say and what the importer expects of it: one net under all steps.

Steps of the import state the true reason of what they refuse. Whatever else goes wrong while one reads
a node (an attribute of another type, an input too few, extents that contradict) is the file's, and
becomes one line that names the node, what it holds, and the file; `--debug` shows where it came from.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx

from codesign.compiler.onnx.shapes import Shape, TooLarge, UnknownShape
from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.platform import text

SIZE_REMEDY = "give less with --seq, --batch or --bind, where these make them so"
FILE_REMEDY = "the file is damaged or has a form unknown here: export it again (--debug shows more)"
# What Python raises where a file holds something else than is expected: its words are of our code.
_SURPRISES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_LONGEST_FORM = 160  # characters of what a node holds
_MOST_ENCLOSING = 6  # nodes that are named around one in a branch


class Unreadable(ModelError):
    """A place of a model (a file, a node) that has no meaning, or that no step of the import foresees."""

    def __init__(self, place: str, reason: str, remedy: str = FILE_REMEDY) -> None:
        self.place, self.reason, self.remedy = place, reason, remedy
        super().__init__(f"{place} cannot be read ({reason}): {remedy}")


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn foreign exceptions of the block into Unreadable, which names `place`.

    Errors of codesign's own pass, an Unreadable from within with `place` before its own.
    """
    try:
        yield
    except Unreadable as error:
        if error.place == place or error.place.startswith(f"{place}: "):
            raise
        raise Unreadable(f"{place}: {error.place}", error.reason, error.remedy) from error.__cause__
    except CodesignError:
        raise
    except Exception as error:
        remedy = SIZE_REMEDY if isinstance(error, TooLarge) else FILE_REMEDY
        raise Unreadable(place, file_reason(error), remedy) from error


def require_element_type(place: str, number: int) -> None:
    """Raise Unreadable for a number that is none of ONNX's types of elements."""
    if number not in onnx.TensorProto.DataType.values() or number == onnx.TensorProto.UNDEFINED:
        raise Unreadable(place, f"its element type {number} is none that ONNX knows")


@contextmanager
def reading_node(place: str, held: Callable[[], str]) -> Iterator[None]:
    """As `reading`, of a node that holds what `held` says.

    An Unreadable from within passes: it is of this node, or of one in its branches, which says the way.
    """
    try:
        yield
    except CodesignError:
        raise
    except _SURPRISES as error:
        if isinstance(error, UnicodeDecodeError):
            raise Unreadable(place, file_reason(error)) from error
        raise Unreadable(place, held()) from error
    except Exception as error:
        raise Unreadable(place, file_reason(error)) from error


def node_place(op_type: str, name: str, enclosing: Sequence[str] = ()) -> str:
    """What messages call a node; `enclosing` are the names of the nodes whose branches it is in."""
    place = f"node {op_type} {text.short(name)!r}"
    if not enclosing:
        return place
    names = [repr(text.short(outer)) for outer in enclosing]
    if len(names) > _MOST_ENCLOSING:
        names[_MOST_ENCLOSING // 2 : -_MOST_ENCLOSING // 2] = ["…"]
    return f"{place} in {' > '.join(names)}"


def held_by(op_type: str, shapes: Iterable[Shape], attributes: Mapping[str, Any]) -> str:
    """What a node holds that no form of its operator here has, in a part of a line."""
    extents = ["x".join(map(str, shape)) or "one number" for shape in shapes]
    settings = [
        f"{name}={value}"
        for name, value in attributes.items()
        if isinstance(value, int | float | str | list)
    ]
    parts = [f"inputs ({', '.join(extents)})"] if extents else []
    parts += [f"attributes ({', '.join(settings)})"] if settings else []
    words = " and ".join(parts)
    words = text.short(words, _LONGEST_FORM)
    return text.printable(f"no form of {op_type} that is known has its {words or 'outputs'}")


def file_reason(error: BaseException) -> str:
    """What an exception says, in a part of a line."""
    if isinstance(error, UnicodeDecodeError):
        return "a name is not UTF-8"
    if isinstance(error, onnx.checker.ValidationError | UnknownShape):
        return " ".join(str(error).split())[:200]
    asserted = re.fullmatch(r"\S+:\d+: \w+: Assertion `.*?` failed: (.*)", str(error), re.DOTALL)
    if asserted is not None:  # of ONNX's own code: what it means is behind it
        return text.printable(" ".join(asserted[1].split())[:200])
    return text.reason(error)
