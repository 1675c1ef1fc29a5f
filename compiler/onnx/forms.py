"""The form of a node: how many inputs its operator takes, and which attributes of which types.

Standard operators by ONNX's own schemas, those of onnxruntime by a table. A node of another form has no
meaning, here or in onnxruntime; it is refused before anything reads it. Operators that neither
knows are left to the importer, which names them.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto

_MOST_INPUTS = 1 << 10  # of an operator without a schema
_OPTION = onnx.defs.OpSchema.FormalParameterOption


class _Form(NamedTuple):
    """What a node of an operator must have."""

    fewest: int  # inputs
    most: int
    required: frozenset[int]  # inputs that may not be left out
    needed: tuple[str, ...]  # attributes
    types: Mapping[str, int]  # of attributes
    outputs: int  # at most
    positive: tuple[str, ...] = ()  # attributes that count something


def _contrib(fewest: int, *positive: str, outputs: int = 1) -> _Form:
    types = dict.fromkeys(positive, int(AttributeProto.INT))
    return _Form(fewest, _MOST_INPUTS, frozenset(), positive, types, outputs, positive)


# com.microsoft, whose schemas are not in the package onnx.
_CONTRIB: Mapping[str, _Form] = {
    "Attention": _contrib(2, "num_heads", outputs=2),
    "BiasGelu": _contrib(2),
    "DynamicQuantizeMatMul": _contrib(3),
    "EmbedLayerNormalization": _contrib(7, outputs=3),
    "FastGelu": _contrib(1),
    "FusedConv": _contrib(2),
    "FusedGemm": _contrib(2),
    "FusedMatMul": _contrib(2),
    "Gelu": _contrib(1),
    "GroupQueryAttention": _contrib(1, "num_heads", "kv_num_heads", outputs=4),
    "MatMulIntegerToFloat": _contrib(4),
    "MatMulNBits": _contrib(3, "K", "N", "block_size"),
    "MultiHeadAttention": _contrib(1, "num_heads", outputs=4),
    "QAttention": _contrib(5, "num_heads", outputs=2),
    "QEmbedLayerNormalization": _contrib(8, outputs=2),
    "QGemm": _contrib(6),
    "QLinearAdd": _contrib(7),
    "QLinearAveragePool": _contrib(4),
    "QLinearConcat": _contrib(5),
    "QLinearGlobalAveragePool": _contrib(4),
    "QLinearLeakyRelu": _contrib(4),
    "QLinearMul": _contrib(7),
    "QLinearReduceMean": _contrib(4),
    "QLinearSigmoid": _contrib(4),
    "QLinearSoftmax": _contrib(4),
    "QuickGelu": _contrib(1),
    "RotaryEmbedding": _contrib(4),
    "SkipLayerNormalization": _contrib(3, outputs=4),
    "SkipSimplifiedLayerNormalization": _contrib(3, outputs=4),
    "TransposeMatMul": _contrib(2),
}


def fault(node: onnx.NodeProto, opsets: Mapping[str, int]) -> str | None:
    """Why a node has not the form of its operator; None where it has, or the operator is unknown.

    `opsets` has the version of every domain, "" for ONNX's own.
    """
    untyped = [a.name for a in node.attribute if not (a.type or a.ref_attr_name)]
    if untyped:
        return f"its attribute {untyped[0]} has no type"
    if node.op_type == "Constant" and len(node.attribute) != 1:
        return f"it has {len(node.attribute)} attributes but takes one, its value"
    domain = "" if node.domain == "ai.onnx" else node.domain
    form = _form(node.op_type, domain, opsets.get(domain, 1))
    if form is None:
        return None
    given, made = len(node.input), len(node.output)
    if given < form.fewest:
        return f"it has {given} inputs but takes at least {form.fewest}"
    if given > form.most:
        return f"it has {given} inputs but takes at most {form.most}"
    if not 1 <= made <= form.outputs or not any(node.output):
        return f"it has {made} outputs but gives 1 to {form.outputs}"
    missing = [index for index in form.required if index < given and not node.input[index]]
    if missing:
        return f"its input {missing[0]} is left out"
    return _attribute_fault(node, form)


def _attribute_fault(node: onnx.NodeProto, form: _Form) -> str | None:
    found = {attribute.name: attribute for attribute in node.attribute}
    for name in form.needed:
        if name not in found:
            return f"it has no attribute {name}"
    for name, attribute in found.items():
        wanted = form.types.get(name, attribute.type)
        if attribute.type != wanted and not attribute.ref_attr_name:
            kinds = [_kind(number) for number in (attribute.type, wanted)]
            return f"its attribute {name} is {kinds[0]} but must be {kinds[1]}"
    for name in form.positive:
        if found[name].i < 1:
            return f"its attribute {name} is {found[name].i} but must be at least 1"
    return None


@lru_cache(maxsize=1024)
def _form(op_type: str, domain: str, opset: int) -> _Form | None:
    if domain == "com.microsoft":
        return _CONTRIB.get(op_type)
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except (onnx.defs.SchemaError, ValueError, TypeError):
        return None if domain else _CONTRIB.get(op_type)  # some exporters leave the domain out
    required = {
        index
        for index, formal in enumerate(schema.inputs)
        if formal.option == _OPTION.Single and index < schema.min_input
    }
    attributes: list[Any] = list(schema.attributes.values())
    return _Form(
        schema.min_input,
        schema.max_input,
        frozenset(required),
        tuple(attribute.name for attribute in attributes if attribute.required),
        {attribute.name: int(attribute.type) for attribute in attributes},
        schema.max_output,
    )


def _kind(number: int) -> str:
    try:
        return str(AttributeProto.AttributeType.Name(number))
    except ValueError:
        return f"of type {number}"
