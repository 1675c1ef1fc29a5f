"""What a command is given: the names and files of a model, a machine and an energy table.

Turns them into a Graph, a HardwareConfig and the `tables` of `evaluate`, and says how much of each
went into a result (`digest`). Everything here raises CodesignError before any work has started.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.compiler.graph import Graph
from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import TABLES, EnergyOverrides
from codesign.hw.errors import ConfigError, ModelError, TableError, UnsupportedError
from codesign.hw.machine import config as hardware
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.platform.text import printable, said
from codesign.models.zoo.families import FAMILIES, family
from codesign.models.zoo.model_config import LARGEST_EXTENT, ModelConfig
from codesign.search.inputs.decoders import Decoder, behind, built_in_decoder, file_decoder

DEFAULT_SEQ, DEFAULT_BATCH = 128, 1
DEFAULT_AREAS = "default"


@dataclass(frozen=True)
class Model:
    """A model as a command prices it. `seq` and `batch` are None where its file fixes them; `decoder` is None
    of one that predicts no next token."""

    name: str
    graph: Graph
    seq: int | None
    batch: int | None
    decoder: Decoder | None = None

    @property
    def title(self) -> str:
        """The name and the extents, for people."""
        past = None if self.decoder is None else self.decoder.past
        extents = (("sequence", self.seq), ("past", past), ("batch", self.batch))
        return ", ".join([self.name, *(f"{name} {n}" for name, n in extents if n is not None)])


def load_model(
    name: str,
    seq: int | None = None,
    batch: int | None = None,
    named: tuple[tuple[str, int], ...] = (),
    past: int | None = None,
) -> Model:
    """Return the model that `name` means: an ONNX file, or a built-in family.

    A dynamic sequence axis is 128 long and a dynamic batch 1 unless given; `named` gives other
    symbolic dimensions their extents. With a `past` the model is a decoder's step, of 1 token unless given,
    behind so many in its cache. Raises ModelError for an unknown name, an unreadable file, a dimension
    without a value or a past without a cache, UnsupportedError for nodes that cannot be imported.
    """
    for what, extent in (("seq", seq), ("batch", batch), ("past", past), *named):
        if extent is not None and extent > LARGEST_EXTENT:
            raise ModelError(f"{what} {said(extent)} is beyond {LARGEST_EXTENT:,}: give less")
    if not name:
        raise ModelError("MODEL is empty: name an ONNX file or a built-in model (codesign models)")
    if name.endswith(".onnx") or (name not in FAMILIES and Path(name).exists()):
        return _from_file(Path(name), seq, batch, named, past)
    return _from_family(name, seq, batch, named, past)


def built_in(name: str, seq: int | None = None, past: int | None = None) -> ModelConfig:
    """Return the family `name`, its position table grown to `seq` where that is longer; with a `past` as a
    step behind it.

    Raises ModelError with the nearest names, or when the family has no sequence axis or no cache.
    """
    config = family(name)
    if past is not None:
        config = behind(config, past)
    return config if seq is None else config.lengthened(seq)


def built_in_file(name: str, seq: int | None, batch: int | None, seed: int = 0) -> Any:
    """Return a built-in model with random weights as `onnx` reads a file; None is a dynamic batch."""
    from codesign.models.zoo.export import export  # onnx is slow to load

    return export(built_in(name, seq), batch=batch, seq=seq or 1, seed=seed)


def exported(name: str, seq: int | None, shape: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration to export: a built-in model, or with the fields of `shape`
    replaced the first of a family, by its name.

    `heads` and `d_ff` of `shape` are tuples; one number serves every layer. Raises ModelError.
    """
    if not shape:
        return built_in(name, seq)
    of_family = (config for config in FAMILIES.values() if config.family == name)
    config = FAMILIES.get(name) or next(of_family, None) or family(name)
    config = config.reshaped(shape)
    return config if seq is None else config.lengthened(seq)


def load_machine(name: str) -> HardwareConfig:
    """Return the machine of a TOML file or the preset called `name`; raises ConfigError."""
    if name.endswith(".toml") or (name not in PRESETS and Path(name).is_file()):
        return hardware.from_toml(Path(name))
    if name not in PRESETS and Path(name).is_dir():
        raise ConfigError([f"{name} is a folder: give the .toml file in it"])
    return hardware.preset(name)


def load_tables(name: str) -> str | EnergyOverrides:
    """Return a shipped energy table's name, or a user's own costs from an Accelergy ERT.

    Raises TableError when there is neither.
    """
    if name in TABLES:
        return name
    from codesign.hw.costs.accelergy import load_ert  # YAML is slow to load

    return load_ert(_table_file(name, "energy", "ERT", TABLES))


