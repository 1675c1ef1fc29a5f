"""The command line on many files, in processes of its own: what ends otherwise than in results or one line.

A worker runs cases one after another in one interpreter, bounded in memory; the net gives each of them
20 seconds, and a new worker after one that hangs or dies.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from tempfile import mkdtemp
from threading import Thread

SECONDS, BYTES = 20.0, 2 << 30  # of a processor and of memory, for one case
STARTING_SECONDS = 120.0  # of a worker, on a busy machine
CASES_A_WORKER = 400  # what libraries keep is given back then


@dataclass(frozen=True)
class Case:
    """Files by name, in a folder of their own, and the arguments of the command that reads them there.

    `codes` are the exit codes that it may end with.
    """

    name: str
    files: dict[str, bytes]
    arguments: Sequence[str]
    codes: tuple[int, ...] = (0, 2)


@dataclass(frozen=True)
class Fault:
    """A case that ended as none may, and how."""

    name: str
    how: str


class _Worker:
    """A process that runs cases."""

    def __init__(self, folder: Path) -> None:
        # What the command prints has pipes of its own: descriptors of this one are the net's.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hostile.worker", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.answers: Queue[str] = Queue()
        self.listener = Thread(target=self._listen, daemon=True)
        self.listener.start()
        self.done = 0
        self.answers.get(timeout=STARTING_SECONDS)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")  # it has ended

    def run(self, case: Case) -> str:
        """How a case ended: "" as it should."""
        assert self.process.stdin is not None
        self.done += 1
        files = {name: content.hex() for name, content in case.files.items()}
        self.process.stdin.write(json.dumps([files, list(case.arguments), case.codes]) + "\n")
        self.process.stdin.flush()
        began = self._seconds()
        for _ in range(int(10 * SECONDS)):  # where others keep the processors busy
            with contextlib.suppress(Empty):
                answer = self.answers.get(timeout=1)
                break
            if self._seconds() - began > SECONDS:
                return f"hangs: more than {SECONDS:g} s"
        else:
            return "hangs: and does nothing"
        if not answer:
            return f"dies: exit code {self.process.wait()}"
        how: str = json.loads(answer)
        return how

    def _seconds(self) -> float:
        """What the process has spent of a processor."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").split()
        return sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # what it did not read
                pipe.close()


def faults(cases: Iterable[Case], folder: Path, workers: int) -> list[Fault]:
    """Run all cases, in `folder`, and return those that ended otherwise than they may."""
    folder.mkdir(exist_ok=True)
    waiting = iter(list(cases))
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda number: _run(waiting, folder / f"worker{number}"), range(workers))
        return [fault for some in found for fault in some]


def _run(waiting: Iterator[Case], folder: Path) -> list[Fault]:
    folder.mkdir()
    found = []
    worker: _Worker | None = None
    try:
        for case in waiting:  # a list's iterator is shared safely between threads
            if worker is None or worker.done >= CASES_A_WORKER:
                if worker is not None:
                    worker.end()
                worker = _Worker(Path(mkdtemp(dir=folder)))
            how = worker.run(case)
            if how:
                found.append(Fault(case.name, how))
                if how.startswith(("hangs", "dies")):
                    worker.end()
                    worker = None
    finally:
        if worker is not None:
            worker.end()
    return found
