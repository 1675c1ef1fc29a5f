"""Bottleneck ResNet (arXiv 1512.03385), stride in the 3x3 convolution, batch norms folded."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from codesign.models.zoo import parameters
from codesign.models.zoo.model_config import ModelConfig, check_config
from codesign.models.zoo.parameters import Entry, Shape

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import GraphBuilder


@dataclass(frozen=True)
class ResnetConfig(ModelConfig):
    """One ResNet.

    Stage i has `blocks[i]` bottlenecks of `width * 2^i` channels, four times as many at the output.
    """

    name: str
    blocks: tuple[int, ...]
    width: int = 64
    image_size: int = 224
    classes: int = 1000

    family: ClassVar[str] = "resnet"

    def __post_init__(self) -> None:
        check_config(self, () if self.blocks else ("blocks names no stage",))

    @classmethod
    def sizes(cls) -> tuple["ResnetConfig", ...]:
        """ResNet-50."""
        return (cls("resnet50", blocks=(3, 4, 6, 3)),)

    def parameters(self) -> Iterator[Entry]:
        """Stem, stages, classifier."""
        yield from parameters.convolution("stem", 3, self.width, 7)
        channels = self.width
        for stage, blocks in enumerate(self.blocks):
            width = self.width << stage
            for block in range(blocks):
                prefix = f"stage{stage}.block{block}"
                yield from parameters.convolution(f"{prefix}.conv1", channels, width, 1)
                yield from parameters.convolution(f"{prefix}.conv2", width, width, 3)
                yield from parameters.convolution(f"{prefix}.conv3", width, 4 * width, 1)
                if block == 0:
                    yield from parameters.convolution(f"{prefix}.shortcut", channels, 4 * width, 1)
                channels = 4 * width
        yield from parameters.linear("classifier", channels, self.classes)

    def deviation(self, name: str, shape: Shape) -> float | None:
        """Sixteen residual adds would double the variance each: what is added is small."""
        return 0.5 / math.sqrt(math.prod(shape[1:])) if name.endswith("conv3.weight") else None

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """pixel_values[batch, 3, image, image] -> logits[batch, classes]."""
        size: int | str = "batch" if batch is None else batch
        pixels = b.input("pixel_values", (size, 3, self.image_size, self.image_size))
        x = b.op("Relu", b.convolution(pixels, "stem", kernel=7, stride=2), name="stem/Relu")
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        x = b.op("MaxPool", x, name="stem/MaxPool", **window)
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                prefix = f"stage{stage}.block{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                y = b.convolution(x, f"{prefix}.conv1")
                y = b.op("Relu", y, name=f"{prefix}.conv1/Relu")
                y = b.convolution(y, f"{prefix}.conv2", kernel=3, stride=stride)
                y = b.op("Relu", y, name=f"{prefix}.conv2/Relu")
                y = b.convolution(y, f"{prefix}.conv3")
                if block == 0:
                    x = b.convolution(x, f"{prefix}.shortcut", stride=stride)
                x = b.op("Relu", b.op("Add", y, x, name=f"{prefix}/Add"), name=f"{prefix}/Relu")
        pooled = b.op("GlobalAveragePool", x, name="classifier/GlobalAveragePool")
        flat = b.op("Flatten", pooled, axis=1)
        b.output(b.gemm(flat, "classifier"), "logits", (size, self.classes))
