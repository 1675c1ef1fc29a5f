"""codesign: which int8 systolic-array accelerator, with which Transformer, has the least energy-delay product.

    import codesign

    ibert = codesign.machine("ibert", scratchpad_bytes="64K")
    print(codesign.price("bert-base", ibert).cycles)

docs/api.md shows everything that this module gives. The layers below are `codesign.hw`,
`codesign.compiler`, `codesign.models` and `codesign.search`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign.compiler.network.inference import Network
    from codesign.compiler.numerics.options import Options
    from codesign.hw.errors import CodesignError
    from codesign.hw.machine.config import HardwareConfig
    from codesign.search.api.checking import verify
    from codesign.search.api.inputs import load_model, machine
    from codesign.search.api.networks import compile, run
    from codesign.search.api.pricing import kernels, price, sweep
    from codesign.search.api.searching import joint_search
    from codesign.search.api.tables import table
    from codesign.search.checks.verify import Check
    from codesign.search.inputs.sources import Model
    from codesign.search.joint.results import Results
    from codesign.search.joint.search_records import FrontPoint
    from codesign.search.pricing.breakdown import KernelRow
    from codesign.search.pricing.evaluate import Result
    from codesign.search.pricing.sweep import Row
    from codesign.search.space.space import SearchSpace

__version__: str

__all__ = [
    "Check",
    "CodesignError",
    "FrontPoint",
    "HardwareConfig",
    "KernelRow",
    "Model",
    "Network",
    "Options",
    "Result",
    "Results",
    "Row",
    "SearchSpace",
    "compile",
    "joint_search",
    "kernels",
    "load_model",
    "machine",
    "price",
    "run",
    "sweep",
    "table",
    "verify",
]

_HOMES = {
    "Check": "codesign.search.checks.verify",
    "CodesignError": "codesign.hw.errors",
    "FrontPoint": "codesign.search.joint.search_records",
    "HardwareConfig": "codesign.hw.machine.config",
    "KernelRow": "codesign.search.pricing.breakdown",
    "Model": "codesign.search.inputs.sources",
    "Network": "codesign.compiler.network.inference",
    "Options": "codesign.compiler.numerics.options",
    "Result": "codesign.search.pricing.evaluate",
    "Results": "codesign.search.joint.results",
    "Row": "codesign.search.pricing.sweep",
    "SearchSpace": "codesign.search.space.space",
    "compile": "codesign.search.api.networks",
    "joint_search": "codesign.search.api.searching",
    "kernels": "codesign.search.api.pricing",
    "load_model": "codesign.search.api.inputs",
    "machine": "codesign.search.api.inputs",
    "price": "codesign.search.api.pricing",
    "run": "codesign.search.api.networks",
    "sweep": "codesign.search.api.pricing",
    "table": "codesign.search.api.tables",
    "verify": "codesign.search.api.checking",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that `import codesign` and the command line stay quick."""
    if name == "__version__":
        from importlib.metadata import version  # as long to load as all that is at the top

        return version("codesign")
    if name not in __all__:
        raise AttributeError(f"module 'codesign' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
