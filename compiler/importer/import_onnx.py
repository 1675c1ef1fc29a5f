"""Import an ONNX Transformer as the operator graph: the first step from a file to a Program.

    read, inline functions, bind dimensions    onnx/load
    fold constants and shapes, drop QDQ        onnx/fold, nodes, shapes, evaluation,
                                               quantized_operators
    recognise decomposed operators             recognition/patterns
    one node for equal ones                    onnx/equal_nodes
    the net under all of these                 onnx/boundary, forms
    one handler per operator type              operators, layout, matmul, products, attention
    operators and views under construction     emitter, views
    causal masks, padding and position biases  onnx/masks

Supported are opset 13 (older ones mostly) to the newest that the installed onnx knows.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import onnx

from codesign.compiler.graph import Graph
from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.importer.operators import HANDLERS
from codesign.compiler.onnx.boundary import SIZE_REMEDY, node_place, reading, reading_node
from codesign.compiler.onnx.equal_nodes import share
from codesign.compiler.onnx.fold import fold
from codesign.compiler.onnx.load import Dimensions, input_shapes, read_model
from codesign.compiler.onnx.nodes import OnnxGraph, Unsupported
from codesign.compiler.onnx.shapes import ExtentMismatch, Node, Origin, TooLarge, UnknownShape
from codesign.compiler.recognition.patterns import recognise
from codesign.hw.errors import ModelError, UnsupportedError
from codesign.hw.platform.text import short

_LISTED_NODES = 8
_REMEDY = "export the part of the model without them"
_CUSTOM_REMEDY = f"replace them by standard ONNX operators, or {_REMEDY}"


class NothingToCompute(ModelError):
    """A model whose outputs depend on no activation: constants and indices alone."""


def import_onnx(
    source: Path | onnx.ModelProto,
    *,
    batch: int | None = None,
    seq: int | None = None,
    dims: Mapping[str, int] | None = None,
    name: str | None = None,
    where: str | None = None,
    integers: Collection[str] = (),
    shares: bool = True,
) -> Graph:
    """Return the operator graph of an ONNX model, given as a file or in memory.

    `batch` and `seq` give the symbolic batch and sequence dimensions their extents, whatever the
    exporter called them; `dims` names any dimension, or an axis as `input.axis`. Weights are not
    read: external data may be missing. Errors call the graph `name`, and say that a place is in
    `where`: the file that a model in memory was read from. `integers` names constants that stand for
    the integers of a quantized file, beside those that are integers here. With `shares`, what the
    file computes twice is computed once.

    Raises ModelError for a file that cannot be read or a dimension without a value, and
    UnsupportedError naming all nodes that cannot be imported.
    """
    title = name or (source.stem if isinstance(source, Path) else source.graph.name) or "model"
    with reading(where or (str(source) if isinstance(source, Path) else title)):
        model = read_model(source)
        shapes = input_shapes(model, Dimensions(batch, seq, dict(dims or {})))
        folded = fold(model, shapes)
        unsupported = list(folded.unsupported)
        if not unsupported:
            recognise(folded)
            if shares:
                share(folded)
        emitter = _emit(folded, unsupported, integers)
        if unsupported:
            mismatch = any(node.cause is ExtentMismatch for node in unsupported)
            raise UnsupportedError(_message(title, unsupported), mismatch=mismatch)
        graph = emitter.finish(title)
    empty = [f"{symbol}=0" for symbol, extent in (dims or {}).items() if extent == 0]
    if not graph.dag and empty:
        raise NothingToCompute(
            f"{title} has nothing to compute with {', '.join(empty)}: give it at least 1 (--bind)"
        )
    if not graph.dag:
        raise NothingToCompute(
            f"{title} has nothing to compute: its outputs are constants, indices or inputs moved about"
        )
    return graph


def _emit(folded: OnnxGraph, unsupported: list[Unsupported], integers: Collection[str]) -> Emitter:
    """Run the handlers over all nodes, collecting those that have none."""
    emitter = Emitter(folded, integers)
    lost: set[str] = set()
    for node in folded.nodes():
        if lost.intersection(node.inputs):
            lost.update(node.outputs)
            continue
        with reading_node(node_place(node.op_type, node.name), partial(folded.held, node)):
            reason = _handle(emitter, node)
        if reason is not None:
            unsupported.append(Unsupported(node.op_type, node.name, reason))
            lost.update(node.outputs)
    return emitter


def _handle(emitter: Emitter, node: Node) -> str | None:
    """Import one node; return why it cannot be ("" when its type says it), None when it was."""
    try:
        if all(emitter.origin(name) == Origin.INDEX for name in node.outputs if name):
            emitter.index_node(node)
            return None
        handler = HANDLERS.get(node.op_type)
        if handler is None:
            return ""
        handler(emitter, node)
    except UnknownShape as error:
        return str(error)
    return None


def _message(title: str, unsupported: Sequence[Unsupported]) -> str:
    """One line that names every unsupported node, grouped by type when there are many."""
    if len(unsupported) <= _LISTED_NODES:
        nodes = [
            f"{node.op_type} {short(node.name)!r}" + (f" ({node.reason})" if node.reason else "")
            for node in unsupported
        ]
    else:
        counts = Counter(node.op_type for node in unsupported)
        first = {node.op_type: node.name for node in reversed(unsupported)}
        nodes = [
            f"{op_type} {short(first[op_type])!r}" + (f" and {count - 1} more" if count > 1 else "")
            for op_type, count in counts.items()
        ]
    custom = any("::" in node.op_type for node in unsupported)
    remedy = _CUSTOM_REMEDY if custom else _REMEDY
    if all(node.cause is TooLarge for node in unsupported):
        remedy = SIZE_REMEDY
    return f"cannot import {title}: unsupported ONNX nodes {', '.join(nodes)}: {remedy}"
