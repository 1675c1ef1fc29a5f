"""One worker of the net: cases as lines of JSON on standard input, how each ended on standard output."""

import contextlib
import io
import json
import os
import resource
import shutil
import sys
import traceback
from pathlib import Path

from hostile.harness import BYTES


def main(folder: Path) -> None:
    """Run cases until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ["CODESIGN_CACHE"] = str(folder / "cache")
    from codesign.search.cli import app

    _bound_memory()
    answers.write("ready\n")
    answers.flush()
    for number, line in enumerate(sys.stdin):
        files, arguments, codes = json.loads(line)
        place = folder / str(number)
        place.mkdir()
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(bytes.fromhex(content))
        os.chdir(place)
        answers.write(json.dumps(_ending(app.main, arguments, codes)) + "\n")
        answers.flush()
        os.chdir(folder)
        shutil.rmtree(place)


def _bound_memory() -> None:
    """Let this process grow by BYTES over what its libraries have mapped."""
    import onnxruntime  # noqa: F401 - maps a lot
    import pyarrow.parquet  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _ending(command: object, arguments: list[str], codes: list[int]) -> str:
    """How one command ended: "" for results, or for exit code 2 and one line, as `codes` allow."""
    assert callable(command)
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command(arguments)
    except BaseException as error:  # noqa: BLE001 - a panic is none of Exception
        where = traceback.extract_tb(error.__traceback__)[-1]
        last = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f[0]]
        line = f"{Path(last[-1].filename).name}:{last[-1].lineno}" if last else where.name
        return f"traceback: {type(error).__name__} at {line}: {str(error)[:150]}"
    said = out.getvalue() + err.getvalue()
    bad = sorted({c for c in said if c != "\n" and not c.isprintable()})
    if bad:
        return f"prints {bad[:5]}"
    if code not in codes:
        return f"exit code {code}: {err.getvalue()[-200:]}"
    errors = [line for line in err.getvalue().splitlines() if line.startswith("codesign: error: ")]
    if len(errors) != (code == 2) or (code == 2 and not err.getvalue().splitlines()[-1] in errors):
        return f"exit code 2 with {len(errors)} lines of error: {err.getvalue()[-200:]}"
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
