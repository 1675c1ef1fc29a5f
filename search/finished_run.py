"""A finished joint search, opened again: what `codesign verify` and `codesign study` go on from.

Everything comes from the files of its run directory; a perplexity that was measured needs its table
once more.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from codesign.hw.area import AreaOverrides
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import EnergyOverrides
from codesign.hw.errors import CodesignError, ConfigError
from codesign.search.joint import Settings
from codesign.search.quality import Quality, load_quality
from codesign.search.run_files import RUN_FILE
from codesign.search.search_results import FrontPoint
from codesign.search.space import Genes, SearchSpace, Shape, SpaceError
from codesign.search.space_file import space_of

FRONT_FILE = "front.parquet"


class RunError(CodesignError):
    """A folder that is not, or no longer, the run of a finished search."""


@dataclass(frozen=True)
class FinishedRun:
    """A search that has ended: what was asked, and its front in order of quality."""

    path: Path
    run: Mapping[str, Any]  # run.json
    space: SearchSpace
    settings: Settings
    objective: str  # of the mapper
    tables: str | EnergyOverrides
    area_tables: str | AreaOverrides
    judged_by: Mapping[str, Any]  # source, is_proxy and fingerprint of the quality
    front: tuple[FrontPoint, ...]

    def genes(self, point: FrontPoint) -> Genes:
        """The candidate of a point [genes]; raises RunError where the space does not have it."""
        try:
            return self.space.genes(self._machine_values(point), shape_of(point))
        except SpaceError as error:
            raise self._not_of_the_space(point, str(error)) from error

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
        return RunError(f"{self.path / FRONT_FILE}, point {point.point}: {reason}")

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


def shape_of(point: FrontPoint) -> Shape:
    """The Transformer of a point."""
    heads, d_ff = (tuple(map(int, text.split(","))) for text in (point.heads, point.d_ff))
    return Shape(point.d_model, heads, d_ff)


def open_run(path: Path) -> FinishedRun:
    """Open the folder of a finished `codesign search`; raises RunError, one line."""
    try:
        run = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
        asked = run["inputs"]
        if asked["action"] != "search":
            raise KeyError("action")
        document = {key: value for key, value in asked["space"].items() if key != "size"}
        return FinishedRun(
            path,
            run,
            space_of(document),
            Settings(
                tuple(asked["objectives"]), asked["method"], asked["budget"], asked["population"],
                asked["seed"],
            ),
            asked["mapping_objective"],
            _table(asked["energy_table"], EnergyOverrides, "picojoules"),
            _table(asked["area_table"], AreaOverrides, "mm2"),
            {key: asked["quality"][key] for key in ("source", "is_proxy", "fingerprint")},
            _front(path),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise RunError(
            f"{path} keeps no finished search ({Path(error.filename).name} is missing): name the "
            "folder of a codesign search, or finish it with --resume"
        ) from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SpaceError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} is no run of codesign search, or damaged ({reason})") from error


def _table(recorded: Any, kind: Any, name: str) -> Any:
    if isinstance(recorded, str):
        return recorded
    return kind(recorded["source"], tuple((str(n), float(v)) for n, v in recorded[name]))


def _front(path: Path) -> tuple[FrontPoint, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / FRONT_FILE
    if not file.exists():
        raise FileNotFoundError(2, "No such file", str(file))
    try:
        rows = pq.read_table(file).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{FRONT_FILE}: {error}") from error
    if not rows:
        raise ValueError(f"{FRONT_FILE} has no rows")
    return tuple(_point(row, f"{FRONT_FILE}, row {number}") for number, row in enumerate(rows, 1))


def _point(row: Mapping[str, Any], where: str) -> FrontPoint:
    """One row of a front; raises ValueError naming the column that holds something else."""
    hints = get_type_hints(FrontPoint)
    for name, kind in hints.items():
        if name not in row:
            raise ValueError(f"{FRONT_FILE} has no column {name}")
        value = row[name]
        number = kind in (int, float)
        if type(value) is not kind or (number and not 0 <= value < math.inf):
            what = "a number, 0 or more" if number else f"of type {kind.__name__}"
            raise ValueError(f"{where}: {name} is {value!r} but must be {what}")
        if name in ("heads", "d_ff") and not re.fullmatch(r"\d{1,9}(,\d{1,9})*", value):
            raise ValueError(f"{where}: {name} is {value!r} but must be numbers with commas")
    return FrontPoint(**{name: row[name] for name in hints})
