"""The four drivers: attack, certify, attribute, score.

They alone batch, move to the model's device, seed, count, time and report progress, and they
enforce the postconditions, so that **a method cannot lie**: a candidate lies in S(x) and is finite,
its value is recomputed in a fresh pass, x itself is always a candidate; a lower bound never exceeds
a seen value; shapes and dtypes are kept; parameters, mode, hooks and the global random state are
as before, also after an exception.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.meter import Meter, known
from conjoin.core.naming import name_of
from conjoin.core.postcondition import (
    check_box,
    check_candidates,
    completeness_gap,
    describe,
    outputs_of,
    require_sliceable,
    value_of,
)
from conjoin.core.protocols import (
    Attack,
    Attributor,
    Batch,
    Certifier,
    Event,
    Held,
    Metric,
    Model,
    Observer,
    Preparable,
)
from conjoin.core.quantity import Quantity, Target, given, margin, predicted
from conjoin.core.random import Streams
from conjoin.core.result import AttackResult, Attribution, Certificate, Provenance, Score
from conjoin.core.slice import Slice
from conjoin.core.threat import Ball
from conjoin.errors import (
    DataError,
    PostconditionError,
    SoundnessError,
)


@dataclass(frozen=True, slots=True)
class Run:
    """How a driver runs; none of it changes a result.

    Attributes:
        batch_size: Examples per pass.
        observe: Called with an :class:`Event` after each batch.
    """

    batch_size: int = 128
    observe: Observer | None = None


Rows = Tensor
Work = Callable[["Meter", Batch, Rows], dict[str, Tensor]]


def attack(
    model: Model,
    data: Dataset,
    method: Attack,
    threat: Ball,
    *,
    seed: int,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> AttackResult:
    """Search S(x) for inputs with a small quantity; examples that are wrong already are left.

    The least value seen is an *upper* bound on the true minimum over S(x).

    Raises:
        PostconditionError: If the method leaves S(x), returns a non-finite value or another shape.
        ModelError: If the model's outputs are not finite or have another shape.
        DataError: If an input lies outside the threat's box.
    """
    check_box(data, threat)
    threat = threat.to(model.device)

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        part = threat.rows(rows)
        clean = value_of(meter, quantity, batch)
        inputs, value = batch.x.clone(), clean.clone()
        todo = (clean > 0).nonzero()[:, 0]
        if len(todo):
            standing = batch.rows(todo)
            found = method(meter, standing, part.rows(todo), quantity).detach()
            check_candidates(method, found, standing.x, part.rows(todo))
            reached = value_of(meter, quantity, Batch(found, standing.y, standing.rng))
            better = reached < clean[todo]
            value[todo] = torch.where(better, reached, clean[todo])
            inputs[todo[better]] = found[better]
        return {
            "inputs": inputs,
            "value": value,
            "clean": clean,
            "success": value <= 0,
            "distance": part.distance(inputs, batch.x),
        }

    story = _story("attack", method, seed, quantity=quantity, threat=threat)
    columns, provenance = _drive(model, data, work, target, run, story)
    return AttackResult(provenance=provenance, **columns)


def certify(
    model: Model,
    data: Dataset,
    method: Certifier,
    threat: Ball,
    *,
    seed: int = 0,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> Certificate:
    """Bound the quantity from below over S(x); ``certified`` is where the bound is above 0.

    Raises:
        SoundnessError: If a bound exceeds the value at x itself, beyond rounding.
        PostconditionError: If a bound is NaN or has another shape.
        CapabilityError: If the method cannot bound this model; nothing is ever assumed.
    """
    check_box(data, threat)
    threat = threat.to(model.device)
    ready = prepared(method, model, data.x[:1])

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        outputs = outputs_of(meter, batch)
        clean = quantity(outputs, batch.y)
        # The driver's own pass serves the certifier too: it costs one pass, not two.
        lower = ready(known(model, batch.x, outputs), batch, threat.rows(rows), quantity).detach()
        if lower.shape != clean.shape or bool(lower.isnan().any()):
            raise PostconditionError(
                f"{method!r} returned {describe(lower)}; expected one number, no NaN, for each "
                f"of {len(clean)} examples. Its bounds were discarded"
            )
        if bool((lower > clean + 1e-4 * (1 + clean.abs())).any()):
            worst = int((lower - clean).argmax())
            raise SoundnessError(
                f"{method!r} claims a lower bound of {float(lower[worst]):g} where the value at x "
                f"itself is {float(clean[worst]):g}: it is unsound for this model"
            )
        lower = torch.minimum(lower, clean)
        return {"lower": lower, "clean": clean, "certified": lower > 0}

    story = _story("certify", method, seed, quantity=quantity, threat=threat)
    columns, provenance = _drive(model, data, work, target, run, story)
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
    """Explain the model's output for the class that ``target`` picks at each example.

    The completeness gap is evaluated here, by passes of its own, at the ends the method names.

    Raises:
        CapabilityError: If the model gives outputs only.
        PostconditionError: If the method returns non-finite values or another shape.
    """
    require_sliceable(model, method)

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        values = method(meter, batch).detach()
        where: Slice = getattr(method, "where", Slice())
        with torch.no_grad():
            expected = meter.read(batch.x, where.start)
        if values.shape != expected.shape or not bool(values.isfinite().all()):
            raise PostconditionError(
                f"{method!r} returned {describe(values)}; expected finite values of shape "
                f"{tuple(expected.shape)}, that of the activation at {where.start}"
            )
        return {
            "values": values,
            "target": batch.y,
            "gap": completeness_gap(meter, batch, method, values),
        }

    story = _story("attribute", method, seed)
    columns, provenance = _drive(model, data, work, target, run, story)
    return Attribution(provenance=provenance, **columns)


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
        CapabilityError: If the model gives outputs only.
        PostconditionError: If the metric returns a non-finite number or another shape.
    """
    require_sliceable(model, method)
    if values is None:
        values = attribute(model, data, method, seed=seed, target=target, run=run).values
    if len(values) != len(data):
        raise DataError(f"{len(values)} explanations came for {len(data)} examples; give one each")
    explained = values

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        part = explained[rows.to(explained.device)].to(batch.x.device)
        found = metric(meter, batch, part, method).detach()
        if found.shape != batch.y.shape or not bool(found.isfinite().all()):
            raise PostconditionError(
                f"{metric!r} returned {describe(found)}; expected one finite number for each of "
                f"{len(batch.y)} examples"
            )
        return {"values": found}

    story = _story("score", metric, seed)
    columns, provenance = _drive(model, data, work, target, run, story)
    return Score(provenance=provenance, **columns)


