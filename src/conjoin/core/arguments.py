"""What a caller hands to a driver: a model, data, a method, a quantity, a threat.

What is none of these is refused before any work, with the mend: a module that nobody wrapped, a class
or a function in place of the method that it makes, a tensor in place of a data set.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from torch import Tensor, nn

from conjoin.core.dataset import Dataset
from conjoin.core.naming import describe
from conjoin.core.protocols import Attributor, Layered, Model, Secant, Sharing, Sliceable
from conjoin.core.quantity import Quantity
from conjoin.core.rung import meets
from conjoin.core.slice import Slice
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, DataError, ModelError, PlanError


def check_model(model: object, data: object) -> None:
    """Refuse what is no model or no data.

    Raises:
        ModelError, DataError: Saying how to make one.
    """
    if isinstance(model, nn.Module) or not meets(model, Model):
        raise ModelError(
            f"expected a model; got {describe(model)}. Give wrap(module) for a torch.nn.Module; any "
            "other model has a device and one call (batch)"
        )
    if not isinstance(data, Dataset):
        raise DataError(
            f"expected a Dataset; got {describe(data)}. Give Dataset(x, y), inputs and their labels"
        )


def check_method(method: object, what: str) -> None:
    """Refuse what cannot be called as attacks, certifiers and metrics are, with four arguments.

    Raises:
        PlanError: Saying what was expected.
    """
    kind: Any = type(method)
    if isinstance(method, nn.Module):  # whose call takes anything, and hands it to forward
        fits = takes(method.forward, 4)
    else:
        fits = takes(method, 4) if inspect.isroutine(method) else _instance_takes(kind)
    if isinstance(method, type) or not callable(method) or not fits:
        raise PlanError(
            f"expected {what}, a value that is called with four arguments; got {describe(method)}"
        )


def check_seed(seed: object) -> int:
    """Take an integer of any kind for a seed.

    Raises:
        PlanError: If it is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise PlanError(f"expected seed, an integer, e.g. seed=0; got {describe(seed)}")
    return int(seed)


def check_parts(parts: object, what: str) -> None:
    """Refuse what is no tuple of methods, one at least, for a method to be made of.

    Raises:
        PlanError: Saying what was expected.
    """
    if not isinstance(parts, tuple) or not parts:
        came = "none" if parts == () else describe(parts)
        raise PlanError(f"expected a tuple of methods, each {what}; got {came}")
    for part in parts:
        check_method(part, what)


@lru_cache(maxsize=1024)
def _instance_takes(kind: type) -> bool:
    return takes(getattr(kind, "__call__", None), 5)  # noqa: B004 - its signature is asked for


def takes(function: Any, count: int) -> bool:
    """Tell whether something takes so many arguments; if it does not say, it may."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # built in
        return True
    return True


def check_attributor(model: object, method: object) -> None:
    """Refuse what is no attributor, and a model that lacks what it needs.

    Raises:
        CapabilityError: Naming what does apply.
        PlanError: If it is no attributor.
    """
    if not (
        meets(method, Attributor)
        and isinstance(method.needs, type)
        and isinstance(method.where, Slice)
    ):
        raise PlanError(
            "expected an attributor, e.g. saliency() or integrated_gradients(); got "
            f"{describe(method)}. It has needs (a rung, e.g. Model), where (a Slice), ends and one "
            "call (model, batch)"
        )
    if not meets(model, method.needs):
        what: dict[type, str] = {Secant: "secants in its passes", Layered: "its operators"}
        needed = what.get(method.needs, "gradients and activations")
        given = "gives outputs only" if not meets(model, Sliceable) else "does not give them"
        raise CapabilityError(
            f"{method!r} needs of a model {needed}; {type(model).__name__} {given}. Wrap a "
            "torch.nn.Module with conjoin.wrap, or explain by methods that need less, e.g. "
            "integrated_gradients() for gradients, occlusion() or kernel_shap() for outputs; attacks "
            "apply to any differentiable callable"
        )


def check_sharing(method: Attributor, quantities: object) -> Sharing:
    """Refuse a method that explains one quantity at a time, and what names no quantities.

    Raises:
        CapabilityError: Naming which methods share passes.
        PlanError: Saying what was expected.
    """
    if (
        not isinstance(quantities, Mapping)
        or not quantities
        or not all(isinstance(name, str) and callable(q) for name, q in quantities.items())
        or any(isinstance(q, type) for q in quantities.values())
    ):
        raise PlanError(
            "expected quantities by name, e.g. {'shirt': About(logit, 6), 'own': logit}; got "
            f"{describe(quantities)}"
        )
    if not meets(method, Sharing):
        raise CapabilityError(
            f"{method!r} explains one quantity at a time; the presets of Influence share passes, e.g. "
            "saliency(), integrated_gradients(), conductance(cuts). Call attribute for each quantity"
        )
    return method


def check_quantity(quantity: object) -> None:
    """Refuse a quantity that does not say when the attacker has won.

    Raises:
        PlanError: Saying how to give a function a goal.
    """
    if not meets(quantity, Quantity):
        raise PlanError(
            f"{describe(quantity)} states no goal; a quantity says when the attacker has won: "
            "Asked(function, goal=0.0), or goal=-inf to minimise without end"
        )
    if not isinstance(quantity.goal, Real) or math.isnan(quantity.goal):
        raise PlanError(
            f"the goal of {type(quantity).__name__} is not a number but {describe(quantity.goal)}; "
            "give one, or -inf"
        )


def check_threat(threat: object, x: Tensor) -> None:
    """Refuse what is no threat, or one that does not fit these inputs.

    Raises:
        PlanError: If it is no threat.
        ThreatError, DataError: As the threat finds.
    """
    if not meets(threat, Threat):
        raise PlanError(f"expected a threat, e.g. Linf(8 / 255) or L2(0.5); got {describe(threat)}")
    threat.check(x)


def check_explanations(values: object, count: int) -> Tensor:
    """Return explanations to be scored, if they are numbers, one array for each example.

    Raises:
        DataError: If they are not.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim < 2:
        raise DataError(
            f"expected explanations, as attribute() returns values; got {describe(values)}"
        )
    if len(values) != count:
        raise DataError(f"{len(values)} explanations came for {count} examples; give one each")
    if not bool(values.isfinite().all()):
        raise DataError("the explanations hold NaN or infinity, of which no score means anything")
    return values


__all__ = [
    "check_attributor",
    "check_explanations",
    "check_method",
    "check_model",
    "check_parts",
    "check_quantity",
    "check_seed",
    "check_sharing",
    "check_threat",
    "takes",
]
