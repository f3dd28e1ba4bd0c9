"""What the diagnosis says of models that hide their gradients, and of healthy ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import examples, linear, numbers
from torch import Tensor, nn

from conjoin.attacks import PGD, Grid, WorstOf
from conjoin.attacks.diagnosis import Diagnosis, Indicator, Level, diagnosed
from conjoin.attacks.diagnosis.planted import _separated
from conjoin.core.ball import L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.quantity import log_likelihood
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.errors import DataError
from conjoin.models.lifted import lifted
from conjoin.models.spatial import rotated_and_shifted
from conjoin.models.torch import TorchModel

TWENTY = PGD(20, 0.2, surrogate=log_likelihood)


class Around(nn.Module):
    """A network with something in front or behind."""

    def __init__(self, body: nn.Module, act: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.act = body, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body, x)


def rough(x: Tensor) -> Tensor:
    return (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))


def rejecting(body: nn.Module, x: Tensor) -> Tensor:
    """A class more, for what is rougher than any example."""
    z = body(x)
    out = torch.cat([z, z.amin(1, keepdim=True) - 1], 1)
    away = torch.zeros_like(out)
    away[:, -1] = 100
    return torch.where(rough(x)[:, None] > 0.15, away, out)


def cleaning(body: nn.Module, x: Tensor) -> Tensor:
    """What looks noisy is replaced by its median, with no gradient."""
    windows = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
    calm = windows.flatten(-2).median(-1).values.detach()
    noisy = (x - calm).abs().mean((1, 2, 3)) > 0.03
    return body(torch.where(noisy[:, None, None, None], calm, x))


MASKED: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], Level, set[str]]] = {
    "logits times 1000": (
        lambda body, x: 1000 * body(x),
        Level.RED,
        {"zero gradients of the cross-entropy", "saturated outputs", "choice of loss"},
    ),
    "rounded input": (
        lambda body, x: body((16 * x).round() / 16),
        Level.RED,
        {"zero gradients of the margin", "black box beats white box", "planted adversarial inputs"},
    ),
    "random layers": (
        lambda body, x: body(x + 0.1 * torch.randn_like(x)),
        Level.RED,
        {"random answers"},
    ),
    "a detector in front": (rejecting, Level.AMBER, {"a class of its own"}),
    "a cleaner in front": (cleaning, Level.RED, {"zero gradients of the margin"}),
    "probabilities": (lambda body, x: body(x).softmax(1), Level.AMBER, {"saturated outputs"}),
}


@pytest.fixture(scope="module")
def some(sample: Dataset) -> Dataset:
    return sample.select(range(0, 1000, 18))


def around(
    zoo: Callable[[str], TorchModel], act: Callable[[nn.Module, Tensor], Tensor]
) -> TorchModel:
    return TorchModel(Around(copy.deepcopy(zoo("adversarial").module), act).eval())


QUICK = {"logits times 1000", "random layers", "a detector in front"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in MASKED]
)
def test_what_hides_or_misleads_is_flagged(
    name: str, zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    act, least, expected = MASKED[name]
    found = diagnosed(around(zoo, act), some, Linf(0.1), seed=0)
    assert found.verdict >= least
    loud = {one.name for one in found.indicators if one.level > Level.GREEN}
    assert expected <= loud
    assert len(found.reasons) == len(loud)
    assert found.verdict.word in str(found)
    assert f"{found.robust_accuracy:.1%}" in str(found)


HEALTHY = [
    pytest.param("adversarial", Linf(0.1)),
    pytest.param("plain", Linf(0.05), marks=pytest.mark.slow),
    pytest.param("certified", L2(0.5), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "threat"), HEALTHY)
def test_healthy_models_are_not(
    name: str, threat: Ball, zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    found = diagnosed(zoo(name), some, threat, seed=0)
    assert found.verdict is Level.GREEN, found.reasons
    assert dict(found.silent).keys() == {"transfer"}
    assert len(found.indicators) == 23


def test_a_module_in_training_mode_is_named(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    body = copy.deepcopy(zoo("adversarial").module).eval()
    module = nn.Sequential(nn.Dropout(0.2), body)
    module[0].train()
    found = diagnosed(TorchModel(module), some.select(range(8)), Linf(0.1), seed=0, method=TWENTY)
    assert found["training mode"].level is Level.AMBER
    assert "0" in found["training mode"].sentence
    assert module[0].training  # as it was
    module.eval().train(False)
    module.training = True  # a container minds no mode
    again = diagnosed(TorchModel(module), some.select(range(8)), Linf(0.1), seed=0, method=TWENTY)
    assert again["training mode"].level is Level.GREEN


def test_a_weak_attack_is_told_so_by_its_rivals(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    model = around(zoo, lambda body, x: 1000 * body(x))
    found = diagnosed(model, some, Linf(0.1), seed=0, method=TWENTY)
    rivals = ("black box beats white box", "boundaries", "smoothed twins", "not monotone in eps")
    assert all(found[name].level is Level.RED for name in rivals)
    standing = set((~found.found.success).nonzero()[:, 0].tolist())
    assert set(found["boundaries"].points) <= standing


class Halved(torch.autograd.Function):
    """The identity, with a gradient of which most is thrown away."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.mask = mask
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.mask, None


