"""What every model family gives, in one module each: a configuration that knows its network.

A family is a frozen dataclass derived from `ModelConfig` (from `TextConfig` where it reads tokens):
its parameters, its graph, its built-in sizes, where it can be searched its axes and, where a supernet of
it can be trained, what it computes in torch. `families` lists the families; nothing else names one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from codesign.hw.errors import ModelError
from codesign.models.zoo.axes import Axis, NetworkShape, Parts, Values
from codesign.models.zoo.parameters import Entry, Shape

if TYPE_CHECKING:
    import torch

    from codesign.models.zoo.onnx_builder import GraphBuilder

Tensors = Mapping[str, "torch.Tensor"]  # of parameters, by name
Layer = Callable[..., "torch.Tensor"]
MOST_LAYERS = 1000
LARGEST_EXTENT = 1 << 40  # of an axis: elements of the largest tensor that is imported
INITIAL_DEVIATION = 0.5  # times 1 / sqrt(fan-in); GPT-2's 0.02 at a width of 768


class ModelConfig(ABC):
    """One network of a family. Raises ModelError naming every violation when it is made."""

    name: str
    family: ClassVar[str]
    has_sequence: ClassVar[bool] = False  # whether its input is of a length that is chosen

    @abstractmethod
    def parameters(self) -> Iterator[Entry]:
        """Yield name and shape of every parameter, in the order of the data."""

    @abstractmethod
    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """Write inputs, nodes and outputs of the network; None is a dynamic axis.

        Raises ModelError for a sequence that it cannot have.
        """

    @classmethod
    def sizes(cls) -> tuple["ModelConfig", ...]:
        """The built-in models of the family."""
        return ()

    def deviation(self, name: str, shape: Shape) -> float | None:
        """Standard deviation of a parameter's random values; None is what `weights.draw` takes."""
        return None

    def lengthened(self, seq: int) -> Self:
        """The same for sequences of `seq`; raises ModelError without a sequence axis."""
        raise ModelError(f"{self.name} has no sequence axis: drop --seq")

    def reshaped(self, shape: Mapping[str, Any]) -> Self:
        """The same with other sizes, as options of a command name them: numbers, or a tuple of them
        for each layer; raises ModelError for what its family does not choose."""
        raise ModelError(
            f"{self.name} has a fixed shape: drop layers, widths and heads, or "
            "export lm or llama with them"
        )

    # What a search needs of a family.

    @classmethod
    def axes(cls) -> tuple[Axis, ...]:
        """What may be chosen, in the order of the genes; nothing of a family that is not searched."""
        return ()

    @classmethod
    def options(cls) -> Mapping[str, int | bool]:
        """What else a space may say of its networks, the same for all, and what it is unless said."""
        return {}

    @classmethod
    def layer_parts(cls) -> Parts:
        """The parts of a layer that vary apart, each as the layer axes that it depends on.

        All layers are alike but for their axes, and the last, which may fuse with what follows it:
        a part is priced once for each of its values. Without layer axes there is nothing to name.
        """
        layered = tuple(axis.name for axis in cls.axes() if axis.scope == "layer")
        return (layered,) if layered else ()

    @classmethod
    def kernel_names(cls) -> Mapping[str, str]:
        """What kernels compute, by how their names begin within a layer; of others it is their kind."""
        return {}

    @classmethod
    def wrong_choices(cls, choices: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Yield what of the choices of a space no network can have; sizes are checked already."""
        yield from ()

    @classmethod
    def point(cls, values: Values, seq: int, options: Mapping[str, Any]) -> "ModelConfig":
        """The network with these values of `axes`, at any depth, for sequences of `seq`.

        Its weights may depend on `seq` only in a family with `layer_parameters` of its own.
        """
        raise ModelError(f"networks of the family {cls.family} are not searched")

    @property
    def chosen(self) -> NetworkShape:
        """Its value on every axis; the attribute of that name."""
        return NetworkShape(tuple((axis.name, getattr(self, axis.name)) for axis in self.axes()))

    @classmethod
    def layer_parameters(cls, values: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Weights [n] without embeddings, biases and norms of networks with these values.

        `values` are int64[n] of an axis, int64[n, layers] of a layer axis, 0 where there is no layer.
        A family may count them faster than one network at a time. Raises ModelError where weights
        depend on the sequence, which is not known here.
        """
        axes = cls.axes()
        rows = np.concatenate(
            [np.reshape(values[axis.name], (len(values[axis.name]), -1)) for axis in axes], axis=1
        )
        different, place = np.unique(rows, axis=0, return_inverse=True)
        starts = np.cumsum(
            [0] + [np.reshape(values[a.name], (len(rows), -1)).shape[1] for a in axes]
        )
        counts = []
        for row in different:
            found: dict[str, int | tuple[int, ...]] = {}
            for axis, start, end in zip(axes, starts[:-1], starts[1:], strict=True):
                own = row[start:end].tolist()
                found[axis.name] = (
                    tuple(value for value in own if value) if axis.scope == "layer" else own[0]
                )
            counts.append(_inner_weights(cls.point(found, 1, options)))
        if counts and counts[-1] != _inner_weights(cls.point(found, 2, options)):
            raise ModelError(
                f"weights of the family {cls.family} depend on the sequence: it has to count them "
                "itself (layer_parameters)"
            )
        return np.array(counts)[place.ravel()]


class TextConfig(ModelConfig):
    """One network that reads tokens; `max_positions` is its longest sequence."""

    has_sequence: ClassVar[bool] = True
    vocab_size: int
    max_positions: int

    def lengthened(self, seq: int) -> Self:
        """The same, its position table grown to `seq` where that is longer."""
        longest = max(seq, self.max_positions)
        return replace(self, max_positions=longest)  # type: ignore[type-var]

    # What training a supernet needs of a family (`models/supernet/elastic.py`); torch is loaded late.

    trained_options: ClassVar[tuple[str, ...] | None] = None
    """Which of `options` trained networks heed too; None of a family that is not trained."""

    @classmethod
    def trained(
        cls, values: Values, positions: int, vocabulary: int, options: Mapping[str, Any]
    ) -> "TextConfig":
        """The network of these values of `axes` that predicts the next of up to `positions` tokens,
        each of `vocabulary`. Raises ModelError for what no network can have."""
        raise ModelError(f"networks of the family {cls.family} are not trained")

    def forward(
        self,
        weights: Tensors,
        ids: "torch.Tensor",
        dropout: float = 0.0,
        layer: Layer | None = None,
    ) -> "torch.Tensor":
        """Return float[batch, seq, vocabulary] of int64[batch, seq] tokens, as the exported graph computes
        it. Training drops `dropout`; `layer` takes the place of what `trained_layer` returns."""
        raise ModelError(f"networks of the family {self.family} are not trained")

    @classmethod
    def trained_layer(cls) -> Layer | None:
        """What torch is to compile, if anything."""
        return None

    def initial_deviation(self, name: str, shape: Shape) -> float:
        """Standard deviation of a matrix before training."""
        fan_in = shape[-1] if name.startswith("embeddings.") else shape[0]
        return INITIAL_DEVIATION / sqrt(fan_in)

    def part_of(
        self, name: str, whole: "torch.Tensor", shape: Shape, largest: Self
    ) -> "torch.Tensor":
        """Its own `shape` of a parameter of the `largest` network: the first of every axis."""
        return whole[tuple(map(slice, shape))]


class CachedConfig(TextConfig):
    """A decoder of one token after another; `reshaped` takes all of its fields.

    `past` counts the tokens whose keys and values are inputs of the graph, None without a cache unless
    `any_past` leaves their number open; `logits` says of which positions the scores are computed: "all",
    "last", or what else the family has.
    """

    past: int | None
    logits: str
    any_past: bool


def _inner_weights(config: ModelConfig) -> int:
    """Elements of the matrices that are no embedding."""
    return sum(
        int(np.prod(shape, dtype=np.int64))
        for name, shape in config.parameters()
        if len(shape) > 1 and not name.startswith("embeddings.")
    )


# -- Checks of configurations --------------------------------------------------------------------------


def check_config(
    config: Any, violations: Iterable[str] = (), besides: Collection[str] = ()
) -> None:
    """Raise ModelError where a number of a configuration is no size, or with what else is wrong.

    The fields `besides` are no sizes.
    """
    sizes = {field: value for field, value in vars(config).items() if field not in besides}
    problems = [*not_sizes(sizes), *too_deep(sizes), *violations]
    if problems:
        raise ModelError(f"invalid model {config.name}: " + "; ".join(problems))


def is_size(value: object) -> bool:
    """Whether a value is a positive whole number."""
    return type(value) is int and value > 0


def not_sizes(fields: Mapping[str, object]) -> Iterator[str]:
    """What of numbers, and of tuples of them, is no positive whole number."""
    for field, value in fields.items():
        if isinstance(value, str | bool):
            continue
        for item in value if isinstance(value, tuple) else (value,):
            if not is_size(item):
                yield f"{field} is {value!r} but must hold positive whole numbers"
                break


def too_deep(fields: Mapping[str, object]) -> Iterator[str]:
    """More layers than any network has: each costs time before anything else can be refused."""
    for field, value in fields.items():
        count = len(value) if isinstance(value, tuple) else value if "layers" in field else 0
        if isinstance(count, int) and count > MOST_LAYERS:
            yield f"{field} makes {count} layers but at most {MOST_LAYERS} are built"


def not_a_past(past: object) -> Iterator[str]:
    """What of a number of earlier tokens, or None, is none."""
    if past is not None and (type(past) is not int or past < 0):
        yield f"past is {past!r} but must be a whole number, 0 or more"


def heads_divide(d_model: int, heads: int) -> Iterator[str]:
    """That heads share the width of a model equally."""
    if is_size(d_model) and is_size(heads) and d_model % heads:
        yield f"d_model {d_model} is not divisible by {heads} heads"


def require_positions(config: TextConfig, seq: int | None, past: int | None = None) -> None:
    """Raise ModelError where past and sequence are longer than the table of positions, and for a past
    with a dynamic sequence."""
    if past is not None and seq is None:
        raise ModelError(f"{config.name} with a past needs a number of tokens: give --seq")
    seq = None if seq is None else seq + (past or 0)
    if seq is not None and seq > config.max_positions:
        raise ModelError(
            f"seq {seq} exceeds the {config.max_positions} positions of {config.name}: "
            "shorten it, or replace max_positions in the configuration"
        )
