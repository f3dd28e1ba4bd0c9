"""The drivers as a caller types them: modules, pairs and lists are wrapped on the way in.

What comes out, and all that is promised of it, is that of :mod:`conjoin.core.run`, which takes models
and data sets only. A ``torch.nn.Module`` becomes ``wrap(module)``, a pair ``(x, y)`` of tensors, arrays
or lists becomes ``Dataset(x, y)``. Nothing is guessed: a class in place of what it makes, or a number
in place of a threat, is an error that says what to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import isroutine, signature
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import run as core
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.naming import describe, name_of
from conjoin.core.protocols import Attack, Attributor, Certifier, Metric, Model
from conjoin.core.quantity import Quantity, Question, Target, given, margin, predicted
from conjoin.core.result import AttackResult, Attribution, Certificate, Score
from conjoin.core.threat import Threat
from conjoin.data.stored import Stored
from conjoin.errors import DataError, PlanError
from conjoin.models.wrap import wrap

T = TypeVar("T")
Network = Model | nn.Module
Labelled = Dataset | tuple[Any, Any] | list[Any]


def attack(
    model: Network,
    data: Labelled,
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

    Args:
        model: A model, or a ``torch.nn.Module``: one tensor in, logits ``(batch, classes)`` out.
        data: A :class:`~conjoin.Dataset`, or a pair (x, y) of inputs and integer labels.
        method: How to search, e.g. ``PGD()`` of :mod:`conjoin.attacks`.
        threat: The set S(x), e.g. ``Linf(8 / 255)``, ``L2(0.5)``; eps in the units of the inputs.
        seed: Of every random number; the same seed gives the same result for each example, whatever
            the batch size or the order.
        quantity: What is made small; ``margin`` is above 0 where the prediction is right.
        target: Which class the quantity is about: ``given`` (the label) or ``predicted``.
        run: Batch size and observer; neither changes a result.

    Raises:
        PostconditionError: If the method leaves S(x), returns a non-finite value or another shape.
        ModelError: If it is no model, or its outputs are not finite or have another shape.
        DataError, ThreatError: If the data are none, or threat and inputs do not fit.
        PlanError: If method, threat, quantity or target is none.
    """
    return core.attack(
        model_from(model),
        data_from(data),
        method_from(method, "an attack, e.g. PGD()"),
        threat_from(threat),
        seed=seed,
        quantity=quantity,
        target=target,
        run=run,
    )


