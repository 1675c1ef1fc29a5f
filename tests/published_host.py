"""The published break-down of a Gemmini without nonlinear units, and ours."""

from codesign.hw.costs import host

LAYERS, HEADS, D_MODEL, FFN, L = 12, 12, 768, 3072, 512
# arXiv 2302.14017 Fig. 14 (left), BERT-base, L = 512; the printed shares sum to 94 %.
PUBLISHED = {
    "quantize": 0.49,
    "softmax": 0.19,
    "add": 0.11,
    "gelu": 0.10,
    "layernorm": 0.04,
    "matmul": 0.01,
}
PUBLISHED_SPEED_UP = 39.6
MATMUL_UTILIZATION_BEFORE, MATMUL_UTILIZATION_AFTER = 0.74, 0.91  # sec. 3.4 and Fig. 13
ELEMENTS = {
    "softmax": LAYERS * HEADS * L * L,
    "gelu": LAYERS * L * FFN,
    "layernorm": LAYERS * 2 * L * D_MODEL,
    "add": LAYERS * 2 * L * D_MODEL,
}
MACS = LAYERS * (4 * L * D_MODEL**2 + 2 * L * D_MODEL * FFN + 2 * L * L * D_MODEL)
IDEAL_CYCLES = MACS / 256


def on_the_baseline() -> dict[str, float]:
    cycles: dict[str, float] = {f: host.host_cycles(f, n) for f, n in ELEMENTS.items()}
    cycles["quantize"] = sum(host.conversion_cycles(f, n) for f, n in ELEMENTS.items())
    cycles["matmul"] = IDEAL_CYCLES / MATMUL_UTILIZATION_BEFORE
    return cycles
