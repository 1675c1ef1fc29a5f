"""Where a host finds the int8 tensors of a compiled network: place, shape, layout and scale of each.

With the DRAM image and the Program it is all that a host needs to feed the machine and read it: what
`codesign compile` writes beside them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from codesign.compiler.network.inference import Network
from codesign.compiler.numerics.quantized import LOW_STEPS
from codesign.compiler.plan.work import LOW
from codesign.compiler.program.emit import places

LAYOUT = (
    "A tensor is a matrix of `rows` times `heads` heads of `columns` int8 values; in its ONNX shape "
    "heads come first if `heads_first`, else side by side. Behind each head stand zeros up to `stored_columns`; the whole is cut into blocks "
    "of `dim` columns, stored one after another, row by row, from `address` on: "
    "[columns / dim][rows][dim]. A value is its int8 minus `zero` times its scale: one, or one a column of all "
    f"heads. A tensor X{LOW} holds what the int8 of X leaves of the value."
)

PROGRAM = (
    "program.bin holds the instructions of all kernels, one after another, as many of each as "
    "`kernels` says: 48 bytes each, a little-endian word of 384 bits whose fields are those of "
    "rtl/isa_pkg.sv and hw/machine/encoding.py (docs/machine.md). A kernel of no instructions is the host's."
)
RECORDS_NOTE = (
    "A mask over keys lies in the memory map's `region` as a record of 8 bytes a key: int32 offset, "
    "int24 multiplier, uint8 shift, little endian, zeros behind the last key. weights.bin holds the "
    "mask that hides nothing, offset 0; a host writes round(added / unit) of each key that it hides, "
    "no less than -(2^31 - 1)."
)
ANGLES_NOTE = (
    "Angles of a run's places lie in the memory map's `region` as two matrices of `rows` x `columns` int8, "
    "in blocks as tensors are: coarse, then fine. 128 coarse + fine is round(a / step): cosines of a token "
    "in one row, sines in the next, of the column's own result of the other of its pair. weights.bin holds "
    "those of the first calibration sample."
)


@dataclass(frozen=True)
class TensorPlace:
    """One int8 tensor in DRAM, valid from kernel `written` (-1: before the first) to kernel `read`."""

    name: str  # in the ONNX graph
    writer: str  # host, machine
    read_by_host: bool
    written: int
    read: int
    address: int
    size_bytes: int
    onnx_shape: tuple[int, ...]
    rows: int
    heads: int
    heads_first: bool
    columns: int  # of a head
    stored_columns: int  # of a head, zeros behind it included
    scales: tuple[float, ...]
    zero: int  # the code that stands for 0


@dataclass(frozen=True)
class MaskPlace:
    """What the host adds to the scores of one kernel, run by run.

    An offset per key, round(added / unit), in parameter records beside `multiplier` and `shift`;
    with `matrix_step` an int8 matrix too, of scores in units of it, `hidden` where one is hidden.
    """

    kernel: int
    softmax: str
    region: str  # of the memory map
    unit: float
    multiplier: int
    shift: int
    matrix_region: str | None
    matrix_step: float | None
    hidden: int | None


@dataclass(frozen=True)
class AnglesPlace:
    """What the host writes of one rotation, run by run: cosines and sines of its tokens' places."""

    kernel: int
    region: str  # of the memory map
    rows: int
    columns: int
    step: float


def angles_map(network: Network) -> list[AnglesPlace]:
    """Every table of angles that the host writes."""
    found = []
    for index, step in network.quantized.steps.items():
        work = network.plan.steps[index].work
        if step.angle_step and step.table is not None:
            (operand,) = work.constants(network.plan.config)
            region = f"{index}:{work.name}/{operand.region}"
            rows, columns = step.table.shape[1:]
            found.append(AnglesPlace(index, region, rows, columns, step.angle_step))
    return found


def tensor_map(network: Network) -> list[TensorPlace]:
    """Every int8 tensor of a network, by address."""
    found = [
        _place(network, name, address)
        for name, address in places(network.plan, network.kept).items()
        if _is_tensor(network, name)
    ]
    return sorted(found, key=lambda tensor: (tensor.address, tensor.written))


def mask_map(network: Network) -> list[MaskPlace]:
    """Every mask that the host writes."""
    return list(_masks(network))


def _is_tensor(network: Network, name: str) -> bool:
    return name.removesuffix(LOW) in network.quantized.scales


def _place(network: Network, name: str, address: int) -> TensorPlace:
    plan, config = network.plan, network.plan.config
    steps = list(enumerate(plan.steps))
    writers = [i for i, step in steps if name.removesuffix(LOW) in step.work.outputs]
    on_chip = [i for i in writers if plan.steps[i].work.problem is not None]
    readers = [i for i, step in steps if name in step.work.inputs]
    by_host = [i for i in readers if plan.steps[i].work.problem is None]
    is_output = name in plan.graph.outputs
    matrix = network.matrices[name]
    width, stored = network.matrices.heads(name, config)
    heads = matrix.heads * matrix.columns // width
    scales = network.quantized.scales[name.removesuffix(LOW)]
    scales = scales / LOW_STEPS if name.endswith(LOW) else scales
    return TensorPlace(
        name=name,
        writer="machine" if on_chip else "host",
        read_by_host=bool(by_host) or is_output,
        written=max(writers, default=-1),
        read=len(steps) if is_output else max(readers, default=-1),
        address=address,
        size_bytes=matrix.rows * -(-heads * stored // config.dim) * config.dim,
        onnx_shape=network.matrices.shapes[name.removesuffix(LOW)],
        rows=matrix.rows,
        heads=heads,
        heads_first=matrix.heads > 1,
        columns=width,
        stored_columns=stored,
        scales=tuple(scales.tolist()),
        zero=network.quantized.zero(name),
    )


def _masks(network: Network) -> Iterator[MaskPlace]:
    for index, step in network.quantized.steps.items():
        added, work = step.added, network.plan.steps[index].work
        if added is None or not (added.keys or added.computed):
            continue
        first = step.epilogues[0].first
        regions = {
            "bias" if operand.role == "bias" else "records": f"{index}:{work.name}/{operand.region}"
            for operand in work.constants(network.plan.config)
        }
        matrix = added.computed and added.matrix_scale > 0
        yield MaskPlace(
            kernel=index,
            softmax=added.softmax,
            region=regions["records"],
            unit=added.unit,
            multiplier=int(first.multiplier.flat[0]),
            shift=int(first.shift.flat[0]),
            matrix_region=regions["bias"] if matrix else None,
            matrix_step=added.unit * added.matrix_scale if matrix else None,
            hidden=added.hidden if matrix else None,
        )
