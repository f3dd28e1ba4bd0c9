"""Is a property of VNN-LIB violated? ``unsat``, ``sat`` with a witness, or ``unknown``.

    unsat    a rigorous lower bound of Q lies above 0 on every box    (no x of it violates the property)
    sat      onnxruntime itself gives outputs that violate it         (the x is told)
    unknown  neither, within the time

The order is that of cost: random points and descent on the unit cube for each case; bounds of the
whole boxes, the cheapest first; then they are divided, all cases that ask for the same conditions
together. ``unsat`` is about the stored weights in real arithmetic and the closed conditions
(:class:`~conjoin.core.result.Claim`); it is *not* about a machine's rounding, as the competition's
is not.

Reference: brix2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from conjoin.audit.verification.conditions import Behind, Violation, box
from conjoin.audit.verification.deadline import Deadline
from conjoin.audit.verification.proof import Proof
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
    outputs = outputs_of(made, shape)
    count = torch.Size(shape).numel()
    if (count, outputs) != (asked.inputs, asked.outputs):
        raise DataError(
            f"the property is about {asked.inputs} inputs and {asked.outputs} outputs; the network has "
            f"{count} and {outputs}"
        )
    parts: dict[object, list[vnnlib.Case]] = {}
    for case in asked.cases:
        parts.setdefault(case.either, []).append(case)
    groups = [Group(made, tuple(cases), shape, deployed, deadline) for cases in parts.values()]
    for search in (Group.searched, Group.bounded):
        for group in groups:
            found = search(group)
            if found is not None:
                return Decision("sat", "confirmed by onnxruntime", found)
    reasons = [group.reason for group in groups if group.reason]
    if reasons:
        return Decision("unknown", reasons[0])
    return Decision("unsat", "every case is excluded by a bound")


def outputs_of(network: onnx.Network, shape: tuple[int, ...]) -> int:
    """Count the outputs."""
    with torch.no_grad():
        return network(torch.zeros(1, *shape, dtype=torch.float64)).numel()  # type: ignore[no-any-return] # a module


class Group:
    """Cases that ask for the same conditions, each in its box.

    Attributes:
        reason: Why they are not decided; empty if all are excluded.
    """

    def __init__(
        self,
        network: onnx.Network,
        cases: tuple[vnnlib.Case, ...],
        shape: tuple[int, ...],
        deployed: Deployed,
        deadline: Deadline,
    ) -> None:
        self.cases, self.deployed, self.deadline = cases, deployed, deadline
        outputs = outputs_of(network, shape)
        self.module = Behind(network, cases[0], outputs).eval()
        ends = [box(case, shape) for case in cases]
        self.low, self.high = (torch.cat(side) for side in zip(*ends, strict=True))
        self.always = any(not conjunction for conjunction in cases[0].either)  # any point does
        self.reason = "it was not looked at"

    def searched(self) -> Witness | None:
        """Return a witness that an attack finds."""
        for number, case in enumerate(self.cases):
            low, high = self.low[number : number + 1], self.high[number : number + 1]
            if self.always:
                found = self.deployed.confirmed(case, low[0])
                if found is not None:
                    return found
                continue
            quantity = Violation.of(case, -torch.inf)
            for points in candidates(self.module, quantity, low, high, self.deadline):
                for point in points:
                    found = self.deployed.confirmed(case, point)
                    if found is not None:
                        return found
                if self.deadline.over:
                    return None
        return None

    def bounded(self) -> Witness | None:
        """Bound every box; return a witness that comes by the way."""
        if self.always:
            self.reason = "the network gives no number"
            return None
        if self.deadline.over:
            self.reason = "the time is over"
            return None
        try:
            quantity = Violation.of(self.cases[0])
            model = TorchModel(self.module)
            proof = Proof(model, quantity, self.low, self.high, self.deadline)
            for points, owner in proof:
                for point, number in zip(points, owner.tolist(), strict=True):
                    found = self.deployed.confirmed(self.cases[number], point)
                    if found is not None:
                        return found
        except CapabilityError as error:
            self.reason = f"no bound is known: {error}"
            return None
        self.reason = "" if proof.proved else proof.reason
        return None


__all__ = ["Deadline", "Decision", "decide"]
