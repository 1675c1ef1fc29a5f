"""codesign: which int8 systolic-array accelerator, with which Transformer, has the least energy-delay product.

The layers below are `codesign.hw`, `codesign.compiler`, `codesign.models` and `codesign.search`.
"""

from importlib.metadata import version

__version__ = version("codesign")
