"""What `codesign train` was asked for, read and checked.

The space is a search space, so that one file serves both commands; the run keeps it as `space.toml`
with the vocabulary of the text, beside the table that `codesign search --quality` takes.
"""

import importlib.util
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.platform.installation import install_command
from codesign.models.supernet.space import SubnetSpace
from codesign.models.text.tokens import Tokenization, Tokens, built_in_tokens, read_tokens
from codesign.models.zoo.families import TRAINED
from codesign.search.runs import output
from codesign.search.space.networks import SpaceError
from codesign.search.space.space import SearchSpace, small_space
from codesign.search.space.space_file import read_space

if TYPE_CHECKING:
    from codesign.models.supernet.compute import Compute
    from codesign.models.supernet.schedule import Training

SURVEY, SMALL = "survey", "small"
SURVEY_SEQ = 512  # tokens a sequence of training (arXiv 2302.14017 §6.4)
DEFAULTS = {  # epochs, learning rate, subnets
    SURVEY: (50, 1e-3, 1000),
    SMALL: (4, 6e-3, 200),
}
EXTREMES = 2  # rows of a table, before its random subnets


@dataclass(frozen=True)
class TrainRequest:
    """The options of `codesign train`."""

    command: str
    data: Path | None = None
    validation: Path | None = None
    tokens: Tokenization | None = None
    vocabulary: int | None = None
    space: str = SURVEY
    epochs: int | None = None
    batch: int = 16
    seq: int | None = None
    learning_rate: float | None = None
    dropout: float = 0.0
    seed: int = 0
    subnets: int | None = None
    honest: int | None = None
    distil: bool = True
    device: str | None = None
    ranks: int = 1
    compiled: bool | None = None
    workers: int | None = None
    resume: bool = False
    out: Path = Path("codesign-train")
    as_json: bool = False


@dataclass(frozen=True)
class PreparedTraining:
    """A request with everything read and checked."""

    request: TrainRequest
    text: Tokens
    space: SearchSpace
    training: "Training"
    subnets: int  # no more than there are
    compute: "Compute"
    kept: int = 0  # subnets that the folder has already

    @property
    def trained(self) -> SubnetSpace:
        """The space of the supernet."""
        return trained_space(self.space, self.training.seq, len(self.text.vocabulary))

    @property
    def rows(self) -> int:
        """Subnets in the table in the end."""
        return max(self.subnets, self.kept)

    def describe(self) -> dict[str, Any]:
        """What `run.json` says of it; more subnets of one training are no other run."""
        from codesign.models.supernet.measurement import table_document

        made = table_document(self.text, self.trained, self.training)
        inputs = {name: made[name] for name in ("space", "training", "text")}
        return output.describe_run(
            self.request.command, {"action": "train", **inputs}, self.training.seed
        )


def prepare_training(request: TrainRequest) -> PreparedTraining:
    """Read and check everything that a request names, before anything is written."""
    if importlib.util.find_spec("torch") is None:
        raise ModelError(f"training needs torch: {install_command('train')}")
    from codesign.models.supernet.schedule import Training, windows

    text = _text(request)
    space = _space(request.space)
    words = len(text.vocabulary)
    trained_space(space, 1, words)  # before anything of the family is replaced
    if "vocab_size" in dict(space.transformer.options):
        space = replace(space, transformer=space.transformer.changed(vocab_size=words))
    epochs, rate, subnets = DEFAULTS.get(request.space, DEFAULTS[SURVEY])
    training = Training(
        epochs=request.epochs or epochs,
        batch=request.batch,
        seq=request.seq or (SURVEY_SEQ if request.space == SURVEY else space.transformer.sequence),
        learning_rate=request.learning_rate or rate,
        dropout=request.dropout,
        distil=request.distil,
        seed=request.seed,
    )
    for tokens in (text.train, text.validation):
        windows(tokens, training.seq)
    size = trained_space(space, training.seq, words).size()
    subnets = min(request.subnets or subnets, size)
    if request.honest:
        _check_honest(request.honest, subnets, size)
    return PreparedTraining(request, text, space, training, subnets, _compute(request))


def trained_space(space: SearchSpace, positions: int, vocabulary: int) -> SubnetSpace:
    """The space of networks that a supernet of these is trained for; raises CodesignError."""
    t = space.transformer
    if t.family not in TRAINED:
        raise SpaceError(
            f"networks of the family {t.family} cannot be trained: name a space of "
            f"{' or '.join(TRAINED)}"
        )
    kind = TRAINED[t.family]
    choices = tuple((name, tuple(sorted(values))) for name, values in t.choices)
    heeded = tuple(
        (name, value) for name, value in t.options if name in (kind.trained_options or ())
    )
    return SubnetSpace(kind, choices, vocabulary, positions, heeded)


def _check_honest(wanted: int, subnets: int, size: int) -> None:
    """Raises CodesignError where there are not so many beside the largest and the smallest."""
    random = max(0, subnets - EXTREMES)
    if wanted > random:
        remedy = "measure more" if subnets < size else "take a larger space, or leave it out"
        raise CodesignError(
            f"--honest {wanted} is more than {random}, the random ones of "
            f"{counted(subnets, 'subnet')}: {remedy}"
        )


def _text(request: TrainRequest) -> Tokens:
    if request.data is None:
        for name in ("validation", "tokens", "vocabulary"):
            if getattr(request, name) is not None:
                raise CodesignError(f"--{name} is of a text of your own: name it with --data")
        return built_in_tokens()
    data, validation = request.data, request.validation
    if data.is_dir():
        data, validation = data / "train.txt", validation or data / "valid.txt"
    return read_tokens(
        data,
        request.tokens or "words",
        validation=validation,
        vocabulary_size=request.vocabulary,
        name=request.data.resolve().name,
    )


def _space(name: str) -> SearchSpace:
    if name == SURVEY:
        return SearchSpace()
    return small_space() if name == SMALL else read_space(Path(name))


def _compute(request: TrainRequest) -> "Compute":
    from codesign.models.supernet.compute import Compute

    device = _device(request.device, request.ranks)
    compiled = device != "cpu" if request.compiled is None else request.compiled
    return Compute(device, request.ranks, compiled)


def _device(name: str | None, ranks: int) -> str:
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise CodesignError(f"unknown device {name!r}: choose cpu, cuda or cuda:N")
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise CodesignError("no CUDA device is here: leave --device out, or take --device cpu")
    count = torch.cuda.device_count()
    if name == "cuda" and ranks > count:
        raise CodesignError(f"--ranks {ranks} needs as many GPUs, here are {count}: take fewer")
    if name != "cuda" and ranks > 1:
        raise CodesignError(f"{ranks} ranks do not fit on {name}: take --device cuda")
    if int(name.partition(":")[2] or 0) >= count:
        raise CodesignError(f"no device {name} is here: the last is cuda:{count - 1}")
    return name


def counted(count: int, what: str) -> str:
    """A number of things in words."""
    return f"{count:,} {what}{'s' * (count != 1)}"
