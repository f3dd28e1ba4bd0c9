"""Rungs are told fast, and told as ``isinstance`` does."""

from __future__ import annotations

import pytest
import torch

from conjoin.core.ball import L2
from conjoin.core.protocols import Certifier, Frugal, Held, Layered, Model, Preparable
from conjoin.core.quantity import PiecewiseLinear, Quantity, log_likelihood, margin
from conjoin.core.rung import meets
from conjoin.core.threat import Enclosed, Graded, Projectable, Threat


class _Late:
    """Has its members on the instance, or not at all."""

    def __init__(self, *names: str) -> None:
        for name in names:
            setattr(self, name, lambda *_: None)


@pytest.mark.parametrize(
    "rung",
    [
        *(Certifier, Frugal, Held, Layered, Model, Preparable, Quantity, PiecewiseLinear),
        *(Enclosed, Graded, Projectable, Threat),
    ],
)
def test_rungs_are_those_of_isinstance(rung: type) -> None:
    values = [margin, log_likelihood, L2(0.5), torch.zeros(1), torch.nn.ReLU(), 1, _Late()]
    for value in values:
        assert meets(value, rung) == isinstance(value, rung), (value, rung)


def test_members_of_one_instance_say_nothing_of_the_next() -> None:
    assert meets(_Late("held", "digest"), Held)
    assert not meets(_Late("held"), Held)
    assert meets(_Late("held", "digest"), Held)
