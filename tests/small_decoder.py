"""A small random LLaMA as an ONNX file with a cache of any length, its tokenizer, and Programs of it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from llama2c_files import checkpoint, tokenizer
from rtl_agreement import MACHINES

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.network.inference import Network
from codesign.compiler.onnx.float_model import FloatModel
from codesign.compiler.rewrite.given_scales import Codes
from codesign.search.cli import app
from codesign.search.generation import programs

MACHINE = MACHINES["dim8"]
POSITIONS = 16  # of llama2c_files.SIZES
VOCABULARY = 270


def written(folder: Path, *options: str) -> Path:
    """The file, as `codesign export` writes it with these options, and tokenizer.json beside it."""
    checkpoint(folder / "small.bin")
    tokenizer(folder / "tok.bin")
    command = ["export", str(folder / "small.bin"), "-o", str(folder / "small.onnx")]
    assert app.main([*command, "--tokenizer", str(folder / "tok.bin"), *options]) == 0
    return folder / "small.onnx"


def sentences(count: int = 48, length: int = POSITIONS) -> list[list[int]]:
    rng = np.random.default_rng(7)
    return [list(map(int, row)) for row in rng.integers(VOCABULARY, size=(count, length))]


def compiler(path: Path, file: DecoderFile) -> Callable[[int, int, Mapping[str, Codes]], Network]:
    """What `Decoding` compiles with, on random sentences."""

    def compiled(past: int, seq: int, codes: Mapping[str, Codes]) -> Network:
        feeds = (
            list(programs.step_samples(file, sentences(), past, 0))
            if past
            else programs.prompt_samples(file, sentences(), seq)
        )
        return compile_network(
            path,
            MACHINE,
            feeds,
            seq=seq,
            dims=file.dimensions(past, seq),
            past=tuple(file.past) if past else (),
            codes=codes,
        )

    return compiled


def opened(path: Path) -> DecoderFile:
    return DecoderFile.of(FloatModel(path))
