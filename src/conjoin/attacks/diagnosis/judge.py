"""The indicators in order, and the question put to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from conjoin.attacks.black_box import BlackBox
from conjoin.attacks.diagnosis import budgets, gradients, rivals, state
from conjoin.attacks.diagnosis.case import Case
from conjoin.attacks.diagnosis.indicator import Diagnosis, Indicator
from conjoin.attacks.ensemble import quick
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, batch_of
from conjoin.core.protocols import Attack, Model
from conjoin.core.result import AttackResult
from conjoin.core.run import attack
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, DataError, PlanError

Ask = Callable[[Case], Indicator]
REFERENCES = ("carlini2019", "pintor2022", "zimmermann2022")  # of the indicators
INDICATORS: dict[str, Ask] = {
    "training mode": state.training_mode,
    "random answers": state.randomness,
    "invalid successes": state.validity,
    "rounding to 8 bits": state.eight_bits,
    "a class of its own": state.own_class,
    "no gradients": gradients.absent,
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
    found: AttackResult | None = None,
    indicators: Iterable[str] = tuple(INDICATORS),
) -> Diagnosis:
    """Attack, and ask the indicators whether what is left standing can be believed.

    The cost is that of some hundreds of passes an example; 50 to 200 examples tell what a model is
    like. The attack's result comes back with the verdict in its provenance.

    Args:
        model: A model, wrapped.
        data: The examples looked at.
        threat: S(x).
        seed: Of the attack and of every indicator.
        method: The attack under diagnosis; by default :func:`~conjoin.attacks.quick`, or
            :class:`~conjoin.attacks.BlackBox` where no gradient reaches the inputs.
        others: Other models of the same inputs and classes, for the indicator ``transfer``.
        run: How the drivers run.
        found: What ``method`` found on these examples, if it was run already.
        indicators: Names of those that are asked, by default all of ``INDICATORS``.

    Raises:
        CapabilityError: If the attack does not apply.
        DataError: If the model is right on none of the examples, or what was found is of others.
        PlanError: If there is no indicator of a name.
    """
    run, names = run or Run(), known(indicators)
    if method is None:
        some = batch_of(data, slice(0, 1), model.device, seed)
        method = quick() if gradients.reaches(model, some) else BlackBox()
    if found is None:
        found = attack(model, data, method, threat, seed=seed, run=run)
    if len(found.clean) != len(data):
        raise DataError(
            f"found is of {len(found.clean)} examples and data of {len(data)}; give those attacked"
        )
    if not bool((found.clean > 0).any()):
        raise DataError(
            f"the model is right on none of the {len(data)} examples: there is no robustness to judge"
        )
    case = Case(model, data, threat, method, found, seed, run, tuple(others))
    said: list[Indicator] = []
    silent: list[tuple[str, str]] = []
    for name in names:
        try:
            said.append(INDICATORS[name](case))
        except CapabilityError as error:
            silent.append((name, str(error)))
    return Diagnosis(found, tuple(said), tuple(silent)).stated()


def known(indicators: Iterable[str]) -> tuple[str, ...]:
    """Return names of indicators, in the order in which they are asked.

    Raises:
        PlanError: If there is none of a name.
    """
    wanted = tuple(indicators)
    for name in wanted:
        if name not in INDICATORS:
            raise PlanError(f"no indicator {name!r}; there are {', '.join(INDICATORS)}")
    return tuple(name for name in INDICATORS if name in wanted)


__all__ = ["INDICATORS", "REFERENCES", "diagnosed", "known"]
