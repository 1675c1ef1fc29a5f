"""A finished joint search, opened again: what `codesign verify` and `codesign study` go on from.

Everything comes from the files of its run directory; a perplexity that was measured needs its table
once more.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import CodesignError, ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.text import said
from codesign.models.zoo.axes import Axis, NetworkShape, depth_axis
from codesign.models.zoo.families import SEARCHED
from codesign.search.joint.search import Settings
from codesign.search.joint.search_records import (
    BASELINE_FILE,
    FRONT,
    Baseline,
    FrontPoint,
    baseline_type,
    front_point_type,
)
from codesign.search.runs.files import RUN_FILE
from codesign.search.runs.records import (
    REMEDY,
    RunError,
    read_document,
    read_record,
    read_records,
)
from codesign.search.space.networks import DEFAULT_FAMILY, SpaceError
from codesign.search.space.quality import Quality, load_quality
from codesign.search.space.space import Genes, SearchSpace
from codesign.search.space.space_file import space_of

Found = TypeVar("Found")

_RUN = "name the folder of a codesign search"


@dataclass(frozen=True)
class RunFiles:
    """A search that has ended: its run.json, and its front as the file has it."""

    path: Path
    run: Mapping[str, Any]  # run.json
    front: tuple[FrontPoint, ...]

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What decided the results."""
        found: Mapping[str, Any] = self.run["inputs"]
        return found

    @property
    def network_axes(self) -> tuple[Axis, ...]:
        """The axes of the family of its networks."""
        return self.front[0].axes


@dataclass(frozen=True)
class FinishedRun(RunFiles):
    """A search that has ended, with what was asked of it: its front may be made again."""

    space: SearchSpace
    settings: Settings
    objective: str  # of the mapper
    tables: str | EnergyOverrides
    area_tables: str | AreaOverrides
    judged_by: Mapping[str, Any]  # source, is_proxy and fingerprint of the quality

    def genes(self, point: FrontPoint) -> Genes:
        """The candidate of a point [genes]; raises RunError where the space does not have it."""
        try:
            return self.space.genes(self._machine_values(point), self.shape(point))
        except SpaceError as error:
            raise self._not_of_the_space(point, str(error)) from error

    def shape(self, point: FrontPoint) -> NetworkShape:
        """The network of a point."""
        return self.space.transformer.told(vars(point))

    def machine(self, point: FrontPoint) -> HardwareConfig:
        """The machine of a point; raises RunError where the space does not have it."""
        number = int(self.space.machine_numbers(self.genes(point)[None])[0])
        try:
            return self.space.machine(number)
        except ConfigError as error:
            raise self._not_of_the_space(point, str(error)) from error

    def _machine_values(self, point: FrontPoint) -> Mapping[str, int]:
        values = {name: getattr(point, name, None) for name, _ in self.space.axes}
        if None not in values.values():
            return values  # type: ignore[return-value]
        # An axis that the front has no column for is told by the name.
        for number in range(self.space.machines):
            with suppress(ConfigError):
                config = self.space.machine(number)
                if config.name == point.hardware:
                    return {name: getattr(config, name) for name, _ in self.space.axes}
        raise self._not_of_the_space(point, f"the space has no machine {point.hardware}")

    def _not_of_the_space(self, point: FrontPoint, reason: str) -> RunError:
        return RunError(f"{self.path / FRONT}.parquet, point {point.point}: {reason}")

    def quality(self, path: Path | None) -> Quality:
        """What gave its perplexities; `path` is the table of measured subnets, if there was one.

        Raises RunError when it is another.
        """
        known = self.judged_by
        if bool(known["is_proxy"]) == (path is None):  # else not worth reading
            quality = load_quality(path, self.space)
            if quality.fingerprint == known["fingerprint"]:
                return quality
        raise RunError(
            f"the perplexities of {self.path} come from {known['source']}: "
            + ("drop --quality" if known["is_proxy"] else "name that table with --quality")
        )


def read_run(path: Path) -> RunFiles:
    """What every reader of a finished search needs; raises RunError naming the file and the remedy."""
    if not path.is_dir():
        raise RunError(f"{path} is no folder: {_RUN}")
    run = _needed(path, RUN_FILE, read_document(path / RUN_FILE))
    with refuse_damage(path / RUN_FILE, RunError, REMEDY):
        family = _family(_Kept(RUN_FILE, run).value("inputs", dict))
    file = path / f"{FRONT}.parquet"
    front = _needed(path, file.name, read_records(file, front_point_type(family)))
    if not front:
        raise RunError(f"{file} has no points: search a wider space")
    with refuse_damage(file, RunError, REMEDY):
        for number, point in enumerate(front, 1):
            _require_layers(point, f"row {number}")
    return RunFiles(path, run, tuple(front))


