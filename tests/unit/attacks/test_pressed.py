"""Dear attacks only where cheap ones came near, example by example."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from conjoin import Dataset, Linf, attack, wrap
from conjoin.attacks import Pressed, RandomSearch, standard
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True)
class Share:
    """Moves the only element by a share of eps towards the boundary; notes what it saw."""

    share: float
    seen: list[float] = field(default_factory=list)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Move."""
        self.seen.extend(round(float(v), 4) for v in batch.x[:, 0])
        return threat.project(batch.x - 0.5 * self.share, batch.x)  # type: ignore[attr-defined] # a ball


class Refuses:
    """Does not apply."""

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Refuse."""
        raise CapabilityError("never")


def line() -> nn.Module:
    net = nn.Linear(1, 2)  # the margin is 2 x
    net.weight.data, net.bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    return net


X = torch.tensor([[0.3], [0.6], [0.9], [1.6]])
DATA = Dataset(X, torch.zeros(4, dtype=torch.int64))
WIDE = Linf(0.5, (-10.0, 10.0))


def test_only_what_came_near_is_attacked_further() -> None:
    cheap, dear = Share(0.9), Share(1.0)
    # After 0.45: 0.3 falls; of 0.6, 0.9 and 1.6 there are 0.25, 0.5 and 0.72 left.
    for within, seen in ((0.2, []), (0.3, [0.6]), (0.6, [0.6, 0.9]), (1.0, [0.6, 0.9, 1.6])):
        dear.seen.clear()
        found = attack(wrap(line()), DATA, Pressed((cheap,), (dear,), within), WIDE, seed=0)
        assert dear.seen == pytest.approx(seen)
        assert found.success.tolist() == [True, False, False, False]
        least = [x - (0.5 if x in dear.seen else 0.45) for x in (0.6, 0.9, 1.6)]
        assert torch.allclose(found.value[1:], 2 * torch.tensor(least), atol=1e-5)


def test_what_is_near_does_not_depend_on_company() -> None:
    method = Pressed((RandomSearch(3),), (RandomSearch(20),), 0.5)
    whole = attack(wrap(line()), DATA, method, WIDE, seed=3)
    for row in range(4):
        alone = attack(wrap(line()), DATA.select([row]), method, WIDE, seed=3)
        assert torch.equal(alone.inputs, whole.inputs[[row]])


def test_what_does_not_apply_is_told() -> None:
    found = attack(wrap(line()), DATA, Pressed((Share(0.9),), (Refuses(),), 1.0), WIDE, seed=0)
    assert any("never" in said for said in found.provenance.passed_over)
    with pytest.raises(CapabilityError, match="never"):
        attack(wrap(line()), DATA, Pressed((Refuses(),), (Share(1.0),)), WIDE, seed=0)
    with pytest.raises(PlanError, match="within"):
        Pressed((Share(1.0),), (Share(1.0),), 0.0)


def test_standard_presses_what_is_near_and_asks_all_without_gradients() -> None:
    kinds = [type(part).__name__ for part in standard().attacks]
    assert "Pressed" in kinds and kinds[-1] == "Square"