def test_a_gradient_that_is_another_functions_is_found(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    mask = (Streams.of(0, torch.arange(1)).uniform(1, 28, 28)[0] < 0.4).float()
    model = TorchModel(
        Around(
            copy.deepcopy(zoo("plain").module), lambda body, x: body(Halved.apply(x, mask))
        ).eval()
    )
    found = diagnosed(model, some, Linf(0.03), seed=0, method=TWENTY)
    assert found["gradient against differences"].level is Level.RED
    true = diagnosed(zoo("plain"), some, Linf(0.03), seed=0, method=TWENTY)
    assert true["gradient against differences"].level is Level.GREEN


def test_a_head_that_does_not_run_is_not_the_last_layer(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    module = Around(copy.deepcopy(zoo("plain").module), lambda body, x: body(x)).eval()
    module.spare = nn.Linear(3, 2)
    found = diagnosed(TorchModel(module), some.select(range(8)), Linf(0.02), seed=0, method=TWENTY)
    assert "planted adversarial inputs" in {one.name for one in found.indicators}


def test_what_stands_behind_an_input_stands_there_throughout(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    few, ends = some.select(range(6)), torch.tensor([[30.0, 3.0, 3.0]])
    model = lifted(zoo("adversarial"), rotated_and_shifted)
    spun = few.lifted(torch.zeros(6, 3))
    threat = Linf(math.inf, bounds=(-ends, ends))
    found = diagnosed(model, spun, threat, seed=0, method=Grid((5, 3, 3)))
    assert "unbounded attack fails" in dict(found.silent)


def test_other_models_are_asked_for_transfer(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    model = around(zoo, lambda body, x: body((8 * x).round() / 8))
    found = diagnosed(model, some, Linf(0.1), seed=0, method=TWENTY, others=[zoo("adversarial")])
    assert found["transfer"].level is Level.RED


def test_the_global_generators_are_left_as_they_were(
    zoo: Callable[[str], TorchModel], some: Dataset
) -> None:
    before = torch.random.get_rng_state()
    diagnosed(zoo("plain"), some.select(range(8)), Linf(0.02), seed=0, method=WorstOf((TWENTY,)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_that_is_never_right_has_no_robustness() -> None:
    model, data = linear(numbers(2, 6)), examples(6)
    x = data.x.flatten(1)[:, :6]
    wrong = 1 - predict(model, Dataset(x, torch.zeros(6, dtype=torch.int64))).argmax(1)
    with pytest.raises(DataError, match="right on none"):
        diagnosed(model, Dataset(x, wrong), Linf(0.1), seed=0)


@pytest.mark.parametrize(
    ("value", "points", "expected"),
    [
        (0.0, 0, Level.GREEN),
        (0.02, 5, Level.GREEN),
        (0.03, 5, Level.AMBER),
        (0.1, 5, Level.RED),
        (1.0, 1, Level.GREEN),  # one point is no alarm where two are asked for
        (math.nan, 5, Level.GREEN),
    ],
)
def test_an_indicator_is_held_to_its_thresholds(value: float, points: int, expected: Level) -> None:
    one = Indicator("one", value, 0.03, 0.1, tuple(range(points)), "said", least=2)
    assert one.level is expected


def test_a_verdict_is_the_worst(sample: Dataset, zoo: Callable[[str], TorchModel]) -> None:
    found = diagnosed(
        zoo("plain"), sample.select(range(4)), Linf(0.01), seed=0, method=TWENTY
    ).found
    calm = Indicator("calm", 0.0, 0.1, 0.2, (), "calm")
    loud = Indicator("loud", 0.15, 0.1, 0.2, (1,), "loud")
    worst = Indicator("worst", 0.25, 0.1, 0.2, (1,), "worst")
    made = Diagnosis(found, (calm, loud, worst), ())
    assert made.verdict is Level.RED
    assert made.reasons == ("worst", "loud")
    assert Diagnosis(found, (calm,), ()).verdict is Level.GREEN


def test_the_planted_point_is_told_from_the_others_where_it_can_be() -> None:
    inside = numbers(2, 30, 5, dtype=torch.float64)
    planted = torch.stack([torch.full((5,), 9.0).double(), inside[1].mean(0)])
    normal, offset, apart = _separated(inside, planted)
    assert apart.tolist() == [True, False]
    assert bool((inside[0] @ normal[0] < offset[0]).all())
    assert float(planted[0] @ normal[0]) > float(offset[0])
