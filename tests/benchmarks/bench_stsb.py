"""What int8 costs a sentence embedding: STS-B in float and on the machine's integers.

    python tests/benchmarks/bench_stsb.py model.onnx vocab.txt stsb-en --seq 32

The folder has stsb-en-train.csv, whose sentences calibrate, and stsb-en-dev.csv, which is scored
(sentence, sentence, similarity; huggingface.co/datasets/stsb_multi_mt). The model is a BERT-like
encoder; embeddings are the mean of its first output over the tokens. vocab.txt needs tokenizers.
"""

import argparse
import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.compiler.numerics.calibrate import METHODS
from codesign.compiler.numerics.options import Options
from codesign.compiler.onnx.float_model import Array, FloatModel
from codesign.hw.machine.config import preset
from codesign.search.inputs.tokens import Tokenizer

Feeds = Mapping[str, Array]
Floats = npt.NDArray[np.float64]


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.reader(file))


def embedding(hidden: Array, feeds: Feeds) -> Floats:
    """The mean of hidden [1, seq, d] over the tokens, of length 1."""
    mask = feeds["attention_mask"][0, :, np.newaxis]
    mean = (hidden[0] * mask).sum(axis=0) / mask.sum()
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float64)


def ranks(values: Floats) -> Floats:
    """Ranks, those of equal values averaged."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place])


def spearman(a: Floats, b: Floats) -> float:
    return 100 * float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("tokenizer", type=Path, help="vocab.txt, tokenizer.json or their folder")
    parser.add_argument("data", type=Path, help="folder of stsb-en-train.csv and stsb-en-dev.csv")
    parser.add_argument("--machine", default="ibert")
    parser.add_argument("--seq", type=int, default=32)
    parser.add_argument("--method", default="minmax", choices=list(METHODS))
    parser.add_argument("--smoothing", type=float, default=None)
    parser.add_argument("--pairs", type=int, default=0, help="0: all")
    parser.add_argument("--calibration", type=int, default=64, help="sentences")
    parser.add_argument("--check", type=int, default=3, help="sentences on the functional model")
    return parser.parse_args()


def main() -> None:
    """Compile, check a few sentences bit for bit, score all pairs and print."""
    options = arguments()
    tokenizer, model = Tokenizer(options.tokenizer), FloatModel(options.model)

    def feeds(text: str) -> Feeds:
        return tokenizer.feeds(text, list(model.inputs), options.seq)

    rng = np.random.default_rng(1)
    train = [row[0] for row in rows(options.data / "stsb-en-train.csv")]
    chosen = rng.choice(len(train), min(options.calibration, len(train)), replace=False)
    pairs = rows(options.data / "stsb-en-dev.csv")
    if options.pairs:
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, options.pairs).astype(int)]
    begin = time.perf_counter()
    network = compile_network(
        options.model,
        preset(options.machine),
        [feeds(train[index]) for index in chosen],
        seq=options.seq,
        options=Options(options.method, options.smoothing),
    )
    print(f"compiled for {options.machine} in {time.perf_counter() - begin:.1f} s")
    output = network.model.outputs[0]
    for first, *_ in pairs[: options.check]:
        on_machine = run(network, feeds(first))[output]
        assert np.array_equal(on_machine, run(network, feeds(first), "integers")[output]), first
    print(f"{min(options.check, len(pairs))} sentences: the functional model equals the integers")
    whole = network.model.part((), (output,))
    begin = time.perf_counter()
    in_float = scores(pairs, lambda text: embedding(whole(feeds(text))[output], feeds(text)))
    middle = time.perf_counter()
    in_int8 = scores(
        pairs, lambda text: embedding(run(network, feeds(text), "integers")[output], feeds(text))
    )
    end = time.perf_counter()
    wanted = np.array([float(row[2]) for row in pairs])
    cosines = (in_float[1] * in_int8[1]).sum(axis=1)
    figures = spearman(in_float[0], wanted), spearman(in_int8[0], wanted)
    print(f"{len(pairs)} pairs, {middle - begin:.0f} s in float, {end - middle:.0f} s in int8")
    print(
        f"Spearman float {figures[0]:.2f}, int8 {figures[1]:.2f}: {figures[1] - figures[0]:+.2f}; "
        f"cosine to float: mean {cosines.mean():.4f}, least {cosines.min():.4f}"
    )


def scores(pairs: list[list[str]], embed: Callable[[str], Floats]) -> tuple[Floats, Floats]:
    """Cosines of the pairs, and all embeddings one after another."""
    both = [[embed(text) for text in pair[:2]] for pair in pairs]
    return np.array([a @ b for a, b in both]), np.array([e for pair in both for e in pair])


if __name__ == "__main__":
    main()
