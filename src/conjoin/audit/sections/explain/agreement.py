"""Do the methods tell the same story? The rank correlation of their maps, pair by pair.

    ρ = Spearman(a_i(x), a_j(x)) over the elements of the input, averaged over the drawn examples

Methods answer different questions (a gradient: what would change the answer; integrated gradients: what
it is made of), so that two differ says of neither that it is wrong. It does say that what one of them
shows is not simply "what the model looks at".

Reference: krishna2024, section 3 (rank correlation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.schema import Number, Part, Unit
from conjoin.audit.sections.explain.scores import CORRELATION, mean_of
from conjoin.audit.sections.explain.task import chosen, map_of
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.protocols import Attributor
from conjoin.core.quantity import predicted
from conjoin.core.run import attribute
from conjoin.errors import CapabilityError
from conjoin.metrics.stability import spearman

REFERENCE = "krishna2024"
KEY = "methods compared"  # of the task: no method is called so
APART = " and "  # between two methods, in the name of a column


class Agreement(Part):
    """The mean rank correlation of two methods' maps, over a sample of the examples."""

    first: str
    second: str
    correlation: Number
    count: int


def compared(
    subject: Subject, shard: Shard, methods: dict[str, Attributor], seed: int
) -> dict[str, Tensor]:
    """Explain by all methods that apply, and correlate each two, example by example.

    Raises:
        CapabilityError: If fewer than two apply.
    """
    maps: dict[str, Tensor] = {}
    for name, method in methods.items():
        try:
            found = attribute(
                subject.model, shard.data, method, seed=seed, target=predicted, run=shard.run
            )
            maps[name] = map_of(found.values, shard.data)
        except CapabilityError:  # it is said where the method explains by itself
            continue
    pairs = {
        APART.join((one, other)): spearman(maps[one], maps[other])
        for one, other in combinations(maps, 2)
        if maps[one].shape == maps[other].shape
    }
    if not pairs:
        raise CapabilityError("no two of the methods apply, so that there is nothing to compare")
    return {"shown": chosen(shard), **pairs}


def agreements(part: Columns, methods: Iterable[str], alpha: float) -> list[Agreement]:
    """Average the correlation of each two over the examples that were drawn."""
    found, names = [], part.names()
    for one, other in combinations(methods, 2):
        name = APART.join((one, other))
        if name in names:
            mean, count = mean_of(part[name], part["shown"], alpha, CORRELATION, Unit.CORRELATION)
            found.append(Agreement(first=one, second=other, correlation=mean, count=count))
    return found


def pairs(records: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Agreement]]:
    """Arrange agreements by pair, then by model."""
    out: dict[tuple[str, str], dict[str, Agreement]] = {}
    for model, record in records.items():
        for one in record.agreements:
            out.setdefault((one.first, one.second), {})[model] = one
    return out


__all__ = ["KEY", "REFERENCE", "Agreement", "agreements", "compared", "pairs"]
