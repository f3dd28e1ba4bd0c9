"""Attacks beyond the norm ball: rotations, grids, random points, compositions, patches, one for all."""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from scipy import ndimage
from torch import Tensor

from conjoin.attacks import PGD, Grid, RandomSearch, universal
from conjoin.attacks.universal import Added, Descent, Universal, _parts
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Batch
from conjoin.core.quantity import logit, margin, predicted
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, DataError, PlanError
from conjoin.models.lifted import lifted
from conjoin.models.spatial import rotated_and_shifted
from conjoin.models.torch import TorchModel

OPEN = (-math.inf, math.inf)
LIMITS = torch.tensor([[30.0, 3.0, 3.0]])
BOX = Linf(math.inf, bounds=(-LIMITS, LIMITS))


def images(*shape: int, seed: int = 1) -> Tensor:
    return Streams.of(seed, torch.arange(shape[0])).uniform(*shape[1:], dtype=torch.float64)


def parameters(count: int, *values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64).expand(count, 3)


# Rotations and shifts


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 32, 32), (2, 5, 7, 12), (2, 9, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_moves_nothing_bit_for_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = images(*shape).to(dtype)
    assert torch.equal(rotated_and_shifted(x, torch.zeros(shape[0], 3)), x)


def test_whole_shifts_move_pixels_to_the_right_and_down() -> None:
    x = images(2, 3, 6, 9)
    expected = torch.zeros_like(x)
    expected[..., 1:, 2:] = x[..., :-1, :-2]
    assert torch.equal(rotated_and_shifted(x, parameters(2, 0, 2, 1)), expected)
    expected = torch.zeros_like(x)
    expected[..., :-1, :-2] = x[..., 1:, 2:]
    assert torch.equal(rotated_and_shifted(x, parameters(2, 0, -2, -1)), expected)


@pytest.mark.parametrize("size", [7, 8])
def test_quarter_turns_go_counter_clockwise(size: int) -> None:
    x = images(2, 1, size, size)
    for turns in (1, 2, 3):
        expected = torch.rot90(x, turns, (2, 3))
        found = rotated_and_shifted(x, parameters(2, 90.0 * turns, 0, 0))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def turned_slowly(x: np.ndarray, angle: float, dx: float, dy: float) -> np.ndarray:
    """One channel, pixel by pixel: z = (column + i · row upwards) about the middle."""
    height, width = x.shape
    back = cmath.exp(-1j * math.radians(angle))
    out = np.zeros_like(x)
    for r, c in itertools.product(range(height), range(width)):
        z = complex(c - (width - 1) / 2 - dx, -(r - (height - 1) / 2 - dy)) * back
        row, column = (height - 1) / 2 - z.imag, (width - 1) / 2 + z.real
        for i, j in itertools.product(range(height), range(width)):
            out[r, c] += x[i, j] * max(0, 1 - abs(i - row)) * max(0, 1 - abs(j - column))
    return out


def test_a_turn_is_that_of_the_complex_plane_and_of_a_peer() -> None:
    x = images(4, 1, 9, 13)
    theta = torch.tensor([[17.0, 1.3, -0.4], [-30.0, 0.0, 2.5], [100.0, -3.0, 3.0], [5.0, 0.5, 0]])
    theta = theta.double()
    found = rotated_and_shifted(x, theta)
    for k, (angle, dx, dy) in enumerate(theta.tolist()):
        slow = turned_slowly(x[k, 0].numpy(), angle, dx, dy)
        np.testing.assert_allclose(found[k, 0].numpy(), slow, atol=1e-12)
        a = math.radians(angle)
        matrix = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
        middle = np.array([4.0, 6.0])
        offset = middle - matrix @ (middle + np.array([dy, dx]))
        peer = ndimage.affine_transform(
            x[k, 0].numpy(), matrix, offset, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(found[k, 0].numpy(), peer, atol=1e-12)


def test_gradients_flow_to_picture_and_parameters() -> None:
    x = images(2, 2, 5, 6).requires_grad_()
    theta = torch.tensor([[12.3, 0.37, -1.21], [-40.0, 1.13, 0.71]]).double().requires_grad_()
    assert torch.autograd.gradcheck(rotated_and_shifted, (x, theta))


@pytest.mark.parametrize(
    ("x", "theta", "match"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, 2), "angle, dx, dy"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3, 3), "angle, dx, dy"),
        (torch.zeros(2, 4), torch.zeros(2, 3), "expected images"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), torch.zeros(2, 3), "expected images"),
    ],
)
def test_what_is_no_picture_is_refused(x: Tensor, theta: Tensor, match: str) -> None:
    with pytest.raises(DataError, match=match):
        rotated_and_shifted(x, theta)


