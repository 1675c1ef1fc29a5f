"""What a search has done so far, and how that is kept from one generation to the next.

A checkpoint is a file of numbers and text, written as a whole with a digest of the candidates beside
it; one that is damaged or belongs to another search is refused in one line.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.npz_file import read_arrays
from codesign.search.joint.front import Archive, hypervolume
from codesign.search.joint.network_tables import Costs
from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.published import PUBLISHED
from codesign.search.runs.output import OutputError, write_file
from codesign.search.space.space import Genes

Floats = npt.NDArray[np.float64]

CHECKPOINT_FILE, CANDIDATES_FILE = "checkpoint.npz", "candidates.bin"
LOSSES = tuple(PUBLISHED)  # of perplexity, at which improvements are quoted


@dataclass
class SearchProgress:
    """Everything a search has done so far."""

    archive: Archive
    evaluated: int = 0
    feasible: int = 0
    reference: Floats | None = None  # of hypervolumes: the worst of the first generation
    generations: list[dict[str, Any]] = field(default_factory=list)
    best_edp: list[float] = field(default_factory=lambda: [np.inf] * len(LOSSES))

    def add(self, problem: SearchProblem, genes: Genes, costs: Costs, objectives: Floats,
            baseline: float) -> None:  # fmt: skip
        """Take one generation. `baseline` is the perplexity that losses are counted from."""
        good = np.flatnonzero(costs.feasible)
        self.evaluated += len(genes)
        self.feasible += len(good)
        self.archive.add(genes[good], objectives[good])
        if self.reference is None and len(good):
            self.reference = objectives[good].max(axis=0) * 1.01
        perplexity = problem.quality.perplexity(problem.space, genes[good])
        for place, loss in enumerate(LOSSES):
            within = costs.edp_js[good][perplexity <= baseline + loss]
            self.best_edp[place] = min([self.best_edp[place], *within.tolist()])
        self.generations.append(self._record(problem.minimize))

    def _record(self, minimize: tuple[str, ...]) -> dict[str, Any]:
        front, reference = self.archive.objectives, self.reference
        covered = 0.0 if reference is None else hypervolume(front, reference)
        best = {
            f"best_{OBJECTIVES[name].column}": float(front[:, k].min()) if len(front) else None
            for k, name in enumerate(minimize)
        }
        at_loss = {
            f"edp_js_at_{loss:g}": None if np.isinf(edp) else edp
            for loss, edp in zip(LOSSES, self.best_edp, strict=True)
        }
        return {
            "generation": len(self.generations) + 1,
            "evaluations": self.evaluated,
            "feasible": self.feasible,
            "front_size": len(front),
            "hypervolume": covered,
            **best,
            **at_loss,
        }


class Checkpoint:
    """The state of a search in its folder, and every candidate that it has evaluated.

    `request` is the digest of what was asked (`request_digest`): the state of another is refused.
    """

    def __init__(self, folder: Path, width: int, request: str = "") -> None:
        self.folder, self.width, self.request = folder, width, request
        self.evaluated = 0  # candidates that are kept
        self._digest = hashlib.sha256()  # of their bytes

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return (self.folder / CHECKPOINT_FILE).exists()

    def start(self) -> None:
        """Begin anew. Raises OutputError."""
        state = self.folder / CHECKPOINT_FILE
        try:
            state.unlink(missing_ok=True)  # first: it is never without its candidates
        except OSError as error:
            raise OutputError(f"cannot write {state}: {error.strerror}") from error
        write_file(self.folder / CANDIDATES_FILE, b"")
        self.evaluated, self._digest = 0, hashlib.sha256()

    def append(self, genes: Genes, done: SearchProgress, state: dict[str, Any]) -> None:
        """Keep one generation and the state after it. Raises OutputError, with the last one kept."""
        path = self.folder / CANDIDATES_FILE
        content = np.ascontiguousarray(genes).tobytes()
        try:
            with path.open("r+b") as file:
                file.seek(self.evaluated * self.width)
                file.write(content)
                file.truncate()
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        self._digest.update(content)
        history = {"generations": done.generations, "best_edp": done.best_edp}
        arrays = {
            **{f"state_{name}": value for name, value in state.items()},
            "front_genes": done.archive.genes,
            "front_objectives": done.archive.objectives,
            "reference": np.empty(0) if done.reference is None else done.reference,
            "counts": np.array([done.evaluated, done.feasible]),
            "history": np.array(json.dumps(history)),
            "request": np.array(self.request),
            "candidates": np.array(self._digest.hexdigest()),
        }
        opaque = [name for name, value in arrays.items() if np.asarray(value).dtype.hasobject]
        if opaque:  # such an array is written without complaint, and refused when it is read
            raise TypeError(f"{opaque[0]} of a checkpoint is neither of numbers nor text")
        arrays["digest"] = np.array(_digest_of(arrays))
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_file(self.folder / CHECKPOINT_FILE, buffer.getvalue())
        self.evaluated = done.evaluated

    def load(self) -> tuple[Genes, SearchProgress, dict[str, Any]]:
        """Everything evaluated, the progress and the state.

        Raises OutputError where it is damaged or of another request.
        """
        path = self.folder / CHECKPOINT_FILE
        with refuse_damage(path, OutputError, "remove it and search again without --resume"):
            arrays = read_arrays(path)
            if str(arrays.pop("digest")) != _digest_of(arrays):
                raise ValueError("other bytes than were written")
            if str(arrays["request"]) != self.request:
                raise OutputError(
                    f"{path} is of another search (other options, seed or inputs): remove "
                    f"{self.folder}, or choose another --out"
                )
            history = json.loads(str(arrays["history"]))
            evaluated, feasible = arrays["counts"].tolist()
            genes = self.candidates(evaluated)
            self._digest = hashlib.sha256(genes.tobytes())
            if str(arrays["candidates"]) != self._digest.hexdigest():
                raise ValueError(f"{CANDIDATES_FILE} has other candidates than it was written with")
            done = SearchProgress(
                Archive(arrays["front_genes"], arrays["front_objectives"]),
                evaluated,
                feasible,
                arrays["reference"] if len(arrays["reference"]) else None,
                history["generations"],
                history["best_edp"],
            )
        self.evaluated = evaluated
        state = {n.removeprefix("state_"): a for n, a in arrays.items() if n.startswith("state_")}
        return genes, done, state

    def candidates(self, count: int) -> Genes:
        """The first `count` candidates evaluated; raises ValueError where there are fewer."""
        content = (self.folder / CANDIDATES_FILE).read_bytes()
        if len(content) < count * self.width:
            raise ValueError(f"{CANDIDATES_FILE} is too short")
        genes: Genes = np.frombuffer(content[: count * self.width], np.uint8).reshape(
            -1, self.width
        )
        return genes


def _digest_of(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """The digest of all of a checkpoint."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def request_digest(inputs: Mapping[str, Any]) -> str:
    """The digest of the `inputs` of a run.json."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
