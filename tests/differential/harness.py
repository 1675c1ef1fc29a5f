"""What codesign makes of a graph, held against onnxruntime, and statistics over many graphs.

Codesign's part is `codesign run FILE --backend integers` itself, in this process. A graph is

    good      it runs, within WITHIN dB of plain eight-bit rounding, and at GOOD dB where that is,
              but for EDGE
    told      it runs worse, and a note in the ordinary output says so
    refused   one line, a CodesignError
    silent    it runs worse and nothing says so
    fault     anything else: a traceback, a shape or a type that is not onnxruntime's
"""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from codesign.hw.errors import CodesignError
from codesign.search.commands.network import Quantization
from codesign.search.commands.request import Request
from codesign.search.commands.run import RunOptions, run_network

from . import graphs, quantized
from .oracle import (
    Feeds,
    NoReference,
    Session,
    decibels,
    opened,
    ranges,
    rounded,
    with_weights_rounded,
)

WITHIN = 3.0
GOOD = 25.0
# Of one graph the ratios of single inputs lie some dB apart, that of SAMPLES of them within about this:
# beside a plain ratio so near to GOOD, being below it says nothing.
EDGE = 1.0
# Ranges that plain rounding covers, of those seen: how well eight bits do is in part a matter of luck,
# and where codesign does worse than the first its rivals are the others too.
WIDER = (1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.08)
SAMPLES = 6  # inputs to run: the error of one alone is a matter of luck
CALIBRATION, FIRST = 16, 1000  # inputs that the ranges are of, and the seed of the first
ORDINARY = 1e-2, 3e2  # how far tensors of a graph reach
# What the ordinary output says where eight bits of this machine are not enough, and the most dB that
# it accounts for.
TELLING = {
    "probabilities": np.inf,
    "GELU is an approximation": np.inf,
    "one bit coarser": 6.1,
    "codes that are not the file's": 6.1,
    "bits inside an operator": 6.1,
}


Outputs = Sequence[Mapping[str, graphs.Array]]


@dataclass(frozen=True)
class Case:
    """One graph: the file, what it means exactly, and the ranges of its tensors."""

    seed: int
    form: str  # float, or how a quantized file says it
    model: onnx.ModelProto
    exact: onnx.ModelProto
    inside: onnx.ModelProto  # the same with attention operators as products
    reach: Mapping[str, tuple[float, float]]
    kinds: tuple[str, ...]
    stages: tuple[str, ...]

    def plain(self, wider: float) -> onnx.ModelProto:
        """What plain eight-bit arithmetic makes of it, with steps that are `wider`.

        A quantized file rounds by itself, but for weights that it leaves in float; a dynamic one has
        no ranges of its own.
        """
        if self.form in ("float", "dynamic"):
            return rounded(self.inside, self.reach, wider)
        return with_weights_rounded(self.model)

    @property
    def operators(self) -> frozenset[str]:
        return frozenset(node.op_type for node in self.model.graph.node)


@dataclass(frozen=True)
class Verdict:
    """What came of one case; dB are the worst output's."""

    case: Case
    outcome: str
    reason: str = ""
    ours: float = np.inf
    plain: float = np.inf

    @property
    def lost(self) -> float:
        """dB beside plain rounding."""
        return 0.0 if self.ours == self.plain else self.plain - self.ours

    @property
    def bad(self) -> bool:
        return self.outcome in ("silent", "fault")

    def __str__(self) -> str:
        size = f"{self.ours:.1f} dB where plain rounding has {self.plain:.1f}"
        what = self.reason if self.outcome in ("refused", "fault") else f"{size} {self.reason}"
        named = ", ".join((*self.case.stages, *self.case.kinds))
        return f"{self.outcome} seed {self.case.seed} ({self.case.form}; {named}): {what}"