# Grids and random points


def test_a_linear_model_is_least_in_a_corner_of_its_box() -> None:
    weight, x = numbers(2, 3, dtype=torch.float64), images(20, 3) / 4
    low, high = torch.tensor([[-1.0, -0.5, -2.0]]), torch.tensor([[0.5, 3.0, 1.0]])
    data = Dataset(x, torch.zeros(20, dtype=torch.int64))
    box = Linf(math.inf, bounds=(low, high))
    found = attack(linear(weight), data, Grid((4, 3, 2)), box, seed=0, quantity=logit)
    corner = torch.where(weight[0] > 0, low, high).double()
    assert torch.equal(found.inputs, corner.expand_as(x))
    # A radius cuts the box: the corner is then each example's own.
    near = attack(
        linear(weight), data, Grid((3, 3, 3)), Linf(0.1, (low, high)), seed=0, quantity=logit
    )
    expected = (x - 0.1 * weight[0].sign()).clamp(low, high)
    torch.testing.assert_close(near.inputs, expected, atol=1e-12, rtol=0)


def test_one_point_leaves_a_number_as_it_is() -> None:
    weight, x = numbers(2, 3, dtype=torch.float64), images(5, 3)
    data = Dataset(x, torch.zeros(5, dtype=torch.int64))
    found = attack(linear(weight), data, Grid((2, 1, 1)), Linf(1.0, OPEN), seed=0, quantity=logit)
    assert torch.equal(found.inputs[:, 1:], x[:, 1:])
    assert float((found.inputs[:, 0] - x[:, 0]).abs().min()) > 1 - 1e-12


def turning(count: int = 30) -> tuple[TorchModel, Dataset]:
    model, data = residual(dtype=torch.float64), examples(count, dtype=torch.float64)
    return model, data.labelled(predict(model, data).argmax(1))


def test_every_cell_is_looked_at() -> None:
    model, data = turning()
    behind = data.lifted(torch.zeros(len(data), 3, dtype=torch.float64))
    points, up = (7, 3, 5), lifted(model, rotated_and_shifted)
    lines = [torch.linspace(-w, w, n) for w, n in zip((30.0, 3.0, 3.0), points, strict=True)]
    values = []
    for cell in itertools.product(*lines):
        moved = rotated_and_shifted(data.x, parameters(len(data), *map(float, cell)))
        values.append(margin(predict(model, replace(data, x=moved)), data.y))
    least = torch.stack(values).amin(0)
    found = attack(up, behind, Grid(points), BOX, seed=0)
    assert torch.equal(found.success, least <= 0) and 0 < int(found.success.sum()) < len(data)
    standing = ~found.success
    torch.testing.assert_close(found.value[standing], least[standing], atol=1e-5, rtol=0)
    # A margin without a goal is searched to the end.
    endless = attack(up, behind, Grid(points), BOX, seed=0, quantity=logit)
    assert endless.provenance.forward >= len(data) * math.prod(points)


