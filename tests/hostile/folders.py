"""Folders that codesign wrote and something has damaged since: runs, sweeps, tables, checkpoints, caches.

Sound ones are made by the command line itself, once; a mutant is one of them with one file changed, as
bytes or as what it holds, and a command that reads it.
"""

import io
import itertools
import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bert_checkpoint import CONFIG, tensors
from safetensors.numpy import save

from codesign.models.quality.perplexities import PERPLEXITY
from codesign.models.zoo.decoder import DecoderConfig
from codesign.search.cli import app
from codesign.search.joint.search_records import PointCheck
from codesign.search.runs import output
from hostile import crafted, seeds
from hostile.harness import Case
from hostile.mutants import NUMBERS, bytes_damaged

SPACE, OUT = "s.toml", "run"
SEARCH = (*crafted.SEARCH, "--out", OUT)
SWEEP = ("sweep", "bert-tiny", "--seq", "8", "--dim", "8,16", "-j", "1", "--out", OUT)
EXPORT = ("export", "bert", "-o", "m.onnx")
TEXT = b"a b c d e f g h\nthe dog and the cat\n" * 99
TRAIN = ("train", "--data", "t.txt", "--space", SPACE, "--epochs", "1", "--batch", "4", "--seq", "16",
         "--subnets", "2", "--out", OUT)  # fmt: skip
VALUES: tuple[Any, ...] = (None, True, -1, 0, 1.5, "", "x", "\x1b[2J", "=1+1", [], [1, "x"], {}, {"a": []},
                           float("nan"), float("-inf"), 1e308, *NUMBERS)  # fmt: skip
_SHOWN = (".png", ".svg", ".html")  # that no command reads


@dataclass(frozen=True)
class Folder:
    """The files of a sound folder, and what reads it: commands with the files that they read."""

    name: str
    files: dict[str, bytes]
    readers: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]


def folders(place: Path) -> list[Folder]:
    """Sound folders, made in `place`."""
    with _cache(place / "cache") as cache:
        run = _made(place / "search", {SPACE: seeds.SPACE}, SEARCH)
    (segment,) = cache.glob("prices/*/*.prices")
    prices = f"../cache/{segment.relative_to(cache)}"  # beside the folders of a worker's cases
    number = {n: 0 for n in ("kernels", "distinct_kernels", "instructions", "times_differing",
                             "bytes_differing", "counts_differing", "host_cycles")}  # fmt: skip
    checked = PointCheck(point=1, model="m", hardware="h", cycles=9, rtl_cycles=9, verified=True,
                         difference="", **number)  # fmt: skip
    run[f"{OUT}/verification.parquet"] = output.parquet_bytes(output.arrow_table([checked]))
    sweep = _made(place / "sweep", {}, SWEEP)
    shown = of_run("run.json", "space.toml", "front.parquet", "evaluated.parquet", "generations.parquet",
             "spending.parquet", "heatmap.parquet", "robustness.parquet", "baseline.json",
             "verification.parquet", "two_stage.json", "two_stage.parquet")  # fmt: skip
    judged = of_run("run.json", "front.parquet")
    state = of_run("checkpoint.npz", "candidates.bin", "run.json")
    two_stage = ("study", "two-stage", OUT, "--workers", "1")
    studied = _made(place / "studied", run, two_stage)
    shapes = itertools.product((2, 4), (2, 4), (48, 96))
    rows = "".join(f"2,48,{a} {b},{d_ff},{90 - a - b - d_ff / 9}\n" for a, b, d_ff in shapes)
    columns = [*(axis.name for axis in DecoderConfig.axes()), PERPLEXITY]
    table = f"{','.join(columns)}\n{rows}".encode()
    return [
        Folder("search", studied, [
            (("report", OUT), shown), (("report", OUT, "--format", "md"), shown),
            (("verify", OUT, "--points", "9999,"), judged),
            (two_stage, (*state, *of_run("front.parquet", "baseline.json"))),
            ((*SEARCH, "--resume"), state), (SEARCH, of_run("run.json")),
            ((*crafted.SEARCH, "--warm-start", OUT, "--out", "o"), of_run("front.csv")),
        ]),
        Folder("prices", {prices: segment.read_bytes(), SPACE: seeds.SPACE}, [
            ((*crafted.SEARCH, "--out", "o"), (prices,)),
        ]),
        Folder("bert", {"bert/config.json": json.dumps(CONFIG).encode(), "bert/model.safetensors": save(tensors())}, [
            (EXPORT, ("bert/config.json", "bert/model.safetensors", "bert/model.safetensors")),
        ]),
        Folder("sweep", sweep, [(SWEEP, of_run("run.json", "rows.jsonl"))]),
        Folder("table", {f"{OUT}/q.csv": table, SPACE: seeds.SPACE}, [
            ((*crafted.SEARCH, "--quality", f"{OUT}/q.csv", "--out", "o"), of_run("q.csv")),
        ]),
        Folder("parquet table", {f"{OUT}/q.parquet": _parquet(table), SPACE: seeds.SPACE}, [
            ((*crafted.SEARCH, "--quality", f"{OUT}/q.parquet", "--out", "o"), of_run("q.parquet")),
        ]),
    ]  # fmt: skip


def of_run(*names: str) -> tuple[str, ...]:
    """Files of the folder that a command is given with --out."""
    return tuple(f"{OUT}/{name}" for name in names)


def trained(place: Path) -> Folder:
    """A sound folder of `codesign train`, which needs torch."""
    files = _made(place / "train", {SPACE: seeds.SPACE, "t.txt": TEXT}, TRAIN)
    read = of_run("supernet.pt", "perplexities.parquet", "run.json")
    return Folder("train", files, [((*TRAIN, "--resume"), read), (TRAIN, of_run("run.json"))])


