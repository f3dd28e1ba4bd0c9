"""Objectives for stable explanations: the autograd Hessian, slow definitions, what training does."""

from __future__ import annotations

import pytest
import torch
from conftest import Residual, biased, examples, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attacks import PGD
from conjoin.core.ball import Linf
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.errors import PlanError
from conjoin.nn.initialise import initialise
from conjoin.training import IGNorm, Recipe, SmoothSurface, Standard, fit
from conjoin.training.smoothness import path_norm, top_curvature

DOUBLE = torch.float64


def network() -> Residual:
    """A small ReLU network in double precision."""
    module = Residual()
    initialise(module, 0)
    biased(module, 0)
    return module.double()


def batch(count: int = 4) -> Batch:
    data = examples(count, dtype=DOUBLE)
    return Batch(data.x, data.y, Streams.of(0, data.positions))


def hessians(module: nn.Module, part: Batch) -> Tensor:
    """The Hessian of each example's cross-entropy in its input, by autograd."""
    found = []
    for x, y in zip(part.x, part.aim, strict=True):

        def loss(flat: Tensor, y: Tensor = y) -> Tensor:
            return functional.cross_entropy(module(flat.reshape(1, 1, 8, 8)), y[None])

        found.append(torch.autograd.functional.hessian(loss, x.flatten(), create_graph=True))
    return torch.stack(found)


def curvature(module: nn.Module, part: Batch, steps: int) -> Tensor:
    x = part.x.clone().requires_grad_()
    return top_curvature(module(x), x, part, steps)


def test_the_curvature_is_the_top_eigenvalue_of_the_hessian() -> None:
    module, part = network(), batch()
    exact = torch.linalg.eigvalsh(hessians(module, part))[:, -1]
    assert torch.allclose(curvature(module, part, 300), exact, rtol=1e-8)
    for steps in (1, 5):
        below = curvature(module, part, steps)
        assert bool((below <= exact * (1 + 1e-9)).all()) and bool((below > 0).all())
    assert bool((curvature(module, part, 5) > 0.8 * exact).all())


def test_its_gradient_is_that_of_the_eigenvalue() -> None:
    module, part = network(), batch(2)
    weights = [p for p in module.parameters() if p.ndim > 1]
    own = torch.autograd.grad(curvature(module, part, 300).sum(), weights)
    exact = torch.linalg.eigvalsh(hessians(module, part))[:, -1].sum()
    for a, b in zip(own, torch.autograd.grad(exact, weights), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)
        assert float(a.abs().max()) > 0


def test_the_objective_is_the_sum_of_both() -> None:
    module, part = network(), batch()
    plain = Standard()(module, part, 1.0)
    found = SmoothSurface(weight=2.0, steps=4)(module, part, 1.0)
    assert torch.allclose(found, plain + 2.0 * curvature(module, part, 4).mean())
    assert torch.allclose(SmoothSurface(weight=0.0)(module, part, 1.0), plain)


def test_the_path_norm_is_that_of_integrated_gradients() -> None:
    module, part = network(), batch(3)
    z = part.x + 0.1 * numbers(3, 1, 8, 8, dtype=DOUBLE)
    found = path_norm(module, part, z, 5).detach()
    for k in range(3):
        total = torch.zeros(1, 8, 8, dtype=DOUBLE)
        for node in range(5):
            point = part.x[k] + (node + 0.5) / 5 * (z[k] - part.x[k])
            point = point.detach().requires_grad_()
            loss = functional.cross_entropy(module(point[None]), part.aim[k : k + 1])
            total += torch.autograd.grad(loss, point)[0] / 5
        assert float(found[k]) == pytest.approx(float((total * (z[k] - part.x[k])).abs().sum()))
    # The sum of the parts is at least the change of the loss.
    fine = path_norm(module, part, z, 400).detach()
    with torch.no_grad():
        change = functional.cross_entropy(module(z), part.aim, reduction="none")
        change = change - functional.cross_entropy(module(part.x), part.aim, reduction="none")
    assert bool((fine >= change.abs() - 1e-3).all())


def test_the_ig_norm_sees_the_attack_and_restores_the_network() -> None:
    module, part = network().train(), batch()
    objective = IGNorm(PGD(steps=4), Linf(0.1), weight=3.0, nodes=4)
    found, plain = objective(module, part, 1.0), Standard()(module, part, 1.0)
    assert module.training and all(p.requires_grad for p in module.parameters())
    assert float(found.detach()) > float(plain.detach())
    found.backward()
    assert all(p.grad is not None for p in module.parameters())


def test_training_on_them_smooths_the_surface() -> None:
    data, after = examples(48), {}
    objectives = {
        "plain": Standard(),
        "smooth": SmoothSurface(weight=20.0, steps=3),
        "short": IGNorm(PGD(steps=3), Linf(0.1), weight=10.0, nodes=4),
    }
    part = Batch(data.x, data.y, Streams.of(0, data.positions))
    for name, objective in objectives.items():
        module = Residual()
        initialise(module, 0)
        fit(module, data, objective, Recipe(epochs=40, rate=5e-3))
        way = IGNorm(PGD(steps=10), Linf(0.1), weight=1.0, nodes=4)(module, part, 1.0)
        norm = float((way - Standard()(module, part, 1.0)).detach())
        after[name] = (float(curvature(module, part, 20).detach().mean()), norm)
    assert after["smooth"][0] < 0.7 * after["plain"][0]
    assert after["short"][1] < 0.7 * after["plain"][1]


def test_nonsense_is_refused() -> None:
    for wrong in ({"weight": -1.0}, {"steps": 0}):
        with pytest.raises(PlanError, match="weight >= 0"):
            SmoothSurface(**wrong)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="nodes >= 1"):
        IGNorm(PGD(), Linf(0.1), nodes=0)
