"""What was generated, and what is said of it: text, what it took, and whether the RTL agrees."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.network.decoding import Spent
from codesign.compiler.network.rtl_backend import KernelCheck
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import HardwareConfig
from codesign.search.commands.network import Quantization
from codesign.search.commands.request import Request
from codesign.search.commands.run_tables import Verdict
from codesign.search.generation.programs import Programs
from codesign.search.inputs.tokens import Tokenizer
from codesign.search.pricing import machine_tables
from codesign.search.runs import output
from codesign.search.terminal.figures import significant
from codesign.search.terminal.messages import say


@dataclass(frozen=True)
class GenerateOptions:
    """What to write, and on which view of the machine; a temperature of 0 takes the best token."""

    prompt: str
    tokens: int
    backend: str  # integers, functional, rtl
    temperature: float = 0.0
    quantization: Quantization = field(default_factory=Quantization)

    def __post_init__(self) -> None:
        if not math.isfinite(self.temperature):
            raise CodesignError(
                f"--temperature {self.temperature} is no number: give one, 0 for the best token"
            )


@dataclass
class Generated:
    """What came of it so far."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    ended: bool = False  # by the model, before all tokens were written
    seconds: float = 0.0  # of running, all that is compiled left out
    checks: list[KernelCheck] = field(default_factory=list)


def _agreeing(file: DecoderFile, found: Generated) -> int | None:
    """How many of the tokens the float model would choose too, given those before; None where it is
    not asked."""
    if not found.ids or not (file.scores_all or file.past):
        return None
    ids = [*found.prompt, *found.ids]
    scores = file.run(ids[:-1])[file.scores][0]
    if len(scores) != len(ids) - 1:
        return None
    best = scores[len(found.prompt) - 1 :].argmax(axis=-1)
    return int((best == np.array(found.ids)).sum())


def show(
    request: Request,
    programs: Programs,
    options: GenerateOptions,
    tokenizer: Tokenizer,
    spent: Sequence[Spent],
    found: Generated,
) -> None:
    """Say what it took, or print all of it as one document."""
    config = programs.config
    agreeing = _agreeing(programs.file, found) if options.temperature == 0 else None
    verdict = Verdict.of(found.checks, found.seconds, differs=False) if found.checks else None
    by_shape = _by_shape(spent)
    rate = len(found.ids) / found.seconds if found.seconds else 0.0
    if request.as_json:
        document: dict[str, Any] = output.describe_run(
            request.command,
            {"action": "generate", "model": request.model},
            options.quantization.seed,
        )
        document |= {
            "machine": asdict(config),
            "backend": options.backend,
            "prompt": options.prompt,
            "text": tokenizer.text([*found.prompt, *found.ids]),
            "prompt_tokens": found.prompt,
            "tokens": found.ids,
            "ended": found.ended,
            "float_agrees": agreeing,
            "seconds": found.seconds,
            "compiling_seconds": programs.seconds,
            "tokens_per_second": rate,
            "programs": by_shape,
            "host": programs.host,
        }
        if verdict is not None:
            document["rtl"] = asdict(verdict)
        output.print_json(document)
        return
    say(machine_tables.machine_title(config))
    ended = ", where the model ends" if found.ended else ""
    say(
        f"{len(found.ids)} tokens behind {len(found.prompt)} in {found.seconds:.1f} s on {options.backend}"
        f"{ended}: {significant(rate, 3)} tokens/s; {programs.seconds:.1f} s of compiling"
    )
    for shape in by_shape:
        say(_words(shape, config))
    if agreeing is not None:
        say(
            f"the float model chooses {agreeing} of the {len(found.ids)} tokens too, each given those before"
        )
    if verdict is not None:
        for line in verdict.words.splitlines():
            say(line)


def _by_shape(spent: Sequence[Spent]) -> list[dict[str, int]]:
    """Runs of one Program together: how many, of how many tokens, and the cycles of one."""
    found: dict[Spent, int] = {}
    for one in spent:
        found[one] = found.get(one, 0) + 1
    return [{**asdict(one), "runs": runs} for one, runs in found.items()]


def _words(shape: Mapping[str, int], config: HardwareConfig) -> str:
    cycles = shape["chip_cycles"] + shape["host_cycles"]
    what = "prompt" if shape["tokens"] > 1 else "step"
    times = "once" if shape["runs"] == 1 else f"{shape['runs']} times"
    return (
        f"a {what} on {shape['slots']} places, {times}: {shape['chip_cycles']:,} cycles of kernels and "
        f"{shape['host_cycles']:,} of the host, {significant(cycles / config.clock_hz * 1e3)} ms"
    )
