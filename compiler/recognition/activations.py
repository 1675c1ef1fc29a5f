"""Elementwise functions that a region of small steps is compared with."""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _gelu_erf(x: Array) -> Array:
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _gelu_sigmoid(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-1.702 * x)))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


# GELU in the three forms of arXiv 1606.08415 and its authors' code; a clipped relu (relu6) is a relu
# whose int8 scale saturates.
DEFINITIONS = (
    ("Gelu", _gelu_erf),
    ("Gelu", _gelu_tanh),
    ("Gelu", _gelu_sigmoid),
    ("Relu", lambda x: np.maximum(x, 0)),
    ("Relu", lambda x: np.clip(x, 0, 6)),
    ("Swish", lambda x: x * _sigmoid(x)),
    ("Sigmoid", _sigmoid),
    ("Tanh", np.tanh),
    ("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    ("HardSigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
)
