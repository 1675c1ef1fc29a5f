"""One computation has one price, however its file spells it.

Every family is one computation in several spellings: fused and decomposed, float and quantized,
operators of the standard and of com.microsoft, other opsets. All cost the same cycles, DRAM bytes,
multiply-accumulates and energy. Where two differ in truth, a test of its own says why.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_builder import CONTRIB, ModelBuilder, kinds, run
from onnxruntime.quantization import QuantFormat
from price_forms import price, quantized

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run as run_network
from codesign.hw.machine.config import preset

Step = Callable[[ModelBuilder, str], str]
SEQ, WIDTH, WIDE = 8, 32, 64


@dataclass(frozen=True)
class Spelling:
    """A step between two projections; `opset` where it needs one; `same` where it computes exactly
    what the others do (and not, say, the tanh form of a GELU)."""

    step: Step
    opset: int = 17
    same: bool = True


def between_layers(spelling: Spelling) -> onnx.ModelProto:
    """A projection [8, 32] -> [8, 64], a step on its result, and a projection back."""
    b = ModelBuilder(spelling.opset)
    x = b.input("x", (1, SEQ, WIDTH))
    y = spelling.step(b, b.node("MatMul", x, b.weights(WIDTH, WIDE)))
    return b.model(b.node("MatMul", y, b.weights(WIDE, WIDTH)))


def fused(op_type: str, *operands: Any, domain: str = "", **attributes: Any) -> Step:
    """One node on x and constants."""
    return lambda b, x: str(
        b.node(op_type, x, *(b.const(v) for v in operands), domain=domain, **attributes)
    )


def reduced(b: ModelBuilder, op_type: str, x: str) -> str:
    """A reduction along the last axis, in the form of the builder's opset."""
    if b.opset < 18 and op_type != "ReduceSum":
        return str(b.node(op_type, x, axes=[-1]))
    return str(b.node(op_type, x, b.ints(-1)))


# -- activations -----------------------------------------------------------------------------------


def gelu_erf(b: ModelBuilder, x: str) -> str:
    erf = b.node("Erf", b.node("Div", x, b.const(math.sqrt(2))))
    return str(b.node("Mul", b.node("Mul", x, b.node("Add", erf, b.const(1.0))), b.const(0.5)))


def gelu_tanh(b: ModelBuilder, x: str, power: bool = True) -> str:
    cube = b.node("Pow", x, b.const(3.0)) if power else b.node("Mul", b.node("Mul", x, x), x)
    inner = b.node("Add", x, b.node("Mul", cube, b.const(0.044715)))
    inner = b.node("Mul", inner, b.const(math.sqrt(2 / math.pi)))
    half = b.node("Mul", x, b.const(0.5))
    return str(b.node("Mul", half, b.node("Add", b.node("Tanh", inner), b.const(1.0))))


