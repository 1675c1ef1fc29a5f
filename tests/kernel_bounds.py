"""How far each kernel of a run may be from the float model on the very int8 inputs that it read.

The bound is one of the formats alone: half a unit of the output, half a unit of each weight, and the errors that
docs/numerics.md states for the nonlinear units. Errors of earlier kernels do not enter it.
"""

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Activation, Add, Gate, LayerNorm, Matmul, Operator, Softmax
from codesign.compiler.network.inference import Functional, Network
from codesign.compiler.numerics.quantize import HEADROOM
from codesign.compiler.numerics.quantized import LOW_STEPS
from codesign.compiler.onnx.float_model import Feeds
from codesign.compiler.plan.work import LOW
from codesign.hw.machine import arithmetic

Floats = npt.NDArray[np.float64]
HALF = 0.5 + 2.0**-7  # of a unit: rounding, and the 23 bits of the requantizers' factors
# docs/numerics.md: of GELU, and of the other functions at most.
GELU_ERROR, FUNCTION_ERROR = 0.0184, 7.3e-4
SLOPES = {"gelu": 1.13, "silu": 1.1, "hard_swish": 1.5}  # the largest; of the others at most 1
OPERAND = 2.0**-15  # of the largest operand of 16 bits
SOFTMAX_ERROR = 1.5e-3
NORM_ERROR = 6.0e-4


class Checked(Functional):
    """The functional model, every kernel of which is held to its bound; `worst` is of the bound."""

    def __init__(self, network: Network, feeds: Feeds) -> None:
        super().__init__(network)
        self.feeds = feeds
        self.worst: dict[str, float] = {}

    def step(self, index: int) -> None:
        work = self.network.plan.steps[index].work
        known = {name: self._floats(name) for name in work.inputs if self._stored(name)}
        super().step(index)
        for name in work.outputs:
            wanted, error = _Bound(self.network, self.feeds, known, index).of(name)
            quantized = self.network.quantized
            unit = quantized.scales[name]
            lowest = np.full(wanted.shape, -128 if name in quantized.given else -127)
            low, high = (quantized.values(name, codes) for codes in (lowest, lowest * 0 + 127))
            reach = np.clip(wanted, low, high)  # beyond, int8 saturates
            found = self._floats(name)
            bound = error + HALF * unit
            self.worst[name] = float((np.abs(found - reach) / bound).max(initial=0.0))

    def _stored(self, name: str) -> bool:
        return name in self.network.quantized.scales or name.endswith(LOW)

    def _floats(self, name: str) -> Floats:
        quantized = self.network.quantized
        if not name.endswith(LOW):
            return quantized.values(name, self.read(name))
        unit = quantized.scales[name.removesuffix(LOW)] / LOW_STEPS
        return np.asarray(self.read(name).astype(np.float64) * unit)


