"""The key-value cache of a decoder, as it stays in DRAM from one run of its Program to the next.

In the file, keys and values of earlier tokens are inputs, and new ones are put behind them. What attention
reads of both is an int8 matrix with a row for each token: it stays where it is, and a token is appended by
writing its rows.
"""

from collections.abc import Collection
from dataclasses import dataclass

from codesign.compiler.plan.lower import Plan


@dataclass(frozen=True)
class CachedTensor:
    """An int8 matrix [tokens, columns] that kernels read; `new` are the tensors that the rows of new
    tokens are made of."""

    tensor: str
    new: tuple[str, ...]


def cached_tensors(plan: Plan, past: Collection[str]) -> tuple[dict[str, CachedTensor], set[str]]:
    """What kernels read of the inputs `past`, by tensor; and every tensor that the host makes of them."""
    made: dict[str, dict[str, None]] = {name: {} for name in past}
    found: dict[str, CachedTensor] = {}
    for step in plan.steps:
        held = [name for name in step.work.inputs if name in made]
        if step.work.problem is not None:
            found |= {name: CachedTensor(name, tuple(made[name])) for name in held}
        elif held:
            (output,) = step.work.outputs
            new = {name: None for name in step.work.inputs if name not in made}
            made[output] = new | {name: None for each in held for name in made[each]}
    return found, set(made) - set(past)
