"""The indicators in order, and the question put to all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conjoin.attacks.diagnosis import budgets, gradients, rivals, state
from conjoin.attacks.diagnosis.case import Case
from conjoin.attacks.diagnosis.indicator import Diagnosis, Indicator
from conjoin.attacks.ensemble import quick
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attack, Model
from conjoin.core.run import Run, attack
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, DataError

Ask = Callable[[Case], Indicator]
INDICATORS: dict[str, Ask] = {
    "training mode": state.training_mode,
    "random answers": state.randomness,
    "invalid successes": state.validity,
    "rounding to 8 bits": state.eight_bits,
    "a class of its own": state.own_class,
    "zero gradients of the margin": gradients.flat_margin,
    "zero gradients of the cross-entropy": gradients.flat_likelihood,
    "saturated outputs": gradients.saturation,
    "choice of loss": gradients.losses,
    "gradient against differences": gradients.differences,
    "unstable landscape": gradients.landscape,
    "curved landscape": gradients.curvature,
    "one step beats many": budgets.one_step,
    "unbounded attack fails": budgets.unbounded,
    "not monotone in eps": budgets.monotone,
    "more steps": budgets.more_steps,
    "more restarts": budgets.restarts,
    "random points": rivals.noise,
    "smoothed twins": rivals.twins,
    "boundaries": rivals.boundaries,
    "black box beats white box": rivals.queries,
    "transfer": rivals.transfer,
    "planted adversarial inputs": state.binarization,
}


def diagnosed(
    model: Model,
    data: Dataset,
    threat: Threat,
    *,
    seed: int,
    method: Attack | None = None,
    others: Sequence[Model] = (),
    run: Run | None = None,
) -> Diagnosis:
    """Attack, and ask every indicator whether what is left standing can be believed.

    The cost is that of some hundreds of passes an example; 50 to 200 examples tell what a model is
    like.

    Args:
        model: A model, wrapped.
        data: The examples looked at.
        threat: S(x).
        seed: Of the attack and of every indicator.
        method: The attack under diagnosis; :func:`~conjoin.attacks.quick` by default.
        others: Other models of the same inputs and classes, for the indicator ``transfer``.
        run: How the drivers run.

    Raises:
        CapabilityError: If the attack does not apply.
        DataError: If the model is right on none of the examples.
    """
    method, run = method or quick(), run or Run()
    found = attack(model, data, method, threat, seed=seed, run=run)
    if not bool((found.clean > 0).any()):
        raise DataError(
            f"the model is right on none of the {len(data)} examples: there is no robustness to judge"
        )
    case = Case(model, data, threat, method, found, seed, run, tuple(others))
    said: list[Indicator] = []
    silent: list[tuple[str, str]] = []
    for name, ask in INDICATORS.items():
        try:
            said.append(ask(case))
        except CapabilityError as error:
            silent.append((name, str(error)))
    return Diagnosis(found, tuple(said), tuple(silent))


__all__ = ["INDICATORS", "diagnosed"]
