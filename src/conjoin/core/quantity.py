"""Quantities: what is asked of the model's outputs, one number per example.

A quantity is a pure function ``(outputs, aim) -> per example`` with a ``goal``. One sign
everywhere: **it is large when the defender is happy**, so attacks minimise it and certificates bound
it from below; at or below ``goal`` the attacker has won (-inf: there is no such point, minimise
without end). A *target* says what the quantity is about; it is evaluated once, at the example
itself, and stays fixed while the input moves ("the class predicted at x", not "the largest output
anywhere").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from conjoin.core.classes import check_class, chosen, unit
from conjoin.core.naming import name_of
from conjoin.errors import DataError
from conjoin.typing import Aims, Labels, Outputs, PerExample


@runtime_checkable
class Quantity(Protocol):
    """One number per example, of the outputs and of what it is about."""

    @property
    def goal(self) -> float:
        """At or below this the attacker has won; -inf to minimise without end."""
        ...

    def __call__(self, outputs: Tensor, aim: Tensor, /) -> Tensor:
        """Return one number per example."""
        ...


@runtime_checkable
class PiecewiseLinear(Quantity, Protocol):
    """A quantity that is a minimum of linear functions of the outputs: what certifiers ask for."""

    def rows(self, aim: Tensor, classes: int, /) -> Tensor:
        """Return the rows, ``(batch, rows, classes)`` in double precision: Q = min_k rows_k · z."""
        ...


Question = Callable[[Tensor, Tensor], Tensor]  # a quantity of which no goal is needed
Target = Callable[[Tensor, Tensor], Tensor]


def _margin(outputs: Tensor, aim: Tensor, quantity: object) -> Tensor:
    own = chosen(outputs, aim, quantity)
    others = outputs.scatter(1, aim[:, None], -torch.inf)
    return own - others.amax(1)


@dataclass(frozen=True, slots=True)
class Logit:
    """Take the output of the class aimed at, z_y."""

    goal: ClassVar[float] = -math.inf

    def __repr__(self) -> str:
        """Show the name of the quantity."""
        return "logit"

    def __call__(self, outputs: Outputs, aim: Labels, /) -> PerExample:
        """Return the output."""
        return chosen(outputs, aim, self)

    def rows(self, aim: Labels, classes: int, /) -> Tensor:
        """Return one row per example."""
        return unit(aim, classes, self)[:, None]


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """Take log softmax(z)_y in nats: minus the cross-entropy, at most 0."""

    goal: ClassVar[float] = -math.inf

    def __repr__(self) -> str:
        """Show the name of the quantity."""
        return "log_likelihood"

    def __call__(self, outputs: Outputs, aim: Labels, /) -> PerExample:
        """Return the log likelihood."""
        return chosen(outputs.log_softmax(1), aim, self)


@dataclass(frozen=True, slots=True)
class Margin:
    """Take z_y - max_{k != y} z_k: positive iff the prediction is right, 0 at a tie."""

    goal: ClassVar[float] = 0.0

    def __repr__(self) -> str:
        """Show the name of the quantity."""
        return "margin"

    def __call__(self, outputs: Outputs, aim: Labels, /) -> PerExample:
        """Return the margin."""
        return _margin(outputs, aim, self)

    def rows(self, aim: Labels, classes: int, /) -> Tensor:
        """Return e_y - e_k for every other class k."""
        rows = unit(aim, classes, self)[:, None] - torch.eye(
            classes, dtype=torch.float64, device=aim.device
        )
        others = torch.arange(classes, device=aim.device) != aim[:, None]
        return rows[others].reshape(len(aim), classes - 1, classes)


@dataclass(frozen=True, slots=True)
class LogitRatio:
    """Take (z_y - max_{k != y} z_k) / (z_(1) - z_(3)), z_(i) being the i-th largest output.

    The margin made blind to the scale of the outputs: descent on it does not stall where the
    cross-entropy saturates. Aimed at two classes (y, t) of each example it is the targeted form,
    (z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2). Outputs of fewer classes have fewer to divide by: of
    three it is z_(1) - z_(3) in both, of two the sign alone is left, so it is the margin.

    Reference: croce2020, equations 6 and 7 (its loss is minus this).
    """

    goal: ClassVar[float] = 0.0

    def __repr__(self) -> str:
        """Show the name of the quantity."""
        return "logit_ratio"

    def __call__(self, outputs: Outputs, aim: Aims, /) -> PerExample:
        """Return the ratio."""
        classes = outputs.shape[1]
        if aim.ndim == 1:
            ahead = _margin(outputs, aim, self)
        else:
            ahead = chosen(outputs, aim[:, 0], self) - chosen(outputs, aim[:, 1], self)
        if classes < 3:
            return ahead
        top = outputs.topk(min(4, classes), dim=1).values
        last = top[:, 2] if aim.ndim == 1 else top[:, 2:].mean(1)
        return ahead / (top[:, 0] - last + 1e-12)  # where all are equal: 0, and so is its slope


logit, log_likelihood, logit_ratio, margin = Logit(), LogLikelihood(), LogitRatio(), Margin()


@dataclass(frozen=True, slots=True)
class Contrast:
    """Take z_a - z_b: why a *rather than* b?

    Attributes:
        against: The class b, a being what is aimed at; ``None`` if each example's aim is (a, b).
    """

    goal: ClassVar[float] = 0.0
    against: int | None = None

    def __post_init__(self) -> None:
        if self.against is not None:
            check_class(self.against, self)

    def __call__(self, outputs: Outputs, aim: Aims, /) -> PerExample:
        """Return the difference of the two outputs."""
        a, b = self._pair(aim)
        return chosen(outputs, a, self) - chosen(outputs, b, self)

    def rows(self, aim: Aims, classes: int, /) -> Tensor:
        """Return one row per example."""
        a, b = self._pair(aim)
        return (unit(a, classes, self) - unit(b, classes, self))[:, None]

    def _pair(self, aim: Tensor) -> tuple[Tensor, Tensor]:
        if self.against is not None:
            return aim, torch.full_like(aim, self.against)
        if aim.ndim != 2 or aim.shape[1] != 2:
            raise DataError(
                f"{self!r} is about two classes of each example; its aim has shape "
                f"{tuple(aim.shape)}, expected (batch, 2): Contrast(b), or target=RunnerUp()"
            )
        return aim[:, 0], aim[:, 1]


@dataclass(frozen=True, slots=True)
class Avoid:
    """Take max_{k != t} z_k - z_t: positive while the model does *not* answer t.

    The quantity of a targeted attack towards t; minimising it makes the model say t.

    Attributes:
        target: The class t; ``None`` if it is what is aimed at.
    """

    goal: ClassVar[float] = 0.0
    target: int | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            check_class(self.target, self)

    def __call__(self, outputs: Outputs, aim: Labels, /) -> PerExample:
        """Return minus the margin of the target class."""
        target = aim if self.target is None else torch.full_like(aim, self.target)
        return -_margin(outputs, target, self)


@dataclass(frozen=True, slots=True)
class About:
    """Ask a quantity about one class, or one pair of classes, whatever the examples aim at.

    ``About(logit, 3)`` is the logit of class 3, ``About(Contrast(), (3, 5))`` why 3 rather than 5: so
    that several can be explained at once.

    Attributes:
        quantity: What is asked.
        classes: Of what.
    """

    quantity: Question
    classes: int | tuple[int, ...]

    def __post_init__(self) -> None:
        for label in self.classes if isinstance(self.classes, tuple) else (self.classes,):
            check_class(label, self)

    def __repr__(self) -> str:
        """Show the quantity and the classes, the same in every process."""
        return f"About({name_of(self.quantity)}, {self.classes})"

    @property
    def goal(self) -> float:
        """That of the quantity; of a plain function, -inf."""
        return getattr(self.quantity, "goal", -math.inf)

    def __call__(self, outputs: Outputs, aim: Aims, /) -> PerExample:
        """Ask."""
        told = torch.tensor(self.classes, device=outputs.device)
        return self.quantity(outputs, told.expand(len(outputs), *told.shape))


@dataclass(frozen=True, slots=True)
class Asked:
    """Make a quantity of any function ``(outputs, aim) -> per example``.

    Attributes:
        function: Pure; large when the defender is happy.
        goal: At or below it the attacker has won; -inf to minimise without end.
    """

    function: Question
    goal: float = -math.inf

    def __repr__(self) -> str:
        """Show the function's name and the goal."""
        return f"Asked({name_of(self.function)}, goal={self.goal:g})"

    def __call__(self, outputs: Tensor, aim: Tensor, /) -> Tensor:
        """Ask."""
        return self.function(outputs, aim)


