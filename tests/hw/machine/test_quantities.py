"""Quantities and payloads are types of the RTL, and what a payload holds comes back by name."""

import random
import re

import pytest

from codesign.hw.machine import quantities
from codesign.hw.machine.encoding import INSTRUCTION_BITS, fields, package
from codesign.hw.machine.isa import OPERATIONS
from codesign.hw.machine.quantities import (
    ACCESS,
    DIAGONAL,
    FLAG,
    HEAD,
    PAYLOADS,
    QUANTITIES,
    Payload,
    Quantity,
    declarations,
)
from codesign.hw.simulation import sources


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_members_come_back_by_name(payload: Payload) -> None:
    rng = random.Random(1)
    for _ in range(20):
        values = {name: rng.getrandbits(quantity.bits) for name, quantity in payload.members}
        word = payload.pack(values)
        assert word < 1 << payload.bits
        assert payload.unpack(word) == values


def test_members_lie_from_bit_0_up() -> None:
    payload = Payload("pair", (("low", Quantity("", 4)), ("high", FLAG)), "a toy")
    assert payload.pack({"high": 1}) == 16 and payload.pack({"low": 5}) == 5
    assert payload.bits == 5
    with pytest.raises(KeyError, match="pair has no 'color'"):
        payload.pack({"color": 1})


def test_a_quantity_is_declared_once_and_used_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy one and a payload of it stand in the package as soon as the tables name them."""
    toy = Quantity("toy", 7, "a number", signed=True)
    pair = Payload("pair", (("first", toy), ("second", FLAG)), "two things")
    monkeypatch.setattr(quantities, "QUANTITIES", (*QUANTITIES, toy))
    monkeypatch.setattr(quantities, "PAYLOADS", (*PAYLOADS, pair))
    text = "\n".join(declarations())
    assert "  typedef logic signed [6:0] toy_t;  // a number\n" in text
    struct = "  typedef struct packed {\n    logic second;\n    toy_t first;\n  } pair_t;"
    assert text.endswith("  // Two things.\n" + struct)


def test_fields_of_one_kind_have_one_type() -> None:
    """No field of the package is a bare vector of a width that has a name for that kind."""
    text = package()
    for operation in OPERATIONS:
        for field in fields(operation):
            name = f"{field.name}_?" if field.name in ("local", "function") else field.name
            assert re.search(rf"\b{re.escape(field.quantity.type)} {name};", text), field
    assert HEAD.bits == INSTRUCTION_BITS + 32 + 1 and DIAGONAL.signed


def test_the_rtl_writes_no_width_twice() -> None:
    """Rows, tags and addresses are their types wherever they go, not vectors of as many bits."""
    widths = {20: r"\w*row\w*|local\w*|stride", 32: r"\w*tag\w*", 40: r"\w*addr\w*"}
    for name, path in sources.modules().items():
        if name == "isa_pkg":
            continue
        text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        for bits, names in widths.items():
            found = re.findall(rf"logic\s*(?:\[[^\]]*\])*\[{bits - 1}:0\]\s+(?:{names})\b", text)
            assert not found, f"{path}: {found}"
    assert f"{ACCESS.name}_t" in sources.module("banked_memory").read_text(encoding="utf-8")
