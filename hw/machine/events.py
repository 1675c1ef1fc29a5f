"""Events: what a Program does, as integer counts that know nothing of energy.

Timing emits them from the same instruction semantics that give the cycles; `energy.py` prices
them. A row that is partly used counts as a whole row, a beat that is partly used as a whole beat.
"""

from codesign.hw.machine.memories import COUNTED

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
    "compare",  # elements through the softmax row maximum
    "exp",  # elements through i-exp (both softmax passes)
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
