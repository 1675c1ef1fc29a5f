"""What int8 costs a decoder: perplexity of a text in float and on the machine's integers.

    codesign export stories260K.bin --tokenizer tok512.bin --seq 512 -o stories260k.onnx
    python tests/benchmarks/bench_perplexity.py stories260k.onnx . train_head_2MiB.txt

The text has a line `<|endoftext|>` between pieces (TinyStories of roneneldan/TinyStories, as GPT-4 wrote
them). Each is scored by itself, cut at the length of the file, behind the token that begins a text.
Calibration is on other pieces; where they are shorter they begin anew, so that nothing is padding.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.compiler.numerics.calibrate import METHODS
from codesign.compiler.numerics.options import Options
from codesign.compiler.onnx.float_model import Array, FloatModel
from codesign.hw.machine.config import preset
from codesign.search.inputs.tokens import Tokenizer

END = "<|endoftext|>"


def losses(scores: Array, ids: list[int]) -> Array:
    """Nats of each token behind the first, from scores [1, length, vocabulary]."""
    rows = scores[0, : len(ids) - 1].astype(np.float64)
    rows = rows - rows.max(axis=1, keepdims=True)
    picked = rows[np.arange(len(rows)), ids[1:]]
    return np.asarray(np.log(np.exp(rows).sum(axis=1)) - picked)


def agree(one: Array, other: Array, tokens: int) -> int:
    """How often both find the same token the likeliest."""
    return int((one[0, :tokens].argmax(axis=1) == other[0, :tokens].argmax(axis=1)).sum())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a decoder of one input and a fixed length")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json or its folder")
    parser.add_argument("text", type=Path)
    parser.add_argument("--machine", default="ibert")
    parser.add_argument("--method", default="minmax", choices=list(METHODS))
    parser.add_argument("--smoothing", type=float, default=None)
    parser.add_argument("--pieces", default="1-60", help="those that are scored, from 1 on")
    parser.add_argument("--calibration", default="501-516", help="those that ranges are of")
    return parser.parse_args()


def chosen(pieces: list[str], span: str) -> list[str]:
    """Pieces FIRST-LAST."""
    first, _, last = span.partition("-")
    return pieces[int(first) - 1 : int(last or first)]


def main() -> None:
    """Calibrate, score every piece in float and in integers, and print."""
    options = arguments()
    tokenizer, model = Tokenizer(options.tokenizer), FloatModel(options.model)
    ((name, value),) = model.inputs.items()
    length = value.type.tensor_type.shape.dim[1].dim_value
    pieces = [piece.strip() for piece in options.text.read_text("utf-8").split(END)]

    def feeds(ids: list[int]) -> Mapping[str, Array]:
        return {name: np.resize(np.array(ids), (1, length))}

    texts = [tokenizer.ids(piece)[:length] for piece in chosen(pieces, options.pieces)]
    samples = [feeds(tokenizer.ids(p)[:length]) for p in chosen(pieces, options.calibration)]
    began = time.perf_counter()
    network = compile_network(
        options.model, preset(options.machine), samples,
        options=Options(method=options.method, smoothing=options.smoothing),
    )  # fmt: skip
    print(f"compiled in {time.perf_counter() - began:.1f} s")
    for note in (*network.notes, *network.host):
        print(f"note: {note}")
    whole = model.part((), model.outputs)
    (output,) = model.outputs
    nats, same, tokens, began = np.zeros(2), 0, 0, time.perf_counter()
    for ids in texts:
        exact = whole(feeds(ids))[output]
        found = run(network, feeds(ids), "integers")[output]
        nats += [losses(exact, ids).sum(), losses(found, ids).sum()]
        same += agree(exact, found, len(ids) - 1)
        tokens += len(ids) - 1
    exact, found = nats / tokens
    print(f"{len(texts)} pieces, {tokens:,} tokens, {time.perf_counter() - began:.1f} s")
    print(f"float  {exact:.4f} nats a token, perplexity {np.exp(exact):.4f}")
    print(f"int8   {found:.4f} nats a token, perplexity {np.exp(found):.4f}")
    print(f"int8 beside float: perplexity {100 * np.expm1(found - exact):+.2f} %,", end=" ")
    print(f"the likeliest token is the same {100 * same / tokens:.1f} % of the time")


if __name__ == "__main__":
    main()
