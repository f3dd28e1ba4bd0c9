"""Relevance handed from the output of a network to its input, operator by operator.

Affine layers follow the rules of a :class:`~conjoin.attribution.composites.Composite`. An activation
that leaves zero at zero hands on what it has; a maximum gives all to the winner; a sum, a multiple and
an average share by contribution; what is moved, sorted or copied goes where it came from. Layer norm
counts its denominator as fixed, so that it hands on what it has. A constant keeps its share.

Reference: bach2015, section 2.4; ali2022, section 4 (layer norm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from conjoin.attribution.composites import Composite
from conjoin.attribution.relevance import Epsilon, Rule
from conjoin.attribution.shares import Through, per
from conjoin.core.linear import Convolution, Dense
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Fixed,
    Given,
    MaxWindows,
    Reshape,
    RootMeanSquare,
    Sort,
    SortPairs,
    Step,
)
from conjoin.errors import CapabilityError

Values = Sequence[Tensor]


def propagated(
    steps: Sequence[Step], values: Values, relevance: Tensor, composite: Composite
) -> Tensor:
    """Hand relevance from the last step to the input.

    Args:
        steps: The operators.
        values: What each of them gave.
        relevance: Of the last.
        composite: The rules.

    Raises:
        CapabilityError: If an operator has no rule, naming it.
    """
    _refuse_causeless(steps, relevance)
    first = _first(steps)
    owed: list[Tensor | None] = [None] * len(steps)
    owed[-1] = relevance
    for place in reversed(range(len(steps))):
        step, whole = steps[place], owed[place]
        if isinstance(step.op, Given) or whole is None:
            continue
        sources = [values[source] for source in step.sources]
        if isinstance(step.op, Affine):
            shares: Values = (_affine(step.op, sources[0], whole, composite, place in first),)
        else:
            rule = _RULES.get(type(step.op))
            if rule is None:
                raise CapabilityError(f"relevance has no rule for {step.name} ({step.op})")
            shares = rule(step, sources, whole, values[place], composite)
        for source, share in zip(step.sources, shares, strict=True):
            before = owed[source]
            owed[source] = share if before is None else before + share
        owed[place] = None
    found = next(owed[place] for place, step in enumerate(steps) if isinstance(step.op, Given))
    assert found is not None  # noqa: S101 - the output depends on the input
    return found


def _first(steps: Sequence[Step]) -> frozenset[int]:
    """Return which layers read the input itself: moved, joined, scaled or averaged at most."""
    raw: list[bool] = []
    found = set()
    for place, step in enumerate(steps):
        given = all(raw[source] for source in step.sources)
        layer = isinstance(step.op, Affine) and isinstance(step.op.map, Dense | Convolution)
        if layer and given:
            found.add(place)
        moved = isinstance(step.op, Affine | Reshape | Concat | Add | Given | Fixed)
        raw.append(given and moved and not layer)
    return frozenset(found)


def _affine(op: Affine, x: Tensor, whole: Tensor, composite: Composite, first: bool) -> Tensor:
    if op.exact:  # every output is a copy of an input
        return Through(op.map, x).back(whole)
    rule: Rule = Epsilon(composite.stabiliser)
    if isinstance(op.map, Dense | Convolution):
        kind = composite.dense if isinstance(op.map, Dense) else composite.convolution
        rule = composite.first if first and composite.first is not None else kind
    return rule(op, x, whole)


def _refuse_causeless(steps: Sequence[Step], like: Tensor) -> None:
    """Refuse activations that are not 0 at 0; looked at together, so that a device is asked once."""
    acts = [(step, step.op) for step in steps if isinstance(step.op, Elementwise)]
    made = [op(like.new_zeros(1, *step.shape)).any() for step, op in acts]
    if not made or not bool(torch.stack(made).any()):
        return
    step = next(step for (step, _), some in zip(acts, made, strict=True) if bool(some))
    raise CapabilityError(
        f"relevance has no rule for {step.name}, since that makes something of nothing. It has one for "
        "activations that are 0 at 0 (relu, tanh, gelu, ...); deeplift() and integrated_gradients() "
        "apply to others"
    )


def _same(step: Step, sources: Values, whole: Tensor, *_: object) -> Values:
    return (whole,)


def _chosen(step: Step, sources: Values, whole: Tensor, *_: object) -> Values:
    op: Any = step.op
    return (Through(op, sources[0]).back(whole),)


def _added(
    step: Step, sources: Values, whole: Tensor, value: Tensor, composite: Composite
) -> Values:
    op = step.op
    assert isinstance(op, Add)  # noqa: S101 - by the table
    share = per(whole, value, composite.stabiliser)
    return [sign * x * share for sign, x in zip(op.signs, sources, strict=True)]


def _joined(step: Step, sources: Values, whole: Tensor, *_: object) -> Values:
    op = step.op
    assert isinstance(op, Concat)  # noqa: S101 - by the table
    return list(whole.split([x.shape[op.axis] for x in sources], op.axis))


def _kept(step: Step, sources: Values, whole: Tensor, *_: object) -> Values:
    return ()


_RULES: dict[type, Callable[..., Values]] = {
    Elementwise: _same,
    RootMeanSquare: _same,
    MaxWindows: _chosen,
    SortPairs: _chosen,
    Sort: _chosen,
    Reshape: _chosen,
    Add: _added,
    Concat: _joined,
    Fixed: _kept,
}

__all__ = ["propagated"]
