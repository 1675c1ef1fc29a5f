"""From a request to a network in int8: the model with its weights, data to calibrate on, quantization.

What `run` and `compile` share. Reading (`open_model`) comes before calibrating and compiling
(`quantize`), so that a user's own data is checked in between, before anything takes long.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from codesign.compiler.inference import Network, compile_network
from codesign.compiler.onnx_float import FloatModel
from codesign.compiler.options import DEFAULT, Options
from codesign.hw.energy import cost_table
from codesign.hw.errors import CodesignError
from codesign.models.export import export
from codesign.models.families import FAMILIES
from codesign.search import inputs, samples
from codesign.search.request import Prepared, say
from codesign.search.samples import Input
from codesign.search.tokens import Tokenizer, find


@dataclass(frozen=True)
class Quantization:
    """How to quantize: data, choices, and what reads text."""

    calibration: Path | None = None
    samples: int = samples.DEFAULT_SAMPLES
    choices: Options = DEFAULT
    tokenizer: Path | None = None
    seed: int = 0  # of random weights and samples

    def describe(self) -> Mapping[str, object]:
        """What `run.json` says of it."""
        return {
            "calibration": self.calibration,
            "samples": self.samples,
            **asdict(self.choices),
            "tokenizer": self.tokenizer,
        }


@dataclass(frozen=True)
class OpenModel:
    """A model with its weights: its source, itself in float, its inputs, and what reads text for it."""

    source: Path | onnx.ModelProto
    original: FloatModel
    inputs: list[Input]
    tokenizer: Tokenizer | None
    built_in: bool


def open_model(prepared: Prepared, options: Quantization) -> OpenModel:
    """Read the model's weights, and the tokenizer given or beside its file."""
    name, model = prepared.request.model, prepared.model
    if model.batch not in (None, 1):
        raise CodesignError(
            f"batch {model.batch} cannot be run in int8: run its samples one by one, with --batch 1"
        )
    built_in = name in FAMILIES
    source: Path | onnx.ModelProto = Path(name)
    if built_in:
        config = inputs.built_in(name, model.seq)
        source = export(config, batch=model.batch, seq=model.seq or 1, seed=options.seed)
        say(f"{name} is built in: its weights are random, of seed {options.seed}")
    place = options.tokenizer or (None if built_in else find(Path(name).absolute().parent))
    tokenizer = None if place is None else Tokenizer(place)
    original = FloatModel(source)
    named = dict(prepared.request.dimensions)
    return OpenModel(
        source, original, samples.inputs_of(original, model, named), tokenizer, built_in
    )


def quantize(opened: OpenModel, prepared: Prepared, options: Quantization) -> Network:
    """Calibrate on what the options say, say on which data, and compile."""
    data = samples.calibration(
        options.calibration, opened.inputs, opened.tokenizer, options.samples, options.seed
    )
    say(f"calibrating on {len(data.samples)} samples: {data.source}")
    config = prepared.machine
    network = compile_network(
        opened.source,
        config,
        data.samples,
        seq=prepared.model.seq,
        batch=prepared.model.batch,
        dims=dict(prepared.request.dimensions),
        objective=prepared.request.objective,
        table=cost_table(config, prepared.tables),
        options=options.choices,
    )
    for note in network.notes:
        say(f"note: {note}")
    return network
