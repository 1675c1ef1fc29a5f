"""The floors of the house: layers and folders import downwards, in no circle; tests mirror the tree."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from import_graph import (
    LAYERS,
    PACKAGE,
    ROOT,
    Import,
    circles,
    folder,
    folder_graph,
    graph,
    imports,
    modules,
)

# The folders of each layer, lowest first; "" are the modules in the layer itself.
FLOORS = {
    "hw": ("", "platform", "machine", "views", "simulation", "costs"),
    "compiler": ("", "onnx", "recognition", "rewrite", "importer", "kernels", "kernels/attention",
                 "plan", "numerics", "placement", "program", "network"),
    "models": ("zoo", "text", "checkpoints", "quality", "supernet"),
    "search": ("terminal", "runs", "inputs", "space", "pricing", "joint", "checks", "report",
               "api", "commands", "generation", "training", "cli"),
}  # fmt: skip
MAY_IMPORT = {
    "hw": {"hw"},
    "compiler": {"hw", "compiler"},
    "models": {"hw", "models"},
    "search": {"hw", "compiler", "models", "search"},
}
MOST_MODULES = 18  # in a folder

# What takes a while to load, or is an extra: may be imported where it is needed.
HEAVY = {
    "asyncio", "concurrent", "difflib", "distributed", "jinja2", "matplotlib", "moocore",
    "multiprocessing", "onnx", "onnxruntime", "pyarrow", "pymoo", "rich", "safetensors", "scipy",
    "sklearn", "tokenizers", "torch", "yaml",
}  # fmt: skip
# Commands load what they need, so that `--help` is quick.
LOADS_LATE = {"search/cli", "search/commands", "search/training"}
ON_SOME_SYSTEMS = {"fcntl"}

# Modules that have no test file of their own name in the mirrored folder: who tests them.
TESTED_IN = {
    "compiler.network.quantized_program": "compiler/network/test_inference.py",
    "compiler.program.cache": "compiler/network/test_decoding.py",
    "search.generation.generated": "search/generation/test_generate.py",
    "search.generation.programs": "search/generation/test_generate.py",
    "hw.platform.text": "search/cli/test_cli.py",
    "hw.platform.tools": "hw/simulation/test_verilator.py",
    "compiler.onnx.names": "compiler/onnx/test_boundary.py",
    "compiler.onnx.nodes": "compiler/importer/test_import_onnx.py",
    "compiler.importer.attention": "compiler/importer/test_import_attention.py",
    "compiler.importer.matmul": "compiler/importer/test_import_onnx.py",
    "compiler.importer.operators": "compiler/importer/test_import_onnx.py",
    "compiler.importer.norms": "compiler/importer/test_import_onnx.py",
    "compiler.importer.sums": "compiler/importer/test_import_onnx.py",
    "compiler.kernels.blocks": "compiler/program/test_emit.py",
    "compiler.kernels.numbers": "compiler/kernels/attention/test_attention_kernel.py",
    "compiler.kernels.matmul_kind": "compiler/plan/test_kinds.py",
    "compiler.kernels.attention.attention_kind": "compiler/plan/test_kinds.py",
    "compiler.kernels.attention.streamed_kind": "compiler/plan/test_kinds.py",
    "compiler.kernels.rotary_kind": "compiler/plan/test_kinds.py",
    "compiler.kernels.row_kind": "compiler/plan/test_kinds.py",
    "compiler.kernels.random_numbers": "search/checks/test_verify.py",
    "compiler.plan.pricing": "compiler/plan/test_lower.py",
    "compiler.numerics.constants": "compiler/numerics/test_quantize.py",
    "search.cli.options": "search/cli/test_cli.py",
    "search.cli.values": "search/cli/test_cli.py",
    "search.cli.network_commands": "search/generation/test_generate.py",
    "search.cli.signals": "search/cli/test_cli_shell.py",
    "search.commands.sweep": "search/cli/test_cli.py",
    "search.commands.simulate": "search/cli/test_cli.py",
    "search.commands.check": "search/checks/test_verify.py",
    "search.commands.compile": "search/commands/test_run.py",
    "search.commands.export": "search/cli/test_cli.py",
    "search.commands.network": "search/commands/test_run.py",
    "search.inputs.tokens": "search/commands/test_run.py",
    "search.api.checking": "search/api/test_api.py",
    "search.api.inputs": "search/api/test_api.py",
    "search.api.networks": "search/api/test_api.py",
    "search.api.pricing": "search/api/test_api.py",
    "search.api.tables": "search/api/test_api.py",
    "search.api.searching": "search/api/test_api.py",
    "search.joint.published": "search/report/test_report.py",
    "search.report.charts": "search/report/test_report.py",
    "hw.platform.parquet_file": "search/runs/test_records.py",
    "hw.platform.quiet": "search/commands/test_run.py",
    "hw.platform.toml_file": "hw/machine/test_config.py",
    "hw.simulation.agreement": "hw/simulation/test_machine.py",
    "compiler.graph": "compiler/plan/test_fusion.py",
    "compiler.onnx.external": "compiler/onnx/test_boundary.py",
    "compiler.rewrite.in_float": "compiler/network/test_inference.py",
    "compiler.rewrite.recognised": "compiler/plan/test_price_spellings.py",
    "compiler.importer.products": "compiler/plan/test_price_turned_products.py",
    "compiler.onnx.branch_names": "compiler/importer/test_import_onnx.py",
    "compiler.onnx.file_codes": "compiler/plan/test_price_spellings.py",
    "compiler.onnx.forms": "compiler/onnx/test_boundary.py",
    "compiler.recognition.activations": "compiler/importer/test_import_onnx.py",
    "compiler.recognition.patterns": "compiler/importer/test_import_onnx.py",
    "compiler.recognition.rotation": "compiler/importer/test_import_onnx.py",
    "compiler.onnx.quantized_operators": "compiler/rewrite/test_qlinear_forms.py",
    "compiler.rewrite.decompose_attention": "compiler/rewrite/test_decompose.py",
    "compiler.rewrite.codes": "compiler/rewrite/test_qdq_meanings.py",
    "compiler.rewrite.file_clamps": "compiler/placement/test_clamps.py",
    "compiler.rewrite.writer": "compiler/rewrite/test_decompose.py",
    "compiler.importer.emitter": "compiler/importer/test_import_onnx.py",
    "compiler.importer.layout": "compiler/importer/test_import_onnx.py",
    "compiler.importer.views": "compiler/importer/test_import_onnx.py",
    "compiler.numerics.file_scales": "compiler/rewrite/test_qdq.py",
    "compiler.numerics.requantizers": "compiler/numerics/test_quantize.py",
    "compiler.numerics.zero_points": "compiler/placement/test_clamps.py",
    "compiler.placement.operands": "compiler/network/test_graph_forms.py",
    "compiler.placement.settle": "compiler/network/test_graph_forms.py",
    "compiler.placement.formats": "compiler/placement/test_clamps.py",
    "compiler.placement.host_notes": "compiler/network/test_graph_forms.py",
    "compiler.plan.operator_work": "compiler/plan/test_fusion.py",
    "compiler.plan.attention_fusion": "compiler/plan/test_fusion.py",
    "compiler.program.image": "compiler/network/test_random_graphs.py",
    "compiler.program.layout": "compiler/network/test_random_graphs.py",
    "compiler.network.rtl_backend": "search/commands/test_run.py",
    "models.checkpoints.layouts": "models/checkpoints/test_hugging_face.py",
    "models.zoo.onnx_builder": "models/zoo/test_export.py",
    "models.zoo.parameters": "models/zoo/test_families.py",
    "models.zoo.torch_layers": "models/supernet/test_elastic.py",
    "models.zoo.text_graphs": "models/zoo/test_export.py",
    "search.terminal.messages": "search/cli/test_cli.py",
    "search.pricing.machine_tables": "search/cli/test_cli.py",
    "search.joint.finished_run": "search/commands/test_verify_run.py",
    "search.joint.results": "search/cli/test_cli_search.py",
    "search.checks.kernel_pool": "search/commands/test_verify_run.py",
    "search.checks.verify_tables": "search/checks/test_verify.py",
    "search.report.story": "search/report/test_report.py",
    "search.report.strategies": "search/joint/test_two_stage.py",
    "search.commands.catalog": "search/cli/test_cli.py",
    "search.commands.request": "search/cli/test_cli.py",
    "search.commands.run_results": "search/commands/test_run.py",
    "search.commands.run_tables": "search/commands/test_run.py",
    "search.commands.search_plots": "search/report/test_report.py",
    "search.commands.search_run": "search/cli/test_cli_search.py",
    "search.commands.search_tables": "search/cli/test_cli_search.py",
    "search.commands.study": "search/cli/test_cli_search.py",
    "search.training.train_plots": "search/training/test_train_command.py",
    "search.training.train_request": "search/training/test_train_command.py",
    "search.training.train_run": "search/training/test_train_command.py",
    "search.training.train_tables": "search/training/test_train_command.py",
    "search.cli.command_group": "search/cli/test_cli_shell.py",
    "search.cli.train_commands": "search/training/test_train_command.py",
}


def test_every_folder_has_its_floor() -> None:
    """And every layer is found."""
    found = {folder(module) for module in modules()}
    named = {f"{layer}/{name}".strip("/") for layer, names in FLOORS.items() for name in names}
    assert found == named and set(FLOORS) == set(MAY_IMPORT) == set(LAYERS)


@pytest.mark.parametrize("module", modules())
def test_imports_point_downwards(module: str) -> None:
    layer, _, name = folder(module).partition("/")
    for one in imports(modules()[module].read_text(encoding="utf-8")):
        parts = one.module.split(".")
        assert parts[0] not in LAYERS, f"{one.module} is codesign.{one.module}"
        if parts[0] != PACKAGE or len(parts) == 1:
            continue
        assert parts[1] in MAY_IMPORT[layer], f"line {one.line}"
        if parts[1] == layer and one.module in modules():
            floor = folder(one.module).partition("/")[2]
            assert FLOORS[layer].index(floor) <= FLOORS[layer].index(name), f"line {one.line}"


def test_there_is_no_circle() -> None:
    assert not circles(graph())
    assert not circles(folder_graph())


def test_no_folder_is_a_hall() -> None:
    inside = [folder(module) for module in modules()]
    assert {name: inside.count(name) for name in inside if inside.count(name) > MOST_MODULES} == {}


@cache
def _loads(module: str) -> frozenset[str]:
    """What a module of ours loads of what is heavy, by itself or through others."""
    found: set[str] = set()
    for one in imports(modules()[module].read_text(encoding="utf-8")):
        if one.top and one.module in modules():
            found |= _loads(one.module)
        elif one.top:
            found |= {one.module.split(".")[0]} & HEAVY
    return frozenset(found)


def _has_reason(one: Import, module: str) -> bool:
    """Whether an import may stand inside a function."""
    if one.module in modules():
        return folder(module) in LOADS_LATE or bool(_loads(one.module))
    return one.module.split(".")[0] in HEAVY | ON_SOME_SYSTEMS


@pytest.mark.parametrize("module", modules())
def test_imports_are_at_the_top_or_have_a_reason(module: str) -> None:
    late = (one for one in imports(modules()[module].read_text(encoding="utf-8")) if not one.top)
    assert [f"line {one.line}: {one.module}" for one in late if not _has_reason(one, module)] == []


@pytest.mark.parametrize("module", modules())
def test_modules_say_what_they_are(module: str) -> None:
    assert module.rsplit(".", 1)[1] not in {"utils", "util", "common", "misc", "helpers", "base"}
    assert ast.get_docstring(ast.parse(modules()[module].read_text(encoding="utf-8")))


def test_folders_say_what_they_are_and_are_installed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    folders = {path.parent for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py")}
    folders.discard(ROOT / "search" / "package")
    named = {".".join([PACKAGE, *path.relative_to(ROOT).parts]) for path in folders}
    assert packages == named | {PACKAGE}
    for path in folders:
        assert ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("module", modules())
def test_a_reader_finds_the_tests_of_a_module(module: str) -> None:
    """In a file of its name in the folder that mirrors its own, in one there that names it, or told."""
    name = module.rsplit(".", 1)[1]
    told = TESTED_IN.get(module.removeprefix(f"{PACKAGE}."))
    beside = sorted((ROOT / "tests" / folder(module)).glob("test_*.py"))
    found = [
        path
        for path in beside
        if path.stem == f"test_{name}" or re.search(rf"\b{re.escape(module)}\b", _text(path))
    ]
    assert bool(found) != bool(told), "its tests are found without being told"
    assert told is None or (ROOT / "tests" / told).is_file()


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_what_is_told_of_tests_is_of_modules() -> None:
    assert {f"{PACKAGE}.{name}" for name in TESTED_IN} <= set(modules())


@cache
def _text(path: Path) -> str:
    """A test file, with `from folder import module` as the name of the module in full."""
    text = path.read_text(encoding="utf-8")
    return text + " ".join(one.module for one in imports(text))


def test_the_page_on_architecture_has_every_folder_in_the_order_of_floors() -> None:
    lines = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if re.match(r"\| `(hw|compiler|models|search)", line)]
    expected = []
    for layer, names in FLOORS.items():
        for place in (f"{layer}/{name}".strip("/") for name in names):
            tree = ast.parse((ROOT / place / "__init__.py").read_text(encoding="utf-8"))
            said = (ast.get_docstring(tree) or "").split("\n")[0].rstrip(".")
            expected.append(f"| `{place}` | {said} |")
    assert table == expected


def _named_files() -> list[tuple[str, str]]:
    """Every file of the layers or tests that documentation or source names, with where."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    sources = [path for layer in LAYERS for path in (ROOT / layer).rglob("*")]
    pattern = re.compile(
        r"(?<![\w/.])((?:hw|compiler|models|search|tests)/[\w/*]+\.(?:py|cpp|sv|toml))"
    )
    return [
        (str(path.relative_to(ROOT)), name)
        for path in [*pages, *sources]
        if path.suffix in {".md", ".py", ".cpp", ".sv"}
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    ]


def test_files_that_are_named_exist() -> None:
    found = _named_files()
    assert len(found) > 60
    assert [(where, name) for where, name in found if not list(ROOT.glob(name))] == []


def test_modules_that_pages_import_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    blocks = [
        block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ]
    ours = [one.module for block in blocks for one in imports(block) if PACKAGE in one.module]
    assert len(ours) > 4 and set(ours) - {PACKAGE} <= set(modules())


def test_imports_are_seen_in_every_form() -> None:
    """The check itself: each way to reach another layer is noticed."""
    for source in (
        "import codesign.search.cli",
        "from codesign.search import cli",
        "from codesign import search",
        "def f():\n    from codesign.search.cli import app",
    ):
        assert [one.module.split(".")[1] for one in imports(source)] == ["search"], source
    with pytest.raises(ValueError, match="relative import"):
        list(imports("from . import timing"))
