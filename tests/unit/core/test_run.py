"""The drivers: a method cannot lie, nothing is left changed, results can be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from conftest import examples, linear, numbers, sequential
from torch import Tensor

from conjoin.attacks import PGD
from conjoin.attribution import integrated_gradients, saliency
from conjoin.certification import Interval
from conjoin.core.protocols import Event
from conjoin.core.quantity import Always, Avoid, margin
from conjoin.core.result import AttackResult, Attribution, Certificate, Score
from conjoin.core.run import Run, attack, attribute, certify, predict, score
from conjoin.core.threat import Linf
from conjoin.errors import (
    CapabilityError,
    DataError,
    ModelError,
    PostconditionError,
    SoundnessError,
)
from conjoin.metrics import Deletion


@dataclass(frozen=True)
class Returns:
    """A method that returns what it is told."""

    make: object

    def __call__(self, model: object, batch: object, *_: object) -> Tensor:
        return self.make(batch)  # type: ignore[operator]


def right(count: int = 12) -> object:
    """Data labelled by the model's own answers, so that attacks have something to do."""
    data = examples(count)
    return data.labelled(predict(sequential(), data).argmax(1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda batch: batch.x + 0.2, "left the threat set linf:0.1"),
        (lambda batch: batch.x - 0.2, "left the threat set"),
        (lambda batch: batch.x * torch.nan, "not all finite"),
        (lambda batch: batch.x[:, :, :4], "expected finite values like"),
        (lambda batch: batch.x.double(), "torch.float64"),
    ],
)
def test_an_attack_that_lies_is_caught(make: object, said: str) -> None:
    with pytest.raises(PostconditionError, match=said):
        attack(sequential(), right(), Returns(make), Linf(0.1), seed=0)


def test_a_useless_attack_leaves_the_clean_input_which_is_always_a_candidate() -> None:
    data = right()
    best = attack(sequential(), data, PGD(), Linf(0.1), seed=0)

    def worse(batch: object) -> Tensor:
        return (batch.x + 0.05).clamp(0, 1)  # type: ignore[attr-defined]

    found = attack(sequential(), data, Returns(worse), Linf(0.1), seed=0)
    assert bool((found.value <= found.clean).all())
    kept = found.value == found.clean
    assert torch.equal(found.inputs[kept], data.x[kept])
    assert bool((best.value <= best.clean).all()) and bool((best.value < best.clean).any())


def test_values_are_recomputed_by_the_driver() -> None:
    data, model = right(), sequential()
    found = attack(model, data, PGD(), Linf(0.2), seed=0)
    fresh = margin(predict(model, replace(data, x=found.inputs)), data.y)
    assert torch.equal(found.value, fresh)
    assert torch.equal(found.success, fresh <= 0)
    assert torch.allclose(found.distance, Linf(0).distance(found.inputs, data.x))


def test_wrong_predictions_are_not_attacked() -> None:
    data = right()
    wrong = data.labelled((data.y + 1) % 5)
    found = attack(sequential(), wrong, PGD(), Linf(0.1), seed=0)
    assert torch.equal(found.inputs, data.x) and bool(found.success.all())
    assert found.provenance.backward == 0


def test_a_certificate_above_a_seen_value_is_an_alarm() -> None:
    with pytest.raises(SoundnessError, match="unsound"):
        certify(sequential(), right(), Returns(lambda b: b.x.new_full((12,), 1e3)), Linf(0.1))
    with pytest.raises(PostconditionError, match="no NaN"):
        certify(sequential(), right(), Returns(lambda b: b.x.new_full((12,), torch.nan)), Linf(0.1))


def test_attributions_of_another_shape_or_infinite_are_refused() -> None:
    for make in (lambda b: b.x[..., :2], lambda b: b.x / 0):
        with pytest.raises(PostconditionError, match="expected finite values of shape"):
            attribute(sequential(), right(), Returns(make), seed=0)


def test_scores_must_be_one_finite_number_each() -> None:
    for make in (lambda b: b.x.new_zeros(3), lambda b: b.x.new_full((12,), torch.nan)):
        with pytest.raises(PostconditionError, match="one finite number"):
            score(sequential(), right(), saliency(), Returns(make), seed=0)


def test_passes_are_counted_exactly() -> None:
    data = right()
    found = attribute(sequential(), data, saliency(), seed=0, run=Run(batch_size=5))
    assert (found.provenance.forward, found.provenance.backward) == (24, 12)  # the target is one
    found = attack(sequential(), data, PGD(steps=3), Linf(1e-6), seed=0)
    assert (found.provenance.forward, found.provenance.backward) == (12 * (1 + 3 + 1 + 1), 36)


def test_progress_is_reported_batch_by_batch() -> None:
    seen: list[Event] = []
    attack(sequential(), right(), PGD(steps=1), Linf(0.1), seed=0, run=Run(5, seen.append))
    assert seen == [Event("attack", 5, 12), Event("attack", 10, 12), Event("attack", 12, 12)]


