"""Names and shapes of parameters, as families list them: projections, norms, attention, FFN.

Projections are stored [in, out], so that y = x @ W + b; convolutions [out, in, height, width].
"""

from collections.abc import Iterator

Shape = tuple[int, ...]
Entry = tuple[str, Shape]
LARGEST_FILE_BYTES = 1_500_000_000  # of ONNX: a protobuf message ends at 2 GiB


def linear(name: str, fan_in: int, fan_out: int, bias: bool = True) -> Iterator[Entry]:
    """A projection."""
    yield f"{name}.weight", (fan_in, fan_out)
    if bias:
        yield f"{name}.bias", (fan_out,)


def norm(name: str, width: int, beta: bool = True) -> Iterator[Entry]:
    """A LayerNorm, or an RMSNorm without beta."""
    yield f"{name}.gamma", (width,)
    if beta:
        yield f"{name}.beta", (width,)


def attention(name: str, d_model: int, width: int, bias: bool = True) -> Iterator[Entry]:
    """Attention that is `width` wide in all heads, with its norm."""
    for projection in ("query", "key", "value"):
        yield from linear(f"{name}.{projection}", d_model, width, bias)
    yield from linear(f"{name}.output", width, d_model, bias)
    yield from norm(f"{name}.norm", d_model, bias)


def ffn(name: str, d_model: int, d_ff: int, bias: bool = True) -> Iterator[Entry]:
    """A feed-forward network of two projections, with its norm."""
    yield from linear(f"{name}.up", d_model, d_ff, bias)
    yield from linear(f"{name}.down", d_ff, d_model, bias)
    yield from norm(f"{name}.norm", d_model, bias)


def convolution(name: str, channels: int, filters: int, kernel: int) -> Iterator[Entry]:
    """A square convolution with bias."""
    yield f"{name}.weight", (filters, channels, kernel, kernel)
    yield f"{name}.bias", (filters,)
