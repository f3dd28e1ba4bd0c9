"""A network's operators as the steps of a certificate file: what the checker can read, and prove.

Weights are named by the module's own names where an operator has them as they are stored; what an
operator computed of them (a folded normalisation) lies beside, as numbers. Pools, reshapes, diagonals
and paddings become one kind of step, ``gather``: sums of factors times elements, by their places, which
are found by running the operator on whole numbers. What cannot be written so is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from conjoin.certification import checker
from conjoin.certification.norms import operator_norm
from conjoin.core.linear import Averages, Convolution, Dense, Diagonal
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Given,
    MaxWindows,
    Reshape,
    SortPairs,
    Step,
)
from conjoin.errors import CapabilityError
from conjoin.models.entries import function_of, linear_entries, moved, windows


@dataclass(frozen=True, slots=True)
class Listing:
    """Steps, their numbers, and the arrays that are in no weights file.

    Weights that a layer computes (orthogonal rows) are ``derived``: they belong to the weights.
    """

    state: Mapping[str, Tensor]
    steps: list[dict[str, Any]] = field(default_factory=list)
    given: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, Any] = field(default_factory=dict)

    def add(self, step: Step, made: dict[str, Any], numbers: Mapping[str, Any]) -> None:
        """Add a step, with its numbers by their roles."""
        named = {"tensors": {}, "turned": [], "forms": {}, "bound": 1.0} | made
        own = {}
        for role, value in numbers.items():
            self._name(named, role, np.asarray(value))
            own[role] = value
        said = {"name": step.name, "shape": list(step.shape), "sources": list(step.sources)}
        self.steps.append(said | named)
        self.given.append(own)

    def _name(self, named: dict[str, Any], role: str, value: Any) -> None:
        """Find a number among the weights, also transposed or with other axes; else keep it."""
        for name, tensor in self.state.items() if role in ("weight", "bias") else ():
            if tensor.numel() != value.size or not tensor.is_floating_point():
                continue
            stored = tensor.double().numpy()
            if np.array_equal(stored.reshape(-1), value.reshape(-1)):
                named["tensors"][role] = name
                if stored.shape != value.shape:
                    named["forms"][role] = list(value.shape)
                return
            if value.ndim == 2 and np.array_equal(stored.T, value):
                named["tensors"][role] = name
                named["turned"].append(role)
                return
        key = f"step{len(self.steps)}.{role}"
        if named["op"] in {"dense", "conv"}:
            named["tensors"][role] = f"derived.{key}"
            self.derived[f"derived.{key}"] = value
            return
        named["tensors"][role] = f":{key}"
        self.arrays[key] = value


def listed(steps: Sequence[Step], state: Mapping[str, Tensor]) -> Listing:
    """Write a network's steps, with the norms that the checker proves.

    Raises:
        CapabilityError: If an operator has no rule in the checker.
    """
    made = Listing(state)
    steps = _ended(steps)
    for step in steps:
        rule = _RULES.get(type(step.op))
        if rule is None:
            raise CapabilityError(_refusal(step))
        source = list(steps[step.sources[0]].shape) if step.sources else []
        rule(made, step, source)
    return made


def _ended(steps: Sequence[Step]) -> Sequence[Step]:
    """Leave out moves behind the last layer that move nothing."""
    while (
        isinstance(steps[-1].op, Reshape) and steps[-1].shape == steps[steps[-1].sources[0]].shape
    ):
        if steps[-1].sources[0] != len(steps) - 2:
            break
        steps = steps[:-1]
    last = steps[-1].op
    if not (isinstance(last, Affine) and isinstance(last.map, Dense) and len(steps[-1].shape) == 1):
        raise CapabilityError(
            f"a certificate file needs a dense layer that gives the logits; {steps[-1].name} is none"
        )
    return steps


def _refusal(step: Step, why: str = "") -> str:
    return f"the checker of certificate files has no rule for {step.name}{why}"


def _given(made: Listing, step: Step, source: list[int]) -> None:
    made.add(step, {"op": "input"}, {})


def _affine(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    numbers: dict[str, Any] = {} if op.bias is None else {"bias": _numbers(op.bias)}
    if isinstance(op.map, Dense):
        _normed(made, step, {"op": "dense"}, {"weight": _numbers(op.map.weight), **numbers}, source)
    elif isinstance(op.map, Convolution) and not op.map.backwards:
        said: dict[str, Any] = {"op": "conv", "groups": op.map.groups}
        said |= {name: list(getattr(op.map, name)) for name in ("stride", "padding", "dilation")}
        _normed(made, step, said, {"weight": _numbers(op.map.weight), **numbers}, source)
    elif isinstance(op.map, Diagonal):
        scale = _numbers(op.map.scale.expand(source)).reshape(-1, 1)
        places = np.arange(scale.size).reshape(-1, 1)
        _gather(made, step, places, scale, np.ones(scale.size), numbers)
    elif isinstance(op.map, Averages):
        places, factors = linear_entries(op.map, tuple(source), math.prod(step.shape))
        _gather(made, step, places, factors, _vector(places, factors, math.prod(source)), numbers)
    else:
        raise CapabilityError(_refusal(step, f" ({type(op.map).__name__})"))


def _normed(
    made: Listing, step: Step, said: dict[str, Any], numbers: dict[str, Any], source: list[int]
) -> None:
    """Find a bound that the checker proves, near the norm."""
    op: Any = step.op
    said["shape"], said["name"] = list(step.shape), step.name
    method, grams, error = checker.linear(said, numbers["weight"], source)
    bound = operator_norm(op.map) or 1e-99
    if method == "torus":
        least = float(np.linalg.eigvalsh(grams)[..., -1].max())
        bound = max(math.sqrt(least) * (1 + 1e-9), 1e-99)
    for room in (1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1):
        trial = bound * (1 + room)
        slack = checker.needed_slack(trial**2, grams.shape[-1], error) * (1 + 1e-6)
        said |= {"bound": trial * (1 + slack), "slack": slack, "method": method}
        if _proved(said, grams, error):
            break
    made.add(step, said, numbers)


def _proved(said: Mapping[str, Any], grams: Any, error: float) -> bool:
    try:
        checker.factorise(float(said["bound"]), float(said["slack"]), grams, error)
    except checker.RejectedError:
        return False
    return True


def _gather(
    made: Listing, step: Step, places: Any, factors: Any, vector: Any, numbers: dict[str, Any]
) -> None:
    """Add a step by places and factors, with the vector that shows its norm."""
    back, v = np.zeros(len(vector) + 1), np.append(vector, 0.0)
    sizes = np.abs(factors) * np.ones(places.shape)
    np.add.at(back, places, sizes * (sizes * v[places]).sum(-1, keepdims=True))
    square = float((back[:-1] / vector).max())
    bound = math.sqrt(square) * (1 + 17 * (places.size + 8) * checker.UNIT)
    own = {"weight": factors, "index": places, "witness": vector, **numbers}
    made.add(step, {"op": "gather", "bound": max(bound, 1.0 if square == 0 else bound)}, own)


def _vector(places: Any, factors: Any, count: int) -> Any:
    """Approach the vector that makes Schur's test tight, by powers."""
    v = np.ones(count + 1)
    for _ in range(30):
        v[-1] = 0.0
        back = np.zeros(count + 1)
        np.add.at(back, places, factors * (factors * v[places]).sum(-1, keepdims=True))
        v = np.maximum(back / max(back[:-1].max(), 1e-300), 1e-12)
    return v[:-1]


