"""Networks as sums: what each layer of a Transformer of the space adds, as counts of kernel groups.

Kernels run one after another from an idle machine to an idle machine, so the cost of a network is a
sum over its groups of operators. Which groups a layer adds is read off imported networks of one
and two layers, not written down: the last layer differs (the final norm may fuse into it), hence

    network = tail(heads, d_ff of the last layer, with everything outside the layers)
              + sum over the other layers of inner(heads, d_ff)

and within a layer the groups of attention and FFN vary apart from each other.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Graph
from codesign.compiler.plan.fusion import fuse
from codesign.compiler.plan.pricing import GroupShape, Workload
from codesign.hw.machine.config import HardwareConfig
from codesign.search.space.space import Architectures, SearchSpace, Shape

Ints = npt.NDArray[np.int64]
INNER, TAIL = 0, 1


@dataclass(frozen=True, eq=False)
class Blocks:
    """The groups of all networks of one d_model on machines that fuse alike.

    `counts` int64[2, heads, d_ff, shapes]: how often an inner layer (0), or the last one with the
    rest of the network (1), has each of `shapes`.
    """

    shapes: tuple[GroupShape, ...]
    counts: Ints

    def network(self, space: SearchSpace, shape: Shape) -> Workload:
        """A whole network as the sum of its layers."""
        t = space.transformer
        pairs = [
            (t.heads.index(heads), t.d_ff.index(d_ff))
            for heads, d_ff in zip(shape.heads, shape.d_ff, strict=True)
        ]
        total = self.counts[TAIL][pairs[-1]] + sum(self.counts[INNER][pair] for pair in pairs[:-1])
        present = np.flatnonzero(total)
        return Workload(tuple(self.shapes[i] for i in present), total[present])


def blocks(transformer: Architectures, d_model: int, config: HardwareConfig) -> Blocks:
    """The blocks of one d_model for the fusion that `config` asks for (its dim, its units)."""
    fused = HardwareConfig(
        dim=config.dim,
        scratchpad_bytes=1 << 20,
        accumulator_bytes=1 << 22,
        normalization=config.normalization,
    )
    return _blocks(transformer, d_model, fused)


@lru_cache(maxsize=1024)
def graph(transformer: Architectures, shape: Shape) -> Graph:
    """The operator graph of a network, by way of its ONNX file."""
    from codesign.compiler.importer.import_onnx import import_onnx  # onnx is slow to load
    from codesign.models.zoo.export import export

    network = SearchSpace(transformer).network(shape)
    model = export(network, batch=1, seq=transformer.sequence, weights="splat")
    return import_onnx(model, name="lm")


@lru_cache(maxsize=1024)
def _blocks(transformer: Architectures, d_model: int, config: HardwareConfig) -> Blocks:
    t = transformer
    h0, f0 = t.heads[0], t.d_ff[0]

    def groups(heads: tuple[int, ...], d_ff: tuple[int, ...]) -> Counter[GroupShape]:
        found = fuse(graph(t, Shape(d_model, heads, d_ff)), config)
        return Counter(GroupShape.of(group.alternatives) for group in found)

    one = {(h, f): groups((h,), (f,)) for h, f in _cross(t.heads, t.d_ff)}
    two = {(h, f): groups((h, h0), (f, f0)) for h, f in _cross(t.heads, t.d_ff)}
    for counter in two.values():
        counter.subtract(one[h0, f0])
    shapes = tuple(dict.fromkeys(s for c in (*one.values(), *two.values()) for s in c))
    place = {shape: i for i, shape in enumerate(shapes)}

    def vector(counter: Counter[GroupShape]) -> Ints:
        row = np.zeros(len(shapes), dtype=np.int64)
        for shape, count in counter.items():
            row[place[shape]] = count
        return row

    counts = np.zeros((2, len(t.heads), len(t.d_ff), len(shapes)), dtype=np.int64)
    for kind, found in ((INNER, two), (TAIL, one)):
        corner = vector(found[h0, f0])
        by_heads = np.stack([vector(found[h, f0]) for h in t.heads])
        by_ffn = np.stack([vector(found[h0, f]) for f in t.d_ff])
        counts[kind] = by_heads[:, None] + by_ffn[None] - corner
    if (counts < 0).any():
        raise AssertionError("a layer of the language model is not attention plus FFN")
    return Blocks(shapes, counts)


def _cross(heads: tuple[int, ...], d_ff: tuple[int, ...]) -> list[tuple[int, int]]:
    """The pairs with the first heads or the first FFN width: two lines that meet."""
    return [*((h, d_ff[0]) for h in heads), *((heads[0], f) for f in d_ff[1:])]
