"""One word, one thing: no public name means two things in two modules of the product.

Public is what another module of the product uses, or the Python interface gives. Two names of types
that stand for the same are one thing; so are the names of `ONE_THING`, each for its reason.
"""

import ast
from collections import defaultdict
from functools import cache

from import_graph import ROOT, modules

import codesign

COMMAND = "a command, the Python function of its name, and what both of them call"
ONE_THING = {
    "export": COMMAND,
    "kernels": COMMAND,
    "load_model": COMMAND,
    "run": COMMAND,
    "search": COMMAND,
    "sweep": COMMAND,
    "train": COMMAND,
    "verify": COMMAND,
    "package": "each module of tables writes its own in SystemVerilog by it",
    "register": "each module of commands adds its own to the command line by it",
    "ceil_div": "a quotient rounded up, of numbers and of arrays",
}


def _definitions(tree: ast.Module) -> dict[str, str]:
    """What a module defines by name, public in form: an alias as what it stands for, else ""."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ""
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _alias(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _alias(node.value)
    return {name: alias for name, alias in found.items() if not name.startswith("_")}


def _alias(value: ast.expr | None) -> str:
    """The type that an alias stands for; "" where it is none."""
    text = "" if value is None else ast.unparse(value)
    text = text.replace("np.ndarray[Any, Any]", "npt.NDArray[Any]")
    return text if text.startswith(("npt.NDArray[", "tuple[")) else ""


def _used(tree: ast.Module) -> set[tuple[str, str]]:
    """Module and name of all that a module uses of others: imported, or by `module.name`."""
    found, names = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                found.add((node.module, one.name))
                names[one.asname or one.name] = f"{node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            names |= {one.asname: one.name for one in node.names if one.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add((names.get(node.value.id, ""), node.attr))
    return found


@cache
def _public() -> dict[str, dict[str, str]]:
    """Every public name: the modules that define it, with the alias that it is there."""
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules().items()}
    package = ast.parse((ROOT / "search" / "package" / "__init__.py").read_text(encoding="utf-8"))
    used = {one for tree in (*trees.values(), package) for one in _used(tree)}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for module, tree in trees.items():
        for name, alias in _definitions(tree).items():
            if (module, name) in used or "/cli/" in str(modules()[module]):
                found[name][module] = alias
    return found


def test_no_public_name_means_two_things() -> None:
    double = {
        name: sorted(where)
        for name, where in _public().items()
        if len(where) > 1 and name not in ONE_THING and not _one_type(where)
    }
    assert double == {}


def _one_type(where: dict[str, str]) -> bool:
    return len(set(where.values())) == 1 and "" not in where.values()


def test_what_is_said_to_be_one_thing_is_in_several_modules() -> None:
    assert {name for name in ONE_THING if len(_public().get(name, ())) < 2} == set()


def test_names_are_seen_in_every_form() -> None:
    """The check itself."""
    source = "class A: ...\nB: int = 1\nC = D = npt.NDArray[Any]\ndef e(): ...\n_F = 1\n"
    assert _definitions(ast.parse(source)) == {
        "A": "", "B": "", "C": "npt.NDArray[Any]", "D": "npt.NDArray[Any]", "e": ""
    }  # fmt: skip
    source = "import a.b as c\nfrom d import e as f\nfrom g import h\nc.x(f.y, h.z)"
    assert {("a.b", "x"), ("d", "e"), ("d.e", "y"), ("g.h", "z")} <= _used(ast.parse(source))
    assert set(codesign.__all__) <= set(_public())
