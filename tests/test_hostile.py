"""Nothing that a file holds ends in a traceback, in a hang or in more than one line of error."""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hostile import crafted, folders, seeds
from hostile.harness import Case, Fault, faults
from hostile.mutants import bytes_damaged, model_damaged

SEED = 20261129
LONG, LONG_FOLDERS = 5_000, 1_000  # mutants
COMMANDS: tuple[tuple[str, ...], ...] = (*[crafted.SIMULATE] * 6, crafted.RUN, ("sweep", "m.onnx", "--dim", "8,16", "-j", "1"),
            ("compile", "m.onnx", "--no-weights", "-o", "out"))  # fmt: skip
TABLES: tuple[tuple[str, bytes, tuple[str, ...]], ...] = (
    ("t.yaml", seeds.ENERGY, (*crafted.BUILT_IN, "--energy-table", "t.yaml")),
    ("t.yaml", seeds.AREA, (*crafted.BUILT_IN, "--area-table", "t.yaml")),
    ("m.toml", seeds.MACHINE, (*crafted.BUILT_IN, "--hw", "m.toml")),
)


def mutants(count: int, seed: int) -> Iterator[Case]:
    """`count` damaged files, the same for the same seed."""
    rng = random.Random(seed)
    models = seeds.models()
    for number in range(count):
        if number % 20 == 19:
            name, content, command = TABLES[number // 20 % len(TABLES)]
            files = {name: bytes_damaged(content, rng)}
            yield Case(f"mutant {number} of {command[-2]}", files, command)
            continue
        name = rng.choice([*models])
        damage = rng.choice(("bytes", "model", "model"))
        content = (
            bytes_damaged(models[name].SerializeToString(), rng)
            if damage == "bytes"
            else model_damaged(models[name], rng)
        )
        command = rng.choice(COMMANDS)
        yield Case(
            f"mutant {number} ({damage} of {name}, {command[0]})", {"m.onnx": content}, command
        )


def may(name: str, command: Sequence[str]) -> tuple[int, ...]:
    """Exit codes of a sound model: fused attention is priced, and not run everywhere."""
    return (0, 2) if command[0] == "run" and name in ("branches", "fused", "grouped") else (0,)


def cores() -> int:
    return min(4, len(os.sched_getaffinity(0)))


def said(found: list[Fault]) -> str:
    return "\n".join(f"{fault.name}: {fault.how}" for fault in found)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[folders.Folder]:
    """Folders that codesign wrote."""
    return folders.folders(tmp_path_factory.mktemp("written"))


def test_sound_files_are_read(tmp_path: Path, written: list[folders.Folder]) -> None:
    """The net is of use only where what it damages is sound."""
    sound = [
        Case(name, {"m.onnx": model.SerializeToString()}, command, may(name, command))
        for name, model in seeds.models().items()
        for command in {*COMMANDS, ("simulate", "m.onnx", "--json")}
    ]
    sound += [Case(name, {name: content}, command, (0,)) for name, content, command in TABLES]
    broken = [Case("broken", {"m.onnx": b"\xff"}, crafted.SIMULATE, (2,))]
    found = faults([*sound, *folders.sound(written), *broken], tmp_path, cores())
    assert not found, said(found)


def test_a_few_hundred_damaged_files(tmp_path: Path, written: list[folders.Folder]) -> None:
    few = [
        *mutants(200, SEED),
        *list(crafted.cases())[::8],
        *folders.mutants(written, 30, SEED),
    ]
    found = faults(few, tmp_path, cores())
    assert not found, said(found)


@pytest.mark.long
def test_thousands_of_damaged_files(tmp_path: Path, written: list[folders.Folder]) -> None:
    cases = [
        *crafted.cases(),
        *mutants(LONG, SEED + 1),
        *folders.mutants(written, LONG_FOLDERS, SEED + 1),
    ]
    found = faults(cases, tmp_path, cores())
    assert not found, said(found)


@pytest.mark.train
def test_damaged_trainings(tmp_path: Path) -> None:
    made = folders.trained(tmp_path)
    cases = [*folders.sound([made]), *folders.mutants([made], 30, SEED)]
    found = faults(cases, tmp_path / "net", 1)
    assert not found, said(found)
