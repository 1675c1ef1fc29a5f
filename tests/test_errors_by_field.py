"""Code asks errors for their fields, never for their words: those are for people."""

import ast

import pytest
from import_graph import modules

_ASKS = {"startswith", "endswith", "find", "index", "match", "search"}


def _by_words(source: str) -> list[int]:
    """Lines where something is decided by the text of what was caught, or of what it holds."""
    found = []
    for handler in ast.walk(ast.parse(source)):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        for node in ast.walk(handler):
            if isinstance(node, ast.Compare):
                asked: list[ast.AST] = [node.left, *node.comparators]
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _ASKS:
                asked = [node.func, *node.args]
            else:
                continue
            if any(_is_text(one, handler.name) for part in asked for one in ast.walk(part)):
                found.append(node.lineno)
    return found


def _is_text(node: ast.AST, name: str) -> bool:
    """Whether it is str(error), repr(error), or error.args."""
    if isinstance(node, ast.Attribute):
        return node.attr == "args" and isinstance(node.value, ast.Name) and node.value.id == name
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("str", "repr")
        and any(isinstance(one, ast.Name) and one.id == name for one in node.args)
    )


@pytest.mark.parametrize("module", modules())
def test_nothing_is_decided_by_the_words_of_an_error(module: str) -> None:
    assert _by_words(modules()[module].read_text(encoding="utf-8")) == []


def test_words_are_seen_in_every_form() -> None:
    """The check itself."""
    for asked in (
        "'x' in str(e)", "str(e) == 'x'", "str(e).startswith('x')", "re.match('x', repr(e))",
        "e.args[0] == 'x'", "'x' not in ' '.join(str(e).split())",
    ):  # fmt: skip
        assert _by_words(f"try: f()\nexcept E as e:\n    g({asked})"), asked
    for said in ("raise F(str(e))", "g(f'{e}')", "e.field == 'x'", "short = str(e)[:9]"):
        assert not _by_words(f"try: f()\nexcept E as e:\n    {said}"), said
