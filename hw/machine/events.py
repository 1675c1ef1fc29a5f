"""Events: what a Program does, as integer counts that know nothing of energy.

Timing emits them from the same instruction semantics that give the cycles; `energy.py` prices
them. A row that is partly used counts as a whole row, a beat that is partly used as a whole beat.
The RTL tells of them in its trace and counts some; `package` writes both as types for it.
"""

from dataclasses import dataclass

from codesign.hw.machine.memories import COUNTED
from codesign.hw.machine.quantities import FLAG, Quantity, structure

# What the timing model counts, in the order of its arrays.
TIMED_EVENTS = (
    "instructions",  # accepted by the front end
    "dram_read_bytes",  # beats x bus_bytes
    "dram_write_bytes",
    "scratchpad_reads",  # rows of dim int8
    "scratchpad_writes",
    "accumulator_reads",  # rows of dim int32
    "accumulator_writes",
    "accumulator_adds",  # int32 additions of add-on-write, dim per row
    "macs",  # useful multiply-accumulates, padding left out
    "pe_active",  # PE-cycles with a valid row in the mesh, padding included
    "pe_weight_loads",  # weight registers written by preloads, dim x dim each
    "scale",  # int8 elements scaled on their way into the accumulator
    "requantize",  # elements through the int32 -> int8 dyadic requantizer
    "gelu",  # elements through i-GELU
    "sigmoid",  # elements through a sigmoid, or what is made of one
    "product",  # elements multiplied by those of another operand
    "compare",  # elements through the softmax row maximum
    "exp",  # elements through i-exp (both softmax passes)
    "state",  # row states of attention, read and written or divided by
    "align",  # int32 elements shifted by octaves as they are added
    "moment",  # elements squared and summed for LayerNorm or RMSNorm statistics
    "normalize",  # elements multiplied by a row's reciprocal (softmax, LayerNorm, RMSNorm)
    "divide",  # row reciprocals
    "sqrt",  # row square roots
    "host_cycles",  # cycles of the host CPU
)

# Accesses to memories that the timing model does not know are counted where kernels are priced.
EVENTS = (
    *TIMED_EVENTS,
    *(event for memory in COUNTED for event in memory.events if event not in TIMED_EVENTS),
)

EVENT_INDEX = {name: index for index, name in enumerate(EVENTS)}

# What the machine tells of its instructions in every cycle, and from which bit of its trace on.
# The pulses of one kind come in program order: that is how times find their instructions.
PULSES = (
    "dispatch",  # accepted by the front end
    "load_start",
    "preload_start",
    "compute_start",
    "execute_sync_start",
    "drain_start",
    "load_release",  # its sources may be overwritten
    "execute_release",
    "drain_release",
    "load_complete",  # its results may be read
    "execute_complete",
    "drain_complete",
)


@dataclass(frozen=True)
class Counter:
    """A performance counter of the RTL: on how many ports its event may happen in a cycle.

    `event` is the one of EVENTS that it counts, if any.
    """

    name: str
    meaning: str
    ports: int = 1
    event: str | None = None


# In the order of their numbers.
COUNTERS = (
    Counter("busy", "cycles in which the machine is not idle"),
    Counter("dispatch", "instructions dispatched", event="instructions"),
    Counter("mvin_beat", "R handshakes", event="dram_read_bytes"),
    Counter("mvout_beat", "W handshakes", event="dram_write_bytes"),
    Counter("scratchpad_read", "rows read, by port", 2, "scratchpad_reads"),
    Counter("scratchpad_write", "rows written, by port", 2, "scratchpad_writes"),
    Counter("accumulator_read", "rows read, by port", 3, "accumulator_reads"),
    Counter("accumulator_write", "rows written, by port", 2, "accumulator_writes"),
    Counter("mesh_row", "rows of A that enter the mesh", event="pe_active"),
    Counter("weight_row", "rows of weights that enter the mesh"),
    Counter("load_busy", "cycles in which the load unit is not idle"),
    Counter("execute_busy", "cycles in which the execute unit is not idle"),
    Counter("drain_busy", "cycles in which the drain unit is not idle"),
    Counter("load_wait", "cycles in which a load waits for tokens only"),
    Counter("execute_wait", "cycles in which an instruction of the execute unit does"),
    Counter("drain_wait", "cycles in which one of the drain unit does"),
    Counter("dispatch_stall", "cycles in which an instruction waits for room"),
)


def package() -> str:
    """The text of `rtl/trace_pkg.sv`."""
    counted = tuple((c.name, Quantity("", c.ports, c.meaning)) for c in COUNTERS)
    most = max(c.ports for c in COUNTERS).bit_length()
    sums = []
    for number, counter in enumerate(COUNTERS):
        ports = [f"[{port}]" for port in range(counter.ports)] if counter.ports > 1 else [""]
        terms = " + ".join(f"{most}'(counted.{counter.name}{port})" for port in ports)
        sums.append(f"    increments[{number}] = {terms};")
    return "\n".join(
        [
            "// What the machine tells of itself: the trace of its instructions, and what it counts.",
            "// Written by `python -m codesign.hw.views.generated`; hw/machine/events.py is the source.",
            "",
            "package trace_pkg;",
            "",
            "  // What happens to instructions in a cycle.",
            *structure("trace_t", tuple((name, FLAG) for name in PULSES)),
            "",
            "  // What happens in a cycle that is counted, one bit for each port on which it may.",
            *structure("counted_t", counted),
            "",
            "  // By how much each counter grows, in the order of their numbers.",
            f"  localparam int unsigned Counters = {len(COUNTERS)};",
            f"  typedef logic [Counters-1:0][{most - 1}:0] increments_t;",
            "",
            "  function automatic increments_t increments(input counted_t counted);",
            *sums,
            "  endfunction",
            "",
            "endpackage",
            "",
        ]
    )
