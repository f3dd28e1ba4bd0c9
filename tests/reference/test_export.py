"""Exported networks tell the radii that the library proves, in onnxruntime and after re-import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from conjoin import L2, Dataset, attack, certify, predicted, wrap
from conjoin.attacks import PGD
from conjoin.certification import Lipschitz
from conjoin.certification.export import RadiusHead, certified, export
from conjoin.core.evidence import Claim
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError, PostconditionError
from conjoin.models import exported
from conjoin.models.onnx import load
from conjoin.nn import MinMax, Normalise
from conjoin.nn.initialise import initialise


class Mixed(nn.Module):
    """Every operator that is written: branches, joints, pools, a transposed convolution, moves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, 2, 1)
        self.norm, self.up = nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2, 2, groups=2)
        self.rows, self.head = nn.Linear(8, 6), nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.leaky_relu(self.stem(x), 0.2)
        y = x - self.norm(x).abs() + torch.sigmoid(x)
        y = nn.functional.max_pool2d(self.up(y), 3, 2, 1)
        y = torch.cat([y, nn.functional.pad(x, (0, 0, 0, 0))], 1)
        y = nn.functional.avg_pool2d(y, 2).transpose(2, 3).flatten(2).transpose(1, 2)
        y = torch.tanh(self.rows(y * 0.5)).clamp(-0.5, 0.8)
        return self.head(y.flip(1).repeat(1, 2, 1).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mixed": Mixed,
    "minmax": lambda: nn.Sequential(
        *(Normalise([0.3, 0.5], [0.5, 0.25]), nn.Conv2d(2, 4, 4, 2), MinMax(), nn.Flatten()),
        *(nn.Linear(36, 6), MinMax(), nn.Linear(6, 4)),
    ),
    "double": lambda: nn.Sequential(
        *(nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Unflatten(1, (2, 4)), nn.MaxPool1d(3, 2)),
        *(nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(2, 4)),
    ).double(),
}


def network(name: str) -> nn.Module:
    made = NETWORKS[name]().eval()
    initialise(made, 3)
    return made


def images(dtype: torch.dtype, count: int = 9) -> torch.Tensor:
    return Streams.of(1, torch.arange(count)).uniform(2, 8, 8, dtype=dtype)


def radii(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    data = Dataset(x, torch.zeros(len(x), dtype=torch.long))
    method = Lipschitz(Claim.SOUND_DEPLOYED)
    return certify(module, data, method, L2(0.0, bounds=(-9.0, 9.0)), target=predicted).radius


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_tells_the_radii(name: str, tmp_path: Path) -> None:
    module = network(name)
    model = wrap(module)
    x = images(model.dtype)
    path = tmp_path / "net.onnx"
    export(model, x, path)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [out.name for out in session.get_outputs()] == ["logits", "radius"]
    logits, told = (torch.from_numpy(v) for v in session.run(None, {"x": x.numpy()}))
    torch.testing.assert_close(logits, module(x), rtol=1e-5, atol=1e-5)
    own = radii(module, x)
    assert told.shape == (9,) and bool((told > 0).any())
    assert bool((told <= own).all())  # rounded down, and its own rounding is covered
    torch.testing.assert_close(told.double(), own, rtol=1e-3, atol=2e-4)
    found = attack(
        model, Dataset(x, module(x).argmax(1)), PGD(), L2(told.double(), bounds=(-9.0, 9.0)), seed=0
    )
    assert not bool((found.success & (told > 0)).any())
    one = session.run(["radius"], {"x": x[:1].numpy()})[0]
    np.testing.assert_allclose(one, told[:1].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_were_imported_again_have_the_same_radii(name: str, tmp_path: Path) -> None:
    module = network(name)
    model = wrap(module)
    x = images(model.dtype)
    export(model, x, tmp_path / "net.onnx")
    again = load(tmp_path / "net.onnx")
    torch.testing.assert_close(again(x), module(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(radii(again, x), radii(module, x), rtol=1e-3, atol=2e-4)
    export(wrap(again), x, tmp_path / "twice.onnx")
    torch.testing.assert_close(load(tmp_path / "twice.onnx")(x), module(x), rtol=1e-5, atol=1e-5)


def test_torch_export_has_the_same_head(tmp_path: Path) -> None:
    module = network("minmax")
    x = images(torch.float32)
    export(wrap(module), x, tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2").module()
    logits, told = program(x)
    wanted = certified(wrap(module), x)(x)
    torch.testing.assert_close(logits, wanted[0])
    torch.testing.assert_close(told, wanted[1])
    alone = tmp_path / "logits.pt2"
    made = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(made, alone)
    torch.testing.assert_close(radii(exported.load(alone), x), radii(module, x))


def test_the_head_by_hand() -> None:
    """z = W x: the radius is (z_0 - z_1) / ‖w_0 - w_1‖, up to rounding, and 0 at a tie."""
    module = nn.Linear(2, 3).eval()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
        module.bias.zero_()
    made = certified(wrap(module), torch.zeros(1, 2))
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 3.0], [0.0, 0.0], [1e-3, 0.0]])
    with torch.no_grad():
        told = made(x)[1]
    wanted = torch.tensor([3 / 5, 4 / 5, 0.0, 0.0, 3e-3 / 5])
    torch.testing.assert_close(told, wanted, rtol=1e-4, atol=1e-6)
    assert bool((told[:2] < wanted[:2]).all()) and told[2:4].tolist() == [0, 0]
    huge = made(torch.tensor([[1e30, 0.0]]))[1].detach()
    assert bool(huge.isfinite().all()) and float(huge) == 0  # numbers may overflow there


def test_constants_that_vanish_give_no_infinite_radius() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        module[0].weight.copy_(torch.eye(2) * 1e-25)
        module[2].weight.copy_(torch.tensor([[1e25, 0], [0, 1e25]]))
        module[2].bias.copy_(torch.tensor([1.0, 0.0]))
    told = certified(wrap(module), torch.ones(1, 2))(torch.ones(1, 2))[1].detach()
    assert 0 <= float(told) < 1


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    x = images(torch.float32).flatten(1)
    layers = nn.Sequential(nn.Linear(128, 4), nn.Softplus(), nn.Linear(4, 3)).eval()
    with pytest.raises(CapabilityError, match="softplus"):
        export(wrap(layers), x, tmp_path / "net.onnx")
    layers[1] = nn.LayerNorm(4)
    with pytest.raises(CapabilityError, match="rounding"):
        export(wrap(layers), x, tmp_path / "net.onnx")
    with pytest.raises(PlanError, match=r"\.pt2"):
        export(wrap(layers), x, tmp_path / "net.h5")
    assert not list(tmp_path.iterdir())


def test_a_file_that_gives_other_numbers_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = RadiusHead.forward
    monkeypatch.setattr(RadiusHead, "forward", lambda *given: before(*given) * 1.01)
    with pytest.raises(PostconditionError, match="other radii"):
        export(wrap(network("minmax")), images(torch.float32), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
