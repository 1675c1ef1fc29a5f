"""Files in the formats of llama2.c (github.com/karpathy/llama2.c), small and random."""

import struct
from pathlib import Path

import numpy as np

HEADER = struct.Struct("<7i")
SIZES = (24, 40, 2, 6, 2, 270, 16)  # d_model, d_ff, layers, heads, kv_heads, vocabulary, positions
WORDS = (" ", "a", "b", " a", "ab", " ab", "aba", "é", "b é", " b", "aa")


def checkpoint(path: Path, tied: bool = True) -> dict[str, np.ndarray]:
    """Write a checkpoint of SIZES; its arrays, matrices [out, in]."""
    d, d_ff, layers, heads, kv_heads, vocabulary, positions = SIZES
    size = d // heads
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (vocabulary, d),
        "attention norm": (layers, d),
        "query": (layers, d, d),
        "key": (layers, kv_heads * size, d),
        "value": (layers, kv_heads * size, d),
        "output": (layers, d, d),
        "ffn norm": (layers, d),
        "gate": (layers, d_ff, d),
        "down": (layers, d, d_ff),
        "up": (layers, d_ff, d),
        "norm": (d,),
        "cosines": (positions, size // 2),
        "sines": (positions, size // 2),
    }
    if not tied:
        shapes["head"] = (vocabulary, d)
    rng = np.random.default_rng(1)
    arrays = {
        name: ((1 if "norm" in name else 0) + 0.3 * rng.standard_normal(shape)).astype("<f4")
        for name, shape in shapes.items()
    }
    header = HEADER.pack(*SIZES[:5], vocabulary if tied else -vocabulary, positions)
    path.write_bytes(header + b"".join(value.tobytes() for value in arrays.values()))
    return arrays


def tokens() -> tuple[list[bytes], list[float]]:
    """Special tokens, bytes, WORDS; the later a word, the worse its score."""
    found = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{i:02X}>".encode() for i in range(256))]
    found += [word.encode() for word in WORDS]
    return found, [0.0] * 259 + [-float(i) for i in range(len(WORDS))]


def tokenizer(path: Path) -> None:
    """Write the tokenizer of those tokens."""
    found, scores = tokens()
    packed = [
        struct.pack("<fi", score, len(token)) + token
        for token, score in zip(found, scores, strict=True)
    ]
    path.write_bytes(struct.pack("<i", max(map(len, found))) + b"".join(packed))
