"""The axioms: the networks are as they say, methods known to break one are found, the command tells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from conftest import examples, residual
from torch import Tensor

from conjoin.attribution import (
    feature_ablation,
    gradient_times_input,
    integrated_gradients,
    kernel_shap,
    occlusion,
    rise,
    saliency,
    smoothgrad,
)
from conjoin.audit.methods import read_method
from conjoin.core.distribution import Constant, Midpoint
from conjoin.core.protocols import Attributor, Batch, Model, Promise
from conjoin.core.quantity import Contrast, margin
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.testing import Axioms, axioms, known

NAMES = (
    "linear agreement",
    "distributional marginality",
    "completeness",
    "sensitivity",
    "dummy",
    "symmetry",
)


def held(found: Axioms) -> str:
    """Say in letters which axioms hold: l, m, c, s, d, y."""
    assert tuple(row.name for row in found.rows) == NAMES
    letters = zip("lmcsdy", found.rows, strict=True)
    return "".join(letter for letter, row in letters if row.held)


def gradient(model: TorchModel, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(model.module(leaf)[:, 0].sum(), leaf)[0]


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_the_networks_are_as_they_say(seed: int) -> None:
    x = known.drawn(seed, "test", 200, known.COLUMNS) * 2
    model, weight = known.affine(seed)
    assert torch.allclose(gradient(model, x), weight.expand_as(x), atol=1e-12)
    model = known.without(seed, 2)
    assert float(gradient(model, x)[:, 2].abs().max()) < 1e-12
    inner = model.module[0].weight[:, 2]  # type: ignore[index, union-attr]
    assert int((inner != 0).sum()) == 8, "units read it, and cancel"
    one, two = known.twins(seed, 1)
    both = gradient(one, x), gradient(two, x)
    assert torch.allclose(both[0][:, 1], both[1][:, 1], atol=1e-12)
    assert float((both[0] - both[1]).abs().amax(0)[[0, 2, 3, 4, 5]].min()) > 0.1
    model, turned = known.symmetric(seed, 0, 3), x[:, [3, 1, 2, 0, 4, 5]]
    assert torch.allclose(model.module(x), model.module(turned), atol=1e-12)
    assert float((model.module(x) - model.module(x[:, [1, 0, 2, 3, 4, 5]])).abs().max()) > 0.1
    model = known.saturated(seed)
    slopes = gradient(model, x)
    assert bool((slopes[x > 1] == 0).all()) and bool((slopes[x < 1] > 0.9).all())
    assert bool((model.module(x)[:, 1] == 0).all())


@pytest.mark.parametrize(
    ("method", "letters"),
    [
        (saliency(), "lmdy"),
        (gradient_times_input(), "lmdy"),
        (integrated_gradients(nodes=5), "lmcsdy"),
        (integrated_gradients(Constant(0.5), nodes=5), "lmcsdy"),
        (integrated_gradients(quadrature=Midpoint(10)), "lmsdy"),
        (integrated_gradients(nodes=5, quantity=margin), "lmcsdy"),
        (integrated_gradients(nodes=5, quantity=Contrast(1)), "lmcsdy"),
        (smoothgrad(), "lmdy"),
        (smoothgrad(2.0), "lmsdy"),
        (occlusion(), "lmsdy"),
        (feature_ablation(baseline=Constant(0.5)), "lmsdy"),
        (kernel_shap(), "lmcsdy"),
        (rise(200), "sy"),
    ],
    ids=str,
)
def test_what_the_methods_hold(method: Attributor, letters: str) -> None:
    found = axioms(method)
    assert held(found) == letters, str(found)
    assert all(row.off < 1e-5 for row in found.rows if row.held and row.name != "sensitivity") or (
        method.title in {"SmoothGrad", "RISE"}
    )


@dataclass(frozen=True)
class Spoilt:
    """Integrated gradients, and something wrong."""

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()
    kind: str
    size: float = 1.0

    def __call__(self, model: Any, batch: Batch, /) -> Tensor:
        values = integrated_gradients(nodes=3)(model, batch)
        rng = batch.rng.fold("noise")
        noise = self.size * rng.normal(*values.shape[1:], dtype=values.dtype)
        size = values.abs()
        spoilt = {
            "noisy": lambda: values + noise,
            "sometimes": lambda: values + noise * (size.amax(1, keepdim=True) > 3),
            "doubled": lambda: 2 * values,
            "biased": lambda: values + noise + 10 * self.size,
            "first": lambda: values + 0.01 * torch.eye(values.shape[1]).to(values)[0],
            "largest": lambda: torch.where(size >= size.amax(1, keepdim=True), values, 0.0),
            "guided": lambda: self._guided(model.model.module, batch.x),
        }
        return spoilt[self.kind]()

    def _guided(self, layers: torch.nn.Sequential, x: Tensor) -> Tensor:
        """Guided backpropagation, a layer at a time."""
        seen = [x]
        for layer in layers:
            seen.append(layer(seen[-1]))
        back = torch.zeros_like(seen[-1])
        back[:, 0] = 1
        for layer, entered in zip(reversed(layers), reversed(seen[:-1]), strict=True):
            if isinstance(layer, torch.nn.ReLU):
                back = back.clamp(min=0) * (entered > 0)
            else:
                back = back @ layer.weight  # type: ignore[operator]
        return back

    def ends(self, model: Any, batch: Batch, /) -> Promise | None:
        return integrated_gradients().ends(model, batch)


@pytest.mark.parametrize(
    ("kind", "letters"),
    [
        ("doubled", "msdy"),
        ("noisy", "lmcsdy"),  # right on average, as a method that draws may be
        ("sometimes", "lmcsdy"),
        ("biased", "msy"),
        ("first", "ms"),
        ("largest", "sdy"),
        ("guided", "y"),
    ],
)
def test_what_is_wrong_is_found(kind: str, letters: str) -> None:
    method = Spoilt(kind, 0.01 if kind in {"noisy", "sometimes"} else 1.0)
    found = axioms(method)
    assert held(found) == letters, str(found)
    if kind == "doubled":
        assert found["linear agreement"].off == pytest.approx(1)
        assert str(found["linear agreement"]) == "no (1)"


def test_what_cannot_be_put_says_why() -> None:
    found = axioms(integrated_gradients(where=Slice(Cut("0"))))
    assert {row.held for row in found.rows} == {None}
    assert "about the input" in found["dummy"].said and str(found["dummy"]) == "-"
    assert "no module" in axioms(saliency(where=Slice(Cut("conv"))))["symmetry"].said
    text = str(axioms(saliency())).splitlines()
    assert text[1].split() == ["linear", "agreement", "yes", "as", "slopes"]


def test_a_model_of_ones_own() -> None:
    model, data = residual(dtype=torch.float64), examples(6, dtype=torch.float64)
    found = axioms(integrated_gradients(), model, data)
    assert [(row.name, row.held) for row in found.rows] == [
        ("completeness", True),
        ("sensitivity", True),
    ]
    assert not axioms(saliency(), model, data)["completeness"].held
    lost = axioms(Spoilt("doubled"), model, data)
    assert not lost["completeness"].held and lost["sensitivity"].held
    constant = TorchModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)))
    torch.nn.init.zeros_(constant.module[1].weight)  # type: ignore[index, arg-type]
    nothing = axioms(occlusion(), constant, examples(3))["sensitivity"]
    assert nothing.held is None and nothing.said == "no column alone changes the quantity"
    with pytest.raises(CapabilityError, match="give both"):
        axioms(saliency(), model)

    @dataclass(frozen=True)
    class Promising:
        """Promises more than it keeps."""

        needs: ClassVar[type] = Model
        where: ClassVar[Slice] = Slice()

        def __call__(self, model: Model, batch: Batch, /) -> Tensor:
            return torch.zeros_like(batch.x)

        def ends(self, model: Model, batch: Batch, /) -> Promise:
            return Promise(margin, {INPUT: torch.zeros_like(batch.x)}, {INPUT: batch.x})

    found = axioms(Promising(), model, data)
    assert not found["completeness"].held and not found["sensitivity"].held
    assert found["sensitivity"].off == 0.0


def test_a_method_is_named_as_in_a_plan() -> None:
    assert read_method(Attributor, "saliency") == saliency()
    nodes = read_method(Attributor, "integrated_gradients?nodes=7&baseline=0.5")
    assert nodes == integrated_gradients(Constant(0.5), nodes=7)
    assert read_method(Attributor, "rise?masks=3&quantity=margin") == replace(
        rise(3), quantity=margin
    )
    for text, said in (
        ("salency", "did you mean 'saliency'"),
        ("rise?mask=1", "mask: no parameter"),
        ("rise?masks", "expected name=value"),
        ("rise?masks=1&masks=2", "once"),
        ("rise?masks=0", "one mask"),
        ("nowhere:method", "cannot be imported"),
    ):
        with pytest.raises(PlanError, match=said):
            read_method(Attributor, text)
