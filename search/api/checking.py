"""The Python interface: the kernels of a model, held against the machine."""

from codesign.hw.machine.config import HardwareConfig
from codesign.search.api.inputs import Named
from codesign.search.api.pricing import price
from codesign.search.checks import verify as checks
from codesign.search.checks.verify import Check
from codesign.search.inputs.sources import Model


def verify(
    model: Model | Named,
    config: HardwareConfig,
    *,
    backend: str = "rtl",
    kernel: str | None = None,
    objective: str = "edp",
    seed: int = 0,
) -> list[Check]:
    """Hold every distinct kernel of a model on a machine against the views of that machine.

    Each runs on random operands of `seed` on the "functional" model, or on the "rtl" beside it; only
    kernels with `kernel` in their names where that is given. A check's `difference` is empty where
    all agrees, in every byte, cycle and count. Raises SimulatorError where RTL cannot run.
    """
    plan = price(model, config, objective=objective).plan
    options = checks.CheckOptions(backend, kernel, seed)
    chosen = checks.select(checks.distinct(plan), options)
    checks.build_rtl(config, options, lambda message: None)
    return [checks.check(one, config, options).check for one in chosen]
