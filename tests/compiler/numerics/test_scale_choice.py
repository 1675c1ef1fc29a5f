"""The scales of a residual's channels are the best of three ratios, at a price that counts it.

The price is written out here again, term by term: what rounding adds to the products that read the
tensor, to the sum that it is added to, and to the product behind which it is added, whose units are
a whole part of the residual's.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from bert_network import BERT, SEQ, network
from onnx import numpy_helper

from codesign.compiler.graph import Matmul
from codesign.compiler.numerics import quantize, tensor_scales
from codesign.compiler.numerics.channel_scales import Floats, ScaleReaders, least_error
from codesign.compiler.numerics.tensor_scales import TensorScales
from codesign.compiler.plan.work import Work
from codesign.models.zoo.export import export


class Kept(TensorScales):
    """Keeps what each choice of scales looked at."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tried: dict[str, list[tuple[ScaleReaders, Floats]]] = {}
        self.choosing: list[str] = []
        made.append(self)

    def _least_error(self, tensor: str, finest: Floats) -> Floats:
        self.choosing.append(tensor)
        found = super()._least_error(tensor, finest)
        self.choosing.pop()
        return found


made: list[Kept] = []


def compiled(monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto) -> Kept:
    """The scales of a network, with those that were tried."""

    def spy(on: ScaleReaders, start: Floats | None = None) -> Floats:
        found = least_error(on, start)
        tensors = made[-1]
        tensors.tried.setdefault(tensors.choosing[-1], []).append((on, found))
        return found

    monkeypatch.setattr(quantize, "TensorScales", Kept)
    monkeypatch.setattr(tensor_scales, "least_error", spy)
    network(model, "ibert")
    return made.pop()


def readers_price(tensors: TensorScales, tensor: str, scales: Floats) -> float:
    """Variance that rounding adds to the products that read it, relative to their energies."""
    squares, total = tensors.observed.squares, 0.0
    for work in tensors.works:
        if work.problem is None or work.inputs[0] != tensor:
            continue
        for op in map(tensors.operator, work.operators):
            if not isinstance(op, Matmul):
                continue
            for column in tensors.constants.linear[op.name].weights.T:
                unit = max(abs(column) * scales) / 127
                rounded = sum((column * scales) ** 2) + unit**2 * sum(squares[tensor] / scales**2)
                total += rounded / squares[op.output].sum()
    return float(total / 12)


def residual_price(tensors: TensorScales, work: Work, scales: Floats, ratio: int) -> float:
    """And to the sum that it enters: by itself, and by the weights of the product before it.

    The units of that product are the residual's over `ratio`.
    """
    squares = tensors.observed.squares
    steps = sum(squares[work.inputs[0]] / tensors.of(work.inputs[0]) ** 2)
    energy = squares[tensors.operator(work.operators[1]).output].sum()
    return float((sum(scales**2) + steps * sum((scales / ratio) ** 2)) / energy / 12)


def spread(seed: int) -> onnx.ModelProto:
    """The small BERT with norms whose channels have many ranges."""
    model, rng = export(BERT, batch=1, seq=SEQ, seed=seed), np.random.default_rng(seed)
    for parameter in model.graph.initializer:
        if "norm" in parameter.name:
            values = numpy_helper.to_array(parameter)
            values = (values * np.exp(rng.normal(0, 1.0, values.shape))).astype(values.dtype)
            parameter.CopyFrom(numpy_helper.from_array(values, parameter.name))
    return model


@pytest.mark.parametrize("seed", range(6))
def test_a_residual_is_priced(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    tensors = compiled(monkeypatch, spread(seed))
    residuals = 0
    for tensor, trials in tensors.tried.items():
        behind = tensors._behind(tensor)
        if not behind:
            continue
        residuals += 1
        ((work, limit),) = behind
        prices = []
        for on, scales in trials:
            direct = sum(on.direct * scales**2) / 12
            ratio = next(
                ratio
                for ratio in range(1, int((scales / limit).min() * (1 + 1e-9)) + 1)
                if direct == pytest.approx(residual_price(tensors, work, scales, ratio), rel=1e-9)
            )
            assert (scales >= ratio * limit * (1 - 1e-9)).all()
            prices.append(readers_price(tensors, tensor, scales) + direct)
        assert len(trials) == 3 and len(set(prices)) == 3
        assert tensors.scales[tensor] is trials[int(np.argmin(prices))][1]
    assert residuals == 2
