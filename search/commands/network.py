"""From a request to a network in int8: the model with its weights, data to calibrate on, quantization.

What `run` and `compile` share. Reading (`open_model`) comes before calibrating and compiling
(`quantize`), so that a user's own data is checked in between, before anything takes long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx

from codesign.compiler.network.inference import Network
from codesign.compiler.numerics.options import DEFAULT, Options
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.hw.errors import ModelError
from codesign.models.zoo.families import FAMILIES
from codesign.search.api import networks as api
from codesign.search.commands.request import Prepared
from codesign.search.inputs import samples, sources
from codesign.search.inputs.batch import Batch
from codesign.search.inputs.batch import batch_axes as find_batch
from codesign.search.inputs.samples import Input
from codesign.search.inputs.tokens import Tokenizer, tokenizer_file
from codesign.search.terminal.messages import say


@dataclass(frozen=True)
class Quantization:
    """How to quantize: data, choices, and what reads text."""

    calibration: Path | None = None
    samples: int | None = None  # at most; None: see `samples.calibration`
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
    batch: Batch | None = None  # of the samples that one Program computes one by one


def open_model(prepared: Prepared, options: Quantization) -> OpenModel:
    """Read the model's weights, and the tokenizer given or beside its file."""
    name, model = prepared.request.model, prepared.model
    built_in = name in FAMILIES
    source: Path | onnx.ModelProto = Path(name)
    if built_in:
        batch = None if model.batch != 1 else 1
        source = sources.built_in_file(name, model.seq, batch, options.seed)
        say(f"{name} is built in: its weights are random, of seed {options.seed}")
    place = options.tokenizer or (
        None if built_in else tokenizer_file(Path(name).absolute().parent)
    )
    tokenizer = None if place is None else Tokenizer(place)
    original = FloatModel(source)
    named = dict(prepared.request.dimensions)
    return OpenModel(
        source, original, samples.inputs_of(original, model, named), tokenizer, built_in
    )


def one_by_one(opened: OpenModel, prepared: Prepared, batches: Sequence[Feeds]) -> OpenModel:
    """The model of a batch's single samples where they do not depend on one another; says which.

    `batches` are all that are to run.
    """
    size = prepared.model.batch
    if size is None or size == 1:
        return opened
    named = dict(prepared.request.dimensions)
    try:
        single = samples.inputs_of(opened.original, replace(prepared.model, batch=1), named)
    except ModelError:  # the file fixes it
        say(f"note: the file fixes a batch of {size}: one Program computes all of it")
        return opened
    batch = find_batch(opened.original, opened.inputs, single, batches)
    if batch is None:
        say(f"note: the samples of a batch depend on one another: one Program computes all {size}")
        return opened
    say(f"note: the {size} samples of a batch run one after another on the Program of one")
    return replace(opened, inputs=single, batch=batch)


def compile_calibrated(opened: OpenModel, prepared: Prepared, options: Quantization) -> Network:
    """Calibrate on what the options say, say on which data, and compile."""
    data = samples.calibration(
        options.calibration, opened.inputs, opened.tokenizer, options.samples, options.seed
    )
    say(f"calibrating on {len(data.samples)} samples: {data.source}")
    network = api.compile(
        opened.source,
        prepared.machine,
        data.samples,
        seq=prepared.model.seq,
        batch=prepared.model.batch if opened.batch is None else 1,
        dimensions=dict(prepared.request.dimensions),
        objective=prepared.request.objective,
        energy_table=prepared.tables,
        options=options.choices,
    )
    for note in (*network.notes, *network.host):
        say(f"note: {note}")
    return network