def given(outputs: Outputs, labels: Aims) -> Aims:
    """Aim at the data's own labels."""
    return labels


def predicted(outputs: Tensor, labels: Tensor) -> Aims:
    """Aim at the class predicted at the example itself; of a dense model, at each of its places."""
    return outputs.argmax(1)


@dataclass(frozen=True, slots=True)
class Always:
    """Aim at one class for every example."""

    label: int

    def __post_init__(self) -> None:
        check_class(self.label, self)

    def __call__(self, outputs: Outputs, labels: Aims) -> Labels:
        """Return the same label throughout."""
        return torch.full((len(outputs),), self.label, device=outputs.device)


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """Aim at the pair (class predicted at x, second class at x), for :class:`Contrast`."""

    def __call__(self, outputs: Outputs, labels: Tensor) -> Aims:
        """Return the two leading classes, ``(batch, 2)``."""
        return outputs.topk(2, dim=1).indices


__all__ = [
    "About",
    "Always",
    "Asked",
    "Avoid",
    "Contrast",
    "LogLikelihood",
    "Logit",
    "LogitRatio",
    "Margin",
    "PiecewiseLinear",
    "Quantity",
    "Question",
    "RunnerUp",
    "Target",
    "given",
    "log_likelihood",
    "logit",
    "logit_ratio",
    "margin",
    "predicted",
]
