"""Is a property of VNN-LIB violated? ``unsat``, ``sat`` with a witness, or ``unknown``.

    unsat    a rigorous lower bound of Q lies above 0 on every box    (no x of it violates the property)
    sat      onnxruntime itself gives outputs that violate it         (the x is told)
    unknown  neither, within the time

The order is that of cost: random points and descent on the unit cube for each case; bounds of the
whole box, the cheapest first; then the box is halved, where the gradient says that it matters most, and
the halves are bounded anew, the worst first, a batch at a time. ``unsat`` is about the stored weights
in real arithmetic and the closed conditions (:class:`~conjoin.core.result.Claim`); it is *not* about a
machine's rounding, as the competition's is not.

Reference: brix2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from conjoin.audit.verification.conditions import Behind, Violation, box
from conjoin.audit.verification.deadline import Deadline
from conjoin.audit.verification.halving import Halving
from conjoin.audit.verification.search import candidates
from conjoin.audit.verification.witness import Deployed, Witness
from conjoin.data import vnnlib
from conjoin.errors import CapabilityError, DataError
from conjoin.models import onnx
from conjoin.models.torch import TorchModel


@dataclass(frozen=True, slots=True)
class Decision:
    """What was found of a property.

    Attributes:
        verdict: ``unsat``, ``sat`` or ``unknown``.
        reason: Why it is unknown, or how it was decided.
        witness: Of ``sat``.
    """

    verdict: str
    reason: str
    witness: Witness | None = None


def decide(network: Path | str, spec: Path | str, deadline: Deadline) -> Decision:
    """Decide a property of the network in an ONNX file.

    Raises:
        DataError: If a file is broken, or they do not fit each other.
        CapabilityError: If an operator or a condition is not covered.
        ModelError: If ``onnx`` or ``onnxruntime`` is not installed.
    """
    asked = vnnlib.read(spec)
    made = onnx.load(network)
    deployed = Deployed(Path(network), made.output)
    made = made.double()
    shape = made.shape
    with torch.no_grad():
        outputs = made(torch.zeros(1, *shape, dtype=torch.float64)).numel()
    count = torch.Size(shape).numel()
    if (count, outputs) != (asked.inputs, asked.outputs):
        raise DataError(
            f"the property is about {asked.inputs} inputs and {asked.outputs} outputs; the network has "
            f"{count} and {outputs}"
        )
    unknown = []
    for number, case in enumerate(asked.cases):
        found = _case(Behind(made, case, outputs).eval(), case, shape, deployed, deadline)
        if found.verdict == "sat":
            return found
        if found.verdict == "unknown":
            unknown.append(f"case {number + 1} of {len(asked.cases)}: {found.reason}")
    if unknown:
        return Decision("unknown", unknown[0])
    return Decision("unsat", "every case is excluded by a bound")


def _case(
    module: Behind,
    case: vnnlib.Case,
    shape: tuple[int, ...],
    deployed: Deployed,
    deadline: Deadline,
) -> Decision:
    """Decide one case."""
    low, high = box(case, shape)
    model = TorchModel(module)

    def confirmed(points: Tensor) -> Decision | None:
        for point in points:
            witness = deployed.confirmed(case, point)
            if witness is not None:
                return Decision("sat", "confirmed by onnxruntime", witness)
        return None

    if any(not conjunction for conjunction in case.either):  # any point does
        return confirmed(low) or Decision("unknown", "the network gives no number")
    for points in candidates(module, Violation.of(case, -torch.inf), low, high, deadline):
        found = confirmed(points)
        if found is not None:
            return found
        if deadline.over:
            return Decision("unknown", "the time is over")
    try:
        halving = Halving(model, Violation.of(case), low, high, deadline)
    except CapabilityError as error:
        return Decision("unknown", f"no bound is known: {error}")
    for points in halving:
        found = confirmed(points)
        if found is not None:
            return found
    return Decision("unsat" if halving.proved else "unknown", halving.reason)


__all__ = ["Deadline", "Decision", "decide"]
