"""The tree in which toy extensions run: what it refuses, and that it is a copy."""

from pathlib import Path

import extension_tree
import pytest
from extension_tree import Extension, files_named

SIZES = "hw/sizes.py"


def first_line(name: str) -> str:
    return (extension_tree.ROOT / name).read_text(encoding="utf-8").splitlines()[0]


def test_the_copy_runs_with_what_was_inserted_and_the_product_stays(tmp_path: Path) -> None:
    toy = Extension({SIZES: [(first_line(SIZES), "TOY = 7\n")]}, {"hw/toy.py": "ANSWER = 6 * 7\n"})
    assert toy.touched == {SIZES, "hw/toy.py"}
    tree = toy.applied(tmp_path)
    said = tree.python(
        "import codesign.hw.sizes, codesign.hw.toy\n"
        "from codesign.hw.simulation.sources import RTL\n"
        "from codesign.hw.views.fast_timing import library_path\n"
        "print(codesign.hw.sizes.TOY, codesign.hw.toy.ANSWER, RTL, library_path())\n"
    ).split()
    assert said[:3] == ["7", "42", str(tree.path("hw/rtl"))]
    assert Path(said[3]).parent == tree.path("hw/views")
    assert "TOY" not in (extension_tree.ROOT / SIZES).read_text(encoding="utf-8")
    assert tree.run("-m", "codesign", "--version").startswith("codesign ")


def test_changed_cpp_is_compiled(tmp_path: Path) -> None:
    source = "hw/views/_timing.cpp"
    text = 'extern "C" int codesign_toy() { return 42; }\n'
    toy = Extension({source: [("}  // namespace", text)]})
    said = toy.applied(tmp_path).python(
        "import ctypes\nfrom codesign.hw.views.fast_timing import library_path\n"
        "print(ctypes.CDLL(str(library_path())).codesign_toy())\n"
    )
    assert said == "42\n"


def test_a_script_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ValueError: no"):
        Extension().applied(tmp_path).python("raise ValueError('no')")


@pytest.mark.parametrize(("anchor", "times"), [("no such line", 0), ("same", 2)])
def test_an_anchor_occurs_once(tmp_path: Path, anchor: str, times: int) -> None:
    toy = Extension({SIZES: [(first_line(SIZES), "same\nsame\n"), (anchor, "more\n")]})
    with pytest.raises(ValueError, match=f"{times} times, not once"):
        toy.applied(tmp_path)


def test_a_new_file_is_new(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sizes.py is no new file"):
        Extension({}, {SIZES: ""}).applied(tmp_path)


def test_the_page_names_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "## Where\n### A toy\nText of `no/file.py`.\n\n- `hw/sizes.py`: one row\n"
        "- `models/zoo/<family>.py`\n\n### Another\n- `hw/errors.py`\n"
    )
    monkeypatch.setattr(extension_tree, "ARCHITECTURE", page)
    assert files_named("A toy") == ["hw/sizes.py", "models/zoo/*.py"]
    Extension({}, {SIZES: "", "models/zoo/toy.py": ""}).keeps_to("A toy", 2)
    with pytest.raises(AssertionError, match="not under 'A toy' .*errors"):
        Extension({}, {"hw/errors.py": ""}).keeps_to("A toy", 2)
    with pytest.raises(AssertionError):
        Extension({}, {SIZES: ""}).keeps_to("A toy", 1)
