"""A finished joint search, opened again: what `codesign verify` and `codesign study` go on from.

Everything comes from the files of its run directory; a perplexity that was measured needs its table
once more.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from codesign.hw.area import AreaOverrides
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import EnergyOverrides
from codesign.hw.errors import CodesignError, ConfigError
from codesign.search.joint import Settings
from codesign.search.output import RUN_FILE
from codesign.search.quality import Quality, load_quality
from codesign.search.search_results import FrontPoint
from codesign.search.space import SearchSpace, Shape, SpaceError, space_of


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
    front: tuple[FrontPoint, ...]

    def machine(self, point: FrontPoint) -> HardwareConfig:
        """The machine of a point."""
        values = {name: getattr(point, name, None) for name, _ in self.space.axes}
        if None not in values.values():
            return replace(self.space.base, name=point.hardware, **values)  # type: ignore[arg-type]
        # An axis that the front has no column for is told by the name.
        for number in range(self.space.machines):
            with suppress(ConfigError):
                config = self.space.machine(number)
                if config.name == point.hardware:
                    return config
        raise RunError(f"the space of {self.path} has no machine {point.hardware}")

    def quality(self, path: Path | None) -> Quality:
        """What gave its perplexities; `path` is the table of measured subnets, if there was one.

        Raises RunError when it is another.
        """
        known = self.run["inputs"]["quality"]
        quality = load_quality(path)
        if quality.fingerprint != known["fingerprint"]:
            raise RunError(
                f"the perplexities of {self.path} come from {known['source']}: "
                + ("drop --quality" if known["is_proxy"] else "name that table with --quality")
            )
        return quality


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
            _front(path),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise RunError(
            f"{path} keeps no finished search ({Path(error.filename).name} is missing): name the "
            "folder of a codesign search, or finish it with --resume"
        ) from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, SpaceError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} is no run of codesign search, or damaged ({reason})") from error


def _table(recorded: Any, kind: Any, name: str) -> Any:
    if isinstance(recorded, str):
        return recorded
    return kind(recorded["source"], tuple((str(n), float(v)) for n, v in recorded[name]))


def _front(path: Path) -> tuple[FrontPoint, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / "front.parquet"
    if not file.exists():
        raise FileNotFoundError(2, "No such file", str(file))
    names = [field.name for field in fields(FrontPoint)]
    try:
        rows = pq.read_table(file).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"front.parquet: {error}") from error
    return tuple(FrontPoint(**{name: row[name] for name in names}) for row in rows)
