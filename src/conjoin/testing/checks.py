"""What every method, threat and model must hold.

The drivers check each result as it comes; these checks ask more: the same results for any batch
size and order, and the invariant that ties the packages together, certificate <= attack <= clean value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from conjoin.attacks import PGD
from conjoin.attribution import saliency
from conjoin.core.ball import L1, L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, batch_of
from conjoin.core.evidence import Claim
from conjoin.core.naming import described
from conjoin.core.operator import evaluate
from conjoin.core.postcondition import contained, distance, part_of, placed
from conjoin.core.protocols import (
    Attack,
    Attributor,
    Certifier,
    Layered,
    Metric,
    Model,
    Sharing,
    Sliceable,
)
from conjoin.core.quantity import About, Contrast, Question, logit, margin
from conjoin.core.random import Streams
from conjoin.core.result import Attribution
from conjoin.core.returned import returned
from conjoin.core.run import attack, attribute, attribute_each, certify, predict, score
from conjoin.core.rung import meets
from conjoin.core.threat import Graded, Projectable, Threat
from conjoin.errors import CapabilityError
from conjoin.testing.fixtures import example_data, example_model

THREATS: tuple[Threat, ...] = (Linf(0.05), L2(0.5), L1(2.0))


class ContractError(AssertionError):
    """A contract does not hold; the message says which, what was expected and what came."""


def require(holds: bool | Tensor, message: str) -> None:
    """Raise unless all of it holds."""
    if not bool(torch.as_tensor(holds).all()):
        raise ContractError(message)


def check_attack(
    method: Attack,
    model: Model | None = None,
    data: Dataset | None = None,
    *,
    threats: Sequence[Threat] = THREATS,
) -> None:
    """Hold an attack to its contract under each threat.

    What it refuses with ``CapabilityError`` is left out: a threat, as long as it takes one of them, and
    a quantity without a goal, if it says that it lacks one.

    Raises:
        ContractError: If it does not print as a value, depends on the batch or the order, takes none of
            the threats, or does not minimise a quantity without a goal.
        PostconditionError: From the driver, e.g. if it leaves the set.
    """
    _check_value(method)
    model, data = _given(model, data)
    taken = [threat for threat in threats if _check_attack(method, model, data, threat)]
    require(bool(taken), f"{method!r} takes none of the threats {', '.join(map(str, threats))}")


def _check_attack(method: Attack, model: Model, data: Dataset, threat: Threat) -> bool:
    """Hold an attack to its contract under a threat; tell whether it takes it."""
    try:
        found = attack(model, data, method, threat, seed=1)
    except CapabilityError:
        return False
    require(found.value <= found.clean, f"{method!r} ended above the clean value")
    _same(partial(_attacked, model, method, threat), model, data)
    try:
        endless = attack(model, data, method, threat, seed=1, quantity=logit)
    except CapabilityError as error:
        require("goal" in str(error), f"{method!r} refuses the logit, and not for want of a goal")
        return True
    require(~endless.success, f"{method!r} reports success at a quantity without a goal")
    require(
        (endless.value < endless.clean).any(),
        f"{method!r} never lowered the logit: it does not minimise what it is asked to",
    )
    return True


def _attacked(model: Model, method: Attack, threat: Threat, data: Dataset, run: Run) -> Tensor:
    return attack(model, data, method, threat, seed=1, run=run).inputs


def check_certifier(
    method: Certifier,
    model: Model | None = None,
    data: Dataset | None = None,
    *,
    threats: Sequence[Threat] = THREATS,
) -> None:
    """Hold a certifier to its contract under each threat.

    Raises:
        ContractError: If an attack goes below a bound or wins inside a certified radius, if a
            larger set has a better bound, or if a network with an unknown layer is certified.
    """
    _check_value(method)
    model, data = _given(model, data)
    for threat in threats:
        found = certify(model, data, method, threat)
        deployed = found.provenance.claim == Claim.SOUND_DEPLOYED
        slack = 0.0 if deployed else 2e-5 * float(found.clean.abs().max())
        for strength in (PGD(steps=10), PGD(steps=10, surrogate=logit)):
            reached = attack(model, data, strength, threat, seed=0)
            require(
                found.lower <= reached.value + slack,
                f"{strength!r} under {threat} went below the bounds of {method!r}",
            )
        if not isinstance(threat, Graded):
            continue
        inside = threat.at(found.radius.clamp(max=1e6))
        reached = attack(model, data, PGD(steps=10), inside, seed=0)
        require(
            ~(reached.success & (found.radius > 0)),
            f"an attack won inside a radius certified by {method!r}",
        )
        wider = certify(model, data, method, threat.at(2 * threat.radius(data.x)))
        require(
            wider.lower <= found.lower + 1e-6 * found.clean.abs().max(),
            f"{method!r} proves more for a larger set under {threat}",
        )
    _check_refusal(method)


def check_attributor(
    method: Attributor, model: Model | None = None, data: Dataset | None = None
) -> None:
    """Hold an attributor to its contract.

    Raises:
        ContractError: If it does not print as a value, depends on the batch or the order, or explains
            several quantities from the same passes otherwise than one by one.
        PostconditionError: From the driver, e.g. if its values have another shape.
    """
    _check_value(method)
    model, data = _given(model, data)
    attribute(model, data, method, seed=1)
    _same(lambda d, r: attribute(model, d, method, seed=1, run=r).values, model, data)
    if meets(method, Sharing):
        _check_sharing(method, model, data)


def _check_sharing(method: Sharing, model: Model, data: Dataset) -> None:
    """Hold a method to it that quantities explained together are those explained alone.

    What places its points by the gradients that it sees places them once for all quantities, and makes
    other passes than for one: it need only make no more than for each alone.
    """
    quantities: dict[str, Question] = {
        "first": logit,
        "class 1": About(logit, 1),
        "1 and 0": About(Contrast(), (1, 0)),
    }
    data = data.select(range(min(4, len(data))))
    together = attribute_each(model, data, method, quantities, seed=1)
    alone = {
        name: attribute(model, data, method.asking(quantity), seed=1)
        for name, quantity in quantities.items()
    }
    came = together["first"].provenance.forward
    forwards = [one.provenance.forward for one in alone.values()]
    if set(forwards) == {came}:
        for name, one in alone.items():
            _check_shared(method, name, together[name], one)
    elif len(set(forwards)) == 1 or came > sum(forwards):
        raise ContractError(
            f"{method!r} makes {came} forward passes for {len(quantities)} quantities; expected those "
            f"of one: {forwards}"
        )


def _check_shared(method: Sharing, name: str, together: Attribution, alone: Attribution) -> None:
    for layer, values in alone.layers.items():
        room = 1e-6 * float(values.abs().max()) + torch.finfo(values.dtype).tiny
        require(
            (together.layers[layer] - values).abs() <= room,
            f"{method!r} explains {name} at {layer} otherwise beside other quantities than alone",
        )
    require(
        ((together.gap - alone.gap).abs() <= 1e-5) | alone.gap.isnan(),
        f"{method!r} states another gap for {name} beside other quantities than alone",
    )


def check_metric(
    metric: Metric,
    method: Attributor | None = None,
    model: Model | None = None,
    data: Dataset | None = None,
) -> None:
    """Hold a score of explanations to its contract.

    Raises:
        ContractError: If it does not print as a value, depends on the batch or the order, or leaves
            the range ``between`` that it states.
        PostconditionError: From the driver, e.g. if a score is not finite.
    """
    _check_value(metric)
    model, data = _given(model, data)
    by = saliency() if method is None else method
    found = score(model, data, by, metric, seed=1).values
    least, most = described(metric).between or (-torch.inf, torch.inf)
    require(
        (found >= least - 1e-5) & (found <= most + 1e-5),
        f"{metric!r} gives {float(found.min()):g}..{float(found.max()):g}; it says {least:g}..{most:g}",
    )
    _same(lambda d, r: score(model, d, by, metric, seed=1, run=r).values, model, data)


def check_threat(threat: Threat, data: Dataset | None = None) -> None:
    """Hold a threat to its contract.

    Raises:
        ContractError: If x, a sample or a projection is not inside, a distance to itself is not 0,
            selecting rows changes the answer, or a projection moves a point that is inside.
        PostconditionError: If what it returns is no tensor, or another than was asked for.
    """
    data = example_data(example_model()) if data is None else data
    x, rng = data.x, Streams.of(3, data.positions)
    threat.check(x)
    require(contained(threat, x, x), f"{threat!r} does not hold the input itself")
    require(distance(threat, x, x) == 0, f"{threat!r} puts the input at a distance from itself")
    z = _like(threat, threat.sample(x, rng), x, "sample(x, rng)")
    require(contained(threat, z, x), f"{threat!r} draws a sample that it does not hold")
    require(z == threat.sample(x, rng), f"{threat!r} draws another sample from the same streams")
    half = torch.arange(0, len(x), 2)
    part = part_of(placed(threat, x.device), half)
    require(
        distance(part, z[half], x[half]) == distance(threat, z, x)[half],
        f"{threat!r} measures otherwise after rows()",
    )
    if isinstance(threat, Graded) and bool(threat.radius(x).isfinite().all()):
        require(distance(threat, z, x) <= threat.radius(x), f"{threat!r} samples beyond its radius")
    if isinstance(threat, Projectable):
        far = x + 3 * (z - x) + 0.7 * (0.5 - x)
        inside = _like(threat, threat.project(far, x), x, "project(z, x)")
        require(contained(threat, inside, x), f"{threat!r} projects to a point outside")
        require(
            threat.project(inside, x) == inside, f"{threat!r} moves a projected point once more"
        )


def _like(threat: Threat, value: object, x: Tensor, what: str) -> Tensor:
    return returned(threat, value, x.shape, x, dtype=x.dtype, what=what)


def check_model(model: Model, data: Dataset) -> None:
    """Hold a model to its contract.

    Raises:
        ContractError: If it answers differently when asked again, in another order or in other
            company; if putting a value back where it was taken changes the outputs; or if its
            operators do not reproduce it.
    """
    outputs = predict(model, data)
    scale = float(outputs.abs().max())
    close = 1e-5 * scale if outputs.dtype == torch.float32 else 1e-12 * scale
    require(outputs == predict(model, data), f"{model!r} is random: two passes differ")
    flipped = data.select(torch.arange(len(data)).flip(0))
    alone = torch.cat([predict(model, data.select([i])) for i in range(min(4, len(data)))])
    require(
        (predict(model, flipped).flip(0) - outputs).abs() <= close,
        f"{model!r} answers otherwise in another order",
    )
    require(
        (alone - outputs[: len(alone)]).abs() <= close,
        f"the answers of {model!r} depend on the company of an example",
    )
    batch = batch_of(data, slice(0, len(data)), model.device, 0)
    if isinstance(model, Sliceable):
        (again,) = model.run(batch)
        require(again == model(batch), f"run() of {model!r} gives other outputs than its call")
    if isinstance(model, Layered):
        try:
            steps = model.steps(batch)
        except CapabilityError:
            return
        made = evaluate(steps, batch.x.double())[-1].to(outputs.dtype)
        require(
            (made - model(batch)).abs() <= 10 * close,
            f"the operators of {model!r} do not reproduce its outputs",
        )


def _given(model: Model | None, data: Dataset | None) -> tuple[Model, Dataset]:
    if model is None:
        own = example_model()
        return own, example_data(own) if data is None else data
    if data is None:
        raise ContractError("a model of your own needs data of your own: give both")
    return model, data


def _check_value(method: object) -> None:
    """A method prints as a value, never by an address, and is frozen if it is a dataclass."""
    require(" at 0x" not in repr(method), f"{method!r} prints an address; give it a __repr__")
    if is_dataclass(method):
        options: Any = getattr(type(method), "__dataclass_params__")  # noqa: B009 - untyped
        require(options.frozen, f"{type(method).__name__} is not frozen: dataclass(frozen=True)")
        hash(method)


def _same(make: Callable[[Dataset, Run], Tensor], model: Model, data: Dataset) -> None:
    """Compare results for other batch sizes and another order, bit for bit.

    Only where the model's own outputs are: kernels may round a row by its company.
    """
    whole, order = Run(len(data)), torch.arange(len(data)).flip(0)
    outputs, result = predict(model, data, run=whole), make(data, whole)
    for size in (1, 3):
        if torch.equal(outputs, predict(model, data, run=Run(size))):
            require(
                result == make(data, Run(size)), f"another result in batches of {size} examples"
            )
    turned = data.select(order)
    if torch.equal(outputs[order], predict(model, turned, run=whole)):
        require(result[order] == make(turned, whole), "another result in another order")


def _check_refusal(method: Certifier) -> None:
    """A network with a product of two activations has no bound that a certifier could know."""

    class Product(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x.flatten(1)
            return h * h.roll(1, 1) * torch.where(h > math.pi, h, -h)

    from conjoin.models.wrap import wrap

    own = example_model()
    data = example_data(own)
    try:
        found = certify(wrap(Product()), data, method, Linf(0.05), quantity=margin)
    except CapabilityError:
        return
    require(
        ~found.certified & (found.lower == -torch.inf),
        f"{method!r} gives bounds for a network with an operation that has none",
    )