def load_area_tables(name: str) -> str | AreaOverrides:
    """Return "default", or a user's own areas from an Accelergy ART; raises TableError."""
    if name == DEFAULT_AREAS:
        return name
    from codesign.hw.costs.accelergy import load_art  # YAML is slow to load

    return load_art(_table_file(name, "area", "ART", (DEFAULT_AREAS,)))


def graph_digest(graph: Graph) -> str:
    """Return a short fingerprint of everything in `graph` that costs depend on."""
    text = "\n".join(map(repr, graph.operators()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _table_file(name: str, quantity: str, kind: str, shipped: Sequence[str]) -> Path:
    if not Path(name).exists() and not name.endswith((".yaml", ".yml")):
        raise TableError(
            f"no {quantity} table is called {name!r}: choose {' or '.join(shipped)}, or give an "
            f"Accelergy {kind} (.yaml)"
        )
    return Path(name)


def _from_family(
    name: str,
    seq: int | None,
    batch: int | None,
    named: tuple[tuple[str, int], ...],
    past: int | None,
) -> Model:
    if named:
        raise ModelError(f"{name} is built in and has no dimension {named[0][0]!r}: drop --bind")
    seq = 1 if seq is None and past is not None else seq
    config = built_in(name, seq, past)
    batch = DEFAULT_BATCH if batch is None else batch
    seq = (DEFAULT_SEQ if seq is None else seq) if config.has_sequence else None
    from codesign.compiler.importer.import_onnx import import_onnx  # onnx is slow to load
    from codesign.models.zoo.export import export

    onnx_model = export(config, batch=batch, seq=seq, weights="splat")
    graph = import_onnx(onnx_model, name=name)
    return Model(name, graph, seq, batch, built_in_decoder(config, batch, seq))


def _from_file(
    path: Path,
    seq: int | None,
    batch: int | None,
    named: tuple[tuple[str, int], ...],
    past: int | None,
) -> Model:
    """Import with the defaults; where the file fixes an axis, without them."""
    from codesign.compiler.importer.import_onnx import import_onnx  # onnx is slow to load
    from codesign.compiler.onnx.boundary import reading
    from codesign.compiler.onnx.load import MissingExtent, UnusableExtent, read_model
    from codesign.compiler.recognition.past import open_past, past_extents

    onnx_model, name, place = read_model(path), printable(path.stem), printable(str(path))
    unusable: UnusableExtent | None = None
    default_seq = DEFAULT_SEQ if past is None else 1
    for try_seq in (seq,) if seq is not None else (default_seq, None):
        for try_batch in (batch,) if batch is not None else (DEFAULT_BATCH, None):
            dims = dict(named)
            try:
                with reading(place):
                    dims |= {} if past is None else past_extents(onnx_model, past, try_seq, dims)
                graph = import_onnx(
                    onnx_model, batch=try_batch, seq=try_seq, dims=dims, name=name, where=place
                )
            except UnsupportedError as error:
                if past is None:
                    _require_positions(onnx_model, error, try_seq, try_batch, dims)
                raise
            except MissingExtent as error:
                if past is not None or error.symbol not in open_past(onnx_model):
                    raise
                given = f"--past N (simulate, sweep) or --bind {error.symbol}=N"
                raise ModelError(
                    f"{place} has a key-value cache: say of how many tokens with {given}"
                ) from error
            except UnusableExtent as error:
                unusable = error  # the last to be raised is of what was asked for
            else:
                with reading(place):
                    decoder = file_decoder(onnx_model, graph, try_batch, try_seq, dims, dict(named))
                return Model(name, graph, try_seq, try_batch, decoder)
    assert unusable is not None
    raise unusable


def _require_positions(
    onnx_model: Any,
    error: UnsupportedError,
    seq: int | None,
    batch: int | None,
    named: dict[str, int],
) -> None:
    """Raise ModelError where `error` is that of a sequence longer than the table of positions.

    That is where extents disagree, and agree at all lengths up to one.
    """
    from codesign.compiler.importer.import_onnx import import_onnx

    def fits(length: int) -> bool:
        try:
            import_onnx(onnx_model, batch=batch, seq=length, dims=named)
        except ModelError:
            return False
        return True

    if seq is None or not error.mismatch:
        return
    longest, shortest_bad = 0, seq
    while shortest_bad - longest > 1:
        length = (longest + shortest_bad) // 2
        longest, shortest_bad = (length, shortest_bad) if fits(length) else (longest, length)
    if longest and (longest == 1 or fits(longest - 1)):
        raise ModelError(
            f"sequence {seq} is longer than the {longest} positions of the model: give --seq "
            f"{longest} or less"
        ) from error