def test_the_global_generators_are_as_before() -> None:
    model, data = sequential(), right()
    state = torch.get_rng_state()

    def noisy(batch: object) -> Tensor:
        torch.rand(3)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        attack(model, data, Returns(noisy), Linf(0.1), seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [1, 5, 7])
def test_results_do_not_depend_on_the_batch_size_or_the_company(size: int) -> None:
    data, model = right(), sequential()
    whole = attack(model, data, PGD(steps=10), Linf(0.1), seed=0)
    parts = attack(model, data, PGD(steps=10), Linf(0.1), seed=0, run=Run(batch_size=size))
    assert torch.equal(whole.inputs, parts.inputs) and torch.equal(whole.value, parts.value)
    some = torch.tensor([7, 2, 11])
    alone = attack(model, data.select(some), PGD(steps=10), Linf(0.1), seed=0)
    assert torch.equal(whole.inputs[some], alone.inputs)


def test_seeds_differ_and_repeat() -> None:
    data, model = right(), sequential()

    def found(seed: int) -> Tensor:
        return attack(model, data, PGD(steps=1), Linf(0.2), seed=seed).value

    assert torch.equal(found(0), found(0)) and not torch.equal(found(0), found(1))


def test_a_targeted_attack_is_a_quantity() -> None:
    data, model = right(), sequential()
    found = attack(model, data, PGD(), Linf(0.5), seed=0, quantity=Avoid(3))
    answers = predict(model, replace(data, x=found.inputs)).argmax(1)
    assert bool(found.success.any()) and bool((answers[found.success] == 3).all())


def test_results_survive_the_disk(tmp_path: Path) -> None:
    data, model = right(), sequential()
    made = (
        attack(model, data, PGD(steps=2), Linf(0.1), seed=0),
        certify(model, data, Interval(), Linf(0.001)),
        attribute(model, data, integrated_gradients(), seed=0),
        score(model, data, saliency(), Deletion(), seed=0),
    )
    for result, kind in zip(made, (AttackResult, Certificate, Attribution, Score), strict=True):
        result.save(tmp_path / "r.safetensors")
        again = kind.load(tmp_path / "r.safetensors")
        assert again.provenance == result.provenance
        for name in result.__dataclass_fields__.keys() - {"provenance"}:
            assert torch.equal(
                getattr(again, name).nan_to_num(), getattr(result, name).nan_to_num()
            )
    with pytest.raises(DataError, match="holds a Score; expected Certificate"):
        Certificate.load(tmp_path / "r.safetensors")


def test_the_explained_class_is_fixed_at_the_example() -> None:
    weight = numbers(4, 6)
    data = examples(3)
    flat = replace(data, x=data.x.flatten(1)[:, :6], ids=(), y=torch.zeros(3, dtype=torch.int64))
    found = attribute(linear(weight), flat, saliency(), seed=0, target=Always(2))
    assert torch.equal(found.values, weight[2].expand(3, 6)) and found.target.tolist() == [2] * 3
    top = predict(linear(weight), flat).argmax(1)
    found = attribute(linear(weight), flat, saliency(), seed=0)
    assert torch.equal(found.target, top) and torch.equal(found.values, weight[top])


def test_labels_beyond_the_outputs_and_wrong_output_shapes_are_named() -> None:
    data = examples(4)
    with pytest.raises(DataError, match="labels go up to 9, but the model has 5 outputs"):
        predict(sequential(), data.labelled(torch.tensor([0, 1, 2, 9])))
    with pytest.raises(ModelError, match="expected logits of shape"):
        predict(_Flat(), data)


def test_a_single_output_is_refused_with_the_way_out() -> None:
    model = linear(numbers(1, 64))
    with pytest.raises(ModelError, match=r"two logits \[0, z\]"):
        predict(model, examples(4).labelled(torch.zeros(4, dtype=torch.int64)))


def test_inputs_outside_the_box_are_named_before_any_work() -> None:
    data = right()
    wide = replace(data, x=data.x * 255)
    for act in (
        lambda: attack(sequential(), wide, PGD(), Linf(0.1), seed=0),
        lambda: certify(sequential(), wide, Interval(), Linf(0.1)),
    ):
        with pytest.raises(DataError, match=r"outside the threat's bounds \(0.0, 1.0\)"):
            act()


class _Flat:
    device = torch.device("cpu")

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)


class _BlackBox(_Flat):
    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5].round().detach()


def test_a_missing_capability_names_what_applies() -> None:
    data = examples(4)
    with pytest.raises(CapabilityError, match="gives outputs only"):
        attribute(_BlackBox(), data, saliency(), seed=0)
    with pytest.raises(CapabilityError, match="needs to know the layers"):
        certify(_BlackBox(), data, Interval(), Linf(0.1))
    labels = predict(_BlackBox(), data).argmax(1)
    easy = replace(data, x=data.x + torch.nn.functional.one_hot(labels, 64).reshape(-1, 1, 8, 8))
    with pytest.raises(CapabilityError, match="no gradient reaches the input"):
        attack(_BlackBox(), easy.labelled(labels), PGD(), Linf(0.1, (0, 3)), seed=0)
