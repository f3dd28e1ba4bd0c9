"""What each kernel call means as operators: one table, for every reasoner.

A rule gets a :class:`Call` and adds steps to the graph. It may rely on nothing but the call's own
arguments. Examples stay apart: the batch is the first axis of every value and no rule touches it; a
layer on the last axis of a longer input sees it folded into the batch, ``(batch * rows, features)``,
and the step then has the shape ``(rows, features)`` that one example really has.
"""

from __future__ import annotations

from conjoin.errors import CapabilityError
from conjoin.models.rules import affine, arithmetic, moves, windows
from conjoin.models.rules.call import Call, Graph, Known, Rule, UnknownError

RULES: dict[str, Rule] = {**affine.RULES, **arithmetic.RULES, **windows.RULES, **moves.RULES}
_SOFTMAX = (
    "a softmax has no bound here; if it ends the network, leave it out and ask for the quantity on "
    "the logits: margins have the same sign there. wrap(module, outputs=...) or a module without it"
)
_NO_RULE = {"_softmax": _SOFTMAX, "_log_softmax": _SOFTMAX}


def apply(call: Call) -> list[Known | None]:
    """Add a call's steps; return what is known of each result."""
    try:
        rule = RULES.get(call.name)
        if rule is None:
            raise CapabilityError(_NO_RULE.get(call.name, "no bound is known for this operation"))
        made = rule(call)
        places = made if isinstance(made, list) else [made]
        places += [None] * (len(call.shapes) - len(places))
        return [_checked(call, place, at) for at, place in enumerate(places)]
    except UnknownError as unknown:
        reason = str(unknown)
    except CapabilityError as error:
        reason = f"{call.where}: {call.name} is not covered: {error}"
    return [Known(reason)] * max(1, len(call.shapes))


def _checked(call: Call, place: int | None, at: int) -> Known:
    shape, dtype = call.shapes[at], call.dtypes[at]
    if place is None:
        return Known(f"{call.where}: this output of {call.name} is not covered")
    if dtype != call.graph.dtype:
        raise CapabilityError(
            f"its result is {dtype} in a network of {call.graph.dtype}: a conversion rounds"
        )
    one, n = call.shape(place), call.n
    if shape == (n, *one):
        return Known(place)
    if one and shape == (n * one[0], *one[1:]):
        call.graph.folded.add(place)
        return Known(place)
    raise CapabilityError(
        f"a value of shape {shape} does not keep the {n} examples of its batch apart, in front; "
        "expected e.g. x.flatten(1)"
    )


__all__ = ["Call", "Graph", "Known", "apply"]