class _Bound:
    """Float values and errors of the tensors inside one kernel, as matrices."""

    def __init__(
        self, network: Network, feeds: Feeds, known: dict[str, Floats], index: int
    ) -> None:
        self.network, self.feeds = network, feeds
        self.work = network.plan.steps[index].work
        self.known = {name: value for name, value in known.items() if not name.endswith(LOW)}
        for name, value in known.items():
            if name.endswith(LOW):
                self.known[name.removesuffix(LOW)] = self.known[name.removesuffix(LOW)] + value
        self.inside = {
            self._operator(name).output: self._operator(name) for name in self.work.operators
        }

    def of(self, tensor: str) -> tuple[Floats, Floats]:
        """What the float model computes for a tensor, and how far a kernel may be from it."""
        if tensor not in self.inside:
            return self.known[tensor], np.zeros_like(self.known[tensor])
        return self._value(tensor), self._error(self.inside[tensor])

    def _operator(self, name: str) -> Operator:
        op: Operator = self.network.plan.graph.dag[name]
        return op

    def _value(self, tensor: str) -> Floats:
        matrices, model = self.network.matrices, self.network.model
        part = model.part(tuple(self.known), (tensor,))
        arrays = {
            name: matrices[name].array(value, matrices.shapes[name]).astype(np.float32)
            for name, value in self.known.items()
        }
        found = part({**self.feeds, **arrays})[tensor].astype(np.float64)
        return np.asarray(matrices[tensor].of(found))

    def _error(self, op: Operator) -> Floats:
        match op:
            case Matmul(constant_b=True):
                return self._projection(op)
            case Matmul():
                return self._product(op)
            case Activation(function="relu"):
                return self.of(op.inputs[0])[1]
            case Activation():
                step = arithmetic.GELU_INPUT_SCALE / 2
                slope = SLOPES.get(op.function, 1.0)
                error = GELU_ERROR if op.function == "gelu" else FUNCTION_ERROR
                return slope * (self.of(op.inputs[0])[1] + step) + error
            case Gate():
                (a, error_a), (b, error_b) = self.of(op.inputs[0]), self.of(op.inputs[-1])
                error_a = error_a + OPERAND * abs(a).max()
                error_b = error_b + OPERAND * abs(b).max()
                return np.asarray(abs(a) * error_b + abs(b) * error_a + error_a * error_b)
            case Add():
                (a, error_a), (b, error_b) = self.of(op.inputs[0]), self.of(op.inputs[1])
                return np.asarray(error_a + error_b + 2.0**-15 * np.maximum(abs(a), abs(b)))
            case Softmax():
                return self._softmax(op)
            case LayerNorm():
                return self._norm(op)
        raise AssertionError(op)

    def _projection(self, op: Matmul) -> Floats:
        linear = self.network.constants.linear[op.name]
        rows = slice(linear.first_row, linear.first_row + op.m)
        x, error = (np.abs(each)[rows] for each in self.of(op.inputs[0]))
        scales = np.broadcast_to(self.network.quantized.scales[op.inputs[0]], (op.k,))
        sums = np.abs(linear.weights * scales[:, np.newaxis]).max(axis=0) / 127
        rounding = np.maximum(sums, sums.max() * 2.0**-12) / scales[:, np.newaxis] / 2
        if len(self.work.inputs) > 1:  # its units are a whole part of the residual's
            rounding = 2 * rounding
        return np.asarray(error @ np.abs(linear.weights) + x @ rounding + sums)

    def _product(self, op: Matmul) -> Floats:
        error_a = self.of(op.inputs[0])[1]
        if not error_a.any():
            return np.zeros((op.m, op.batch * op.n))
        width = op.batch // op.shared * op.n
        b = np.abs(
            self.known[op.inputs[1]][:, -width:]
        )  # V, the last where Q, K and V share a tensor
        heads = [
            error_a[:, h * op.k : (h + 1) * op.k] @ b[:, g * op.n : (g + 1) * op.n]
            for h, g in ((h, h // op.shared) for h in range(op.batch))
        ]
        return np.concatenate(heads, axis=1)

    def _softmax(self, op: Softmax) -> Floats:
        scores = self.of(op.inputs[0])[1]
        step = float(np.max(scores, initial=0.0)) + arithmetic.SOFTMAX_INPUT_SCALE
        p = self._value(op.output) if op.output not in self.known else self.known[op.output]
        probability = (
            1 / 254 if op.output not in self.work.outputs else 0.0
        )  # int8 inside attention
        return np.asarray(p * np.expm1(2 * step) + SOFTMAX_ERROR + probability)

    def _norm(self, op: LayerNorm) -> Floats:
        x, error = self.of(op.inputs[0])
        affine = self.network.constants.affine[op.name]
        error = error + HEADROOM**2 * np.abs(x).max() / (1 << 15)
        mean = 0.0 if op.rms else x.mean(axis=1, keepdims=True)
        spread = np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True))
        z = (x - mean) / spread
        moved = error + (0.0 if op.rms else error.mean(axis=1, keepdims=True))
        moved = moved + np.abs(z) * (np.abs(z) * error).mean(axis=1, keepdims=True)
        share = np.sqrt((error**2).mean(axis=1, keepdims=True)) / spread  # of second order
        first = moved / spread / np.maximum(1 - 2 * share, 0.1)
        return np.asarray(np.abs(affine.gamma) * (first + NORM_ERROR * (1 + np.abs(z))))
