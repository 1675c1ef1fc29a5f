"""Worker processes of a script: those that a guard lets pass, and those that read the script again."""

import subprocess
import sys
from pathlib import Path

import pytest

UNGUARDED = """
import codesign
try:
    rows = codesign.sweep("bert-tiny", "edge", {"dim": [4, 8]}, workers=2)
except codesign.CodesignError as error:
    print(error)
"""
GUARDED = """
import codesign
if __name__ == "__main__":
    rows = codesign.sweep("bert-tiny", "edge", {"dim": [4, 8]}, workers=2)
    print(len(rows))
"""


@pytest.mark.parametrize(
    ("script", "words"), [(UNGUARDED, '`if __name__ == "__main__":`'), (GUARDED, "2")]
)
def test_a_script_is_guarded_or_told_so(tmp_path: Path, script: str, words: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert words in line
