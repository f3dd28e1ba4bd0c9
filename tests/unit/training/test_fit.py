"""The loop: killed anywhere it goes on to the same weights; several processes take the steps of one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import examples, numbers
from torch import Tensor, nn

import conjoin
from conjoin.attacks import PGD
from conjoin.core.ball import L2
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch, Event
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, DataError, ModelError, PlanError
from conjoin.nn import Centring, MinMax
from conjoin.nn.initialise import initialise
from conjoin.nn.whole_batch import looks_at_the_batch
from conjoin.training import (
    EMMA,
    Adam,
    Descent,
    Evaluation,
    Flip,
    GloRo,
    Recipe,
    Shift,
    Standard,
    Store,
    Watched,
    board,
    fit,
)
from conjoin.training.fit import _processes


def network(seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        MinMax(),
        nn.Flatten(),
        nn.Linear(64, 8),
        MinMax(),
        nn.Linear(8, 3),
    )
    initialise(net, seed, orthogonal=True)
    return net


def data(count: int = 60) -> Dataset:
    found = examples(count)
    return found.labelled(found.x.flatten(1)[:, :3].argmax(1))


RECIPE = Recipe(
    epochs=3,
    batch_size=16,
    rate=1e-2,
    optimiser=Adam(nesterov=True),
    clip=1.0,
    augmentation=(Shift(1),),
)
STEPS = 12  # in all
STEEP = Recipe(epochs=3, batch_size=16, rate=0.1, optimiser=Descent())  # sees the gradient's length


class KilledError(Exception):
    pass


class Dying(nn.Module):
    """A network that is killed in a pass of training, one that does not count for the trace."""

    def __init__(self, inner: nn.Module, after: float) -> None:
        super().__init__()
        self.inner, self.after, self.passes = inner, after, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            if self.passes > self.after:
                raise KilledError
        out: Tensor = self.inner(x)
        return out


def weights(net: nn.Module) -> list[Tensor]:
    return [value.clone() for value in net.state_dict().values()]


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("every", [0, 2])
def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    tmp_path: Path, after: int, every: int
) -> None:
    objective = EMMA(0.1)
    whole = Dying(network(), math.inf)
    rows = fit(whole, data(), objective, RECIPE, store=Store(tmp_path / "whole", every))
    dying = Dying(network(), after)
    store = Store(tmp_path / "killed", every)
    with pytest.raises(KilledError):
        fit(dying, data(), objective, RECIPE, store=store)
    again = Dying(network(), math.inf)
    found = fit(again, data(), objective, RECIPE, store=store)
    for a, b in zip(weights(whole), weights(again), strict=True):
        assert torch.equal(a, b)
    done = after // 4 * 4 if every == 0 else after // 2 * 2
    assert again.passes == STEPS - done  # nothing is done again that was kept
    for one, other in zip(rows, found, strict=True):
        assert {**one, "cpu_seconds": 0} == {**other, "cpu_seconds": 0}
    finished = Dying(network(), 0)
    fit(finished, data(), objective, RECIPE, store=store)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(finished), strict=True))


def test_a_store_changes_nothing(tmp_path: Path) -> None:
    one, two = network(), network()
    fit(one, data(), GloRo(0.1), RECIPE)
    fit(two, data(), GloRo(0.1), RECIPE, store=Store(tmp_path, 1))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    text = (tmp_path / "log.csv").read_text().splitlines()
    assert text[0] == "epoch,loss,rate,cpu_seconds"
    assert [line.split(",")[0] for line in text[1:]] == ["1", "2", "3"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors", "log.csv"]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    fit(network(), data(), Standard(), RECIPE, store=Store(tmp_path))
    for other, objective, net in (
        (Recipe(epochs=4), Standard(), network()),
        (RECIPE, GloRo(0.1), network()),
        (RECIPE, Standard(), network(1)),
    ):
        with pytest.raises(DataError, match="another recipe"):
            fit(net, data(), objective, other, store=Store(tmp_path))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(DataError):
        fit(network(), data(), Standard(), RECIPE, store=Store(tmp_path))


@pytest.mark.parametrize("optimiser", [Adam(), Adam(decay=0.01), Descent(), Descent(momentum=0.0)])
def test_every_optimiser_goes_on(tmp_path: Path, optimiser: Adam | Descent) -> None:
    recipe = Recipe(epochs=2, batch_size=16, rate=1e-2, optimiser=optimiser)
    whole, again = network(), network()
    fit(whole, data(), Standard(), recipe)
    with pytest.raises(KilledError):
        fit(Dying(again, 5), data(), Standard(), recipe, store=Store(tmp_path, 1))
    fit(Dying(last := network(), math.inf), data(), Standard(), recipe, store=Store(tmp_path, 1))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(last), strict=True))
    before = weights(network())
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(whole), strict=True))


def test_what_is_measured_between_epochs(tmp_path: Path) -> None:
    seen: list[Event] = []
    evaluation = Evaluation(
        data(30), L2(0.05, (-9, 9)), attack=PGD(steps=5), every=2, watched=Watched.CERTIFIED
    )
    rows = fit(network(), data(), GloRo(0.05), RECIPE, seen.append, evaluation=evaluation)
    assert [("clean" in row) for row in rows] == [False, True, True]  # the last always
    for row in rows[1:]:
        assert 0 <= row["certified"] <= row["attacked"] <= row["clean"] <= 1
    assert [(e.done, e.total) for e in seen] == [(1, 3), (2, 3), (3, 3)]
    assert rows[0]["loss"] > rows[2]["loss"]


def test_training_stops_early_with_the_best_weights(tmp_path: Path) -> None:
    """The number falls after the second epoch, by a network that is told to."""
    best: list[list[Tensor]] = []
    numbers_ = iter((0.5, 0.7, 0.6, 0.65, 0.9))

    class Scripted(Evaluation):
        __slots__ = ()

        def __call__(self, net: nn.Module) -> dict[str, float]:
            best.append(weights(net))
            return {"clean": next(numbers_)}

    net = network()
    recipe = Recipe(epochs=10, batch_size=16, rate=1e-2)
    scripted = Scripted(data(5), patience=2)
    rows = fit(net, data(), Standard(), recipe, evaluation=scripted, store=Store(tmp_path))
    assert [row["clean"] for row in rows] == [0.5, 0.7, 0.6, 0.65]
    assert all(torch.equal(a, b) for a, b in zip(weights(net), best[1], strict=True))
    again = network()
    fit(again, data(), Standard(), recipe, evaluation=scripted, store=Store(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(weights(again), best[1], strict=True))
    with pytest.raises(PlanError, match="a store"):
        fit(network(), data(), Standard(), recipe, evaluation=Evaluation(data(5), patience=1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Evaluation(data(5), every=0),
        lambda: Evaluation(data(5), patience=0),
        lambda: Evaluation(data(5), watched=Watched.CERTIFIED),
        lambda: Evaluation(data(5), L2(0.1), attack=None, watched=Watched.ATTACKED),
        lambda: Recipe(epochs=0),
        lambda: Recipe(epochs=1, rate=0.0),
        lambda: Recipe(epochs=1, precision=torch.float16),
        lambda: Shift(0),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(PlanError):
        make()


def test_a_loss_that_is_not_finite_says_where() -> None:
    class Broken:
        def __call__(self, net: nn.Module, batch: Batch, progress: float, /) -> Tensor:
            loss: Tensor = net(batch.x).sum() * math.nan
            return loss

    with pytest.raises(ModelError, match="at step 0: lower the rate"):
        fit(network(), data(), Broken(), RECIPE)


def test_the_board_gets_the_numbers_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen.append((name, value, step))

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(board, "find_spec", lambda _: object())
    rows = fit(network(), data(), Standard(), RECIPE, store=Store(tmp_path))
    assert seen == [(n, v, int(row["epoch"])) for row in rows for n, v in row.items()]
    monkeypatch.setattr(board, "find_spec", lambda _: None)
    board.show(tmp_path, {"epoch": 1.0})
    assert len(seen) == sum(map(len, rows))


def test_a_gradient_is_clipped() -> None:
    class Steep:
        def __call__(self, net: nn.Module, batch: Batch, progress: float, /) -> Tensor:
            loss: Tensor = 1e3 * net(batch.x).sum()
            return loss

    def moved(clip: float) -> float:
        net = network()
        before = weights(net)
        plain = Descent(momentum=0.0)
        flat = Recipe(1, 60, 1e-2, optimiser=plain, clip=clip, schedule=lambda _: 1.0)
        fit(net, data(), Steep(), flat)
        pairs = zip(weights(net), before, strict=True)
        return math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs))

    assert moved(2.0) == pytest.approx(2e-2, rel=1e-3)
    assert moved(math.inf) > 1.0


def test_mixed_precision_learns_and_leaves_norms_alone() -> None:
    kinds: list[torch.dtype] = []

    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kinds.append(x.dtype)
            return x

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), MinMax(), Seen(), nn.Linear(16, 3))
    initialise(net, 0)
    recipe = Recipe(epochs=8, batch_size=16, rate=1e-2, precision=torch.bfloat16)
    rows = fit(net, data(), EMMA(0.01), recipe)
    assert torch.bfloat16 in kinds
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_augmentation_is_a_function_of_seed_and_example() -> None:
    x, rng = numbers(6, 2, 7, 5), Streams.of(0, torch.arange(6))
    for change in (Shift(2), Flip()):
        whole = change(x, rng)
        rows = torch.tensor([4, 1])
        assert torch.equal(whole[rows], change(x[rows], rng.rows(rows)))
        assert not torch.equal(whole, change(x, Streams.of(1, torch.arange(6))))
    shifted = Shift(2)(x, rng)
    for one, moved in zip(x, shifted, strict=True):
        places = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(moved, _slow_shift(one, dy, dx))
        ]
        assert len(places) == 1
    flipped = Flip()(x, rng)
    same = (flipped == x).flatten(1).all(1)
    assert 0 < int(same.sum()) < 6
    assert torch.equal(flipped[~same], x[~same].flip(-1))
    many = Shift(1)(torch.ones(400, 1, 3, 3), Streams.of(0, torch.arange(400)))
    kept = many.flatten(1).sum(1)
    assert set(kept.tolist()) == {4.0, 6.0, 9.0}
    with pytest.raises(DataError, match="moves images"):
        Shift(1)(numbers(3, 4), Streams.of(0, torch.arange(3)))


def _slow_shift(one: Tensor, dy: int, dx: int) -> Tensor:
    out = torch.zeros_like(one)
    for y in range(one.shape[1]):
        for x in range(one.shape[2]):
            if 0 <= y + dy < one.shape[1] and 0 <= x + dx < one.shape[2]:
                out[:, y, x] = one[:, y + dy, x + dx]
    return out


def test_layers_that_look_at_the_batch_are_named() -> None:
    assert looks_at_the_batch(network()) == ""
    assert looks_at_the_batch(nn.Sequential(nn.ReLU(), Centring(3))) == "1"
    assert looks_at_the_batch(nn.BatchNorm1d(3)) == "BatchNorm1d"
    assert _processes() == (0, 1)


PROCESS = """
import sys, torch, torch.distributed as dist
from datetime import timedelta
from pathlib import Path
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = sys.argv[3:]
torch.set_num_threads(1)
store = dist.FileStore(str(folder / "meeting"), 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
from test_fit import RECIPE, STEEP, data, network
from conjoin.errors import CapabilityError
from conjoin.nn import Centring
from conjoin.training import EMMA, Standard, Store, fit
net = network()
rows = fit(net, data(57), EMMA(0.1), STEEP, store=Store(folder / "several", 2))
torch.save([v for v in net.state_dict().values()], folder / f"weights{rank}")
try:
    odd = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), Centring(3))
    fit(odd, data(), Standard(), RECIPE)
except CapabilityError as error:
    assert "whole batch" in str(error)
else:
    raise AssertionError
print(*(repr(row["loss"]) for row in rows))
dist.destroy_process_group()
"""


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    ours = Path(conjoin.__file__).parents[1]
    places = [str(ours), str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", PROCESS]
    both = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path), *places],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0] == told[1]
    net = network()
    rows = fit(net, data(57), EMMA(0.1), STEEP)  # 57: the last batch has an odd number of examples
    assert [float(v) for v in told[0]] == pytest.approx([row["loss"] for row in rows], rel=1e-4)
    first, second = (torch.load(tmp_path / f"weights{r}", weights_only=True) for r in (0, 1))
    for a, b, c in zip(first, second, weights(net), strict=True):
        assert torch.equal(a, b)
        assert torch.allclose(a, c, atol=2e-3)
    assert (tmp_path / "several/checkpoint.safetensors").exists()


def test_the_error_names_the_layer() -> None:
    class Unknown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1)

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Unknown(), nn.Linear(4, 3))
    initialise(net, 0)
    with pytest.raises(CapabilityError, match="2: cumsum"):
        fit(net, data(), GloRo(0.1), RECIPE)
