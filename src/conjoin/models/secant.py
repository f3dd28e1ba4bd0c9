"""Secant gradients: passes whose elementwise derivatives are slopes between two rows.

While :class:`Slopes` is entered, row i of a pass has, at every activation, the slope between its
own value and that of row ``partner[i]``: so the backward pass from row i gives the secant gradient
of the panel between the two, which is complete (its product with the displacement is the change of
the output, to rounding) and linear in the quantity. Linear operations pass as they are. What is
neither linear nor has a rule is refused, by name: comparisons (also under ``no_grad``), roundings,
norms, packed sequences, and what mixes or moves the rows of the batch. It sees what goes through the
functions of ``torch``, also inside carved graphs and hooks; custom autograd functions and scripted
modules do not, and keep their derivatives.

Secant gradients of one operation can be differentiated again; of several they cannot, since the graph
from the input to the second one's value is that of secants. Nothing asks for it: where the input itself
asks for gradients, the estimator takes derivatives at the middle of panels.

Not seen: what a module computes from values it took off the graph. A copy by ``detach`` or
``new_tensor``, a value computed under ``no_grad``, and the indices that a maximum returns are
constants to a secant pass, as they are to a derivative. So a gate by them (``h * (h.detach() > 0)``,
a ``where``, ``masked_fill``, ``gather`` or assignment with a mask or indices made of them, a branch
of the program) passes as linear, and the secant misses the change at its switch: exact only where
both ends fall on the same side.

Reference: shrikumar2017, section 3.5 (the rescale rule), between any two points.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from conjoin.errors import CapabilityError
from conjoin.models.call import Call
from conjoin.models.linear import check_comparison, check_linear
from conjoin.models.multihead import NAME as MULTIHEAD
from conjoin.models.multihead import multihead
from conjoin.models.recurrent import RECURRENT, recurrent
from conjoin.models.secant_rules import Ends, Rule, rule_of
from conjoin.models.second import Seconds, check_made_of, ruled

_entered: list[Slopes] = []
_SEQUENCES: dict[str, Callable[[Ends, Call, Seconds], Any]] = {  # whole layers, of several parts
    MULTIHEAD: multihead,
    **dict.fromkeys(RECURRENT, recurrent),
}


class Slopes(TorchFunctionMode):
    """The mode; see the module.

    Args:
        partner: For each row of the batch, the row at the other end; itself for a derivative.
        sizes: To how many rows the batch may be padded; by rows that are their own partners.
    """

    def __init__(self, partner: Tensor, sizes: Collection[int] = ()) -> None:
        super().__init__()
        self.partners = {len(partner): partner}
        for size in sizes:
            padding = torch.arange(len(partner), size, device=partner.device)
            self.partners[size] = torch.cat([partner, padding])
        self.seconds = Seconds()
        self.active = True

    def __enter__(self) -> Slopes:
        """Take slopes from here on."""
        _entered.append(self)
        super().__enter__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        return self

    def __exit__(self, *error: Any) -> None:
        """Take derivatives again."""
        super().__exit__(*error)  # type: ignore[no-untyped-call] # torch leaves it untyped
        _entered.remove(self)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do one operation."""
        call = Call(func, args, dict(kwargs or {}))
        if not (self.active and call.given):
            return call.made()
        if not torch.is_grad_enabled():
            check_comparison(call.name)
            return call.made()
        if call.name in _SEQUENCES:
            return _SEQUENCES[call.name](self.ends, call, self.seconds)
        rule = rule_of(call)
        if rule is None:
            check_linear(call)
            out = call.made()
            check_made_of(call, out, self.partners, self.seconds)
            return out
        if not call.in_place:
            return self._ruled(rule, call)
        written = call.bound("input")["input"]
        copy = self.seconds.like(written, written.clone())
        return written.copy_(self._ruled(rule, call.instead(copy)))

    def _ruled(self, rule: Rule, call: Call) -> Any:
        if self.seconds.any(call.given):
            return ruled(rule, self.ends, call, self.seconds)
        return rule(self.ends, call)

    def ends(self, value: Tensor, name: str) -> Tensor:
        """Return the partners of the rows of a value.

        Raises:
            CapabilityError: If its first axis is not the batch.
        """
        rows = len(value) if value.ndim else 0
        if rows not in self.partners:
            raise CapabilityError(
                f"{name} has no secant here: it works on shape {tuple(value.shape)}, of which the "
                f"first axis is not the batch of {min(self.partners)}"
            )
        return self.partners[rows]


@contextmanager
def paused() -> Iterator[None]:
    """Take derivatives within, also inside the context of :class:`Slopes`."""
    active = [mode for mode in _entered if mode.active]
    for mode in active:
        mode.active = False
    try:
        yield
    finally:
        for mode in active:
            mode.active = True