def mutants(found: Sequence[Folder], count: int, seed: int) -> Iterator[Case]:
    """`count` damaged folders, the same for the same seed."""
    rng = random.Random(seed)
    for number in range(count):
        folder = rng.choice(found)
        command, read = rng.choice(folder.readers)
        file = rng.choice(read)
        content = damaged(file, folder.files[file], rng)
        files = {name: kept for name, kept in folder.files.items() if name != file}
        yield Case(
            f"folder mutant {number} ({file} of {folder.name}, {command[0]})",
            files if content is None else {**files, file: content},
            command,
        )


def sound(found: Sequence[Folder]) -> Iterator[Case]:
    """Every command on what is not damaged: results, but where it is to be refused."""
    for folder in found:
        for command, _ in folder.readers:
            refused = command[0] == "verify" or command in (SEARCH, TRAIN)
            name = f"sound {folder.name}, {' '.join(command)}"
            yield Case(name, folder.files, command, (2,) if refused else (0,))


def damaged(name: str, content: bytes, rng: random.Random) -> bytes | None:
    """A file with changed bytes, or with other contents; None: it is gone."""
    kind = rng.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return rng.choice(
            (b"", b"\xff" * 99, b"[" * 100_000, b"PK\x03\x04", b"PAR1PAR1", b"{}\n", b"[]")
        )
    by_form = {".parquet": _table_damaged, ".json": _json_damaged, ".jsonl": _lines_damaged,
               ".npz": _arrays_damaged}  # fmt: skip
    change = by_form.get(Path(name).suffix)
    if kind < 4 or change is None:
        return bytes_damaged(content, rng)
    return change(content, rng)


def _made(place: Path, given: dict[str, bytes], command: Sequence[str]) -> dict[str, bytes]:
    """What a command leaves in a folder that it is given these files in."""
    for name, content in given.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    place.mkdir(exist_ok=True)
    said = io.StringIO()
    with chdir(place), redirect_stdout(said), redirect_stderr(said):
        code = app.main(list(command))
    assert code == 0, said.getvalue()
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.suffix not in _SHOWN
    }


@contextmanager
def _cache(place: Path) -> Iterator[Path]:
    """A cache of its own."""
    before = os.environ.get("CODESIGN_CACHE")
    os.environ["CODESIGN_CACHE"] = str(place)
    try:
        yield place
    finally:
        if before is None:
            del os.environ["CODESIGN_CACHE"]
        else:
            os.environ["CODESIGN_CACHE"] = before


def _parquet(table: bytes) -> bytes:
    import pyarrow.csv
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pyarrow.csv.read_csv(io.BytesIO(table)), sink)
    return sink.getvalue()


def _table_damaged(content: bytes, rng: random.Random) -> bytes:
    """A Parquet file with a column of something else, other rows, or none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    at = rng.randrange(table.num_columns)
    name, rows = table.column_names[at], table.num_rows
    kind = rng.randrange(6)
    if kind == 0:
        table = table.remove_column(at)
    elif kind == 1:
        table = rng.choice(
            (table.slice(0, 0), pa.concat_tables([table] * 3), table.slice(rows // 2))
        )
    elif kind == 2:
        table = table.rename_columns(["\x1b[2J" if n == name else n for n in table.column_names])
    elif kind == 3:
        values = table.column(at).to_pylist()
        values[rng.randrange(rows)] = None
        table = table.set_column(at, name, pa.array(values, table.schema.types[at]))
    elif kind == 4:
        far = pa.array([1 << 62] * rows, pa.int64()).cast(pa.timestamp("us"))
        other = rng.choice((pa.array([b"\xff"] * rows), pa.array([[1]] * rows), pa.nulls(rows), far,
                            pa.array([{"a": 1}] * rows), pa.array([True] * rows)))  # fmt: skip
        table = table.set_column(at, name, other)
    else:
        value = rng.choice([v for v in VALUES if isinstance(v, int | float | str)])
        table = table.set_column(at, name, pa.array([value] * rows))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _json_damaged(content: bytes, rng: random.Random) -> bytes:
    """A JSON document with one of its values replaced, gone or twice as deep."""
    return json.dumps(_replaced(json.loads(content), rng)).encode()


def _replaced(document: Any, rng: random.Random) -> Any:
    if isinstance(document, dict | list) and document and rng.random() < 0.8:
        keys = [*document] if isinstance(document, dict) else [*range(len(document))]
        key = rng.choice(keys)
        if rng.random() < 0.2:
            del document[key]
        else:
            document[key] = _replaced(document[key], rng)
        return document
    return rng.choice((*VALUES, [document]))


def _lines_damaged(content: bytes, rng: random.Random) -> bytes:
    """A journal with one of its lines changed, or all of them twice or out of order."""
    lines = content.splitlines()
    kind = rng.randrange(4)
    if kind == 0:
        lines = lines * 2
    elif kind == 1:
        rng.shuffle(lines)
    else:
        at = rng.randrange(len(lines))
        lines[at] = _json_damaged(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def _arrays_damaged(content: bytes, rng: random.Random) -> bytes:
    """An .npz file with one of its arrays of another shape, type or value, or gone."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    name = rng.choice([*arrays])
    array = arrays.pop(name)
    others = (None, array[None], array.astype("U"), np.zeros(3), array.reshape(-1)[:0])
    other = rng.choice(others)
    if other is not None:
        arrays[name] = other
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()
