"""Make the small ONNX files in this folder; run with the [exports] extra installed.

    python tests/data/make_exports.py

A BERT of 2 layers (hidden 32, 4 heads, feed-forward 40, 16 tokens, random weights, seed 0) from
both of torch's exporters, with symbolic batch and sequence. The script exporter sees attention
written out, the dynamo exporter torch's scaled_dot_product_attention.
"""

from pathlib import Path

import onnx
import torch
import transformers

FOLDER = Path(__file__).parent


class Encoder(torch.nn.Module):  # type: ignore[misc]
    """BERT without the arguments that an exporter cannot trace."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, return_dict=False
        )[0]
        return result


def tiny_bert(attention: str) -> Encoder:
    """Return the model with "eager" or "sdpa" attention, in evaluation mode."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        vocab_size=16,
        max_position_embeddings=16,
        attn_implementation=attention,
    )
    encoder = Encoder(transformers.BertModel(config, add_pooling_layer=False))
    encoder.eval()
    return encoder


def strip(path: Path) -> None:
    """Remove source locations and other metadata that only make the file larger."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    for weights in model.graph.initializer:
        weights.ClearField("metadata_props")
    del model.graph.value_info[:]
    model.graph.ClearField("metadata_props")
    del model.metadata_props[:]
    onnx.save(model, path)


def main() -> None:
    ids = torch.ones(2, 8, dtype=torch.long)
    mask = torch.ones(2, 8, dtype=torch.long)  # the dynamo exporter makes one input of one tensor
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    for exporter in ("script", "dynamo"):
        path = FOLDER / f"bert_tiny_{exporter}.onnx"
        options = (
            {"dynamo": True, "dynamic_shapes": axes, "external_data": False}
            if exporter == "dynamo"
            else {"dynamo": False, "dynamic_axes": axes}
        )
        torch.onnx.export(
            tiny_bert("eager" if exporter == "script" else "sdpa"),
            (ids, mask),
            path,
            input_names=names,
            output_names=["hidden"],
            opset_version=18,
            **options,
        )
        strip(path)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
