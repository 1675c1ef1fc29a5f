"""The remedy for a missing part works from where codesign was installed."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from codesign.compiler.onnx.float_model import FloatModel
from codesign.hw.errors import ModelError
from codesign.hw.platform.installation import install_command
from codesign.search.cli import app


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


@pytest.mark.parametrize(
    "command", [["run", "m.onnx", "--backend", "integers"], ["compile", "m.onnx", "-o", "out"]]
)
def test_running_without_onnxruntime(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(_product(), "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert app.main(command) == app.BAD_INPUT
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("codesign: error: running a float model needs onnxruntime: pip install")
    assert not (tmp_path / "out").exists()


def test_an_onnxruntime_that_is_broken_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise OSError('libgomp.so.1 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(ModelError, match=r"cannot be imported \(OSError: libgomp.*\): pip install"):
        FloatModel(_product()).part(["x"], ["y"])


def test_a_package_that_codesign_needs_is_named_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "q.parquet").write_bytes(b"PAR1")
    assert app.main(["search", "--quality", "q.parquet", "--budget", "8"]) == app.BAD_INPUT
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("codesign: error: codesign needs pyarrow, which cannot be imported")


def _product() -> onnx.ModelProto:
    """A network of one product."""
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = onnx.numpy_helper.from_array(np.eye(16, dtype=np.float32), "w")
    ends = [value("x", 1, [1, 8, 16])], [value("y", 1, None)]
    graph = onnx.helper.make_graph(nodes, "g", *ends, [weights])
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10
    )