def predict(
    model: Model,
    data: Dataset,
    *,
    run: Run = Run(),
) -> Tensor:
    """Return the model's outputs for the data, ``(batch, classes)``, on the data's device."""

    def work(meter: Meter, batch: Batch, rows: Rows) -> dict[str, Tensor]:
        return {"outputs": outputs_of(meter, batch)}

    return _drive(model, data, work, given, run, Provenance("predict", "", "", 0))[0]["outputs"]


def prepared(method: Certifier, model: Model, example: Tensor) -> Certifier:
    """Let a certifier compute once, for this model, what does not depend on the example."""
    if not isinstance(method, Preparable):
        return method
    with _untouched(model):
        return method.prepare(model, example.to(model.device))


def _drive(
    model: Model,
    data: Dataset,
    work: Work,
    target: Target,
    run: Run,
    story: Provenance,
) -> tuple[dict[str, Tensor], Provenance]:
    """Run ``work`` over the batches; collect its columns on the data's device."""
    meter, parts, start = Meter(model), [], time.perf_counter()
    with _untouched(model):
        for rows in torch.arange(len(data)).split(run.batch_size):
            part = slice(int(rows[0]), int(rows[-1]) + 1)  # views, not copies
            batch = Batch(
                data.x[part].to(model.device),
                data.y[part].to(model.device),
                Streams.of(story.seed, data.positions[part].to(model.device)),
            )
            if target is not given:
                chosen = target(outputs_of(meter, batch), batch.y)
                batch = Batch(batch.x, chosen, batch.rng)
            columns = work(meter, batch, rows.to(model.device))
            parts.append({name: t.detach().to(data.x.device) for name, t in columns.items()})
            if run.observe is not None:
                run.observe(Event(story.act, int(rows[-1]) + 1, len(data)))
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return whole, replace(
        story,
        weights=model.digest() if isinstance(model, Held) else "",
        data=data.digest,
        versions=versions(),
        forward=meter.forward,
        backward=meter.backward,
        seconds=time.perf_counter() - start,
    )


@contextmanager
def _untouched(model: Model) -> Iterator[None]:
    """Hold the model still and keep the global random state, also after an exception."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), ExitStack() as stack:
        if isinstance(model, Held):
            stack.enter_context(model.held())
        yield


def _story(
    act: str,
    method: object,
    seed: int,
    *,
    quantity: Quantity | None = None,
    threat: Ball | None = None,
) -> Provenance:
    return Provenance(
        act=act,
        method=repr(method),
        reference=getattr(method, "reference", ""),
        seed=seed,
        threat="" if threat is None else f"{threat} in {threat.bounds}",
        quantity="" if quantity is None else name_of(quantity),
    )


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {name: metadata.version(name) for name in ("conjoin", "torch", "numpy")}
    return {"python": platform.python_version(), **found}


__all__ = [
    "Meter",
    "Run",
    "attack",
    "attribute",
    "certify",
    "predict",
    "prepared",
    "score",
    "versions",
]
