"""The Python interface: the kernels of a model, held against the machine."""

from typing import SupportsIndex

from codesign.hw.machine.config import HardwareConfig
from codesign.search.api.arguments import Named, choice, of_kind, whole
from codesign.search.api.inputs import given_machine
from codesign.search.api.pricing import price
from codesign.search.checks import verify as checks
from codesign.search.checks.verify import Check
from codesign.search.inputs.sources import Model


def verify(
    model: Model | Named,
    config: HardwareConfig | Named,
    *,
    backend: str = "rtl",
    kernel: str | None = None,
    objective: str = "edp",
    seed: SupportsIndex = 0,
) -> list[Check]:
    """Hold every distinct kernel of a model on a machine against the views of that machine.

    Each runs on random operands of `seed` on the "functional" model, or on the "rtl" beside it; only
    kernels with `kernel` in their names where that is given. A check's `difference` is empty where
    all agrees, in every byte, cycle and count. Raises SimulatorError where RTL cannot run,
    ArgumentError.
    """
    choice("backend", backend, ("rtl", "functional"))
    part = None if kernel is None else of_kind("kernel", kernel, str, "a part of a kernel's name")
    options = checks.CheckOptions(backend, part, whole("seed", seed, 0))
    machine = given_machine("config", config)
    plan = price(model, machine, objective=objective).plan
    chosen = checks.select(checks.distinct(plan), options)
    checks.build_rtl(machine, options, lambda message: None)
    return [checks.check(one, machine, options).check for one in chosen]
