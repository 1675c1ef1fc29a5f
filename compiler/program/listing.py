"""A Program as text that a person can read: memory map, then kernels with their loops rolled."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, TARGETS
from codesign.hw.machine.program import (
    NO_UPPER_BOUND,
    Affine,
    Body,
    Cases,
    Guard,
    Guards,
    Instruction,
    Loop,
    Pipeline,
    Program,
    Token,
    Value,
)

_NAMES = {"target": TARGETS, "function": FUNCTIONS, "destination": DESTINATIONS}


def text(program: Program) -> str:
    """The whole Program, one instruction a line."""
    lines = [f"program {program.name}", "", "memory"]
    lines += [f"  {r.address:#012x} {r.size_bytes:>12,} B  {r.name}" for r in program.memory]
    for number, kernel in enumerate(program.kernels):
        lines += ["", f"kernel {number} {kernel.name}"]
        if kernel.note:
            lines.append(f"  ; {kernel.note}")
        if kernel.host_cycles:
            lines.append(f"  host {kernel.host_cycles:,} cycles")
        lines += _body(kernel.body, 1)
    return "\n".join(lines) + "\n"


def _body(body: Body, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for node in body:
        match node:
            case Instruction():
                yield indent + _instruction(node)
            case Loop():
                yield f"{indent}for {node.name} in {_value(node.count)}:"
                yield from _body(node.body, depth + 1)
            case Pipeline():
                nest = ", ".join(f"{name} in {count}" for name, count in node.loops)
                yield f"{indent}pipeline {nest}:"
                for number, stage in enumerate(node.stages):
                    yield f"{indent}  stage {number}:"
                    yield from _body(stage, depth + 2)


def _instruction(node: Instruction) -> str:
    parts = [node.op]
    for name, value in node.values.items():
        if name in _NAMES and isinstance(value, int):
            parts.append(_NAMES[name][value])
        else:
            parts.append(f"{name}={_value(value)}")
    parts += [f"{name}={_address(address)}" for name, address in node.addresses.items()]
    parts += [f"{name}{_when(guards)}" for name, guards in node.flags.items()]
    line = " ".join(parts) + _when(node.when)
    line += "".join(f" wait {_token(token)}" for token in node.waits)
    return line + "".join(f" signal {_token(token)}" for token in node.signals)


def _token(token: Token) -> str:
    count = "" if _plain(token.count) == 1 else f"*{_plain(token.count)}"
    return f"{token.channel}{count}{_when(token.when)}"


def _plain(number: Any) -> Any:
    return (
        int(number) if not isinstance(number, int) and getattr(number, "ndim", 1) == 0 else number
    )


def _value(value: Value) -> str:
    if not isinstance(value, Cases):
        return str(value)
    cases = [
        f"{case} at last {'+'.join(loops)}" for loops, case in value.cases if case != value.default
    ]
    return f"{value.default}" + (f"[{', '.join(cases)}]" if cases else "")


def _address(address: Affine) -> str:
    terms = [str(address.base)] if address.base or not address.strides else []
    terms += _terms(address.strides)
    if address.ring is not None:
        ring = address.ring
        turn = " + ".join([*([str(ring.offset)] if ring.offset else []), *_terms(ring.steps)])
        held = f"{ring.held} held, " if ring.held else ""
        jump = f", {_plain(ring.jump):+}{_when(ring.jump_when)}" if np.any(ring.jump) else ""
        terms.append(f"ring({held}{ring.slots} slots of {ring.pitch} by {turn or '0'}{jump})")
    return "+".join(terms) or "0"


def _terms(strides: Mapping[str, Any]) -> list[str]:
    return [f"{step}*{loop}" for loop, step in strides.items() if step]


def _when(guards: Guards) -> str:
    shown = [_guard(guard) for guard in guards]
    kept = [guard for guard in shown if guard]
    return f" if({' & '.join(kept)})" if kept else ""


def _guard(guard: Guard) -> str:
    if guard.lo == 0 and guard.hi == 1:
        return f"{'last' if guard.from_end else 'first'} {guard.loop}"
    index = f"{guard.loop}{' from end' if guard.from_end else ''}"
    if guard.hi == NO_UPPER_BOUND:
        return f"{index} >= {guard.lo}" if guard.lo else ""
    return f"{guard.lo} <= {index} < {guard.hi}"
