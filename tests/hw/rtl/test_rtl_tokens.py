"""Bench of tokens: random signals and starts against counters built from isa.CHANNELS."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.encoding import SIGNALS, TOKEN_BITS, WAITS
from codesign.hw.machine.isa import CHANNELS, MAX_TOKENS, UNITS

CYCLES = 3000
PORTS = {"load": "load", "preload": "execute", "compute": "execute", "drain": "drain"}


def word(names: tuple[str, ...], counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) << (TOKEN_BITS * i) for i, name in enumerate(names))


async def reset(dut: Any) -> None:
    for unit in UNITS:
        for event in ("release", "complete"):
            getattr(dut, f"{unit}_{event}_signals_i").value = 0
    for port in PORTS:
        getattr(dut, f"{port}_waits_i").value = 0
        getattr(dut, f"{port}_start_i").value = 0
    dut.rst_ni.set(Immediate(0))  # what the clock's first value meets
    await start_clock_and_reset(dut)


@cocotb.test()
async def counts(dut: Any) -> None:
    """Every channel counts at its event; a port is ready exactly when its counters cover it."""
    await reset(dut)
    counters = {channel.name: 0 for channel in CHANNELS}
    readies = 0
    for _ in range(CYCLES):
        most = random.choice([1, 1, 3, 40])
        # Signals. The event at which a channel does not count carries numbers too: they must not.
        signalled = dict.fromkeys(counters, 0)
        for channel in CHANNELS:
            if random.random() < 0.3:
                room = MAX_TOKENS - counters[channel.name]
                signalled[channel.name] = random.randint(0, min(most, room))
        for unit in UNITS:
            for event in ("release", "complete"):
                numbers = {
                    c.name: signalled[c.name] if c.at == event else random.randint(0, 255)
                    for c in CHANNELS
                    if c.source == unit
                }
                port = getattr(dut, f"{unit}_{event}_signals_i")
                port.value = word(SIGNALS[unit], numbers)
        # Waits and starts; the compute's come off before the preload's are compared.
        left = dict(counters)
        for port in ("load", "drain", "compute", "preload"):
            names = WAITS[PORTS[port]]
            waits = {name: random.choice([0, 0, random.randint(0, most)]) for name in names}
            getattr(dut, f"{port}_waits_i").value = word(names, waits)
            ready = all(left[name] >= count for name, count in waits.items())
            start = ready and random.random() < 0.5
            getattr(dut, f"{port}_start_i").value = start
            if start:
                for name, count in waits.items():
                    left[name] -= count
            signalled[port] = ready
        await ReadOnly()
        for port in PORTS:
            ready = bool(signalled.pop(port))
            readies += ready
            assert getattr(dut, f"{port}_waits_ready_o").value == ready, (port, counters)
        assert dut.all_zero_o.value == (not any(counters.values()))
        counters = {name: left[name] + signalled[name] for name in counters}
        await FallingEdge(dut.clk_i)
    assert CYCLES < readies < 4 * CYCLES


@cocotb.test()
async def overflow(dut: Any) -> None:
    """Two signals of `drained`, the second one too many."""
    await reset(dut)
    for count in (200, 56):
        dut.drain_release_signals_i.value = word(SIGNALS["drain"], {"drained": count})
        await FallingEdge(dut.clk_i)
    await FallingEdge(dut.clk_i)


@cocotb.test()
async def shortage(dut: Any) -> None:
    """A compute and a preload that start on one token."""
    await reset(dut)
    dut.load_complete_signals_i.value = word(SIGNALS["load"], {"loaded": 1})
    await FallingEdge(dut.clk_i)
    dut.load_complete_signals_i.value = 0
    for port in ("compute", "preload"):
        getattr(dut, f"{port}_waits_i").value = word(WAITS["execute"], {"loaded": 1})
        getattr(dut, f"{port}_start_i").value = 1
    await FallingEdge(dut.clk_i)


def test_tokens() -> None:
    run_bench("tokens", __name__, testcase="counts")


@pytest.mark.parametrize(
    ("testcase", "words"),
    [
        ("overflow", "the counter of channel DRAINED overflows: 256 tokens"),
        ("shortage", "2 tokens of channel LOADED are taken but there are 1"),
    ],
)
def test_misuse_of_tokens_stops_the_simulation(testcase: str, words: str) -> None:
    run_bench("tokens", __name__, testcase=testcase, fails_with=words)
