"""A toy family: a gated linear unit over tokens, priced, exported, run, searched by its width, and trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
from extension_tree import Extension, Tree

HEADING = "A family"
MODULE = '''"""A gated linear unit (arXiv 1612.08083) over tokens: two projections, one of them a gate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from codesign.models.zoo import parameters, text_graphs
from codesign.models.zoo.axes import Axis, Values
from codesign.models.zoo.model_config import Layer, Tensors, TextConfig, check_config
from codesign.models.zoo.parameters import Entry

if TYPE_CHECKING:
    import torch

    from codesign.models.zoo.onnx_builder import GraphBuilder


@dataclass(frozen=True)
class GluConfig(TextConfig):
    """One unit: `features` of a token in, `width` out; with `head` the next token."""

    name: str
    features: int
    width: int
    vocab_size: int = 50
    max_positions: int = 512
    head: bool = False

    family: ClassVar[str] = "glu"

    def __post_init__(self) -> None:
        check_config(self)

    @classmethod
    def sizes(cls) -> tuple["GluConfig", ...]:
        """The built-in one."""
        return (cls("glu", 48, 96),)

    def parameters(self) -> Iterator[Entry]:
        yield "embeddings.word", (self.vocab_size, self.features)
        yield from parameters.linear("value", self.features, self.width)
        yield from parameters.linear("gate", self.features, self.width)
        if self.head:
            yield from parameters.linear("head", self.width, self.vocab_size)

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        shape = text_graphs.extents(batch, seq)
        ids = b.input("input_ids", shape, integer=True)
        x = b.op("Gather", b.weight("embeddings.word"), ids, name="embeddings.word/Gather")
        gate = b.op("Sigmoid", b.linear(x, "gate"), name="gate/Sigmoid")
        y = b.op("Mul", b.linear(x, "value"), gate, name="gated/Mul")
        if self.head:
            b.output(b.linear(y, "head"), "logits", (*shape, self.vocab_size))
        else:
            b.output(y, "y", (*shape, self.width))

    @classmethod
    def axes(cls) -> tuple[Axis, ...]:
        return (Axis("width", (32, 64, 96, 128), "{} features out"),)

    @classmethod
    def options(cls) -> Mapping[str, int | bool]:
        return {"features": 48}

    @classmethod
    def point(cls, values: Values, seq: int, options: Mapping[str, Any]) -> "GluConfig":
        sizes: Any = values
        return cls("glu", **sizes, **options)

    trained_options: ClassVar[tuple[str, ...] | None] = ("features",)

    @classmethod
    def trained(
        cls, values: Values, positions: int, vocabulary: int, options: Mapping[str, Any]
    ) -> "GluConfig":
        sizes: Any = {"vocab_size": vocabulary, "max_positions": positions, "head": True}
        return replace(cls.point(values, positions, options), **sizes)

    def forward(
        self,
        weights: Tensors,
        ids: "torch.Tensor",
        dropout: float = 0.0,
        layer: Layer | None = None,
    ) -> "torch.Tensor":
        from codesign.models.zoo.torch_layers import dropped, projected

        x = dropped(weights["embeddings.word"][ids], dropout)
        y = projected(x, weights, "value") * projected(x, weights, "gate").sigmoid()
        return projected(y, weights, "head")
