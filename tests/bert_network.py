"""A small BERT in int8, with what quantizing it takes."""

import onnx
from float_reference import random_inputs

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network
from codesign.compiler.numerics.options import Options
from codesign.hw.machine.config import preset
from codesign.models.zoo.bert import BertConfig

SEQ = 12
BERT = BertConfig("bert", layers=1, d_model=32, heads=2, d_ff=64, vocab_size=40, max_positions=16)


def network(
    model: onnx.ModelProto, machine: str = "edge", options: Options | None = None
) -> Network:
    samples = (random_inputs(BERT, batch=1, seq=SEQ, seed=seed) for seed in range(6))
    return compile_network(model, preset(machine), samples, options=options or Options())
