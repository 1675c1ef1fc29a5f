"""Networks as sums: what each layer of a network of the space adds, as counts of kernel groups.

Kernels run one after another from an idle machine to an idle machine, so the cost of a network is a
sum over its groups of operators. Which groups a layer adds is read off imported networks of one
and two layers, not written down: the last layer differs (the final norm may fuse into it), hence

    network = tail(values of the last layer, with everything outside the layers)
              + sum over the other layers of inner(values of the layer)

and within a layer the groups of each of its parts (`ModelConfig.layer_parts`) vary apart from the
others'. Whether a family is such a sum is tried once, on a network of three layers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Graph
from codesign.compiler.plan.fusion import fuse
from codesign.compiler.plan.pricing import GroupShape
from codesign.hw.machine.config import HardwareConfig
from codesign.models.zoo.axes import NetworkShape
from codesign.search.space.networks import Networks

Ints = npt.NDArray[np.int64]
Places = tuple[int, ...]  # of the values of one layer, in their choices
INNER, TAIL = 0, 1


@dataclass(frozen=True, eq=False)
class Blocks:
    """The groups of all networks with the same values of their own on machines that fuse alike.

    `counts` int64[2, choices of each layer axis ..., shapes]: how often an inner layer (0), or the
    last one with the rest of the network (1), has each of `shapes`.
    """

    shapes: tuple[GroupShape, ...]
    counts: Ints

    def network(self, layers: Sequence[Places]) -> Counter[GroupShape]:
        """How often a whole network has each group, as the sum of its layers."""
        total = self.counts[TAIL][layers[-1]] + sum(self.counts[INNER][at] for at in layers[:-1])
        present = np.flatnonzero(total)
        return Counter({self.shapes[i]: int(total[i]) for i in present})


def blocks(networks: Networks, values: tuple[int, ...], config: HardwareConfig) -> Blocks:
    """The blocks of networks with these values of their own for the fusion that `config` asks for
    (its dim, its units). Raises AssertionError where a network is not the sum of its layers."""
    fused = HardwareConfig(
        dim=config.dim,
        scratchpad_bytes=1 << 20,
        accumulator_bytes=1 << 22,
        normalization=config.normalization,
    )
    return _blocks(networks, values, fused)


@lru_cache(maxsize=1024)
def graph(networks: Networks, shape: NetworkShape) -> Graph:
    """The operator graph of a network, by way of its ONNX file."""
    from codesign.compiler.importer.import_onnx import import_onnx  # onnx is slow to load
    from codesign.models.zoo.export import export

    model = export(networks.config(shape), batch=1, seq=networks.sequence, weights="splat")
    return import_onnx(model, name=networks.family)


@lru_cache(maxsize=1024)
def _blocks(networks: Networks, values: tuple[int, ...], config: HardwareConfig) -> Blocks:
    sizes = [len(choices) for _, choices in networks.of_layer]

    def groups(*layers: Places) -> Counter[GroupShape]:
        each = [
            [choices[i] for (_, choices), i in zip(networks.of_layer, places, strict=True)]
            for places in layers
        ]
        found = fuse(graph(networks, networks.shape(values, each)), config)
        return Counter(GroupShape.of(group.alternatives) for group in found)

    first: Places = (0,) * len(sizes)
    parts = _parts(networks)
    lines = dict.fromkeys([first, *(at for part in parts for at in _line(part, sizes))])
    one = {at: groups(at) for at in lines}
    two: dict[Places, Counter[GroupShape]] = {at: Counter() for at in lines}
    if networks.depth is not None:
        two = {at: groups(at, first) for at in lines}
        for counter in two.values():
            counter.subtract(one[first])
    shapes = tuple(dict.fromkeys(s for c in (*one.values(), *two.values()) for s in c))
    counts = np.stack([_spread(found, shapes, parts, sizes) for found in (two, one)])
    made, last = Blocks(shapes, counts), tuple(size - 1 for size in sizes)
    tried = [last] if networks.depth is None else [last, first, last]
    if (counts < 0).any() or made.network(tried) != groups(*tried):
        raise AssertionError(f"a network of the family {networks.family} is no sum of its layers")
    return made


def _parts(networks: Networks) -> list[tuple[int, ...]]:
    """The parts of a layer, each as the places of its axes among the layer axes."""
    names = [name for name, _ in networks.of_layer]
    return [tuple(map(names.index, part)) for part in networks.kind.layer_parts()]


def _line(part: tuple[int, ...], sizes: Sequence[int]) -> Iterator[Places]:
    """Layers with every value of one part, the other axes at their first."""
    for own in product(*(range(sizes[axis]) for axis in part)):
        places = [0] * len(sizes)
        for axis, place in zip(part, own, strict=True):
            places[axis] = place
        yield tuple(places)


def _spread(
    found: Mapping[Places, Counter[GroupShape]],
    shapes: tuple[GroupShape, ...],
    parts: Sequence[tuple[int, ...]],
    sizes: Sequence[int],
) -> Ints:
    """Counts [choices of each layer axis ..., shapes] of all layers from those on the lines."""
    place = {shape: i for i, shape in enumerate(shapes)}

    def vector(at: Places) -> Ints:
        row = np.zeros(len(shapes), dtype=np.int64)
        for shape, count in found[at].items():
            row[place[shape]] = count
        return row

    corner = vector((0,) * len(sizes))
    counts = np.tile(corner, (*sizes, 1))
    for part in parts:
        for at in _line(part, sizes):
            where = tuple(at[axis] if axis in part else slice(None) for axis in range(len(sizes)))
            counts[where] += vector(at) - corner
    return counts
