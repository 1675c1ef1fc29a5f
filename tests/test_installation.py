"""The remedy for a missing part works from where codesign was installed."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from codesign.hw.installation import install_command


class _Distribution:
    def __init__(self, recorded: str | None) -> None:
        self.recorded = recorded

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.recorded


def _installed_from(monkeypatch: pytest.MonkeyPatch, origin: Any) -> None:
    text = origin if origin is None or isinstance(origin, str) else json.dumps(origin)
    monkeypatch.setattr(metadata, "distribution", lambda name: _Distribution(text))


@pytest.mark.parametrize(("editable", "option"), [(True, "-e "), (False, "")])
def test_a_clone_is_named_from_inside_and_from_elsewhere(
    editable: bool, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    _installed_from(
        monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": True} if editable else {}}
    )
    assert install_command("rtl") == f"pip install {option}'{clone}[rtl]'"
    monkeypatch.chdir(clone)
    assert install_command("rtl") == f"pip install {option}'.[rtl]'"


def test_a_clone_that_is_gone_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed_from(monkeypatch, {"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert install_command("run") == "pip install '.[run]' in a clone of codesign"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'codesign[run]'"),
        ("no JSON", "pip install 'codesign[run]'"),
        ("[]", "pip install 'codesign[run]'"),
        (
            {"url": "file:///tmp/codesign-1-py3-none-any.whl", "archive_info": {}},
            "pip install 'codesign[run] @ file:///tmp/codesign-1-py3-none-any.whl'",
        ),
        (
            {"url": "https://host/c.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'codesign[run] @ git+https://host/c.git@abc'",
        ),
    ],
)
def test_an_index_an_archive_and_a_repository(
    origin: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed_from(monkeypatch, origin)
    assert install_command("run") == command