def make(seed: int) -> Case:
    """The case of a seed. Raises NoReference for a graph that onnxruntime does not compute."""
    form = quantized.FORMS[seed % len(quantized.FORMS)]
    for attempt in range(100):
        drawn = graphs.draw(seed * 100 + attempt, plain=form != "float")
        try:
            given = [graphs.feeds(drawn.model, FIRST + index) for index in range(CALIBRATION)]
            reach = ranges(drawn.model, drawn.rounded, given)
            if not ordinary(drawn, reach):
                continue
            if form == "float":
                inside, operands = opened(drawn.model, given[0])
                reach |= ranges(inside, operands, given)
                made = drawn.model, drawn.model, inside, reach, drawn.kinds
            else:
                q = quantized.quantize(drawn, reach, form, seed)
                made = q.file, q.exact, q.exact, reach, q.kinds
            case = Case(seed, form, *made, drawn.stages)
            for model in (case.model, case.plain(WIDER[0])):
                Session(model)(given[0])
            if any(np.ptp(value) == 0 for value in Session(case.exact)(given[0]).values()):
                continue  # nothing but a clamp's bound
        except (NoReference, quantized.NoForm):
            continue
        return case
    raise NoReference(f"no graph of seed {seed} has a reference")


def ordinary(drawn: graphs.Drawn, reach: dict[str, tuple[float, float]]) -> bool:
    """Whether the tensors reach neither too far nor nowhere."""
    largest = [max(map(abs, pair)) for pair in reach.values()]
    low, high = (0.0, np.inf) if drawn.kinds else ORDINARY
    return all(np.isfinite(each) and low < each <= high for each in largest)


def judge(case: Case) -> Verdict:
    """Run a case on codesign and hold it against onnxruntime."""
    verdict = _judged(case, [graphs.feeds(case.model, index) for index in range(SAMPLES)])
    if verdict.outcome not in ("told", "silent"):
        return verdict
    # How far inputs lie beyond the ranges, which clamp them, is luck too: no input of these does.
    seen = [graphs.feeds(case.model, FIRST + index) for index in range(CALIBRATION)]
    return _judged(case, seen, calibrated=True)


def _judged(case: Case, feeds: Sequence[Feeds], calibrated: bool = False) -> Verdict:
    """What comes of a case on some inputs, which the ranges are of where it is `calibrated` on them."""
    wanted, exact = (
        [session(each) for each in feeds] for session in map(Session, (case.model, case.exact))
    )
    try:
        found, notes = run(case.model, feeds, calibrated)
    except CodesignError as error:
        lines = str(error).splitlines()
        return Verdict(case, "refused" if len(lines) == 1 else "fault", " ".join(lines))
    except Exception as error:  # noqa: BLE001 - a traceback is what the net looks for
        return Verdict(case, "fault", f"{type(error).__name__}: {error}")
    for name, value in wanted[0].items():
        ours = found[0].get(name)
        if ours is None or ours.shape != value.shape or ours.dtype != value.dtype:
            got = "nothing" if ours is None else f"{ours.dtype}{list(ours.shape)}"
            reason = f"{name} is {got}, not {value.dtype}{list(value.shape)}"
            return Verdict(case, "fault", reason)
    floats = [name for name, value in wanted[0].items() if value.dtype.kind == "f"]
    reached = {  # the index of a largest element is right or wrong by a hair: it has no dB
        name: max(ratio(found, truth, name) for truth in (wanted, exact)) for name in floats
    }
    told = tells(notes)
    least = dict.fromkeys(reached, np.inf)
    for wider in WIDER:
        session = Session(case.plain(wider))
        plain = [session(each) for each in feeds]
        least = {name: min(least[name], ratio(plain, exact, name)) for name in least}
        if all(good(reached[name], least[name]) for name in least):
            break
    verdicts = [
        Verdict(case, "good", "; ".join(notes), reached[name], least[name])
        if good(reached[name], least[name])
        else Verdict(
            case,
            "told" if least[name] - reached[name] <= told else "silent",
            "; ".join(notes),
            reached[name],
            least[name],
        )
        for name in least
    ]
    exactly = Verdict(case, "good", "; ".join(notes))
    worst = ("good", "told", "silent").index
    return max(verdicts, key=lambda each: (worst(each.outcome), each.lost), default=exactly)


def ratio(found: Outputs, truth: Outputs, name: str) -> float:
    """dB of one output over all samples."""
    return decibels([each[name] for each in found], [each[name] for each in truth])


