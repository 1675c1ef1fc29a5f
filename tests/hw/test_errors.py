"""The tree of errors in hw/errors.py is all of them, where it says, and presets name their likes."""

import importlib
import pkgutil
import re

import pytest

import codesign.compiler
import codesign.hw
import codesign.models
import codesign.search
from codesign.hw import errors
from codesign.hw.errors import CodesignError, ConfigError
from codesign.hw.machine.config import PRESETS, from_dict, preset

LAYERS = (codesign.hw, codesign.compiler, codesign.models, codesign.search)


def _below(error: type[CodesignError]) -> dict[str, type[CodesignError]]:
    found: dict[str, type[CodesignError]] = {}
    for child in error.__subclasses__():
        found |= {child.__name__: child, **_below(child)}
    return found


def test_the_tree_lists_every_error_and_nothing_else() -> None:
    for layer in LAYERS:
        for module in pkgutil.walk_packages(layer.__path__, f"{layer.__name__}."):
            if not module.name.rpartition(".")[2].startswith("_"):
                try:
                    importlib.import_module(module.name)
                except ModuleNotFoundError as error:
                    assert error.name == "torch", module.name  # of an extra
    defined = {
        n: e for n, e in _below(CodesignError).items() if e.__module__.startswith("codesign")
    }
    assert errors.__doc__ is not None
    listed = re.findall(r"^ +[│ ]*[├└]── (\w+) +(.*)$", errors.__doc__, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(defined)
    for name, text in listed:
        home = defined[name].__module__.removeprefix("codesign.").replace(".", "/") + ".py"
        place = re.search(r"(?:defined in )?(\w+(?:/\w+)+\.py)", text)
        assert (place[1] if place else "hw/errors.py") == home


def test_an_unknown_preset_names_the_nearest_or_all() -> None:
    with pytest.raises(ConfigError, match="'gemini': did you mean gemmini\\?"):
        preset("gemini")
    with pytest.raises(ConfigError, match="'tpu': choose from " + ", ".join(PRESETS)):
        preset("tpu")
    with pytest.raises(ConfigError, match="did you mean large\\?"):
        from_dict({"preset": "larg"})
