"""The drivers: attack, certify, attribute, score, and predict.

They alone batch, move to the model's device, seed, count, time and report progress, and they
enforce the postconditions, so that **a method cannot lie**: a candidate lies in S(x) and is finite,
its value is recomputed in a fresh pass, x itself is always a candidate; a lower bound never exceeds
a seen value; shapes and dtypes are kept; parameters, mode, hooks and the global random state are
as before, also after an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from conjoin.core.arguments import (
    check_attributor,
    check_explanations,
    check_method,
    check_model,
    check_quantity,
    check_sharing,
    check_threat,
)
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Rows, Run, drive, prepared, story_of, untouched
from conjoin.core.evidence import NOT_DIAGNOSED, Claim, Provenance
from conjoin.core.meter import Meter, known
from conjoin.core.postcondition import (
    asked,
    check_bounds,
    check_candidates,
    check_radius,
    check_scores,
    check_values,
    completeness_gap,
    distance,
    explained_at,
    explanation,
    explanations,
    outputs_of,
    part_of,
    placed,
    promised_change,
    promised_changes,
    reach,
    value_of,
)
from conjoin.core.protocols import (
    Attack,
    Attributor,
    Batch,
    Certifier,
    Estimate,
    Frugal,
    Metric,
    Model,
    Rowed,
    Sweeping,
)
from conjoin.core.quantity import Quantity, Question, Target, given, margin, predicted
from conjoin.core.result import AttackResult, Attribution, Certificate, Score, at_cut
from conjoin.core.rung import meets
from conjoin.core.settings import modes_kept
from conjoin.core.slice import Cut
from conjoin.core.threat import Threat
from conjoin.core.witness import marked


def attack(
    model: Model,
    data: Dataset,
    method: Attack,
    threat: Threat,
    *,
    seed: int,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> AttackResult:
    """Search S(x) for inputs with a small quantity; what has reached the goal already is left.

    The least value seen is an *upper* bound on the true minimum over S(x).

    Raises:
        PostconditionError: If the method leaves S(x), returns a non-finite value or another shape.
        ModelError: If the model's outputs are not finite or have another shape.
        DataError, ThreatError: If threat and inputs do not fit.
    """
    check_model(model, data)
    check_method(method, "an attack, e.g. PGD()")
    check_quantity(quantity)
    check_threat(threat, data.x)
    threat = placed(threat, model.device)

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        part = part_of(threat, rows)
        clean = value_of(meter, quantity, batch)
        inputs, value = batch.x.clone(), clean.clone()
        todo = (clean > quantity.goal).nonzero()[:, 0]
        if len(todo):
            standing = batch.rows(todo)
            lent = standing.copied()
            if run.witness is not None:
                lent = marked(lent, rows[todo])
            with modes_kept():
                came = method(meter, lent, part.rows(todo), quantity)
            found = check_candidates(method, came, standing.x, part.rows(todo))
            reached = value_of(meter, quantity, standing.at(found))
            better = reached < clean[todo]
            value[todo] = torch.where(better, reached, clean[todo])
            inputs[todo[better]] = found[better]
        return {
            "inputs": inputs,
            "value": value,
            "clean": clean,
            "success": value <= quantity.goal,
            "distance": distance(part, inputs, batch.x),
        }

    story = story_of("attack", method, seed, quantity=quantity, threat=threat)
    story = replace(story, verdict=NOT_DIAGNOSED)
    columns, provenance = drive(model, data, work, target, run, story)
    return AttackResult(provenance=provenance, **columns)


def certify(
    model: Model,
    data: Dataset,
    method: Certifier,
    threat: Threat,
    *,
    seed: int = 0,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> Certificate:
    """Bound the quantity from below over S(x); ``certified`` is where the bound is above the goal.

    Raises:
        SoundnessError: If a bound exceeds the value at x itself.
        PostconditionError: If a bound is NaN or has another shape.
        CapabilityError: If the method cannot bound this model; nothing is ever assumed.
        DataError, ThreatError: If threat and inputs do not fit.
    """
    check_model(model, data)
    check_method(method, "a certifier, e.g. Lipschitz()")
    check_quantity(quantity)
    check_threat(threat, data.x)
    threat = placed(threat, model.device)
    claims: set[Claim] = set()

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        part, lent = part_of(threat, rows), batch.copied()
        outputs = outputs_of(meter, lent, run.rows(data.x.shape))
        clean = asked(quantity, outputs, batch.aim)
        # The driver's own pass serves the certifier too: it costs one pass, not two.
        with modes_kept():
            bounds = ready(
                known(model, lent, outputs.clone()), lent, part_of(threat, rows), quantity
            )
        check_bounds(method, bounds, clean, outputs, quantity.goal)
        check_radius(method, bounds, part, batch.x, quantity.goal)
        claims.add(bounds.claim)
        lower = torch.minimum(bounds.lower, clean)
        held = lower > quantity.goal
        radius, settled = reach(bounds, part, batch.x, held)
        return {
            "lower": lower,
            "clean": clean,
            "certified": held,
            "radius": radius,
            "settled": settled,
        }

    with untouched(model):
        ready = prepared(method, model, data)
        story = story_of("certify", method, seed, quantity=quantity, threat=threat)
        size = ready.at_once if meets(ready, Frugal) else 1
        columns, provenance = drive(model, data, work, target, run, story, at_once=size)
    provenance = replace(provenance, claim=Claim.weakest(claims))
    return Certificate(provenance=provenance, **columns)


def attribute(
    model: Model,
    data: Dataset,
    method: Attributor,
    *,
    seed: int,
    target: Target = predicted,
    run: Run = Run(),
) -> Attribution:
    """Explain the model's output for what ``target`` picks at each example.

    The completeness gap compares the values with the change of the quantity between the two ends
    that the method names, evaluated here.

    Raises:
        CapabilityError: If the model lacks what the method needs.
        PostconditionError: If the method returns non-finite values or another shape.
    """
    check_model(model, data)
    check_attributor(model, method)
    explained = _Explained(method)

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        with modes_kept():
            came = explanation(meter, batch.copied(), method)
        explained.look(meter, batch)
        change = promised_change(meter, batch, method, came)
        # The values last: the method keeps them, and its ends are its own code.
        return explained.columns(batch, came, change)

    story = story_of("attribute", method, seed)
    columns, provenance = drive(model, data, work, target, run, story, dense=True)
    return Attribution.of(provenance, columns)


def attribute_each(
    model: Model,
    data: Dataset,
    method: Attributor,
    quantities: Mapping[str, Question],
    *,
    seed: int,
    target: Target = predicted,
    run: Run = Run(),
) -> dict[str, Attribution]:
    """Explain several quantities by one method from the same forward passes.

    Each result is what :func:`attribute` gives for the method with that quantity, at a backward pass
    each and no forward pass more; counts of passes are those of all together.

    Raises:
        CapabilityError: If the model lacks what the method needs, or the method shares no passes.
        PlanError: If what is asked is no mapping of names to quantities.
        PostconditionError: If the method returns non-finite values or another shape.
    """
    check_model(model, data)
    check_attributor(model, method)
    asked_of = check_sharing(method, quantities)
    explained, asks = _Explained(asked_of), tuple(quantities.values())

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        with modes_kept():
            each = explanations(meter, batch.copied(), asked_of, asks)
        explained.look(meter, batch)
        changes = promised_changes(meter, batch, asked_of, each[0], asks)
        columns: dict[str, Tensor] = {}
        for k, came in enumerate(each):
            own = explained.columns(batch, came, None if changes is None else changes[k])
            columns |= {f"{k} {name}": column for name, column in own.items()}
        return columns

    story = replace(story_of("attribute", method, seed), shared=tuple(quantities))
    columns, provenance = drive(model, data, work, target, run, story, dense=True)
    found = {}
    for k, (name, quantity) in enumerate(quantities.items()):
        own = {key.split(" ", 1)[1]: c for key, c in columns.items() if key.startswith(f"{k} ")}
        told = replace(provenance, method=repr(asked_of.asking(quantity)))
        found[name] = Attribution.of(told, own)
    return found


class _Explained:
    """What an attribution at the cuts of a method is held to, and its columns."""

    def __init__(self, method: Attributor) -> None:
        self.method = method
        self.cuts = method.cuts if meets(method, Sweeping) else (method.where.start,)
        self.like: dict[Cut, Tensor] = {}

    def look(self, meter: Meter, batch: Batch) -> None:
        """Look at the activations; once, as all batches of a model that is held have alike."""
        if not self.like:
            self.like = dict(zip(self.cuts, explained_at(meter, batch, self.cuts), strict=True))

    def columns(self, batch: Batch, came: Estimate, change: Tensor | None) -> dict[str, Tensor]:
        """Check an estimate and lay it out."""
        values, error = check_values(self.method, came, self.like, len(batch))
        return {
            **{at_cut(k, cut.name): values[k] for k, cut in enumerate(self.cuts)},
            "target": batch.aim,
            "gap": completeness_gap(values[0], change),
            "error": error,
        }


def score(
    model: Model,
    data: Dataset,
    method: Attributor,
    metric: Metric,
    *,
    seed: int,
    values: Tensor | None = None,
    target: Target = predicted,
    run: Run = Run(),
) -> Score:
    """Score explanations; ``values`` are those of :func:`attribute`, computed here if not given.

    Raises:
        CapabilityError: If the model lacks what the method needs.
        PostconditionError: If the metric returns a non-finite number or another shape.
    """
    check_model(model, data)
    check_attributor(model, method)
    check_method(metric, "a metric, e.g. Deletion()")
    if values is None:
        values = attribute(model, data, method, seed=seed, target=target, run=run).values
    explained = check_explanations(values, len(data))

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        part = explained[rows.to(explained.device)].to(batch.x.device, copy=True)
        with modes_kept():
            own = metric.rows(rows, len(data)) if meets(metric, Rowed) else metric
            came = own(meter, batch.copied(), part, method)  # type: ignore[arg-type] # as above
        return {"values": check_scores(metric, came, batch.x)}

    story = story_of("score", metric, seed)
    columns, provenance = drive(model, data, work, target, run, story)
    return Score(provenance=provenance, **columns)


def predict(
    model: Model,
    data: Dataset,
    *,
    run: Run = Run(),
) -> Tensor:
    """Return the model's outputs for the data, ``(batch, classes)``, on the data's device.

    Raises:
        ModelError: If the model's outputs are not finite or have another shape.
    """
    check_model(model, data)

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        return {"outputs": outputs_of(meter, batch)}

    return drive(model, data, work, given, run, Provenance("predict", "", "", 0))[0]["outputs"]


__all__ = [
    "attack",
    "attribute",
    "attribute_each",
    "certify",
    "predict",
    "score",
]
