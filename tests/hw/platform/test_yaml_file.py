"""Numbers of a YAML file, as people write them."""

from pathlib import Path

import pytest

from codesign.hw.platform.yaml_file import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e308", 1e308),
        ("1e-12", 1e-12),
        ("2E+3", 2e3),
        ("-4.e5", -4e5),
        (".5e-3", 0.5e-3),
        ("1.5e3", 1500.0),
        ("1.5e+3", 1500.0),
        ("7", 7),
        ("0.25", 0.25),
    ],
)
def test_a_number_with_an_exponent_is_a_number(text: str, value: float, tmp_path: Path) -> None:
    """YAML 1.1 wants a point and a sign of the exponent; people, json.dumps and YAML 1.2 do not."""
    path = tmp_path / "t.yaml"
    path.write_text(f"energy: {text}\n")
    found = read_yaml(path)["energy"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["1e", "e5", "1e5x", "0x1e5z", "'1e5'", "1e5e5", "."])
def test_what_only_looks_like_one_stays_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(f"name: {text}\n")
    assert read_yaml(path)["name"] == text.strip("'")
