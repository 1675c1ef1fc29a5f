"""A small BERT as `save_pretrained` leaves it: what config.json and model.safetensors hold."""

from typing import Any

import numpy as np

LAYERS, WIDTH, HEADS, HIDDEN, WORDS, POSITIONS, TYPES = 2, 24, 3, 40, 30, 16, 2
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "type_vocab_size": TYPES,
    "vocab_size": WORDS,
}
Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def tensors() -> Tensors:
    """Random weights under the names that transformers gives a BertModel's."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (TYPES, WIDTH),
    }
    linear = {"pooler.dense": (WIDTH, WIDTH)}
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear[f"{layer}.attention.{name}"] = (WIDTH, WIDTH)
        linear[f"{layer}.intermediate.dense"] = (HIDDEN, WIDTH)
        linear[f"{layer}.output.dense"] = (WIDTH, HIDDEN)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    made = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    positions = np.arange(POSITIONS)[np.newaxis]
    return {**made, "embeddings.position_ids": positions.astype(np.float32)}
