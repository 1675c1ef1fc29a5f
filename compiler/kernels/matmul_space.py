"""The mapspace of the matmul kernel, and lower bounds on its costs.

Stated: loop order (m or n inner), tile_m and tile_n from near-equal splits of their extents, chunk_k
from powers of two, drain groups as fine as fits or one a bank. Residency is the most that fits: it only
takes work away. With a row function m alone is tiled; with that or a residual one or two output tiles
are held.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.mapspace import (
    Choice,
    Floats,
    Ints,
    Prices,
    best_mapping,
    doublings,
    splits,
    zero_events,
)
from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import SLOTS, MatmulMapping, MatmulProblem, MatmulShape
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import DESTINATION_BYTES, PARAMETER_BYTES
from codesign.hw.machine.limits import ADDRESS_BITS
from codesign.hw.machine.program import Body
from codesign.hw.views import timing

ORDERS = ("mn", "nm")
NEAR = 160  # tiles looked at first
MOST_GROUPS = 128  # drains in flight stay within a token counter


def matmul_spaces(problem: MatmulProblem, config: HardwareConfig) -> list["MatmulSpace"]:
    """The mapspace of a problem, one part per loop order."""
    return [MatmulSpace.build(problem, config, order) for order in ORDERS]


@dataclass(frozen=True)
class MatmulSpace:
    """Feasible mappings of one loop order; fields of `mappings` are arrays."""

    problem: MatmulProblem
    config: HardwareConfig
    mappings: MatmulMapping

    @classmethod
    def build(
        cls,
        problem: MatmulProblem,
        config: HardwareConfig,
        order: str,
        within: Ints | None = None,
    ) -> "MatmulSpace":
        """Enumerate the candidates of one loop order and keep those that fit.

        `within` are the places in the grid of tiles to look at, ascending; all where it is None.
        """
        mappings, chunks = _grid(problem, roomy(config), order)
        if within is None:
            within = np.arange(len(mappings.tile_m))
        mappings = _select(mappings, within)
        # What does not fit whole and with nothing resident does not fit in groups or with more.
        fits = np.flatnonzero(MatmulShape(problem, mappings, config).feasible)
        mappings = _select(mappings, fits)
        if not problem.whole_tiles:
            mappings = _grouped(problem, mappings, within[fits] // chunks, config)
        mappings = replace(mappings, resident=_most_resident(problem, mappings, config))
        feasible = MatmulShape(problem, mappings, config).feasible
        return cls(problem, config, _select(mappings, np.flatnonzero(feasible)))

    def __len__(self) -> int:
        return len(self.mappings.tile_m)

    def mapping(self, index: int) -> MatmulMapping:
        """One mapping, its numbers plain ints."""
        m = self.mappings
        numbers = {
            name: int(getattr(m, name)[index])
            for name in ("tile_m", "tile_n", "chunk_k", "groups", "resident", "tiles_held")
        }
        return MatmulMapping(m.order, **numbers)

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""
        return matmul_kernel(self.problem, _select(self.mappings, chosen), self.config)

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""
        bounds = _Bounds(self)
        return bounds.cycles(), bounds.events()

    def floor(self) -> tuple[Ints, Ints]:
        """The bounds without what depends on how fine a tile's drains are: memories decide that."""
        bounds = _Bounds(self)
        return bounds.cycles(with_last_drain=False), bounds.events()

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all mappings have in common."""
        return (self.problem, self.mappings.order)

    def keys(self, chosen: Ints) -> Ints:
        """Numbers [n, fields] that decide the timing of the chosen mappings on machines that move
        and compute alike, whatever their memories hold.
        """
        picked = _select(self.mappings, chosen)
        window = MatmulShape(self.problem, picked, self.config).accumulator.window
        m = picked
        fields = (m.tile_m, m.tile_n, m.chunk_k, m.groups, m.resident, m.tiles_held, window)
        return np.stack(fields, axis=1)


def _select(mappings: MatmulMapping, index: Ints) -> MatmulMapping:
    def pick(values: Any) -> Any:
        return values[index] if isinstance(values, np.ndarray) else np.full(len(index), values)

    return MatmulMapping(
        mappings.order,
        pick(mappings.tile_m),
        pick(mappings.tile_n),
        pick(mappings.chunk_k),
        pick(mappings.groups),
        pick(mappings.resident),
        pick(mappings.tiles_held),
    )


def _tiles(problem: MatmulProblem, config: HardwareConfig) -> tuple[Ints, Ints]:
    """The sizes of tiles to try: rows, and blocks of columns."""
    n_blocks = ceil_div(problem.n, config.dim)
    granule = max(1, config.bus_bytes // config.dim)
    tiles_n = np.array([n_blocks]) if problem.row_function else splits(n_blocks)
    return splits(problem.m, granule), tiles_n


@lru_cache(maxsize=1024)
def _grid(problem: MatmulProblem, config: HardwareConfig, order: str) -> tuple[MatmulMapping, int]:
    """Every combination of tile sizes, with nothing resident and one drain a tile; sizes of chunks."""
    held = np.array([2, 1]) if problem.whole_tiles else np.array([1])
    chunks = doublings(ceil_div(problem.k, config.dim))
    axes = (*_tiles(problem, config), chunks, held)
    tile_m, tile_n, chunk_k, tiles_held = (
        axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")
    )
    return MatmulMapping(order, tile_m, tile_n, chunk_k, 1, 0, tiles_held), len(chunks)


@lru_cache(maxsize=1024)
def roomy(config: HardwareConfig) -> HardwareConfig:
    """A machine that moves and computes like `config`, with the largest memories there can be."""
    return replace(
        config,
        name="",
        scratchpad_bytes=config.dim << ADDRESS_BITS,
        scratchpad_banks=64,
        accumulator_bytes=config.accumulator_row_bytes << ADDRESS_BITS,
        accumulator_banks=64,
    )


def best_matmul_mapping(
    problem: MatmulProblem, config: HardwareConfig, prices: Prices, objective: str
) -> Choice | None:
    """What `best_mapping` finds in `matmul_spaces`, ties included, at a fraction of its time.

    Bounds that hold whatever the memories are shared by all machines that move and compute alike;
    only tiles that they leave in the race are looked at with the memories of this one.
    """
    floors = [
        prices.floor(objective, events, cycles)
        for cycles, events in _floors(problem, roomy(config))
    ]
    every = np.concatenate(floors)
    for near in (NEAR, 8 * NEAR):
        if len(every) <= 2 * near:
            break
        limit = float(np.partition(every, near)[near])
        choice = best_mapping(_near(problem, config, floors, limit), config, prices, objective)
        if choice is None:
            continue
        if choice.score > limit:  # what was left out may be better
            found = _near(problem, config, floors, choice.score)
            choice = best_mapping(found, config, prices, objective)
        return choice
    return best_mapping(matmul_spaces(problem, config), config, prices, objective)


def _near(
    problem: MatmulProblem, config: HardwareConfig, floors: list[Floats], limit: float
) -> list[MatmulSpace]:
    """The spaces of those tiles whose floors are not above a score."""
    return [
        MatmulSpace.build(problem, config, order, np.flatnonzero(floor <= limit))
        for order, floor in zip(ORDERS, floors, strict=True)
    ]


@lru_cache(maxsize=4096)
def _floors(problem: MatmulProblem, config: HardwareConfig) -> list[tuple[Ints, Floats]]:
    """Cycles and events of every tile of each loop order that it does not go below, in the grid's
    order; `config` is roomy.
    """
    found = []
    for order in ORDERS:
        mappings, _ = _grid(problem, config, order)
        mappings = replace(mappings, resident=_most_resident(problem, mappings, config))
        cycles, events = MatmulSpace(problem, config, mappings).floor()
        found.append((cycles, events.astype(np.float64)))
    return found


def _grouped(
    problem: MatmulProblem, mappings: MatmulMapping, tile: Ints, config: HardwareConfig
) -> MatmulMapping:
    """Every mapping with its finest drain groups, and with its finest of at most one per bank.

    Finer groups drain earlier; fewer wait less where the drain's queue is short. `tile` is the place
    of a mapping's tile_m and tile_n in the grid of both.
    """
    # Neither the scratchpad nor K has a say in the groups: machines and problems share them.
    function = problem.function if problem.taken > 1 else "copy"
    batch = min(problem.batch, 2)
    plain = MatmulProblem(problem.m, 1, problem.n, batch, False, problem.parameters, function)
    finest, coarsest = _groups_of_tiles(plain, _any_scratchpad(config))
    fine, coarse = finest[tile], coarsest[tile]
    other = np.flatnonzero(coarse < fine)
    groups = np.concatenate([fine, coarse[other]])
    index = np.concatenate([np.arange(len(fine)), other])
    return replace(_select(mappings, index), groups=groups)


@lru_cache(maxsize=1024)
def _any_scratchpad(config: HardwareConfig) -> HardwareConfig:
    """The machine with a scratchpad and bus that machines which differ in them share."""
    return replace(
        config,
        scratchpad_bytes=config.dim << ADDRESS_BITS,
        scratchpad_banks=2,
        bus_bytes=max(config.bus_bytes, config.dim),
    )


@lru_cache(maxsize=4096)
def _groups_of_tiles(problem: MatmulProblem, config: HardwareConfig) -> tuple[Ints, Ints]:
    """The finest drain groups of every pair of tile_m and tile_n: any, and at most one per bank."""
    grid = np.meshgrid(*_tiles(problem, config), indexing="ij")
    tile_m, tile_n = (axis.ravel() for axis in grid)
    mappings = MatmulMapping("mn", tile_m, tile_n, np.ones_like(tile_m))
    fine = _most_groups(problem, mappings, config, MOST_GROUPS)
    return fine, _most_groups(problem, mappings, config, config.accumulator_banks)


def _most_groups(
    problem: MatmulProblem, mappings: MatmulMapping, config: HardwareConfig, most: int
) -> Ints:
    """The finest division of each tile into drain groups that fits: whole, or a power of two."""
    powers = np.array([1 << i for i in range(8)])[:, None]
    whole = np.minimum(mappings.tile_n, most)[None]
    groups = np.concatenate([np.broadcast_to(np.minimum(powers, most), (8, whole.size)), whole])
    trial = replace(mappings, groups=groups)
    fits = MatmulShape(problem, trial, config).feasible & (groups <= mappings.tile_n)
    best: Ints = np.where(fits, groups, 1).max(axis=0)
    return best


def _most_resident(problem: MatmulProblem, mappings: MatmulMapping, config: HardwareConfig) -> Ints:
    """Chunks of the reused operand that stay in the scratchpad: as many as fit beside the rest."""
    shape = MatmulShape(problem, mappings, config)
    layout = shape.scratchpad
    reused, streamed = layout.a_slot, layout.b_slot
    reuses = shape.tiles_n
    if mappings.order == "nm":
        reused, streamed, reuses = streamed, reused, shape.tiles_m
    bank = config.scratchpad_bank_rows
    rows = (config.scratchpad_banks - ceil_div(layout.slots * streamed, bank)) * bank
    buffers = np.maximum(rows // reused, 0)
    resident = np.where(buffers >= shape.chunks, shape.chunks, np.maximum(buffers - SLOTS, 0))
    allowed = (reuses > 1) & (shape.chunks >= layout.slots)
    most: Ints = np.where(allowed, resident, 0)
    return most


class _Bounds:
    """Closed forms over all mappings of a space: events exact but for bookkeeping, cycles from below."""

    def __init__(self, space: MatmulSpace) -> None:
        self.p, self.config, self.m = space.problem, space.config, space.mappings
        self.s = MatmulShape(self.p, self.m, self.config)
        p, s, m = self.p, self.s, self.m
        self.held = np.minimum(m.resident * m.chunk_k, s.k_blocks)
        again_a = again_b = 0
        if m.order == "mn":
            a_sweeps, b_sweeps = s.tiles_n, s.tiles_m
            again_a = (a_sweeps - 1) * self.held
        else:
            a_sweeps, b_sweeps = s.tiles_n, s.tiles_m
            again_b = (b_sweeps - 1) * self.held
        self.a_rows = p.batch * p.m * (a_sweeps * s.k_blocks - again_a)
        if p.transposed_b:
            self.b_rows = p.batch * p.n * (b_sweeps * s.k_blocks - again_b)
        else:
            held_rows = np.minimum(again_b * self.config.dim, (b_sweeps - 1) * p.k)
            self.b_rows = p.batch * s.n_blocks * (b_sweeps * p.k - held_rows)
        self.b_rows = self.b_rows * p.taken
        self.residual_rows = p.m * s.n_blocks if p.residual else 0
        reloads = s.tiles_m if m.order == "mn" else 1
        reloads = np.where(s.tiles_n > 1, reloads, 1)
        self.parameter_rows = p.batch * s.n_blocks * p.parameter_sets * reloads
        self.out_rows = p.batch * p.m * s.n_blocks

    def events(self) -> Ints:
        p, s, dim = self.p, self.s, self.config.dim
        n_blocks = s.n_blocks * p.taken
        computes = p.batch * s.tiles_m * s.k_blocks * n_blocks
        swept = p.batch * p.m * s.k_blocks * n_blocks
        preload_rows = p.n * s.k_blocks if p.transposed_b else p.k * n_blocks
        adds = swept - (0 if p.residual else self.out_rows * p.taken)
        word = DESTINATION_BYTES[p.destination]
        function = FUNCTION[p.function]
        passes = len(function.passes) + p.taken - 1
        loaded = self.a_rows + self.b_rows
        counts = {
            "instructions": 2 * computes,
            "dram_read_bytes": (loaded + self.residual_rows + self.parameter_rows * PARAMETER_BYTES)
            * dim,
            "dram_write_bytes": self.out_rows * dim * word,
            "scratchpad_reads": swept + p.batch * s.tiles_m * preload_rows,
            "scratchpad_writes": loaded,
            "accumulator_reads": adds + passes * self.out_rows,
            "accumulator_writes": swept + self.residual_rows,
            "accumulator_adds": adds * dim,
            "macs": p.batch * p.m * p.k * p.n * p.taken,
            "pe_active": swept * dim * dim,
            "pe_weight_loads": computes * dim * dim,
            "scale": self.residual_rows * dim,
            "requantize": self.out_rows * dim * p.taken if word == 1 else 0,
        }
        counts |= function.events(self.out_rows * dim, p.batch * p.m)
        events = zero_events(len(self.m.tile_m))
        for name, count in counts.items():
            events[:, EVENT_INDEX[name]] = count
        return events

    def cycles(self, *, with_last_drain: bool = True) -> Ints:
        """The busiest unit's work, after what must precede it and before what must follow."""
        p, s, m, config = self.p, self.s, self.m, self.config
        dim = config.dim
        row_cycles = max(1, ceil_div(dim, config.bus_bytes))
        mesh_row = np.maximum(m.tile_m, dim), np.maximum(s.m_last, dim)
        sweeps = s.k_blocks * s.n_blocks * p.taken * p.batch
        waived = mesh_row[1] - s.m_last  # nothing follows the last compute
        mesh = ((s.tiles_m - 1) * mesh_row[0] + mesh_row[1]) * sweeps - waived
        chunk = np.minimum(m.chunk_k, s.k_blocks)
        rows = np.minimum(m.tile_n * dim, p.n) * chunk
        if not p.transposed_b:
            rows = np.minimum(m.chunk_k * dim, p.k) * m.tile_n * p.taken
        first_load = (m.tile_m * chunk + rows) * row_cycles
        start = config.dram_latency_cycles + timing.LOAD_LATENCY + first_load
        out_row = ceil_div(dim * DESTINATION_BYTES[p.destination], config.bus_bytes)
        out_row = max(1, out_row) + len(FUNCTION[p.function].passes) + p.taken - 2
        last_drain = s.m_last * s.groups.width_last * out_row * int(with_last_drain)
        pipeline = 2 * dim + timing.EXECUTE_LATENCY + timing.DRAIN_LATENCY
        tail = pipeline + last_drain + config.dram_latency_cycles
        loads = (self.a_rows + self.b_rows + self.residual_rows) * row_cycles
        last_chunk = mesh_row[1] * s.chunk_last * s.n_last * p.taken - waived
        loading = config.dram_latency_cycles + timing.LOAD_LATENCY + loads + last_chunk
        draining = start + dim + self.out_rows * out_row + pipeline + config.dram_latency_cycles
        bound: Ints = np.maximum.reduce([start + dim + mesh + tail, loading + tail, draining])
        return bound