def _family(inputs: Mapping[str, Any]) -> str:
    """The family of the networks of a run; raises ValueError for one that is not known."""
    found: Any = inputs
    for name in ("space", "transformer"):
        found = found.get(name) if isinstance(found, Mapping) else None
    family = found.get("family", DEFAULT_FAMILY) if isinstance(found, Mapping) else DEFAULT_FAMILY
    if not isinstance(family, str) or family not in SEARCHED:
        raise ValueError(f"its networks are of an unknown family, {said(family)}")
    return family


def _needed(path: Path, name: str, found: Found | None) -> Found:
    if found is None:
        raise RunError(
            f"{path} keeps no finished search ({name} is missing): {_RUN}, or finish it with --resume"
        )
    return found


def _require_layers(point: FrontPoint, where: str) -> None:
    """Raise ValueError for a network that does not say a value a layer."""
    depth = depth_axis(point.axes)
    for name in (axis.name for axis in point.axes if axis.scope == "layer"):
        value = getattr(point, name)
        if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", value):
            raise ValueError(f"{where}: {name} is {said(value)} but must be numbers with commas")
        layers = 1 if depth is None else getattr(point, depth.name)
        if value.count(",") + 1 != layers:
            raise ValueError(f"{where}: {name} is {said(value)} but there are {layers} layers")


def open_run(path: Path) -> FinishedRun:
    """Open the folder of a finished `codesign search`; raises RunError, one line."""
    found = read_run(path)
    with _refuse_run(path / RUN_FILE):
        asked = _asked(found.run)
        document = {key: value for key, value in asked["space"].items() if key != "size"}
        return FinishedRun(
            path,
            found.run,
            found.front,
            space_of(document),
            Settings(
                tuple(map(str, asked["objectives"])), asked["method"], asked["budget"], asked["population"],
                asked["seed"],
            ),
            asked["mapping_objective"],
            _table(asked["energy_table"], EnergyOverrides, "picojoules"),
            _table(asked["area_table"], AreaOverrides, "mm2"),
            asked["quality"],
        )  # fmt: skip


@contextmanager
def _refuse_run(file: Path) -> Iterator[None]:
    """Whatever is wrong with what was asked is a damage of its file."""
    with refuse_damage(file, RunError, REMEDY):
        try:
            yield
        except CodesignError as error:  # an empty space, a table that is none
            raise ValueError(error) from error


def read_baseline(path: Path) -> Baseline | None:
    """The baseline of a run's folder, or None without one; raises RunError where it is damaged."""
    return read_record(path / BASELINE_FILE, baseline_type())


# What run.json keeps of a search, and of which kind.
_KEPT: Mapping[str, type | tuple[type, ...]] = {
    "action": str, "space": dict, "objectives": list, "method": str, "budget": int,
    "population": int, "seed": int, "mapping_objective": str, "energy_table": (str, dict),
    "area_table": (str, dict), "quality": dict,
}  # fmt: skip
_KEPT_OF_QUALITY: Mapping[str, type] = {"source": str, "is_proxy": bool, "fingerprint": str}
_CHOICES: Mapping[str, Collection[str]] = {
    "action": ("search",),
    "method": ("nsga2", "random", "exhaustive"),
    "mapping_objective": ("cycles", "energy", "edp"),
}


def _asked(run: Any) -> Mapping[str, Any]:
    """What a search was asked for, by its run.json; raises ValueError naming what is not there."""
    kept = _Kept(RUN_FILE, run)
    asked = _Kept(f"{RUN_FILE}, inputs", kept.value("inputs", dict))
    found = {name: asked.value(name, kind) for name, kind in _KEPT.items()}
    quality = _Kept(f"{RUN_FILE}, inputs, quality", found["quality"])
    found["quality"] = {name: quality.value(name, kind) for name, kind in _KEPT_OF_QUALITY.items()}
    for name, choices in _CHOICES.items():
        if found[name] not in choices:
            raise ValueError(
                f"{asked.where}: {name} is {said(found[name])}, not {', '.join(choices)}"
            )
    return found


@dataclass(frozen=True)
class _Kept:
    """An object of a JSON document, and where it is."""

    where: str
    document: Any

    def value(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """Its value of a name and kind; raises ValueError where there is none."""
        value = self.document.get(name) if isinstance(self.document, dict) else None
        if value is None:
            raise ValueError(f"{self.where}: it has no {name}")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(value) not in kinds or (type(value) is int and not 0 <= value < 1 << 63):
            raise ValueError(f"{self.where}: {name} is {said(value)}")
        return value


def _table(recorded: Any, kind: Any, name: str) -> Any:
    if isinstance(recorded, str):
        return recorded
    return kind(recorded["source"], tuple((str(n), float(v)) for n, v in recorded[name]))
