"""ONNX graphs of the vision families: ViT and ResNet."""

import numpy as np

from codesign.models.zoo.families import ResnetConfig, VitConfig
from codesign.models.zoo.onnx_builder import GraphBuilder


def vit(b: GraphBuilder, config: VitConfig, batch: int | None) -> None:
    """pixel_values[batch, 3, image, image] -> logits[batch, classes]."""
    size: int | str = "batch" if batch is None else batch
    d = config.d_model
    pixels = b.input("pixel_values", (size, 3, config.image_size, config.image_size))
    patches = b.op(
        "Conv",
        pixels,
        b.weight("patch.weight"),
        b.weight("patch.bias"),
        name="patch/Conv",
        kernel_shape=[config.patch_size] * 2,
        strides=[config.patch_size] * 2,
    )
    flat = b.op("Reshape", patches, b.integers(0, d, config.tokens - 1))
    tokens = b.op("Transpose", flat, perm=[0, 2, 1])
    first = b.weight("embeddings.class_token")
    if batch is None:
        first = b.op("Expand", first, b.op("Concat", b.length(pixels, 0), b.integers(1, d), axis=0))
    else:
        first = b.op("Expand", first, b.integers(batch, 1, d))
    x = b.op("Concat", first, tokens, axis=1)
    x = b.op("Add", x, b.weight("embeddings.position"), name="embeddings.position/Add")
    for layer in range(config.layers):
        prefix = f"layer{layer}"
        y = b.layer_norm(x, f"{prefix}.attention.norm", 1e-6)
        y = b.attention(y, y, f"{prefix}.attention", config.heads, config.head_dim)
        x = b.op("Add", y, x, name=f"{prefix}.attention.residual/Add")
        y = b.layer_norm(x, f"{prefix}.ffn.norm", 1e-6)
        y = b.gelu(b.linear(y, f"{prefix}.ffn.up"), f"{prefix}.ffn")
        y = b.linear(y, f"{prefix}.ffn.down")
        x = b.op("Add", y, x, name=f"{prefix}.ffn.residual/Add")
    x = b.layer_norm(x, "norm", 1e-6)
    x = b.op("Gather", x, b.constant(np.asarray(0, np.int64)), axis=1, name="head/Gather")
    b.output(_gemm(b, x, "head"), "logits", (size, config.classes))


def resnet(b: GraphBuilder, config: ResnetConfig, batch: int | None) -> None:
    """pixel_values[batch, 3, image, image] -> logits[batch, classes]."""
    size: int | str = "batch" if batch is None else batch
    pixels = b.input("pixel_values", (size, 3, config.image_size, config.image_size))
    x = b.op("Relu", _conv(b, pixels, "stem", kernel=7, stride=2), name="stem/Relu")
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = b.op("MaxPool", x, name="stem/MaxPool", **window)
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            prefix = f"stage{stage}.block{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = b.op("Relu", _conv(b, x, f"{prefix}.conv1"), name=f"{prefix}.conv1/Relu")
            y = _conv(b, y, f"{prefix}.conv2", kernel=3, stride=stride)
            y = _conv(b, b.op("Relu", y, name=f"{prefix}.conv2/Relu"), f"{prefix}.conv3")
            if block == 0:
                x = _conv(b, x, f"{prefix}.shortcut", stride=stride)
            x = b.op("Relu", b.op("Add", y, x, name=f"{prefix}/Add"), name=f"{prefix}/Relu")
    pooled = b.op("GlobalAveragePool", x, name="classifier/GlobalAveragePool")
    flat = b.op("Flatten", pooled, axis=1)
    b.output(_gemm(b, flat, "classifier"), "logits", (size, config.classes))


def _conv(b: GraphBuilder, x: str, prefix: str, kernel: int = 1, stride: int = 1) -> str:
    return b.op(
        "Conv",
        x,
        b.weight(f"{prefix}.weight"),
        b.weight(f"{prefix}.bias"),
        name=f"{prefix}/Conv",
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[kernel // 2] * 4,
    )


def _gemm(b: GraphBuilder, x: str, prefix: str) -> str:
    weight, bias = b.weight(f"{prefix}.weight"), b.weight(f"{prefix}.bias")
    return b.op("Gemm", x, weight, bias, name=f"{prefix}/Gemm")
