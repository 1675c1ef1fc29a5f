"""The Python interface: arguments as callers give them, read into what they stand for.

What numpy or pathlib stand for a value with is that value; everything else that is not of the kind asked
for is an ArgumentError, which names the argument, what was given and what is wanted, before any work
starts. Whether a value of the right kind is one that the machine or the model can have is said where it is
used.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.platform.text import printable, said

Named = str | PathLike[str]
Feed = Mapping[str, npt.ArrayLike]  # the inputs of a model by name
Kind = TypeVar("Kind")


class ArgumentError(CodesignError):
    """An argument of the Python interface of another kind than it takes."""


def refused(name: str, value: object, wanted: str) -> ArgumentError:
    """The error of an argument: its name, what was given, what is wanted."""
    return ArgumentError(f"{name} is {_shown(value)} but must be {wanted}")


def whole(name: str, value: SupportsIndex, least: int | None = None) -> int:
    """A whole number, of Python or numpy, not below `least`. Raises ArgumentError."""
    wanted = "a whole number" if least is None else f"a whole number, {least} or more"
    try:
        number = operator.index(value)
    except TypeError:
        raise refused(name, value, wanted) from None
    if isinstance(value, bool) or (least is not None and number < least):
        raise refused(name, value, wanted)
    return number


def optional_whole(name: str, value: SupportsIndex | None, least: int) -> int | None:
    """A whole number as `whole` reads it, or None."""
    return None if value is None else whole(name, value, least)


def given_extents(name: str, value: Mapping[str, SupportsIndex] | None) -> dict[str, int]:
    """Extents of dimensions by their names; None is none of them. Raises ArgumentError."""
    given = {} if value is None else named(name, value, "dimensions with their extents")
    return {each: whole(f"{name}[{each!r}]", extent, 0) for each, extent in given.items()}


def choice(name: str, value: str, known: Iterable[str]) -> str:
    """One of some words. Raises ArgumentError."""
    words = list(known)
    if not isinstance(value, str) or value not in words:
        raise refused(name, value, f"one of {', '.join(words)}")
    return value


def place(name: str, value: Named, wanted: str) -> str:
    """The text of a name or a path. Raises ArgumentError."""
    text = fspath(value) if isinstance(value, PathLike) else value
    if not isinstance(text, str) or "\0" in text:
        raise refused(name, value, wanted)
    return text


def of_kind(
    name: str, value: object, kind: type[Kind] | tuple[type[Kind], ...], wanted: str
) -> Kind:
    """What is of a kind already. Raises ArgumentError."""
    if not isinstance(value, kind):
        raise refused(name, value, wanted)
    return value


def named(name: str, value: object, wanted: str) -> Mapping[str, Any]:
    """Things by name. Raises ArgumentError."""
    if not isinstance(value, Mapping):
        raise refused(name, value, f"a dictionary of {wanted}")
    for key in value:
        if not isinstance(key, str):
            raise ArgumentError(f"{name} has the key {_shown(key)} but keys must be names, as text")
    return value


def collected(name: str, value: object, wanted: str) -> list[Any]:
    """The things of an iterable that is neither text nor a dictionary. Raises ArgumentError."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise refused(name, value, wanted)
    try:
        return list(value)
    except TypeError:  # an array without an axis
        raise refused(name, value, wanted) from None


def numbers(name: str, value: object, parse: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
    """One whole number or several, in text as `parse` reads it. Raises ArgumentError."""
    if isinstance(value, str):
        try:
            return tuple(parse(value))
        except ValueError as error:
            raise ArgumentError(f"{name}: {printable(str(error))}") from None
    if isinstance(value, SupportsIndex) and not isinstance(value, np.ndarray):
        return (whole(name, value),)
    found: list[int] = []
    for number in collected(name, value, "whole numbers, or text such as '16K:512K:x2'"):
        found += numbers(name, number, parse) if isinstance(number, str) else [whole(name, number)]
    if not found:
        raise ArgumentError(f"{name} has no value: give at least one, or leave it out")
    return tuple(found)


def feeds(
    where: str,
    value: object,
    types: Mapping[str, npt.DTypeLike],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, npt.NDArray[Any]]:
    """The inputs of a model by name as arrays of its own types, which hold the same numbers; floats
    are rounded to the model's. Raises ArgumentError.

    `types` are of all inputs, `shapes` of those that have one.
    """
    given = named(where, value, "the model's inputs by name, as arrays")
    expected = ", ".join(map(repr, types)) or "none"
    for key in given:
        if key not in types:
            raise ArgumentError(f"{where}: the model has no input {key!r}: it has {expected}")
    lacking = [key for key in types if key not in given]
    if lacking:
        raise ArgumentError(f"{where}: input {lacking[0]!r} is missing: the model has {expected}")
    return {
        key: _array(f"{where}: input {key!r}", given[key], np.dtype(dtype), shapes.get(key))
        for key, dtype in types.items()
    }


def _array(
    name: str, value: npt.ArrayLike, dtype: np.dtype[Any], shape: tuple[int, ...] | None
) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths
        raise refused(name, value, f"an array of {dtype}") from None
    if array.dtype.kind not in "biuf" and array.dtype.name != dtype.name:
        if isinstance(value, np.ndarray):
            raise ArgumentError(f"{name} holds {array.dtype} but must be an array of {dtype}")
        raise refused(name, value, f"an array of {dtype}")
    if shape is not None and array.shape != shape:
        raise ArgumentError(
            f"{name} is {list(array.shape)} but the network is compiled for {list(shape)}: pad or "
            "cut it, or compile for its shape"
        )
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):  # said in the next lines
        own = array.astype(dtype)
        integers = dtype.kind in "biu" or array.dtype.kind in "biu"
        changed = own != array if integers else np.isinf(own) & ~np.isinf(array)
    if changed.any():
        raise ArgumentError(
            f"{name} holds {array.dtype} that the model's {dtype} does not: round it"
        )
    return own


def _shown(value: object) -> str:
    """What was given: a value that is short, else its kind."""
    if value is None or isinstance(value, str | bool | int | float | np.generic):
        return printable(said(value))
    kind = type(value).__name__
    return f"the class {value.__name__}" if isinstance(value, type) else _with_article(kind)


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "AEIOaeio" else f"a {kind}"


MACHINE = "a HardwareConfig, the name of a preset or a TOML file"


def not_a_machine(name: str, value: object) -> ArgumentError:
    """The error of an argument that is no machine."""
    return refused(name, value, MACHINE)


def not_a_model(value: object) -> ArgumentError:
    """The error of an argument that is no model."""
    behind = "; the machine comes after it" if isinstance(value, HardwareConfig) else ""
    wanted = "a Model, an ONNX file or the name of a built-in model"
    return refused("model", value, wanted + behind)
