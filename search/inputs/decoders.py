"""What makes a model a decoder: the tokens of a run, those before them, and how its first token comes about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.compiler.graph import Graph, Softmax
from codesign.hw.errors import ModelError
from codesign.models.zoo.families import FAMILIES
from codesign.models.zoo.model_config import CachedConfig, ModelConfig

_PROMPT_APART = "price the prompt as a model of its own, without a past"
_WITHOUT_HEAD = "no output of the file scores its vocabulary"


@dataclass(frozen=True)
class Decoder:
    """A model that predicts the token that follows.

    One run takes `tokens` of all sequences of its batch together, behind `past` of each; None says that it
    has no cache, so that the run is a prefill itself. `prefill` computes the first token from `past` tokens;
    None where the run does, and where `unknown` says why that is not known.
    """

    tokens: int
    past: int | None
    prefill: Graph | None = None
    unknown: str = ""


def behind(config: ModelConfig, past: int) -> ModelConfig:
    """Return a built-in model as one step behind `past` tokens; raises ModelError for one without a cache."""
    if not isinstance(config, CachedConfig):
        able = [c.name for c in FAMILIES.values() if isinstance(c, CachedConfig)]
        raise ModelError(f"{config.name} has no key-value cache: give --past to {', '.join(able)}")
    return config.reshaped({"past": past})


def built_in_decoder(config: ModelConfig, batch: int, seq: int | None) -> Decoder | None:
    """Return what is to be known of a built-in model as it is priced; None for what is no decoder."""
    if not isinstance(config, CachedConfig) or seq is None:
        return None
    prefill = None
    if config.past:
        from codesign.compiler.importer.import_onnx import import_onnx  # onnx is slow to load
        from codesign.models.zoo.export import export

        prompt = config.reshaped({"past": None, "logits": "last"}).lengthened(config.past)
        try:
            file = export(prompt, batch=batch, seq=config.past, weights="splat")
            prefill = import_onnx(file, name=config.name)
        except ModelError as error:
            return Decoder(
                batch * seq, config.past, unknown=f"the prefill cannot be built: {error}"
            )
    return Decoder(batch * seq, config.past, prefill)


def file_decoder(
    file: Any,
    graph: Graph,
    batch: int | None,
    seq: int | None,
    extents: Mapping[str, int],
    named: Mapping[str, int],
) -> Decoder | None:
    """Return what is to be known of an ONNX file, read with these extents; None for what is no decoder.

    That is a file with a key-value cache, or with an output that scores its vocabulary and causal
    attention. The prefill is the file without its past, its scores those of the last position; of the
    extents `named` are the user's.
    """
    from codesign.compiler.onnx.load import Dimensions, input_shapes
    from codesign.compiler.recognition.language_head import scores_output
    from codesign.compiler.recognition.past import past_axes, tokens_of

    axes = past_axes(file)
    causal = any(op.causal for op in graph.operators() if isinstance(op, Softmax))
    if not axes and not (causal and scores_output(file)):
        return None
    shapes = input_shapes(file, Dimensions(batch, seq, dict(extents)))
    tokens = tokens_of(file, shapes)
    if not axes:
        return Decoder(tokens, None)
    past = max(shapes[name][axis] for name, axis in axes.items())
    if not past:
        return Decoder(tokens, 0)
    try:
        return Decoder(tokens, past, _prefill(file, graph.name, batch, past, named))
    except ModelError as error:
        return Decoder(tokens, past, unknown=str(error))


def _prefill(file: Any, name: str, batch: int | None, past: int, named: Mapping[str, int]) -> Graph:
    """The graph that computes the last token's scores from `past` tokens; raises ModelError saying why not."""
    from codesign.compiler.importer.import_onnx import import_onnx
    from codesign.compiler.recognition.language_head import scores_output, with_last_scores
    from codesign.compiler.recognition.past import fixed_tokens, open_past, past_extents

    symbols = open_past(file)
    if not symbols:
        raise ModelError(f"the file fixes its past at {past}: {_PROMPT_APART}")
    if fixed_tokens(file) not in (None, past):
        raise ModelError(f"the file takes {fixed_tokens(file)} of {past} tokens: {_PROMPT_APART}")
    others = {symbol: extent for symbol, extent in named.items() if symbol not in symbols}
    scores = scores_output(file)
    last = None if scores is None else with_last_scores(file, scores)
    if last is None:
        raise ModelError(_WITHOUT_HEAD)
    extents = others | past_extents(file, 0, past, others)
    return import_onnx(last, batch=batch, seq=past, dims=extents, name=name)