def certify(
    model: Network,
    data: Labelled,
    method: Certifier,
    threat: Threat,
    *,
    seed: int = 0,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> Certificate:
    """Bound the quantity from below over S(x); ``certified`` is where the bound is above the goal.

    Args:
        model: A model, or a ``torch.nn.Module``: one tensor in, logits ``(batch, classes)`` out.
        data: A :class:`~conjoin.Dataset`, or a pair (x, y) of inputs and integer labels.
        method: How to bound, e.g. ``Lipschitz()`` of :mod:`conjoin.certification`.
        threat: The set S(x), e.g. ``Linf(8 / 255)``, ``L2(0.5)``; eps in the units of the inputs.
        seed: Of every random number, for methods that draw any.
        quantity: What is bounded; ``margin`` is above 0 where the prediction is right.
        target: Which class the quantity is about: ``given`` (the label) or ``predicted``.
        run: Batch size and observer; neither changes a result.

    Raises:
        SoundnessError: If a bound exceeds the value at x itself.
        PostconditionError: If a bound is NaN or has another shape.
        CapabilityError: If the method cannot bound this model; nothing is ever assumed.
        ModelError: If it is no model, or its outputs are not finite or have another shape.
        DataError, ThreatError: If the data are none, or threat and inputs do not fit.
        PlanError: If method, threat, quantity or target is none.
    """
    return core.certify(
        model_from(model),
        data_from(data),
        method_from(method, "a certifier, e.g. Lipschitz()"),
        threat_from(threat),
        seed=seed,
        quantity=quantity,
        target=target,
        run=run,
    )


def attribute(
    model: Network,
    data: Labelled,
    method: Attributor,
    *,
    seed: int,
    target: Target = predicted,
    run: Run = Run(),
) -> Attribution:
    """Explain the model's output for what ``target`` picks at each example.

    Args:
        model: A model, or a ``torch.nn.Module``: one tensor in, logits ``(batch, classes)`` out.
        data: A :class:`~conjoin.Dataset`, or a pair (x, y) of inputs and integer labels.
        method: How to explain, e.g. ``integrated_gradients()`` of :mod:`conjoin.attribution`.
        seed: Of every random number; the same seed gives the same explanation for each example.
        target: Which class is explained: ``predicted``, ``given`` (the label) or ``Always(3)``.
        run: Batch size and observer; neither changes a result.

    Raises:
        CapabilityError: If the model lacks what the method needs.
        PostconditionError: If the method returns non-finite values or another shape.
        ModelError, DataError, PlanError: If an argument is not what it is taken for.
    """
    by = method_from(method, "an attributor, e.g. integrated_gradients()")
    given_ = data_from(data)
    return core.attribute(model_from(model), given_, by, seed=seed, target=target, run=run)


def attribute_each(
    model: Network,
    data: Labelled,
    method: Attributor,
    quantities: Mapping[str, Question],
    *,
    seed: int,
    target: Target = predicted,
    run: Run = Run(),
) -> dict[str, Attribution]:
    """Explain several quantities by one method, from the same forward passes.

    Each result is what :func:`attribute` gives for the method with that quantity, at a backward pass
    each and no forward pass more; counts of passes are those of all together. Points that depend on
    ``target`` (a search for the boundary), a mesh that is refined until a tolerance is met, and
    midpoints where one of the quantities has no secant are the same for all.

    Args:
        model: A model, or a ``torch.nn.Module``: one tensor in, logits ``(batch, classes)`` out.
        data: A :class:`~conjoin.Dataset`, or a pair (x, y) of inputs and integer labels.
        method: How to explain: a preset of gradients, e.g. ``integrated_gradients()``.
        quantities: By name; each stands in for the method's own, e.g. ``{"own": logit, "shirt":
            About(logit, 6), "shirt or coat": About(Contrast(), (6, 4))}``.
        seed: Of every random number; the same seed gives the same explanation for each example.
        target: What quantities are about that say nothing themselves: ``predicted``, ``given``.
        run: Batch size and observer; neither changes a result.

    Raises:
        CapabilityError: If the model lacks what the method needs, or the method shares no passes.
        PostconditionError: If the method returns non-finite values or another shape.
        ModelError, DataError, PlanError: If an argument is not what it is taken for.
    """
    by = method_from(method, "an attributor, e.g. integrated_gradients()")
    given_, model = data_from(data), model_from(model)
    return core.attribute_each(model, given_, by, quantities, seed=seed, target=target, run=run)


def score(
    model: Network,
    data: Labelled,
    method: Attributor,
    metric: Metric,
    *,
    seed: int,
    values: Tensor | None = None,
    target: Target = predicted,
    run: Run = Run(),
) -> Score:
    """Score explanations, one number per example.

    Args:
        model: A model, or a ``torch.nn.Module``: one tensor in, logits ``(batch, classes)`` out.
        data: A :class:`~conjoin.Dataset`, or a pair (x, y) of inputs and integer labels.
        method: What explained, e.g. ``integrated_gradients()``; some metrics explain again by it.
        metric: What is measured, e.g. ``Deletion()`` of :mod:`conjoin.metrics`.
        seed: Of every random number.
        values: The explanations, as :func:`attribute` returns ``values``; computed here if not given.
        target: Which class was explained: ``predicted``, ``given`` (the label) or ``Always(3)``.
        run: Batch size and observer; neither changes a result.

    Raises:
        CapabilityError: If the model lacks what the method needs.
        PostconditionError: If the metric returns a non-finite number or another shape.
        ModelError, DataError, PlanError: If an argument is not what it is taken for.
    """
    return core.score(
        model_from(model),
        data_from(data),
        method_from(method, "an attributor, e.g. integrated_gradients()"),
        method_from(metric, "a metric, e.g. Deletion()"),
        seed=seed,
        values=None if values is None else _tensor(values, "explanations"),
        target=target,
        run=run,
    )


def predict(
    model: Network,
    data: Labelled,
    *,
    run: Run = Run(),
) -> Tensor:
    """Return the model's outputs for the data, ``(batch, classes)``, on the data's device.

    Args:
        model: A model, or a ``torch.nn.Module``: one tensor in, logits ``(batch, classes)`` out.
        data: A :class:`~conjoin.Dataset`, or a pair (x, y) of inputs and integer labels.
        run: Batch size and observer; neither changes a result.

    Raises:
        ModelError: If it is no model, or its outputs are not finite or have another shape.
        DataError: If the data are none.
    """
    return core.predict(model_from(model), data_from(data), run=run)


def model_from(model: Network) -> Model:
    """Wrap a module; anything else is left to the driver to take or to refuse."""
    return wrap(model) if isinstance(model, nn.Module) else model


def data_from(data: Labelled) -> Dataset:
    """Make a data set of a pair; anything else is left to the driver to take or to refuse."""
    if isinstance(data, Stored):
        return data.held()  # what a driver returns is as large
    if isinstance(data, Dataset) or not isinstance(data, tuple | list):
        return data
    if len(data) != 2:
        raise DataError(
            f"expected a Dataset, or a pair (x, y) of inputs and labels; got a {type(data).__name__} "
            f"of {len(data)}. Give Dataset(x, y)"
        )
    return Dataset(_tensor(data[0], "inputs"), _tensor(data[1], "labels"))


def _tensor(values: object, what: str) -> Tensor:
    """Take an array or a list for a tensor: integers of 64 bits, floats of a list in single precision.

    Raises:
        DataError: If it holds something else, or rows differ in length.
    """
    if isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, Sequence) and any(isinstance(value, Tensor) for value in values):
            return torch.stack([torch.as_tensor(value) for value in values])
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what} are no one array of numbers: {error}; give a tensor") from error
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
        raise DataError(
            f"{what} are {describe(values)}, of {array.dtype}; expected a tensor, an array or a list "
            "of numbers"
        )
    if array.dtype.kind in "iub" and (what == "labels" or not isinstance(values, np.ndarray)):
        return torch.from_numpy(array.astype(np.int64))
    if not isinstance(values, np.ndarray):
        array = array.astype(np.float32)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def method_from(method: T, what: str) -> T:
    """Refuse a class, or a function without arguments, in place of the method that it makes.

    Raises:
        PlanError: With what to write.
    """
    if isinstance(method, type) or (isroutine(method) and _takes_nothing(method)):
        raise PlanError(
            f"expected {what}; got {describe(method)}. Give what it makes: {name_of(method)}(), with "
            "parentheses"
        )
    return method


def _takes_nothing(function: Any) -> bool:
    try:
        signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def threat_from(threat: Threat) -> Threat:
    """Refuse what looks like a threat and is none.

    Raises:
        PlanError: With what to write.
    """
    value: object = threat
    said = f"expected a threat, e.g. Linf(8 / 255) or L2(0.5); got {describe(value)}"
    if isinstance(value, Real):
        raise PlanError(
            f"{said}, which names no norm. Give Linf({value}), L2({value}) or L1({value})"
        )
    if isinstance(value, type):
        raise PlanError(f"{said}. Give its size: {value.__name__}(0.1), in the units of the inputs")
    if isinstance(value, str):
        raise PlanError(f"{said}; words are for plans and the command line. Give e.g. Linf(0.1)")
    return threat


__all__ = ["attack", "attribute", "attribute_each", "certify", "predict", "score"]