'''

GLU = Extension(
    {
        "models/zoo/families.py": [
            (
                "from codesign.models.zoo.decoder import DecoderConfig",
                "from codesign.models.zoo.glu import GluConfig",
            ),
            ("ResnetConfig,\n)", "CONFIGURATIONS = (*CONFIGURATIONS, GluConfig)"),
        ]
    },
    {"models/zoo/glu.py": MODULE},
)
SPACE = """
[transformer]
family = "glu"
sequence = 16
features = 40

[hardware]
dim = [8, 16]
scratchpad_bytes = "32K"
accumulator_bytes = ["16K", "64K"]
bus_bytes = [8, 16]
"""
TRAINED = """
[transformer]
family = "glu"
sequence = 16
features = 24
width = "8:80:+8"

[hardware]
dim = [8, 16]
scratchpad_bytes = "32K"
accumulator_bytes = "16K"
bus_bytes = 16
"""
NOUNS = ("fox", "dog", "cat", "hen", "owl", "elk", "ant", "bee", "cow", "pig", "rat", "hog")
EXPORT = """
from pathlib import Path
import numpy as np, onnxruntime, torch
from codesign.models.supernet import elastic, supernet
from codesign.models.zoo.export import export, save

net = supernet.load(Path("trained"))
config = next(net.space.sample(1, seed=1))
weights = net.subnet(config)
save(export(config, seq=16, weights=elastic.arrays(weights)), "subnet.onnx")
ids = np.random.default_rng(0).integers(net.space.vocab_size, size=(1, 16))
(found,) = onnxruntime.InferenceSession("subnet.onnx").run(["logits"], {"input_ids": ids})
with torch.no_grad():
    print(np.abs(found - config.forward(weights, torch.from_numpy(ids)).numpy()).max())
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return GLU.applied(tmp_path_factory.mktemp("glu"))


def test_it_touches_what_the_page_names() -> None:
    GLU.keeps_to(HEADING, 3)


def test_it_is_priced_and_runs_in_onnxruntime(tree: Tree) -> None:
    """Its cost is that of its file, and its file computes what numpy does."""
    said = tree.python(
        "import json, codesign\n"
        "from codesign.models.zoo.export import export, save\n"
        "from codesign.models.zoo.families import family\n"
        "from codesign.models.zoo.weights import parameter_count, random_weights\n"
        "config = family('glu')\n"
        "save(export(config, seq=16), 'glu.onnx')\n"
        "import numpy as np\n"
        "np.savez('weights.npz', **random_weights(config))\n"
        "machines = [codesign.machine('ibert')]\n"
        "rows = [codesign.price(codesign.load_model(name, seq=16), codesign.machine('ibert'))"
        " for name in ('glu', 'glu.onnx')]\n"
        "print(json.dumps([parameter_count(config), *(row.cycles for row in rows)]))\n"
    )
    parameters, built_in, of_file = json.loads(said.splitlines()[-1])
    assert parameters == 50 * 48 + 2 * (48 + 1) * 96 and built_in == of_file > 0
    ids = np.random.default_rng(0).integers(50, size=(1, 16))
    (found,) = ort.InferenceSession(tree.folder / "glu.onnx").run(None, {"input_ids": ids})
    with np.load(tree.folder / "weights.npz") as file:
        w = dict(file)
    x = w["embeddings.word"][ids]
    value, gate = (x @ w[f"{n}.weight"] + w[f"{n}.bias"] for n in ("value", "gate"))
    np.testing.assert_allclose(found, value / (1 + np.exp(-gate)), rtol=1e-4, atol=1e-5)


def test_it_is_searched_by_its_width(tree: Tree) -> None:
    """Every candidate; the search itself holds bulk prices against full ones, to the bit."""
    (tree.folder / "space.toml").write_text(SPACE, encoding="utf-8")
    said = tree.run(
        "-m", "codesign", "search", "--space", "space.toml", "--method", "exhaustive",
        "--budget", "1000", "--front", "6", "-j", "1", "--out", "run",
    )  # fmt: skip
    assert "less EDP" in said and "published" not in said  # that was of other networks
    run = tree.folder / "run"
    evaluated = pq.read_table(run / "evaluated.parquet").to_pylist()
    assert len(evaluated) == 4 * 2 * 2 * 2
    assert {row["width"] for row in evaluated} == {32, 64, 96, 128}
    front = pq.read_table(run / "front.parquet")
    assert front.column_names[:4] == ["point", "width", "perplexity", "perplexity_is_proxy"]
    for row in front.to_pylist():
        assert row["model"] == f"width{row['width']}"
        assert row["parameters"] == 50 * 40 + 2 * 41 * row["width"]
    kinds = set(pq.read_table(run / "spending.parquet")["kind"].to_pylist())
    assert "lm head" not in kinds and "matmul" in kinds
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "features out" in page and "FFN" not in page and "published" not in page
    assert 'family = "glu"' in (run / "space.toml").read_text(encoding="utf-8")


def test_the_product_does_not_know_it(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "codesign", "search", "--space", str(tmp_path / "space.toml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no family is called 'glu': choose lm" in done.stderr


@pytest.mark.train
def test_it_is_trained_and_searched_with_what_its_supernet_measured(tree: Tree) -> None:
    """Wider units are better and cost more; a unit out of the supernet is its file in onnxruntime."""
    pytest.importorskip("torch")
    (tree.folder / "trained.toml").write_text(TRAINED, encoding="utf-8")
    (tree.folder / "text.txt").write_text(
        "".join(f"the {a} sees a {b} and the {b} sees no {a}\n" for a in NOUNS for b in NOUNS)
    )
    tree.run(
        "-m", "codesign", "train", "--space", "trained.toml", "--data", "text.txt", "--epochs", "4",
        "--seq", "16", "--batch", "4", "--learning-rate", "1e-2", "--device", "cpu",
        "--honest", "2", "--workers", "1", "--out", "trained",
    )  # fmt: skip
    table = pq.read_table(tree.folder / "trained/perplexities.parquet")
    assert table.column_names == ["width", "perplexity"] and table.num_rows == 10
    measured = dict(zip(*table.to_pydict().values(), strict=True))
    assert set(measured) == {*range(8, 88, 8)} and measured[80] < measured[8] < len(NOUNS)
    summary = json.loads((tree.folder / "trained/summary.json").read_text(encoding="utf-8"))
    assert {row["width"] for row in summary["from_scratch"]["decoders"]} <= set(measured)
    tree.run(
        "-m", "codesign", "search", "--space", "trained/space.toml", "--quality",
        "trained/perplexities.parquet", "--method", "exhaustive", "--budget", "1000", "-j", "1",
        "--out", "searched",
    )  # fmt: skip
    front = pq.read_table(tree.folder / "searched/front.parquet").to_pylist()
    assert all(row["perplexity"] == pytest.approx(measured[row["width"]]) for row in front)
    assert not any(row["perplexity_is_proxy"] for row in front)
    said = tree.python(EXPORT)
    assert float(said.splitlines()[-1]) < 1e-5


def test_a_table_of_another_family_is_refused(tree: Tree) -> None:
    (tree.folder / "lm.csv").write_text("layers,d_model,heads,d_ff,perplexity\n2,48,4,64,9\n")
    said = tree.python(
        "from codesign.hw.errors import CodesignError\n"
        "from pathlib import Path\n"
        "from codesign.search.space.networks import networks\n"
        "from codesign.search.space.quality import load_quality\n"
        "from codesign.search.space.space import SearchSpace\n"
        "try:\n    load_quality(Path('lm.csv'), SearchSpace(networks('glu')))\n"
        "except CodesignError as error:\n    print(error)\n"
    )
    assert said == "lm.csv has no column width: it takes width, perplexity\n"


def test_a_family_without_what_it_takes_is_not_trained(tmp_path: Path) -> None:
    """It says so, and what is; the family is searched all the same."""
    lines = MODULE.splitlines(keepends=True)
    without = "".join(line for line in lines if "trained_options" not in line)
    tree = Extension(GLU.insertions, {"models/zoo/glu.py": without}).applied(tmp_path)
    said = tree.python(
        "from codesign.hw.errors import CodesignError\n"
        "from codesign.models.zoo.families import SEARCHED, TRAINED\n"
        "from codesign.search.space.networks import networks\n"
        "from codesign.search.space.space import SearchSpace\n"
        "from codesign.search.training.train_request import trained_space\n"
        "print([*SEARCHED], [*TRAINED])\n"
        "try:\n    trained_space(SearchSpace(networks('glu')), 8, 50)\n"
        "except CodesignError as error:\n    print(error)\n"
    ).splitlines()
    assert said == [
        "['lm', 'glu'] ['lm']",
        "networks of the family glu cannot be trained: name a space of lm",
    ]
