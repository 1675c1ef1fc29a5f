"""The host CPU of the baseline machine: cycles for what the accelerator leaves to it.

A machine without normalization units (preset `gemmini`) runs softmax, LayerNorm, GELU and residual
additions on its host in float, with a dequantize pass before and a quantize pass after each. The
cycles an element are calibrated on a published break-down (docs/host.md), not measured here; the
compiler charges them as `host_cycles`.
"""

from dataclasses import dataclass

from codesign.hw.costs.sram import read_toml

GENERIC = "generic"
# ONNX spellings and kinds of the operator graph that mean a calibrated function.
_SYNONYMS = {
    "layernormalization": "layernorm",
    "rmsnorm": "layernorm",
    "rmsnormalization": "layernorm",
    "simplifiedlayernormalization": "layernorm",
    "gather": "embedding",
    "quantizelinear": "quantize",
    "dequantizelinear": "dequantize",
    "globalmaxpool": "maxpool",
    "reducemax": "maxpool",
    "reducemin": "maxpool",
}


@dataclass(frozen=True)
class Conversions:
    """Element passes around a host function, per element of its output."""

    dequantize: int
    quantize: int


def cycles_per_element(function: str) -> int:
    """Return host cycles an element of `function`; what is not in the table costs as `generic`.

    `function` is a lower-case ONNX operator type or a kind of the operator graph.
    """
    table = read_toml("host.toml")
    costs: dict[str, int] = {**table["calibrated"], **table["estimated"]}
    return costs.get(_SYNONYMS.get(function, function), costs[GENERIC])


def is_calibrated(function: str) -> bool:
    """Return whether the cycles of `function` are calibrated; others are estimates (docs/host.md)."""
    return _SYNONYMS.get(function, function) in read_toml("host.toml")["calibrated"]


def host_cycles(function: str, elements: int) -> int:
    """Return the host's cycles for `function` on `elements` output elements, conversions left out."""
    return cycles_per_element(function) * elements


def conversions(function: str) -> Conversions:
    """Return the dequantize and quantize passes that `function` needs beside an int8 accelerator.

    One of each unless the table says otherwise: an addition reads two int8 operands, an embedding
    or a ReLU stays int8. The conversions themselves need none.
    """
    name = _SYNONYMS.get(function, function)
    if name in ("quantize", "dequantize"):
        return Conversions(0, 0)
    table = read_toml("host.toml")
    return Conversions(
        table["dequantized_inputs"].get(name, 1), table["quantized_outputs"].get(name, 1)
    )


def conversion_cycles(function: str, elements: int) -> int:
    """Return the host's cycles to dequantize and quantize around `function`."""
    passes = conversions(function)
    return passes.dequantize * host_cycles("dequantize", elements) + passes.quantize * host_cycles(
        "quantize", elements
    )


def total_host_cycles(function: str, elements: int) -> int:
    """Return the host's cycles for `function` with its conversions."""
    return host_cycles(function, elements) + conversion_cycles(function, elements)
