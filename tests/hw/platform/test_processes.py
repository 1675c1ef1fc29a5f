"""Worker processes end with their parent: by its own doing, an exception, or kill -9."""

import os
import signal
import subprocess
import sys
import time

import pytest

from codesign.hw.platform import processes

PROGRAM = """
import time
from codesign.hw.platform import processes
from test_processes import slow_pid
with processes.workers(2) as pool:
    for pid in pool.map(slow_pid, range(2)):
        print(pid, flush=True)
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"{pids} live on"
        time.sleep(0.02)


def slow_pid(_: int) -> int:
    time.sleep(0.2)  # long enough for the other worker to take the other task
    return os.getpid()


def test_workers_of_a_killed_parent_end() -> None:
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(alive, pids)) and os.getpid() not in pids
        parent.kill()
    wait_until_gone(pids)


def test_an_exception_stops_workers_in_the_middle_of_a_task() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), processes.workers(1) as pool:
        pid = pool.submit(os.getpid).result()
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    wait_until_gone([pid])
    assert time.monotonic() - started < 30


def test_workers_are_deaf_to_interrupts() -> None:
    with processes.workers(1) as pool:
        pid = pool.submit(os.getpid).result()
        os.kill(pid, signal.SIGINT)
        assert pool.submit(os.getpid).result() == pid
    wait_until_gone([pid])
