"""The command line as a shell meets it: completion, help, signals, streams that end or are full."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from joint_space import SMALL

from codesign.search.cli import app

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from codesign.search.cli.app import main; sys.exit(main())",
]


def _commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name}{word} ")
        else:
            yield f"{name}{word}", command


COMMANDS = dict(_commands(app.cli))


def _options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def _complete(monkeypatch: pytest.MonkeyPatch, words: str, at: int) -> None:
    for name, value in (("COMP_WORDS", words), ("COMP_CWORD", str(at))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_CODESIGN_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        app.main([])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_CODESIGN_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as done:
        app.main([])
    assert not done.value.code
    assert "_CODESIGN_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "at", "found"),
    [
        ("codesign swe", 1, ["plain,sweep"]),
        ("codesign sweep bert-ti", 2, ["file,bert-ti", "plain,bert-tiny"]),
        ("codesign sweep --hw ed", 3, ["file,ed", "plain,edge"]),
        ("codesign search --space sp", 3, ["file,sp"]),
        ("codesign study two", 2, ["plain,two-stage"]),
    ],
)
def test_words_are_completed(
    words: str, at: int, found: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    _complete(monkeypatch, words, at)
    assert capsys.readouterr().out.splitlines() == found


def test_help_shows_whole_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["study", "--help"]):
        assert app.main(arguments) == 0
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
    for name, command in COMMANDS.items():
        assert app.main([*name.split()[:-1], "--help"]) == 0
        summary = " ".join((command.help or "").split("\n\n")[0].split()).removesuffix(".")
        assert summary.split(". ")[0] in " ".join(capsys.readouterr().out.split()), name


def test_one_word_says_how_many_processes() -> None:
    parallel = {name for name, c in COMMANDS.items() if _options(c) & {"--workers", "--jobs", "-j"}}
    assert parallel == {"sweep", "search", "verify", "study two-stage", "train"}
    assert all({"-j", "--workers"} <= _options(COMMANDS[name]) for name in parallel)


def test_every_command_takes_json() -> None:
    assert [name for name, command in COMMANDS.items() if "--json" not in _options(command)] == []


def test_export_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["export", "bert-tiny", "-o", "tiny.onnx", "--weights", "splat"]
    assert app.main(command) == 0
    assert capsys.readouterr() == ("", "")
    assert app.main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == "tiny.onnx" and document["model"] == "bert-tiny"
    assert document["bytes"] == Path("tiny.onnx").stat().st_size
    assert document["inputs"]["input_ids"] == [1, "sequence"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["models --json", "hardware ibert", "--help", "--version"])
def test_a_full_disk_behind_standard_output_is_one_line(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "codesign: error: cannot use standard output: No space left on device: make room and run "
        "the same command again\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_error_that_cannot_be_said_keeps_its_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "sweep", "bert-bas"], stderr=full, check=False)
    assert done.returncode == 2


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
     (signal.SIGHUP, 129, "terminated")],
)  # fmt: skip
def test_a_search_that_is_signalled_keeps_its_generations_and_says_how_to_go_on(
    number: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SMALL.to_toml(), encoding="utf-8")
    run = tmp_path / "run"
    command = ["search", "--space", str(space), "--budget", "20000", "--population", "20"]
    environment = os.environ | {"CODESIGN_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        [*PROGRAM, *command, "-j", "2", "-o", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not (run / "checkpoint.npz").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert (process.returncode, out) == (code, "")
    assert last.startswith(f"codesign: {word}: ") and last.endswith("command with --resume"), err
    assert "candidates are kept in" in last and "Traceback" not in err
    assert list((tmp_path / "cache" / "prices").glob("*/*.prices"))  # and its prices


@pytest.mark.parametrize(
    "extra",
    [
        "-j 2",
        "-j2",
        "--workers 2",
        "--workers=2",
        "--jobs 2",
        "-oDIR",
        "-o DIR",
        "--out=DIR --json",
    ],
)
def test_a_kept_command_is_without_what_changes_no_result(extra: str) -> None:
    words = ["sweep", "bert-tiny", *extra.split(), "--seq", "16"]
    assert app._command(words) == "codesign sweep bert-tiny --seq 16"


def test_an_interrupt_outside_a_command_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where what the command printed is being written."""

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app.cli, "main", interrupted)
    assert app.main(["models"]) == 130
    assert capsys.readouterr().err == "codesign: interrupted\n"


def test_help_loads_nothing_that_takes_a_while() -> None:
    text = (
        "import sys, codesign.search.cli.app; print([name for name in ('numpy', 'onnx', 'rich', "
        "'dataclasses', 'importlib.metadata', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
