"""Text from outside (names in files, paths, other programs' errors) on its way to a terminal or table.

What is not printable - escapes of terminals, marks that turn the direction of writing, bytes of a path
that are no UTF-8 - is written as Python would write it in a string: `\\x1b`, `\\u202e`, `\\udcff`.
"""

from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def printable(text: str, keep: str = "") -> str:
    """Return `text` with every character that is not printable escaped, except those of `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """What an exception of another package says, in a part of a line."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    words = " ".join(str(error).split())
    if words.startswith("Exceeds the limit (4300 digits)"):  # of Python's integers
        return "it has a number of thousands of digits"
    words = short(words, 160)
    if type(error) is ValueError and words:  # its words are enough
        return printable(words)
    return printable(f"{type(error).__name__}: {words}" if words else type(error).__name__)


def short(text: str, most: int = 80) -> str:
    """Return `text`, cut where it is longer than a line can hold."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, known: Iterable[str], others: str = "", *, most: int = 1) -> str:
    """Say which of the `known` names one that is none of them may mean, `most` at most; where none comes
    near, all of them, or what `others` says.
    """
    import difflib

    known = list(known)
    near = difflib.get_close_matches(name, known, n=most)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return others or "choose from " + ", ".join(known)


def said(value: object) -> str:
    """Return a value of a document in a message, short."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"of type {type(value).__name__}"
    return short(text, 40)


def csv_cell(text: str) -> str:
    """Return `text` as a CSV cell that no spreadsheet takes for a formula.

    An apostrophe in front is what spreadsheets themselves mark text with; text that begins with one
    gets another, so that the first apostrophe of a cell is never the text's own.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
