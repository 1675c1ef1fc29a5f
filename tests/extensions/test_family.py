"""A toy family: a gated linear unit on its own, priced, exported, run and searched by its width."""

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
MODULE = '''"""A gated linear unit (arXiv 1612.08083): two projections, one of them a gate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from codesign.models.zoo import parameters, text_graphs
from codesign.models.zoo.axes import Axis, Values
from codesign.models.zoo.model_config import ModelConfig, check_config
from codesign.models.zoo.parameters import Entry

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import GraphBuilder


@dataclass(frozen=True)
class GluConfig(ModelConfig):
    """One unit: `features` in, `width` out."""

    name: str
    features: int
    width: int

    family: ClassVar[str] = "glu"
    has_sequence: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_config(self)

    @classmethod
    def sizes(cls) -> tuple["GluConfig", ...]:
        """The built-in one."""
        return (cls("glu", 48, 96),)

    def lengthened(self, seq: int) -> "GluConfig":
        return self

    def parameters(self) -> Iterator[Entry]:
        yield from parameters.linear("value", self.features, self.width)
        yield from parameters.linear("gate", self.features, self.width)

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        shape = text_graphs.extents(batch, seq)
        x = b.input("x", (*shape, self.features))
        gate = b.op("Sigmoid", b.linear(x, "gate"), name="gate/Sigmoid")
        y = b.op("Mul", b.linear(x, "value"), gate, name="gated/Mul")
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


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return GLU.applied(tmp_path_factory.mktemp("glu"))


def test_it_touches_what_the_page_names() -> None:
    GLU.keeps_to(HEADING, 4)


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
    assert parameters == 2 * (48 + 1) * 96 and built_in == of_file > 0
    x = np.random.default_rng(0).standard_normal((1, 16, 48), dtype=np.float32)
    (found,) = ort.InferenceSession(tree.folder / "glu.onnx").run(None, {"x": x})
    w = np.load(tree.folder / "weights.npz")
    value, gate = (x @ w[f"{n}.weight"] + w[f"{n}.bias"] for n in ("value", "gate"))
    np.testing.assert_allclose(found, value / (1 + np.exp(-gate)), rtol=1e-4, atol=1e-5)


def test_it_is_searched_by_its_width(tree: Tree) -> None:
    """Every candidate; the search itself holds bulk prices against full ones, to the bit."""
    (tree.folder / "space.toml").write_text(SPACE, encoding="utf-8")
    tree.run(
        "-m", "codesign", "search", "--space", "space.toml", "--method", "exhaustive",
        "--budget", "1000", "--front", "6", "-j", "1", "--out", "run",
    )  # fmt: skip
    run = tree.folder / "run"
    evaluated = pq.read_table(run / "evaluated.parquet").to_pylist()
    assert len(evaluated) == 4 * 2 * 2 * 2
    assert {row["width"] for row in evaluated} == {32, 64, 96, 128}
    front = pq.read_table(run / "front.parquet")
    assert front.column_names[:4] == ["point", "width", "perplexity", "perplexity_is_proxy"]
    for row in front.to_pylist():
        assert row["model"] == f"width{row['width']}"
        assert row["parameters"] == 2 * 41 * row["width"]
    kinds = set(pq.read_table(run / "spending.parquet")["kind"].to_pylist())
    assert "lm head" not in kinds and "matmul" in kinds
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "features out" in page and "FFN" not in page
    assert 'family = "glu"' in (run / "space.toml").read_text(encoding="utf-8")


def test_the_product_does_not_know_it(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "codesign", "search", "--space", str(tmp_path / "space.toml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no family is called 'glu': choose lm" in done.stderr


def test_training_and_measured_tables_are_of_another_family(tree: Tree) -> None:
    said = tree.python(
        "from codesign.hw.errors import CodesignError\n"
        "from pathlib import Path\n"
        "from codesign.search.space.networks import networks\n"
        "from codesign.search.space.quality import load_quality\n"
        "from codesign.search.space.space import SearchSpace\n"
        "from codesign.search.training.train_request import trained_space\n"
        "space = SearchSpace(networks('glu'))\n"
        "for use in (lambda: trained_space(space, 8), lambda: load_quality(Path('t.csv'), space)):\n"
        "    try:\n        use()\n    except CodesignError as error:\n        print(error)\n"
    ).splitlines()
    assert said[0].startswith("networks of the family glu cannot be trained")
    assert said[1].startswith("t.csv is a table of networks of the family lm")
