"""Folded networks: the same outputs to rounding, the first untouched, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import biased, numbers, residual
from torch import Tensor, nn

from conjoin.attribution import saliency
from conjoin.core.dataset import Dataset
from conjoin.core.run import attribute, predict
from conjoin.errors import CapabilityError
from conjoin.models.optimised import optimised
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise


class Normalised(nn.Module):
    """Convolutions and a dense layer with batch normalisation, one of them read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.b, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c, self.cn = nn.Linear(4 * 36, 6), nn.BatchNorm1d(6, affine=False)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.an(self.a(x)).relu()
        inner = self.b(h)
        h = (self.bn(inner) + 0.1 * inner).relu()  # what the norm reads is read elsewhere, too
        return self.head(self.cn(self.c(h.flatten(1))).relu())


def made() -> tuple[TorchModel, Dataset]:
    module = Normalised()
    initialise(module, 0)
    biased(module, 0)
    for place, part in enumerate(module.modules()):
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.copy_(numbers(part.num_features, seed=place))  # type: ignore[union-attr]
            part.running_var.copy_(numbers(part.num_features, seed=40 + place).exp())  # type: ignore[union-attr]
    x = numbers(6, 1, 8, 8, dtype=torch.float64)
    return TorchModel(module.double()), Dataset(x, torch.zeros(6, dtype=torch.int64))


def test_what_is_folded_computes_the_same() -> None:
    model, data = made()
    before, digest = predict(model, data), model.digest()
    found = optimised(model, data)
    assert found.folded == ("an", "cn")  # not the one whose layer is read twice
    assert isinstance(found.model.module.an, nn.Identity)
    assert isinstance(model.module.an, nn.BatchNorm2d) and model.digest() == digest
    assert 0 < found.deviation < 1e-12
    assert torch.allclose(predict(found.model, data), before, atol=1e-10)
    for one in (saliency(),):
        whole, folded = (attribute(m, data, one, seed=0).values for m in (model, found.model))
        assert torch.allclose(whole, folded, atol=1e-10)
    off = (predict(found.model, data) - before).abs().max() / before.abs().max()
    assert found.deviation == float(off)


class Branching(nn.Module):
    """Cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Linear(64, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.an(self.a(x.flatten(1)))
        return h if bool(h.sum() > 0) else -h


def twice() -> nn.Module:
    norm = nn.BatchNorm1d(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), norm, nn.Linear(5, 5), norm)


def parametrised() -> nn.Module:
    dense = nn.utils.parametrizations.weight_norm(nn.Linear(64, 5))
    return nn.Sequential(nn.Flatten(), dense, nn.BatchNorm1d(5))


def watched() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5))
    module[1].register_forward_hook(lambda *_: None)
    return module


class Elsewhere(nn.Module):
    """The normalisation goes over the positions, of which there are as many as features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.an.running_var.copy_(torch.arange(1.0, 9))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.an(self.a(x[:, 0])).flatten(1)[:, :5]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Branching, "cannot trace"),
        (twice, "no batch normalisation"),
        (watched, "hooks"),
        (parametrised, "no batch normalisation"),
        (Elsewhere, "something else"),
    ],
)
def test_what_cannot_be_folded_is_refused(make: Callable[[], nn.Module], words: str) -> None:
    data = Dataset(numbers(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(CapabilityError, match=words):
        optimised(TorchModel(make()), data)
    with pytest.raises(CapabilityError, match="no batch normalisation"):
        optimised(residual(), data)