class Counting:
    """A model that notes the rows of each pass."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.seen: list[Tensor] = []

    def __call__(self, batch: Batch) -> Tensor:
        self.rows.append(len(batch))
        self.seen.append(batch.x.clone())
        return torch.stack([batch.x[:, 0] + 0.25, torch.zeros(len(batch))], 1)


def test_an_example_leaves_at_the_first_cell_that_wins_and_passes_stay_small() -> None:
    batch = batch_of(torch.tensor([[0.0], [1.0], [0.5]]))
    model = Counting()
    box = Linf(math.inf, bounds=(-1.0, 1.0))
    z = Grid((5,))(model, batch, box, margin)
    assert z.tolist() == [[-1.0]] * 3, "the outermost come first"
    assert max(model.rows) <= 128
    assert sum(map(len, model.seen)) == 15
    large = batch_of(torch.zeros(300, 1))
    Grid((9,))(model := Counting(), large, box, logit)
    assert model.rows == [300] * 9, "no more rows than the batch that came"
    Grid((9,))(model := Counting(), large, box, margin)
    assert model.rows == [300], "nothing is asked of what has fallen"
    photograph = Batch(large.x[:2], large.aim[:2], large.rng.rows(slice(0, 2)), {})
    photograph = replace(photograph, context={"lifted": torch.zeros(2, 3, 224, 224)})
    Grid((9,))(model := Counting(), photograph, box, logit)
    assert max(model.rows) == 4, "what stands behind is held once for each row"


def test_random_points_are_those_of_the_threat() -> None:
    model, data = turning()
    threat = L2(0.7)
    found = attack(model, data, RandomSearch(9), threat, seed=3, quantity=logit)
    rng = Streams.of(3, data.positions).fold("random search")
    values = []
    for number in range(9):
        z = threat.sample(data.x, rng.fold(number))
        values.append(logit(predict(model, replace(data, x=z)), data.y))
    torch.testing.assert_close(found.value, torch.stack([found.clean, *values]).amin(0))


@pytest.mark.parametrize("method", [Grid((5, 3, 3)), RandomSearch(7)], ids=repr)
@pytest.mark.parametrize("threat", [BOX, Scaled(L2(1.0, OPEN), LIMITS)], ids=str)
def test_company_changes_no_search(method: Grid | RandomSearch, threat: Threat) -> None:
    model, data = turning()
    up, behind = lifted(model, rotated_and_shifted), data.lifted(torch.zeros(len(data), 3).double())
    whole = attack(up, behind, method, threat, seed=0)
    assert 0 < int(whole.success.sum()) < len(data)
    for size in (1, 7):
        assert torch.equal(
            attack(up, behind, method, threat, seed=0, run=Run(size)).inputs, whole.inputs
        )
    flipped = behind.select(torch.arange(len(data)).flip(0))
    assert torch.equal(attack(up, flipped, method, threat, seed=0).inputs.flip(0), whole.inputs)


def test_a_grid_needs_a_box_and_few_numbers() -> None:
    model, data = turning(2)
    up, behind = lifted(model, rotated_and_shifted), data.lifted(torch.zeros(2, 3).double())
    with pytest.raises(CapabilityError, match="from end to end"):
        attack(up, behind, Grid((3, 3, 3)), Linf(math.inf, OPEN), seed=0)
    with pytest.raises(PlanError, match="points for 2 numbers; the inputs hold 3"):
        attack(up, behind, Grid((3, 3)), BOX, seed=0)
    for bad in ((), (0, 1), (1 << 11, 1 << 11)):
        with pytest.raises(PlanError, match="points must be"):
            Grid(bad)
    with pytest.raises(PlanError, match="samples"):
        RandomSearch(0)

    class Drawn:
        def __init__(self) -> None:
            for name in ("contains", "sample", "distance", "rows", "to", "check"):
                setattr(self, name, getattr(BOX, name))

    with pytest.raises(CapabilityError, match="RandomSearch only samples"):
        Grid((3, 3, 3))(up, batch_of(behind.x), Drawn(), margin)  # type: ignore[arg-type]


def test_turns_of_real_clothes(zoo: Callable[[str], TorchModel], sample: Dataset) -> None:
    """What is robust to pixels is not to turns; gradients find less than the grid."""
    data = sample.select(range(100))
    behind = data.lifted(torch.zeros(len(data), 3))
    for name in ("plain", "adversarial"):
        up = lifted(zoo(name), rotated_and_shifted)
        whole = attack(up, behind, Grid(), BOX, seed=0)
        drawn = attack(up, behind, RandomSearch(10), BOX, seed=0)
        assert float(whole.success.float().mean()) > 0.9
        assert int(whole.success.sum()) > int(drawn.success.sum()) > int((whole.clean <= 0).sum())
        steps = attack(up, behind, PGD(steps=20), Scaled(Linf(1.0, OPEN), LIMITS), seed=0)
        assert bool((whole.success | ~steps.success).all())


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # the peer's
def test_as_strong_as_foolbox(zoo: Callable[[str], TorchModel], sample: Dataset) -> None:
    foolbox = pytest.importorskip("foolbox", reason="the peer is not installed")
    data, model = sample.select(range(60)), zoo("adversarial")
    peer = foolbox.PyTorchModel(model.module.eval(), bounds=(0, 1), device="cpu")
    theirs = foolbox.attacks.SpatialAttack(
        max_translation=2, num_translations=3, max_rotation=15, num_rotations=7, grid_search=True
    )
    _, _, fooled = theirs(peer, data.x, data.y)
    limits = torch.tensor([[15.0, 2.0, 2.0]])
    box = Linf(math.inf, bounds=(-limits, limits))
    behind = data.lifted(torch.zeros(len(data), 3))
    ours = attack(lifted(model, rotated_and_shifted), behind, Grid((7, 3, 3)), box, seed=0)
    # Their turns interpolate otherwise, so one of sixty may differ.
    assert abs(int(ours.success.sum()) - int(fooled.sum())) <= 1
    assert int((ours.success != fooled).sum()) <= 2


# Compositions and patches: nothing new is needed


def changed_and_turned(x: Tensor, theta: Tensor) -> Tensor:
    return rotated_and_shifted(x + theta[:, 3:].reshape(x.shape), theta[:, :3])


def test_turns_and_pixels_together_beat_each(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    """One box holds both: each number has its scale, each pixel the room that its picture leaves."""
    model, data = zoo("adversarial"), sample.select(range(60))
    flat, turns = data.x.flatten(1), torch.full((60, 3), math.inf)
    bounds = torch.cat([-turns, -flat], 1), torch.cat([turns, 1 - flat], 1)
    scale = torch.cat([torch.tensor([[10.0, 1.0, 1.0]]), torch.full((1, 784), 0.1)], 1)
    pixels = torch.arange(787) >= 3
    method, up = PGD(steps=20, random_start=False), lifted(model, changed_and_turned)
    both = data.lifted(torch.zeros(60, 787))
    fell = {}
    for name, mask in (("turn", ~pixels), ("pixels", pixels), ("both", None)):
        ball = Linf(1.0, bounds, None if mask is None else mask[None])
        found = attack(up, both, method, Scaled(ball, scale), seed=0)
        assert bool((found.inputs.abs() <= scale + 1e-6).all())
        if mask is not None:
            assert not bool(found.inputs[:, ~mask].any())
        fell[name] = found.success
    alone = attack(model, data, method, Linf(0.1), seed=0)
    assert abs(int(alone.success.sum()) - int(fell["pixels"].sum())) <= 2, (
        "the same set of pictures"
    )
    assert int(fell["both"].sum()) > max(int(fell["turn"].sum()), int(fell["pixels"].sum()))


def test_two_stages_go_on_from_the_worst_turn(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("adversarial"), sample.select(range(60))
    limits = torch.tensor([[10.0, 1.0, 1.0]])
    box = Linf(math.inf, bounds=(-limits, limits))
    up = lifted(model, rotated_and_shifted)
    first = attack(up, data.lifted(torch.zeros(60, 3)), Grid((5, 3, 3)), box, seed=0)
    turned = replace(data, x=rotated_and_shifted(data.x, first.inputs))
    second = attack(model, turned, PGD(steps=20), Linf(0.1), seed=0)
    assert bool((second.success | ~first.success).all())
    assert int(second.success.sum()) > int(first.success.sum())


def test_a_sticker_is_a_mask(zoo: Callable[[str], TorchModel], sample: Dataset) -> None:
    data, sticker = sample.select(range(60)), torch.zeros(1, 1, 28, 28, dtype=torch.bool)
    sticker[..., 10:14, 4:24] = True  # where glasses would sit
    found = attack(zoo("plain"), data, PGD(steps=20), Linf(1.0, mask=sticker), seed=0)
    outside = ~sticker.expand_as(data.x)
    assert torch.equal(found.inputs[outside], data.x[outside])
    assert int(found.success.sum()) > 2 * int((found.clean <= 0).sum())


# One change for all


def one_class(size: int = 12) -> tuple[TorchModel, Dataset, Tensor]:
    weight = numbers(2, size, dtype=torch.float64)
    x = 0.5 + 0.05 * images(40, size)
    g = weight[0] - weight[1]
    bias = torch.stack([0.3 - (x @ g).mean(), torch.zeros(()).double()])
    return linear(weight, bias), Dataset(x, torch.zeros(40, dtype=torch.int64)), g


@pytest.mark.parametrize("kind", [Linf, L2])
def test_of_a_linear_model_it_is_the_steepest_change(kind: type[Ball]) -> None:
    model, data, g = one_class()
    found = universal(model, data, kind(0.05), seed=0, descent=Descent(steps=200, examples=40))
    best = -g.sign() if kind is Linf else -g / g.norm()
    torch.testing.assert_close(found.delta, 0.05 * best, atol=2e-4, rtol=0)
    dual = float(torch.linalg.vector_norm(g, ord=1 if kind is Linf else 2))
    exact = margin(predict(model, data), data.y) - 0.05 * dual
    torch.testing.assert_close(found.value, exact, atol=1e-3, rtol=0)
    assert found.fooling_rate == float((found.value <= 0).double().mean())


def test_what_the_box_cuts_off_has_no_say() -> None:
    """Black elements cannot become darker, so the radius is spent on the others."""
    x = torch.tensor([[0.0, 0.5]]).double().repeat(6, 1)
    weight = torch.tensor([[3.0, 1.0], [0.0, 0.0]]).double()
    data = Dataset(x, torch.zeros(6, dtype=torch.int64))
    found = universal(linear(weight), data, L2(0.2), seed=0, descent=Descent(steps=200))
    torch.testing.assert_close(found.delta, torch.tensor([0.0, -0.2]).double(), atol=0.01, rtol=0)


def test_each_pass_takes_all_of_the_data_in_a_new_order() -> None:
    _, data = turning(10)
    parts = [part.tolist() for part in _parts(data, 0, Descent(steps=6, examples=5))]
    passes = [parts[k] + parts[k + 1] for k in (0, 2, 4)]
    assert all(sorted(part) == list(range(10)) for part in passes)
    assert len({tuple(part) for part in passes}) == 3
    few = [sorted(part.tolist()) for part in _parts(data, 0, Descent(steps=2, examples=99))]
    assert few == [list(range(10))] * 2


def test_it_depends_on_neither_batch_size_nor_order() -> None:
    model, data = turning(60)
    how = Descent(steps=15, examples=25)
    whole = universal(model, data, Linf(0.1), seed=0, descent=how)
    for size in (7, 60):
        assert torch.equal(
            universal(model, data, Linf(0.1), seed=0, descent=how, run=Run(size)).delta, whole.delta
        )
    order = torch.arange(60).flip(0)
    turned = universal(model, data.select(order), Linf(0.1), seed=0, descent=how)
    assert torch.equal(turned.delta, whole.delta) and torch.equal(
        turned.success.flip(0), whole.success
    )
    other = universal(model, data, Linf(0.1), seed=1, descent=how)
    assert not torch.equal(other.delta, whole.delta)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(1.5), L1(9.0)], ids=str)
def test_it_stays_in_its_ball_and_box(threat: Ball) -> None:
    model, data = turning(20)
    found = universal(model, data, threat, seed=0, descent=Descent(steps=20))
    assert float(torch.linalg.vector_norm(found.delta.flatten(), ord=threat.order)) <= threat.eps
    again = attack(model, data, found.attack, threat, seed=0, target=predicted)
    assert torch.equal(again.value, found.value) and torch.equal(again.success, found.success)


def test_it_fools_real_clothes_that_it_has_not_seen(
    zoo: Callable[[str], TorchModel], sample: Dataset, tmp_path: Path
) -> None:
    model, mine, others = zoo("plain"), sample.select(range(150)), sample.select(range(150, 300))
    threat = Linf(0.1)
    found = universal(model, mine, threat, seed=0)
    assert found.provenance.act == "universal" and found.provenance.backward == 100 * 128
    noise = attack(model, others, RandomSearch(1), threat, seed=0, target=predicted)
    moved = attack(model, others, found.attack, threat, seed=0, target=predicted)
    assert found.fooling_rate > 0.3 and float(moved.success.float().mean()) > 0.3
    assert float(noise.success.float().mean()) < 0.15
    found.save(tmp_path / "found.safetensors")
    again = Universal.load(tmp_path / "found.safetensors")
    assert torch.equal(again.delta, found.delta) and "of 150 fooled by one change" in repr(again)


def test_a_universal_sticker_stays_in_its_place(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    mask = torch.zeros(1, 1, 28, 28, dtype=torch.bool)
    mask[..., :8, :] = True
    data = sample.select(range(60))
    found = universal(zoo("plain"), data, Linf(1.0, mask=mask), seed=0, descent=Descent(steps=30))
    assert not bool(found.delta[~mask[0]].any()) and found.fooling_rate > 0.2


def test_what_is_not_one_set_for_all_is_refused() -> None:
    model, data = turning(4)
    for bad in (
        Linf(torch.full((4,), 0.1)),
        Linf(0.1, mask=torch.ones(4, 1, 8, 8, dtype=torch.bool)),
        Linf(math.inf),
    ):
        with pytest.raises(CapabilityError, match="one change for all"):
            universal(model, data, bad, seed=0)
    with pytest.raises(CapabilityError, match="a ball of its own"):
        universal(model, data, Scaled(Linf(0.1), 2.0), seed=0)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="must be positive"):
        Descent(steps=0)
    assert repr(Added(torch.tensor([0.5, -1.0]))).startswith("Added(torch.float32 of shape (2,)")
