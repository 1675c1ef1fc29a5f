"""What a kind of kernel is: its problems, their mapspaces, the kernel of a mapping, and its operands.

A kind is one module: everything else (mapper, prices, memory map, image, checks on the RTL) asks a
`Kind` and knows no problem from another. `kinds.KINDS` lists them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from codesign.compiler.kernels.blocks import matrix_bytes
from codesign.compiler.kernels.mapspace import Choice, Ints, Mapspace, Prices, best_mapping
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.random_numbers import Draw
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.machine.program import Body

Int8: TypeAlias = npt.NDArray[np.int8]
Role: TypeAlias = Literal["input", "weight", "addend", "parameters", "mask", "bias", "output"]
# Matrices that are constants of the network where no tensor is there for them.
MAY_BE_CONSTANT = ("weight", "addend")
RECORDS = ("parameters", "mask")


class Problem:
    """What a kernel computes: a frozen dataclass of sizes and flags. Equal problems cost the same."""


@dataclass(frozen=True)
class Operand:
    """What a kernel reads or writes in DRAM: matrices in blocks, or parameter records.

    `role`: an "input" is a tensor; a "weight" to multiply by and an "addend" are tensors or constants
    of the network; "parameters" are constants; a "mask" (records of keys) and a "bias" (a matrix) are
    what a run adds to scores; the "output" is what it writes. A role has one operand at most, but
    inputs. `region` is the name in the memory map where no tensor is there for it.
    """

    name: str  # of its place, as the kernel takes it
    role: Role
    shape: tuple[int, int, int]  # matrices, rows, columns; of records: 1, rows, dim
    size_bytes: int  # 0: the problem goes without, it would have this shape
    region: str = ""
    part: bool = False  # whether it may be some rows and columns of a larger tensor
    whole_rows: bool = True  # whether the padding of heads within rows would change results


@dataclass(frozen=True)
class Drain:
    """One epilogue of a kernel: its function, over so many matrices of rows x columns.

    Records bring factor and bias before the function where it is `scaled` (as the mask of a softmax
    over its columns), factor and offset behind it where it is `affine`.
    """

    function: str
    shape: tuple[int, int, int]
    scaled: bool = False
    affine: bool = False


class Given(Protocol):
    """What one run of a kernel computes with, in whole int8 matrices."""

    def matrix(self, name: str, number: int) -> Int8:
        """One of an operand's matrices, [rows, columns]."""

    def scales(self, drain: int) -> tuple[int, int]:
        """What int8 operands are multiplied by on their way to the sums of a drain."""

    def drained(self, drain: int, number: int, sums: Ints) -> Int8:
        """What a drain makes of the sums of one matrix."""

    def attended(self, number: int, sums: Ints, values: Int8) -> Int8:
        """What the two drains of attention in parts make of the scores' sums and of V."""


def matrices(
    name: str,
    role: Role,
    shape: tuple[int, int, int],
    config: HardwareConfig,
    *,
    present: bool = True,
    word: int = 1,
    region: str = "",
    part: bool = False,
    whole_rows: bool = True,
) -> Operand:
    """An operand of `shape` = matrices, rows, columns; elements take `word` bytes."""
    size = shape_bytes(shape, config) * word if present else 0
    return Operand(name, role, shape, size, region, part, whole_rows)


def shape_bytes(shape: tuple[int, int, int], config: HardwareConfig) -> int:
    """Bytes of int8 matrices in blocks."""
    count, rows, columns = shape
    return count * matrix_bytes(rows, columns, config)


def records(name: str, role: Role, rows: int, config: HardwareConfig) -> Operand:
    """An operand of `rows` rows of parameter records; `name` is also that of its region."""
    return Operand(name, role, (1, rows, config.dim), rows * config.dim * PARAMETER_BYTES, name)


P = TypeVar("P", bound=Problem)


class Kind(ABC, Generic[P]):
    """A kind of kernel. `places` are DRAM byte addresses of its operands, by their names."""

    problem_type: ClassVar[type[Any]]

    @abstractmethod
    def work(self, problem: P, dim: int) -> int:
        """MACs or moves of a problem at most, on a mesh of dim x dim with its edges filled up."""

    @abstractmethod
    def extents(self, problem: P) -> tuple[int, ...]:
        """The numbers of rows and columns along which timing may take time."""

    @abstractmethod
    def spaces(self, problem: P, config: HardwareConfig) -> Sequence[Mapspace]:
        """The stated mapspace of a problem."""

    def best(
        self, problem: P, config: HardwareConfig, prices: Prices, objective: str
    ) -> Choice | None:
        """The best mapping of `spaces`, ties included; None when no tile fits."""
        return best_mapping(self.spaces(problem, config), config, prices, objective)

    @abstractmethod
    def kernel(
        self,
        problem: P,
        mapping: Any,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        """The body of a mapping that its space holds. Missing places and numbers do for timing."""

    @abstractmethod
    def operands(self, problem: P, config: HardwareConfig) -> tuple[Operand, ...]:
        """Everything in DRAM that the kernel reads and writes; constants in the memory map's order."""

    @abstractmethod
    def drains(self, problem: P) -> tuple[Drain, ...]:
        """Its drains, in the order of `StepNumbers.epilogues`; one with a softmax is the first."""

    def elementwise(self, problem: P) -> bool:
        """Whether it runs over bytes in their order, whatever the rows: all operands lie alike."""
        return False

    @abstractmethod
    def reference(self, problem: P, given: Given) -> list[Int8]:
        """The matrices of its output in plain integers, to which the machine is held."""

    def records(
        self, problem: P, mapping: Any, config: HardwareConfig, sets: Sequence[Bytes]
    ) -> Bytes:
        """Records of all columns, bias and scale before gamma and beta, in the order of its drains."""
        return np.concatenate(sets)

    @abstractmethod
    def random_numbers(self, problem: P, draw: Draw) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        """Numbers of its drains and legal records, by operand, that use the range of every function."""

    @abstractmethod
    def shape(self, problem: P) -> str:
        """What a problem computes, in one line for people."""

    @abstractmethod
    def describe(self, problem: P, mapping: Any, config: HardwareConfig) -> str:
        """A mapping in one line for people: tile sizes in rows and columns, order, residency."""


def exact_product(a: Int8, b: Int8) -> Ints:
    """A.B of int8 matrices, whose sums are far below 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def listed(text: str, said: Mapping[str, bool]) -> str:
    """A text and those of the words that hold, with commas."""
    return ", ".join([text, *(words for words, holds in said.items() if holds)])


def bound(operands: Iterable[Operand], tensors: int) -> list[Operand]:
    """The operands that the first of so many tensors are, in order; those beyond are scores' masks.

    Where there are more operands than tensors, weights and addends are constants.
    """
    found = [o for o in operands if o.size_bytes and o.role in ("input", *MAY_BE_CONSTANT)]
    for operand in [o for o in found if o.role in MAY_BE_CONSTANT]:
        if len(found) > tensors:
            found.remove(operand)
    return found
