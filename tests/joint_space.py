"""A search space of 59,904 candidates that tests can enumerate."""

from codesign.hw.machine.config import HardwareConfig
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.price_store import PriceStore
from codesign.search.joint.problem import SearchProblem
from codesign.search.space.networks import networks
from codesign.search.space.quality import ScalingLaw
from codesign.search.space.space import Constraints, SearchSpace

K = 1024

SMALL = SearchSpace(
    networks(
        layers=(2, 3),
        d_model=(48, 96),
        heads=(4, 8, 12),
        d_ff=(64, 128, 192, 256),
        sequence=32,
        vocab_size=500,
    ),
    HardwareConfig(scratchpad_banks=8, accumulator_banks=4),
    (
        ("dim", (8, 16)),
        ("scratchpad_bytes", (8 * K, 32 * K)),
        ("accumulator_bytes", (4 * K, 32 * K)),
        ("bus_bytes", (8, 32)),
    ),
    Constraints(area_mm2=1.0, power_w=None),
)


def problem(space: SearchSpace = SMALL, store: PriceStore | None = None) -> SearchProblem:
    """The space with the proxy, its prices kept in memory."""
    return SearchProblem(
        space, NetworkTables(space, store=store), ScalingLaw(), ("perplexity", "edp")
    )
