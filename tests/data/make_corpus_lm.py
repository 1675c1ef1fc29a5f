"""Write corpus_lm.npz: a small causal language model, trained on the project's own corpus.

From the repository's root, with the [train] extra, in about four minutes on one core:

    python tests/data/make_corpus_lm.py

The same torch on the same machine writes the same file again.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codesign.models.supernet.elastic import arrays
from codesign.models.supernet.schedule import Training
from codesign.models.supernet.space import Single
from codesign.models.supernet.supernet import perplexity, train
from codesign.models.text import tokens
from codesign.models.zoo.decoder import lm

SEQ = 64

if __name__ == "__main__":
    torch.set_num_threads(1)
    text = tokens.built_in_tokens()
    config = lm(
        name="corpus-lm",
        layers=3,
        d_model=96,
        heads=(12, 6, 8),
        d_ff=(256, 192, 320),
        vocab_size=len(text.vocabulary),
        max_positions=SEQ,
    )
    training = Training(epochs=7, batch=32, seq=SEQ, learning_rate=4e-3)
    with tempfile.TemporaryDirectory() as folder:
        net = train(
            text.train,
            Single(config),
            training,
            Path(folder),
            report=lambda p: print(p, file=sys.stderr, end="\n" if p.step == p.steps else "\r"),
        )
    print(f"validation perplexity {perplexity(net, config, text.validation, SEQ):.4f}")
    content: dict[str, Any] = {"config": json.dumps(dataclasses.asdict(config))}
    content |= {name: value.astype(np.float16) for name, value in arrays(net.weights).items()}
    path = Path(__file__).with_name("corpus_lm.npz")
    np.savez_compressed(path, **content)
    print(f"{path}: {path.stat().st_size} bytes, torch {torch.__version__}")