def good(ours: float, fair: float) -> bool:
    """Whether a ratio is what eight bits give."""
    return ours >= fair - WITHIN and (ours >= GOOD or fair < GOOD + EDGE) or ours >= 60.0


def tells(notes: Sequence[str]) -> float:
    """How many dB below eight bits a result may be by what the notes say; below 0: none."""
    found = [most for words, most in TELLING.items() if any(words in note for note in notes)]
    return WITHIN + max(found) if found else -np.inf


def run(
    model: onnx.ModelProto, feeds: Sequence[Feeds], calibrated: bool = False
) -> tuple[list[dict[str, graphs.Array]], list[str]]:
    """The outputs of some inputs and the notes of `codesign run --backend integers`, `calibrated` on
    those inputs.
    """
    said, shown = io.StringIO(), io.StringIO()
    with (
        TemporaryDirectory() as name,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(shown),
    ):
        folder = Path(name)
        path, out, given = folder / "graph.onnx", folder / "run", folder / "given"
        onnx.save(model, path)
        given.mkdir()
        files = tuple(given / f"{index}.npz" for index in range(len(feeds)))
        for file, each in zip(files, feeds, strict=True):
            arrays: dict[str, Any] = dict(each)
            np.savez(file, **arrays)
        run_network(
            Request(
                command="codesign run",
                model=str(path),
                seq=None,
                batch=None,
                dimensions=(),
                hardware="ibert",
                fixed={},
                axes={},
                objective="edp",
                energy_table="default",
                out=out,
                as_json=True,
            ),
            RunOptions(
                "integers",
                files=files,
                quantization=Quantization(calibration=given if calibrated else None),
            ),
        )
        with np.load(out / "outputs.npz") as kept:
            stacked = {key: kept[key] for key in kept if not key.startswith("float.")}
    found = [{key: value[index] for key, value in stacked.items()} for index in range(len(feeds))]
    quiet = ("calibrating on", "files are in")
    lines = said.getvalue().splitlines()
    return found, [line for line in lines if not any(word in line for word in quiet)]


def judged(seeds: Iterable[int]) -> Iterator[Verdict]:
    """The verdict of every seed that has a reference."""
    for seed in seeds:
        try:
            case = make(seed)
        except NoReference:
            continue
        yield judge(case)


@dataclass
class Statistics:
    """What came of many cases."""

    verdicts: list[Verdict] = field(default_factory=list)

    def share_run(self) -> float:
        """Of the graphs, those that run."""
        refused = sum(each.outcome == "refused" for each in self.verdicts)
        return 1 - refused / max(len(self.verdicts), 1)

    def lines(self) -> Iterator[str]:
        """How many ran, refused by reason, silent by kind, the worst."""
        outcomes = Counter(each.outcome for each in self.verdicts)
        yield f"{len(self.verdicts)} graphs: " + ", ".join(
            f"{count} {outcome}" for outcome, count in outcomes.most_common()
        )
        yield f"{100 * self.share_run():.1f} % run"
        reasons = Counter(_reason(v) for v in self.verdicts if v.outcome == "refused")
        for reason, count in reasons.most_common():
            yield f"  refused {count}: {reason}"
        kinds = Counter(
            kind
            for each in self.verdicts
            if each.outcome == "silent"
            for kind in each.case.kinds or ("other",)
        )
        for kind, count in kinds.most_common():
            yield f"  silent {count}: {kind}"
        ran = [each for each in self.verdicts if each.outcome in ("good", "told", "silent")]
        ran.sort(key=lambda each: -each.lost)
        yield from (f"  worst: {each}" for each in ran[:5])


def _reason(verdict: Verdict) -> str:
    """A refusal without the names that differ from graph to graph."""
    words = re.sub(r"'[^']*'", "...", verdict.reason)
    return re.sub(r"\d[\d.e+-]*", "N", words)[:150]


def keep(verdict: Verdict, folder: Path) -> Path:
    """Write the graph of a verdict, to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"differential_{verdict.case.seed}.onnx"
    onnx.save(verdict.case.model, path)
    return path
