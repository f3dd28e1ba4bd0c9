"""The invariant that ties the packages together: certificate <= attack <= clean value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import examples, residual, sequential
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.attacks import FMN, PGD, Closest
from conjoin.certification import Interval, Lipschitz, certified_radius
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.quantity import Contrast, logit, margin
from conjoin.core.run import attack, certify, predict
from conjoin.models.torch import TorchModel

KINDS = {"linf": (Linf, 0.1), "l2": (L2, 1.0), "l1": (L1, 8.0)}
ROUNDING = 2e-5  # of single-precision logits of size 1


@given(
    st.sampled_from(["residual", "sequential"]),
    st.integers(0, 50),
    st.sampled_from(sorted(KINDS)),
    st.floats(0.01, 1.0),
    st.sampled_from([margin, logit, Contrast(2)]),
)
@settings(max_examples=40, deadline=None)
def test_certificate_attack_clean(
    name: str, seed: int, norm: str, share: float, quantity: Callable[..., torch.Tensor]
) -> None:
    model = {"residual": residual, "sequential": sequential}[name](seed)
    data = examples(6, seed=seed)
    data = data.labelled(predict(model, data).argmax(1))
    kind, largest = KINDS[norm]
    threat = kind(largest * share)
    found = attack(model, data, PGD(steps=10), threat, seed=seed, quantity=quantity)
    for method in (Interval(), Lipschitz()):
        lower = certify(model, data, method, threat, quantity=quantity).lower
        assert bool((lower <= found.value + ROUNDING).all())
    assert bool((found.value <= found.clean).all())


@pytest.mark.parametrize(
    ("name", "threat"),
    [("certified", L2(0.5)), ("certified", Linf(0.03)), ("adversarial", Linf(0.01))],
)
def test_no_certified_example_of_the_zoo_is_ever_attacked(
    zoo: Callable[[str], TorchModel], sample: Dataset, name: str, threat: Ball
) -> None:
    model, data = zoo(name), sample.select(range(150))
    assert isinstance(threat.eps, float)
    largest = 2 * threat.eps
    distance = torch.full((len(data),), torch.inf, dtype=torch.float64)
    for search in (Closest(PGD(steps=20)), FMN(steps=50)):
        found = attack(model, data, search, threat.at(largest), seed=0)
        assert bool(found.success.any())
        distance = torch.where(found.success, torch.minimum(found.distance, distance), distance)
    for method in (Lipschitz(), Interval()):
        radius = certified_radius(model, data, method, threat, largest=largest)
        assert bool((distance >= radius * (1 - 1e-5)).all())
        if name == "certified" and isinstance(method, Lipschitz):
            assert float(radius.median()) > 0  # not vacuous
