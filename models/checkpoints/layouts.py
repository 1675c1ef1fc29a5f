"""What Hugging Face's folders hold of each architecture that is read: sizes, options, names of tensors.

A layout knows the fields of config.json, what of them is supported, and the checkpoint's name of each
of our parameters. Its matrices are [out, in].
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.llama import LlamaConfig, llama
from codesign.models.zoo.model_config import ModelConfig

EPSILON = 1e-12  # of the LayerNorms that `export` writes for BERT
LayoutFields = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """One architecture's folder.

    `sizes`: fields of the configuration by their names in config.json, all of them there.
    `violations` yields what else of config.json would make another network; `config` makes ours.
    `outer` and `layer`: parts of parameters' names, ours and theirs; `layers` stands before a number.
    """

    sizes: Mapping[str, str]
    violations: Callable[[LayoutFields], Iterator[str]]
    config: Callable[[str, Mapping[str, int], LayoutFields], ModelConfig]
    outer: Mapping[str, str]
    layers: str
    layer: Mapping[str, str]
    prefix: str = ""  # which heads add before all names

    def name(self, ours: str) -> str:
        """The checkpoint's name of one of our parameters."""
        if ours in self.outer:
            return self.outer[ours]
        part, _, kind = ours.rpartition(".")
        kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
        if part in self.outer:
            return f"{self.outer[part]}.{kind}"
        layer, _, part = part.partition(".")
        return f"{self.layers}.{layer.removeprefix('layer')}.{self.layer[part]}.{kind}"

    def depth(self, names: set[str]) -> int:
        """How many layers the tensors of these names are of."""
        pattern = re.compile(rf"(?:{re.escape(self.prefix)})?{re.escape(self.layers)}\.(\d+)\.")
        found = (pattern.match(name) for name in names)
        return 1 + max((int(match[1]) for match in found if match), default=-1)


def other_values(fields: LayoutFields, wanted: LayoutFields) -> Iterator[str]:
    """The fields that have another value than the only one that is supported; absent means that."""
    for field, value in wanted.items():
        if fields.get(field, value) != value:
            yield f"{field} is {fields[field]!r}, not {value!r}"


# -- BERT ----------------------------------------------------------------------------------------------


def _bert_violations(fields: LayoutFields) -> Iterator[str]:
    wanted = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
    yield from other_values(fields, {**wanted, "layer_norm_eps": EPSILON, "is_decoder": False})


_BERT = Layout(
    sizes={
        "layers": "num_hidden_layers",
        "d_model": "hidden_size",
        "heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "vocab_size": "vocab_size",
        "max_positions": "max_position_embeddings",
        "type_vocab_size": "type_vocab_size",
    },
    violations=_bert_violations,
    config=lambda name, sizes, fields: BertConfig(name, **sizes),
    outer={
        "embeddings.word": "embeddings.word_embeddings.weight",
        "embeddings.position": "embeddings.position_embeddings.weight",
        "embeddings.token_type": "embeddings.token_type_embeddings.weight",
        "embeddings.norm": "embeddings.LayerNorm",
        "pooler": "pooler.dense",
    },
    layers="encoder.layer",
    layer={
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.output": "attention.output.dense",
        "attention.norm": "attention.output.LayerNorm",
        "ffn.up": "intermediate.dense",
        "ffn.down": "output.dense",
        "ffn.norm": "output.LayerNorm",
    },
    prefix="bert.",
)


# -- LLaMA and its kin ---------------------------------------------------------------------------------


def _llama_violations(fields: LayoutFields) -> Iterator[str]:
    yield from other_values(
        fields, {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    )
    for field in ("rope_scaling", "rope_parameters"):
        found = fields.get(field) or {}
        kind = (
            found.get("rope_type", found.get("type", "default"))
            if isinstance(found, dict)
            else found
        )
        if kind != "default":
            yield f"{field} is of the type {kind!r}, not 'default'"
    window = fields.get("sliding_window")
    windowed = fields["model_type"] == "mistral" or fields.get("use_sliding_window", False)
    if windowed and not (
        window is None or _whole(window) and window >= fields["max_position_embeddings"]
    ):
        yield f"sliding_window is {window!r}, not null"
    epsilon, base = _option(fields, "rms_norm_eps"), _option(fields, "rope_theta")
    if type(epsilon) is not float or not 0 < epsilon < 1:
        yield f"rms_norm_eps is {epsilon!r}, no number between 0 and 1"
    if type(base) not in (int, float) or not 1 < base < 1e12 or base != int(base):
        yield f"rope_theta is {base!r}, no whole number"
    for field in ("num_key_value_heads", "head_dim"):
        if fields.get(field) is not None and not _whole(fields[field]):
            yield f"{field} is {fields[field]!r}, no positive whole number"


def _whole(value: object) -> bool:
    return type(value) is int and value > 0


def _option(fields: LayoutFields, field: str) -> Any:
    """A field, or what transformers takes where it is absent."""
    nested = fields.get("rope_parameters")
    inner = nested if isinstance(nested, dict) else {}
    return fields.get(field, inner.get(field, {"rms_norm_eps": 1e-6, "rope_theta": 10_000}[field]))


def _llama_config(name: str, sizes: Mapping[str, int], fields: LayoutFields) -> LlamaConfig:
    return llama(
        name,
        **dict[str, Any](sizes),
        kv_heads=fields.get("num_key_value_heads"),
        head_dim=fields.get("head_dim"),
        rope_base=int(_option(fields, "rope_theta")),
        epsilon=float(_option(fields, "rms_norm_eps")),
        biases=fields["model_type"] == "qwen2",
        tied=fields.get("tie_word_embeddings") is True,
    )


_LLAMA = Layout(
    sizes={
        "layers": "num_hidden_layers",
        "d_model": "hidden_size",
        "heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "vocab_size": "vocab_size",
        "max_positions": "max_position_embeddings",
    },
    violations=_llama_violations,
    config=_llama_config,
    outer={
        "embeddings.word": "model.embed_tokens.weight",
        "norm": "model.norm",
        "head": "lm_head",
    },
    layers="model.layers",
    layer={
        "attention.norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "ffn.norm": "post_attention_layernorm",
        "ffn.gate": "mlp.gate_proj",
        "ffn.up": "mlp.up_proj",
        "ffn.down": "mlp.down_proj",
    },
)

# By model_type.
LAYOUTS = {"bert": _BERT, "llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA}
