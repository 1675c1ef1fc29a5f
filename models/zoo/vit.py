"""Vision Transformer (arXiv 2010.11929, sizes of DeiT 2012.12877): class token, pre-norm."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from codesign.models.zoo import parameters
from codesign.models.zoo.model_config import ModelConfig, check_config, heads_divide, is_size
from codesign.models.zoo.parameters import Entry

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import GraphBuilder


@dataclass(frozen=True)
class VitConfig(ModelConfig):
    """One Vision Transformer."""

    name: str
    layers: int
    d_model: int
    heads: int
    d_ff: int
    image_size: int = 224
    patch_size: int = 16
    classes: int = 1000

    family: ClassVar[str] = "vit"

    def __post_init__(self) -> None:
        check_config(self, self._violations())

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads

    @property
    def tokens(self) -> int:
        """Sequence length: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @classmethod
    def sizes(cls) -> tuple["VitConfig", ...]:
        """DeiT's smallest."""
        return (cls("vit-tiny", 12, d_model=192, heads=3, d_ff=768),)

    def parameters(self) -> Iterator[Entry]:
        """Patches, embeddings, layers, head."""
        d = self.d_model
        yield "patch.weight", (d, 3, self.patch_size, self.patch_size)
        yield "patch.bias", (d,)
        yield "embeddings.class_token", (1, 1, d)
        yield "embeddings.position", (self.tokens, d)
        for layer in range(self.layers):
            yield from parameters.attention(f"layer{layer}.attention", d, d)
            yield from parameters.ffn(f"layer{layer}.ffn", d, self.d_ff)
        yield from parameters.norm("norm", d)
        yield from parameters.linear("head", d, self.classes)

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """pixel_values[batch, 3, image, image] -> logits[batch, classes]."""
        size: int | str = "batch" if batch is None else batch
        x = self._embedded(b, size, batch)
        for layer in range(self.layers):
            prefix = f"layer{layer}"
            y = b.layer_norm(x, f"{prefix}.attention.norm", 1e-6)
            y = b.attention(y, y, f"{prefix}.attention", self.heads, self.head_dim)
            x = b.op("Add", y, x, name=f"{prefix}.attention.residual/Add")
            y = b.layer_norm(x, f"{prefix}.ffn.norm", 1e-6)
            y = b.gelu(b.linear(y, f"{prefix}.ffn.up"), f"{prefix}.ffn")
            y = b.linear(y, f"{prefix}.ffn.down")
            x = b.op("Add", y, x, name=f"{prefix}.ffn.residual/Add")
        x = b.layer_norm(x, "norm", 1e-6)
        x = b.op("Gather", x, b.constant(np.asarray(0, np.int64)), axis=1, name="head/Gather")
        b.output(b.gemm(x, "head"), "logits", (size, self.classes))

    def _embedded(self, b: "GraphBuilder", size: int | str, batch: int | None) -> str:
        """The class token and the patches [batch, tokens, d_model], with their positions."""
        d = self.d_model
        pixels = b.input("pixel_values", (size, 3, self.image_size, self.image_size))
        patches = b.op(
            "Conv",
            pixels,
            b.weight("patch.weight"),
            b.weight("patch.bias"),
            name="patch/Conv",
            kernel_shape=[self.patch_size] * 2,
            strides=[self.patch_size] * 2,
        )
        flat = b.op("Reshape", patches, b.integers(0, d, self.tokens - 1))
        tokens = b.op("Transpose", flat, perm=[0, 2, 1])
        first = b.weight("embeddings.class_token")
        if batch is None:
            extents = b.op("Concat", b.length(pixels, 0), b.integers(1, d), axis=0)
            first = b.op("Expand", first, extents)
        else:
            first = b.op("Expand", first, b.integers(batch, 1, d))
        x = b.op("Concat", first, tokens, axis=1)
        return b.op("Add", x, b.weight("embeddings.position"), name="embeddings.position/Add")

    def _violations(self) -> Iterator[str]:
        yield from heads_divide(self.d_model, self.heads)
        if is_size(self.patch_size) and self.image_size % self.patch_size:
            yield f"image_size {self.image_size} is not divisible by patch {self.patch_size}"