def gelu_by_sigmoid(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", x, b.node("Sigmoid", b.node("Mul", x, b.const(1.702)))))


def biased_gelu(op_type: str) -> Step:
    def step(b: ModelBuilder, x: str) -> str:
        bias = b.weights(WIDE)
        if op_type in ("BiasGelu", "FastGelu"):
            return str(b.node(op_type, x, bias, domain=CONTRIB))
        return gelu_erf(b, b.node("Add", x, bias))

    return step


def silu(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", x, b.node("Sigmoid", x)))


def hard_swish(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", x, b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)))


def hard_swish_by_clip(b: ModelBuilder, x: str) -> str:
    clipped = b.node("Clip", b.node("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))
    return str(b.node("Div", b.node("Mul", x, clipped), b.const(6.0)))


def hard_sigmoid_by_clip(b: ModelBuilder, x: str) -> str:
    clipped = b.node("Clip", b.node("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))
    return str(b.node("Div", clipped, b.const(6.0)))


def relu_by_choice(b: ModelBuilder, x: str, comparison: str = "Greater") -> str:
    zero = b.const(0.0)
    chosen = (x, zero) if comparison == "Greater" else (zero, x)
    return str(b.node("Where", b.node(comparison, x, zero), *chosen))


def relu_by_cast(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", x, b.node("Cast", b.node("Greater", x, b.const(0.0)), to=1)))


def relu_by_abs(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", b.node("Add", x, b.node("Abs", x)), b.const(0.5)))


def relu6_by_hard_sigmoid(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", b.node("HardSigmoid", x, alpha=1 / 6, beta=0.0), b.const(6.0)))


def limited(*steps: str) -> Step:
    """Clip(x, 0, 6) by one limit after another; a "Clip" limits both sides, to -3 below."""

    def step(b: ModelBuilder, x: str) -> str:
        for op_type in steps:
            numbers = {"Max": (0.0,), "Min": (6.0,), "Clip": (-3.0, 6.0)}.get(op_type, ())
            x = b.node(op_type, x, *(b.const(number) for number in numbers))
        return x

    return step


def relu6_by_choice(b: ModelBuilder, x: str) -> str:
    y, six = b.node("Relu", x), b.const(6.0)
    return str(b.node("Where", b.node("Greater", y, six), six, y))


def relu6_of_relus(b: ModelBuilder, x: str) -> str:
    beyond = b.node("Relu", b.node("Sub", x, b.const(6.0)))
    return str(b.node("Sub", b.node("Relu", x), beyond))


# -- rows ------------------------------------------------------------------------------------------


def layer_norm(b: ModelBuilder, x: str) -> str:
    scale, bias = b.weights(WIDE), b.weights(WIDE)
    return str(b.node("LayerNormalization", x, scale, bias, axis=-1))


def layer_norm_steps(b: ModelBuilder, x: str, power: bool = True) -> str:
    scale, bias = b.weights(WIDE), b.weights(WIDE)
    centered = b.node("Sub", x, reduced(b, "ReduceMean", x))
    square = b.node("Pow", centered, b.const(2.0)) if power else b.node("Mul", centered, centered)
    variance = b.node("Add", reduced(b, "ReduceMean", square), b.const(1e-5))
    normed = b.node("Div", centered, b.node("Sqrt", variance))
    return str(b.node("Add", b.node("Mul", normed, scale), bias))


def norm_then(op_type: str, *factors: str, offset: str = "") -> Step:
    """A norm with gamma 1, then what makes it one with a gamma, and a beta where there is an `offset`.

    `factors`: a Mul or Div each, of which the last one brings gamma in.
    """

    def step(b: ModelBuilder, x: str) -> str:
        gamma = b.rng.normal(0, 0.1, size=WIDE)
        beta = b.rng.normal(0, 0.1, size=WIDE) if offset else None
        attributes = {} if op_type == "RMSNormalization" else {"axis": -1}
        y = b.node(op_type, x, b.const(np.ones(WIDE)), **attributes)
        for factor in factors[:-1]:
            y = b.node(factor, y, b.const(-2.0))
            gamma = gamma / -2 if factor == "Mul" else gamma * -2
        if factors:
            last = 1 / gamma if factors[-1] == "Div" else gamma
            y = b.node(factors[-1], y, b.const(last))
        if offset == "Add":
            y = b.node("Add", b.const(beta), y)
        elif offset:
            y = b.node("Sub", y, b.const(-np.asarray(beta)))
        return str(y)

    return step


def scaled_norm(b: ModelBuilder, x: str) -> str:
    return str(b.node("LayerNormalization", x, b.weights(WIDE), axis=-1))


def rms_norm_steps(b: ModelBuilder, x: str, power: bool = True) -> str:
    scale = b.weights(WIDE)
    square = b.node("Pow", x, b.const(2.0)) if power else b.node("Mul", x, x)
    mean = b.node("Add", reduced(b, "ReduceMean", square), b.const(1e-5))
    root = b.node("Sqrt", mean)
    normed = b.node("Mul", x, b.node("Reciprocal", root)) if power else b.node("Div", x, root)
    return str(b.node("Mul", normed, scale))


def l2_norm(form: str) -> Step:
    """x over its length, times gamma and the root of its width: what an RMSNorm is without epsilon."""

    def step(b: ModelBuilder, x: str) -> str:
        gamma = b.const(b.rng.normal(0, 0.1, size=WIDE) * math.sqrt(WIDE))
        if form == "LpNormalization":
            return str(b.node("Mul", b.node("LpNormalization", x, axis=-1, p=2), gamma))
        length = reduced(b, "ReduceL2", x)
        if form == "ReduceL2":
            return str(b.node("Mul", gamma, b.node("Div", x, length)))
        length = b.node("Clip", length, b.const(1e-12))  # as torch's normalize is exported
        length = b.node("Expand", length, b.ints(1, SEQ, WIDE))
        return str(b.node("Mul", b.node("Div", x, length), gamma))

    return step


def log_sum(b: ModelBuilder, x: str) -> str:
    """The logarithm of a softmax by that of its sum."""
    return str(b.node("Sub", x, reduced(b, "ReduceLogSumExp", x)))


def log_softmax_steps(b: ModelBuilder, x: str) -> str:
    shifted = b.node("Sub", x, reduced(b, "ReduceMax", x))
    total = reduced(b, "ReduceSum", b.node("Exp", shifted))
    return str(b.node("Sub", shifted, b.node("Log", total)))


def softmax_steps(b: ModelBuilder, x: str) -> str:
    exponents = b.node("Exp", b.node("Sub", x, reduced(b, "ReduceMax", x)))
    return str(b.node("Div", exponents, reduced(b, "ReduceSum", exponents)))


def residual_norm(contrib: bool, bias: bool = False) -> Step:
    def step(b: ModelBuilder, x: str) -> str:
        rows = b.input("rows", (1, SEQ, WIDE))
        scale, shift, added = b.weights(WIDE), b.weights(WIDE), b.weights(WIDE)
        if contrib:
            operands = (x, rows, scale, shift) + ((added,) if bias else ())
            return str(b.node("SkipLayerNormalization", *operands, domain=CONTRIB))
        x = b.node("Add", x, added) if bias else x
        total = b.node("Add", x, rows)
        return str(b.node("LayerNormalization", total, scale, shift, axis=-1))

    return step


def residual_norm_then_affine(b: ModelBuilder, x: str) -> str:
    rows = b.input("rows", (1, SEQ, WIDE))
    gamma, beta, _ = b.weights(WIDE), b.weights(WIDE), b.weights(WIDE)
    one, zero = b.const(np.ones(WIDE)), b.const(np.zeros(WIDE))
    y = b.node("SkipLayerNormalization", x, rows, one, zero, domain=CONTRIB)
    return str(b.node("Add", b.node("Mul", gamma, y), beta))


# -- shapes ----------------------------------------------------------------------------------------


def reshaped(*steps: tuple[str, tuple[int, ...]]) -> Step:
    def step(b: ModelBuilder, x: str) -> str:
        for op_type, values in steps:
            x = b.node(op_type, x, b.ints(*values))
        return x

    return step


def flattened(b: ModelBuilder, x: str) -> str:
    return str(b.node("Reshape", b.node("Flatten", x, axis=2), b.ints(1, SEQ, WIDE)))


def halves(join: str) -> Step:
    """Both halves of the columns, added."""

    def step(b: ModelBuilder, x: str) -> str:
        half = WIDE // 2
        if join == "Split":
            left, right = b.node("Split", x, b.ints(half, half), axis=-1, outputs=2)
        elif join == "Slice":
            left, right = (
                b.node("Slice", x, b.ints(i * half), b.ints((i + 1) * half), b.ints(2))
                for i in range(2)
            )
        elif join == "Gather":
            left, right = (
                b.node("Gather", x, b.ints(*range(i * half, (i + 1) * half)), axis=2)
                for i in range(2)
            )
        else:
            cut = b.node("Reshape", x, b.ints(1, SEQ, 2, half))
            left, right = (b.node("Gather", cut, b.const(i, "int64"), axis=2) for i in range(2))
        back = b.node("MatMul", b.node("Add", left, right), b.weights(half, WIDE))
        return str(back)

    return step


def computed_again(how: str) -> Step:
    """softmax(layernorm(x) + x) through two projections, added: every step once or twice."""

    def step(b: ModelBuilder, x: str) -> str:
        gamma, beta, left, right = b.weights(WIDE), b.weights(WIDE), *_two_weights(b)
        steps = layer_norm_of if how == "steps" else normed

        def rows(defaults: bool) -> str:
            other = defaults and how == "attributes"
            y = steps(b, x, gamma, beta)
            view = b.node("Reshape", x, b.ints(*((0, -1, WIDE) if other else (1, SEQ, WIDE))))
            total = b.node("Add", *((view, y) if how == "order" and defaults else (y, view)))
            axis = {} if other else {"axis": 2 if how == "attributes" else -1}
            return str(b.node("Softmax", total, **axis))

        first = rows(False)
        second = first if how == "once" else rows(True)
        products = b.node("MatMul", first, left), b.node("MatMul", second, right)
        return str(b.node("Add", *products))

    return step


def _two_weights(b: ModelBuilder) -> tuple[str, str]:
    return b.weights(WIDE, WIDE), b.weights(WIDE, WIDE)


def normed(b: ModelBuilder, x: str, gamma: str, beta: str) -> str:
    return str(b.node("LayerNormalization", x, gamma, beta, axis=-1))


def layer_norm_of(b: ModelBuilder, x: str, gamma: str, beta: str) -> str:
    """A LayerNorm in steps, mean and difference computed twice in it."""
    one, other = (b.node("Sub", x, reduced(b, "ReduceMean", x)) for _ in range(2))
    variance = reduced(b, "ReduceMean", b.node("Mul", other, other))
    normed = b.node("Div", one, b.node("Sqrt", b.node("Add", variance, b.const(1e-5))))
    return str(b.node("Add", b.node("Mul", normed, gamma), beta))


def two_norms(form: str) -> Step:
    """Two LayerNorms of one tensor, each with a gamma and beta of its own, projected and added."""

    def step(b: ModelBuilder, x: str) -> str:
        affine = [(b.weights(WIDE), b.weights(WIDE)) for _ in range(2)]
        weights = _two_weights(b)
        norm = normed if form == "LayerNormalization" else layer_norm_of
        rows = [norm(b, x, *each) for each in affine]
        return str(
            b.node("Add", *(b.node("MatMul", r, w) for r, w in zip(rows, weights, strict=True)))
        )

    return step


# -- products --------------------------------------------------------------------------------------


def linear(form: str) -> Step:
    def step(b: ModelBuilder, x: str) -> str:
        weights, bias = b.rng.normal(0, 0.1, size=(WIDE, WIDE)), b.const(b.rng.normal(size=WIDE))
        turned = form.endswith("transposed") or form == "FusedMatMul"
        w = b.const(weights.T[..., None] if form == "Conv" else weights.T if turned else weights)
        if form.startswith("Gemm"):
            rows = b.node("Reshape", x, b.ints(SEQ, WIDE))
            rows = b.node("Gemm", rows, w, bias, **({"transB": 1} if turned else {}))
            return str(b.node("Reshape", rows, b.ints(1, SEQ, WIDE)))
        if form == "Conv":
            image = b.node("Conv", b.node("Transpose", x, perm=[0, 2, 1]), w, bias)
            return str(b.node("Transpose", image, perm=[0, 2, 1]))
        if form == "transposed":
            product = b.node("MatMul", x, b.node("Transpose", w, perm=[1, 0]))
        elif form == "Einsum":
            product = b.node("Einsum", x, w, equation="bsk,kn->bsn")
        elif form == "FusedMatMul":
            product = b.node("FusedMatMul", x, w, transB=1, domain=CONTRIB)
        else:
            product = b.node("MatMul", x, w)
        return str(b.node("Add", *([bias, product] if form == "bias first" else [product, bias])))

    return step


def before_a_product(*steps: str, form: str = "MatMul") -> Step:
    """A relu, operators with a vector each, and a product; without steps, what they come to in one.

    The vectors are the same for "Mul", "Div", "Neg" and for "Add", "Sub", "from" (vector - x).
    """

    def step(b: ModelBuilder, x: str) -> str:
        factor, offset = b.rng.uniform(0.5, 2, size=WIDE), b.rng.normal(size=WIDE)
        weights = b.rng.normal(0, 0.1, size=(WIDE, WIDE))
        x = b.node("Relu", x)
        if "folded" in form:
            matrix = b.const(factor[:, None] * weights)
            y = b.node("MatMul", x, matrix)
            return str(y if form == "folded" else b.node("Add", y, b.const(offset @ weights)))
        for op_type in steps:
            if op_type in ("Mul", "Div"):
                x = b.node(op_type, x, b.const(1 / factor if op_type == "Div" else factor))
            elif op_type == "from":
                x = b.node("Sub", b.const(offset), b.node("Mul", x, b.const(-factor)))
            else:
                x = b.node(op_type, x, b.const(-offset if op_type == "Sub" else offset))
        if form == "Gemm":
            rows = b.node("Gemm", b.node("Reshape", x, b.ints(SEQ, WIDE)), b.const(weights))
            return str(b.node("Reshape", rows, b.ints(1, SEQ, WIDE)))
        if form == "Einsum":
            return str(b.node("Einsum", x, b.const(weights), equation="bsk,kn->bsn"))
        if form == "Conv":
            image = b.node("Transpose", x, perm=[0, 2, 1])
            image = b.node("Conv", image, b.const(weights.T[..., None]))
            return str(b.node("Transpose", image, perm=[0, 2, 1]))
        return str(b.node("MatMul", x, b.const(weights)))

    return step


FAMILIES: Mapping[str, Mapping[str, Spelling]] = {
    "GELU": {
        "erf": Spelling(gelu_erf),
        "Gelu": Spelling(fused("Gelu"), 20),
        "Gelu of com.microsoft": Spelling(fused("Gelu", domain=CONTRIB)),
        "tanh": Spelling(gelu_tanh, same=False),
        "tanh, by products": Spelling(lambda b, x: gelu_tanh(b, x, power=False), same=False),
        "Gelu, tanh": Spelling(fused("Gelu", approximate="tanh"), 20, same=False),
        "FastGelu": Spelling(fused("FastGelu", domain=CONTRIB), same=False),
        "sigmoid": Spelling(gelu_by_sigmoid, same=False),
        "QuickGelu": Spelling(fused("QuickGelu", domain=CONTRIB, alpha=1.702), same=False),
    },
    "GELU of a sum": {
        "Add": Spelling(biased_gelu("Add")),
        "BiasGelu": Spelling(biased_gelu("BiasGelu")),
        "FastGelu": Spelling(biased_gelu("FastGelu"), same=False),
    },
    "SiLU": {
        "Sigmoid": Spelling(silu),
        "Swish": Spelling(fused("Swish"), 24),
        "QuickGelu": Spelling(fused("QuickGelu", domain=CONTRIB, alpha=1.0)),
    },
    "HardSwish": {
        "HardSwish": Spelling(fused("HardSwish")),
        "HardSigmoid": Spelling(hard_swish),
        "Clip": Spelling(hard_swish_by_clip),
    },
    "HardSigmoid": {
        "HardSigmoid": Spelling(fused("HardSigmoid", alpha=1 / 6)),
        "Clip": Spelling(hard_sigmoid_by_clip),
    },
    "cube": {
        "Pow": Spelling(fused("Pow", 3.0)),
        "Mul": Spelling(lambda b, x: str(b.node("Mul", b.node("Mul", x, x), x))),
    },
    "square": {
        "Pow": Spelling(fused("Pow", 2.0)),
        "Mul": Spelling(lambda b, x: str(b.node("Mul", x, x))),
    },
    "ReLU": {
        "Relu": Spelling(fused("Relu")),
        "Clip": Spelling(lambda b, x: str(b.node("Clip", x, b.const(0.0)))),
        "Max": Spelling(fused("Max", 0.0)),
        "Max, other order": Spelling(lambda b, x: str(b.node("Max", b.const(0.0), x))),
        "Clip, opset 10": Spelling(fused("Clip", min=0.0), 10),
        "LeakyRelu": Spelling(fused("LeakyRelu", alpha=0.0)),
        "Elu": Spelling(fused("Elu", alpha=0.0)),
        "PRelu": Spelling(fused("PRelu", 0.0)),
        "PRelu, a slope a column": Spelling(fused("PRelu", np.zeros(WIDE))),
        "ThresholdedRelu": Spelling(fused("ThresholdedRelu", alpha=0.0)),
        "Where": Spelling(relu_by_choice),
        "Where, the other way round": Spelling(lambda b, x: relu_by_choice(b, x, "Less")),
        "Cast": Spelling(relu_by_cast),
        "Abs": Spelling(relu_by_abs),
    },
    "ReLU6": {
        "Clip": Spelling(fused("Clip", 0.0, 6.0)),
        "Min of Max": Spelling(limited("Max", "Min")),
        "Max of Min": Spelling(limited("Min", "Max")),
        "Min of Relu": Spelling(limited("Relu", "Min")),
        "Relu of Min": Spelling(limited("Min", "Relu")),
        "Relu of Clip": Spelling(limited("Clip", "Relu")),
        "Where of Relu": Spelling(relu6_by_choice),
        "difference of two": Spelling(relu6_of_relus),
        "HardSigmoid": Spelling(relu6_by_hard_sigmoid),
    },
    "LayerNorm": {
        "LayerNormalization": Spelling(layer_norm),
        "steps": Spelling(layer_norm_steps),
        "steps, by products": Spelling(lambda b, x: layer_norm_steps(b, x, power=False)),
        "steps, opset 18": Spelling(layer_norm_steps, 18),
        "Mul and Add": Spelling(norm_then("LayerNormalization", "Mul", offset="Add")),
        "Div and Sub": Spelling(norm_then("LayerNormalization", "Div", offset="Sub")),
        "two factors": Spelling(norm_then("LayerNormalization", "Mul", "Mul", offset="Add")),
    },
    "LayerNorm without beta": {
        "LayerNormalization": Spelling(scaled_norm),
        "Mul": Spelling(norm_then("LayerNormalization", "Mul")),
        "Div": Spelling(norm_then("LayerNormalization", "Div", "Div")),
    },
    "LayerNorm of a sum": {
        "Add": Spelling(residual_norm(contrib=False)),
        "SkipLayerNormalization": Spelling(residual_norm(contrib=True)),
        "Mul and Add": Spelling(residual_norm_then_affine),
    },
    "LayerNorm of a sum with bias": {
        "Add": Spelling(residual_norm(contrib=False, bias=True)),
        "SkipLayerNormalization": Spelling(residual_norm(contrib=True, bias=True)),
    },
    "RMSNorm": {
        "RMSNormalization": Spelling(
            lambda b, x: str(b.node("RMSNormalization", x, b.weights(WIDE))), 23
        ),
        "SimplifiedLayerNormalization": Spelling(
            lambda b, x: str(b.node("SimplifiedLayerNormalization", x, b.weights(WIDE), axis=-1))
        ),
        "Mul": Spelling(norm_then("RMSNormalization", "Mul"), 23),
        "Simplified, Mul": Spelling(norm_then("SimplifiedLayerNormalization", "Mul")),
        "steps": Spelling(rms_norm_steps),
        "steps, by products": Spelling(lambda b, x: rms_norm_steps(b, x, power=False)),
        "LpNormalization": Spelling(l2_norm("LpNormalization")),
        "ReduceL2": Spelling(l2_norm("ReduceL2")),
        "ReduceL2, not below": Spelling(l2_norm("Clip")),
    },
    "softmax": {
        "Softmax": Spelling(fused("Softmax", axis=-1)),
        "Softmax, opset 11": Spelling(fused("Softmax", axis=2), 11),
        "steps": Spelling(softmax_steps),
        "LogSoftmax": Spelling(lambda b, x: str(b.node("Exp", b.node("LogSoftmax", x, axis=-1)))),
        "ReduceLogSumExp": Spelling(lambda b, x: str(b.node("Exp", log_sum(b, x)))),
    },
    "logarithm of a softmax": {
        "LogSoftmax": Spelling(fused("LogSoftmax", axis=-1)),
        "LogSoftmax, opset 11": Spelling(fused("LogSoftmax", axis=2), 11),
        "Log": Spelling(lambda b, x: str(b.node("Log", b.node("Softmax", x, axis=-1)))),
        "ReduceLogSumExp": Spelling(log_sum),
        "steps": Spelling(log_softmax_steps),
    },
    "nothing": {
        "nothing": Spelling(lambda b, x: x),
        "Identity": Spelling(fused("Identity")),
        "Pad": Spelling(reshaped(("Pad", (0,) * 6))),
        "Add": Spelling(fused("Add", 0.0)),
        "Mul": Spelling(fused("Mul", 1.0)),
        "Div": Spelling(fused("Div", 1.0)),
        "Sub": Spelling(fused("Sub", 0.0)),
        "Reshape": Spelling(reshaped(("Reshape", (SEQ, WIDE)), ("Reshape", (1, SEQ, WIDE)))),
        "Squeeze": Spelling(reshaped(("Squeeze", (0,)), ("Unsqueeze", (0,)))),
        "Unsqueeze": Spelling(reshaped(("Unsqueeze", (1,)), ("Squeeze", (1,)))),
        "Flatten": Spelling(flattened),
        "Expand": Spelling(reshaped(("Expand", (1, SEQ, WIDE)))),
        "Tile": Spelling(reshaped(("Tile", (1, 1, 1)))),
        "Concat": Spelling(lambda b, x: str(b.node("Concat", x, axis=1))),
        "Dropout": Spelling(fused("Dropout")),
        "Slice": Spelling(lambda b, x: str(b.node("Slice", x, b.ints(0), b.ints(99), b.ints(1)))),
        "Cast": Spelling(
            lambda b, x: str(b.node("Cast", b.node("Cast", x, to=10), to=1)), same=False
        ),
    },
    "halves": {name: Spelling(halves(name)) for name in ("Split", "Slice", "Gather", "Reshape")},
    "a branch": {
        name: Spelling(computed_again(name))
        for name in ("once", "twice", "order", "attributes", "steps")
    },
    "two norms of one tensor": {
        name: Spelling(two_norms(name)) for name in ("LayerNormalization", "steps")
    },
    "a linear layer": {
        name: Spelling(linear(name))
        for name in (
            *("MatMul", "bias first", "transposed", "Einsum", "FusedMatMul"),
            *("Gemm", "Gemm, transposed", "Conv"),
        )
    },
    "a factor a column before a product": {
        "folded": Spelling(before_a_product(form="folded")),
        "Mul": Spelling(before_a_product("Mul")),
        "Div": Spelling(before_a_product("Div")),
        "Mul, Gemm": Spelling(before_a_product("Mul", form="Gemm")),
        "Mul, Einsum": Spelling(before_a_product("Mul", form="Einsum")),
        "Mul, Conv": Spelling(before_a_product("Mul", form="Conv")),
    },
    "a line a column before a product": {
        "folded": Spelling(before_a_product(form="folded with bias")),
        "Mul and Add": Spelling(before_a_product("Mul", "Add")),
        "Div and Sub": Spelling(before_a_product("Div", "Sub")),
        "Sub from a vector": Spelling(before_a_product("from")),
        "Mul and Add, Gemm": Spelling(before_a_product("Mul", "Add", form="Gemm")),
        "Mul and Add, Einsum": Spelling(before_a_product("Mul", "Add", form="Einsum")),
        "Mul and Add, Conv": Spelling(before_a_product("Mul", "Add", form="Conv")),
    },
}
# Families of what the machine computes, as an exporter may spread it over several operators.
RUN = (
    *(
        "ReLU",
        "ReLU6",
        "LayerNorm",
        "LayerNorm without beta",
        "LayerNorm of a sum",
        "RMSNorm",
        "softmax",
        "logarithm of a softmax",
    ),
    *("a branch", "two norms of one tensor"),
    *("a factor a column before a product", "a line a column before a product"),
)
CASES = [(family, name) for family, spellings in FAMILIES.items() for name in spellings]


@pytest.mark.parametrize(("family", "name"), CASES, ids=[": ".join(case) for case in CASES])
@pytest.mark.parametrize("machine", ["ibert", "gemmini"])
def test_a_spelling_costs_what_the_first_does(family: str, name: str, machine: str) -> None:
    first, *_ = FAMILIES[family].values()
    spelling = FAMILIES[family][name]
    assert price(between_layers(spelling), machine) == price(between_layers(first), machine)


# -- quantized files -------------------------------------------------------------------------------


@pytest.mark.parametrize("written", list(QuantFormat), ids=lambda written: written.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantized_file_costs_what_the_float_one_does(
    family: str, written: QuantFormat, tmp_path: Path
) -> None:
    for name, spelling in FAMILIES[family].items():
        model = between_layers(spelling)
        apart = (
            name == "difference of two"
        )  # the quantizer drops one relu, and what is left is none
        file = quantized(model, tmp_path, written) if spelling.opset == 17 and not apart else None
        assert file is None or price(file) == price(model), name


@pytest.mark.parametrize("written", list(QuantFormat), ids=lambda written: written.name)
@pytest.mark.parametrize("name", FAMILIES["ReLU6"])
def test_a_quantized_relu6_runs_as_the_file_says(
    name: str, written: QuantFormat, tmp_path: Path
) -> None:
    """Also where the quantizer has dropped a part of it, for codes that do its work."""
    step = FAMILIES["ReLU6"][name].step
    # Values beyond 6 on either side.
    wide = Spelling(lambda b, x: step(b, b.node("Mul", x, b.const(8.0))))
    file = quantized(between_layers(wide), tmp_path, written)
    assert file is not None
    assert _sqnr(file) > 30


@pytest.mark.parametrize("written", list(QuantFormat), ids=lambda written: written.name)
@pytest.mark.parametrize("factor", [0.02, 1.0, 8.0])
@pytest.mark.parametrize("family", ["HardSwish", "HardSigmoid"])
def test_a_function_whose_clip_the_quantizer_drops_stays_one(
    family: str, factor: float, written: QuantFormat, tmp_path: Path
) -> None:
    """For codes that begin and end where it does, or where its argument's do."""

    def wide(name: str) -> onnx.ModelProto:
        step = FAMILIES[family][name].step
        return between_layers(Spelling(lambda b, x: step(b, b.node("Mul", x, b.const(factor)))))

    file = quantized(wide("Clip"), tmp_path, written)
    assert file is not None and "Clip" not in {node.op_type for node in file.graph.node}
    assert price(file) == price(wide(family))
    assert _sqnr(file) > 25


@pytest.mark.parametrize("written", list(QuantFormat), ids=lambda written: written.name)
def test_a_product_with_a_relu_is_no_hard_swish(written: QuantFormat, tmp_path: Path) -> None:
    def step(b: ModelBuilder, x: str) -> str:
        x = b.node("Mul", x, b.const(8.0))
        rectified = b.node("Relu", b.node("Add", x, b.const(3.0)))
        return str(b.node("Div", b.node("Mul", x, rectified), b.const(6.0)))

    file = quantized(between_layers(Spelling(step)), tmp_path, written)
    assert file is not None
    assert "hard_swish" not in kinds(import_onnx(file))


def test_a_scaled_softmax_of_many_columns_is_a_softmax() -> None:
    """Its numbers are so small that a loose tolerance takes them for those of a norm."""
    b = ModelBuilder()
    x = b.input("x", (1, SEQ, 512))
    graph = import_onnx(b.model(b.node("Softmax", b.node("Mul", x, b.const(0.125)), axis=-1)))
    assert kinds(graph) == ["softmax"]


def drawn(value: onnx.ValueInfoProto) -> np.ndarray[Any, Any]:
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return np.random.default_rng(len(value.name)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("family", "name"), CASES, ids=[": ".join(case) for case in CASES])
def test_spellings_compute_the_same(family: str, name: str) -> None:
    """By onnxruntime; the tanh and sigmoid forms of a GELU are near it."""
    first, *_ = FAMILIES[family].values()
    spelling = FAMILIES[family][name]
    expected, got = (
        run(model, **{value.name: drawn(value) for value in model.graph.input})[0]
        for model in (between_layers(first), between_layers(spelling))
    )
    np.testing.assert_allclose(got, expected, atol=1e-5 if spelling.same else 0.02)


@pytest.mark.parametrize("family", RUN)
def test_every_spelling_runs_as_well_as_the_first(family: str) -> None:
    """In int8, against onnxruntime: by the same kernels, so with the same error, to a few rounded codes."""
    ratios = {name: _sqnr(between_layers(s)) for name, s in FAMILIES[family].items() if s.same}
    first, *others = ratios.values()
    assert first > 20
    assert min(others) > first - 2, ratios


def _sqnr(model: onnx.ModelProto) -> float:
    """Decibels between what a file computes in float and what the machine makes of it."""
    feeds = {value.name: drawn(value) for value in model.graph.input}
    network = compile_network(model, preset("ibert"), [feeds])
    (expected,) = run(model, **feeds)
    (got,) = run_network(network, feeds, "integers").values()
    noise = ((got - expected) ** 2).sum()
    return float(10 * np.log10((expected**2).sum() / noise))