def _moved(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    _gather(made, step, moved(op), np.ones(()), np.ones(math.prod(source)), {})


def _elementwise(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    name, ends = function_of(op)
    if name not in checker.ACTS:
        raise CapabilityError(_refusal(step, f" ({name})"))
    bound = max(checker.ACTS[name][0], *(abs(s) for s in op.slopes))
    made.add(step, {"op": "elementwise", "function": name, "ends": ends, "bound": bound}, {})


def _maxima(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    places = windows(op, tuple(source), math.prod(step.shape))
    bound = math.sqrt(np.bincount(places[places >= 0]).max()) * (1 + 8 * checker.UNIT)
    made.add(step, {"op": "maxima", "bound": bound}, {"index": places})


def _sorted(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    made.add(step, {"op": "sort", "axis": op.axis}, {})


def _added(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    made.add(step, {"op": "add", "signs": list(op.signs)}, {})


def _joined(made: Listing, step: Step, source: list[int]) -> None:
    op: Any = step.op
    made.add(step, {"op": "concat", "axis": op.axis}, {})


def _numbers(value: Tensor) -> Any:
    return value.detach().cpu().double().numpy()


_RULES: dict[type, Callable[[Listing, Step, list[int]], None]] = {
    Given: _given,
    Affine: _affine,
    Elementwise: _elementwise,
    MaxWindows: _maxima,
    SortPairs: _sorted,
    Reshape: _moved,
    Add: _added,
    Concat: _joined,
}

__all__ = ["Listing", "listed"]
