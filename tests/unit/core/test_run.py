"""The drivers: a method cannot lie, nothing is left changed, results can be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, sequential
from torch import Tensor, nn

from conjoin.attacks import PGD
from conjoin.attribution import explained, integrated_gradients, saliency
from conjoin.certification import Interval, Lipschitz
from conjoin.core.arguments import check_quantity, check_threat
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Bounds, Claim, Verdict
from conjoin.core.protocols import Batch, Event, Layered, Model, Secant, Sliceable
from conjoin.core.quantity import Always, Asked, Avoid, Margin, given, margin
from conjoin.core.result import AttackResult, Attribution, Certificate, Score
from conjoin.core.run import attack, attribute, certify, predict, score
from conjoin.core.slice import Slice
from conjoin.errors import (
    CapabilityError,
    DataError,
    ModelError,
    PlanError,
    PostconditionError,
    SoundnessError,
)
from conjoin.metrics import Deletion
from conjoin.models.lifted import lifted
from conjoin.models.wrap import wrap
from conjoin.nn.initialise import initialise


@dataclass(frozen=True)
class Returns:
    """A method that returns what it is told; any kind of method, by structure."""

    needs = Model
    where = Slice()
    make: object

    def __call__(self, model: object, batch: object, *_: object) -> object:
        return self.make(batch)  # type: ignore[operator]

    def ends(self, model: object, batch: object, /) -> None:
        """Promise nothing."""


def bounds(value: float) -> Returns:
    """A certifier that claims one value for all."""
    return Returns(lambda b: Bounds(b.x.new_full((len(b),), value), Claim.SOUND_DEPLOYED))


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
        (lambda batch: batch.x[:, :, :4], r"expected torch.float32 of shape \(12, 1, 8, 8\)"),
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
        certify(sequential(), right(), bounds(1e3), Linf(0.1))
    with pytest.raises(PostconditionError, match="no NaN"):
        certify(sequential(), right(), bounds(torch.nan), Linf(0.1))


def test_attributions_of_another_shape_or_infinite_are_refused() -> None:
    for make, said in (
        (lambda b: b.x[..., :2], r"for the activation at input; expected torch.float32 of shape"),
        (lambda b: b.x / 0, "expected finite values"),
    ):
        with pytest.raises(PostconditionError, match=said):
            attribute(sequential(), right(), Returns(make), seed=0)


def test_scores_must_be_one_finite_number_each() -> None:
    for make, said in (
        (lambda b: b.x.new_zeros(3), r"of shape \(12,\)"),
        (lambda b: b.x.new_full((12,), torch.nan), "finite numbers"),
    ):
        with pytest.raises(PostconditionError, match=said):
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


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_logit_is_minimised_and_maximised_without_end(sign: float) -> None:
    data, weight = right(), numbers(5, 64)
    model = linear(weight)
    ask = Asked(lambda outputs, aim: sign * outputs.gather(1, aim[:, None])[:, 0])
    found = attack(model, data, PGD(steps=100), Linf(0.1), seed=0, quantity=ask)
    own = weight[data.y].reshape(data.x.shape)
    low, high = (data.x - 0.1).clamp(min=0), (data.x + 0.1).clamp(max=1)
    corner = torch.where(sign * own > 0, low, high)
    exact = (sign * own * corner).flatten(1).sum(1)
    assert torch.allclose(found.value, exact, atol=1e-4) and not bool(found.success.any())


def test_a_function_without_a_goal_is_refused_with_the_way_out() -> None:
    with pytest.raises(PlanError, match=r"Asked\(function, goal=0.0\)"):
        check_quantity(lambda o, a: o[:, 0])


def test_what_is_no_threat_is_refused() -> None:
    with pytest.raises(PlanError, match="expected a threat"):
        check_threat(0.5, right().x)


def test_methods_that_need_outputs_only_explain_models_that_give_no_more() -> None:
    data = examples(4)
    method = Returns(lambda b: b.x * 2)
    found = attribute(_BlackBox(), data, method, seed=0)
    assert torch.equal(found.values, data.x * 2) and bool(found.gap.isnan().all())
    scored = score(_BlackBox(), data, method, Returns(lambda b: b.x.flatten(1)[:, 0]), seed=0)
    assert torch.equal(scored.values, data.x.flatten(1)[:, 0])


def test_a_metered_model_can_do_exactly_what_the_model_can() -> None:
    seen: list[Model] = []

    @dataclass(frozen=True)
    class Looks(Returns):
        def __call__(self, model: Model, batch: Batch, *_: object) -> Tensor:
            seen.append(model)
            return batch.x

    data = right()
    for model in (sequential(), _BlackBox()):
        attribute(model, data, Looks(None), seed=0)
        for rung in (Sliceable, Layered, Secant):
            assert isinstance(seen[-1], rung) == isinstance(model, rung)
    # A method on layers runs under a driver.
    metered = seen[0]
    assert isinstance(metered, Layered)
    batch = batch_of(data.x[:2])
    assert metered.steps(batch)[-1].shape == (5,)


def test_verdicts_and_evidence_come_with_the_results() -> None:
    data, model = right(), sequential()
    fell = attack(model, data, PGD(), Linf(0.3), seed=0)
    proved = certify(model, data, Interval(), Linf(1e-4))
    assert fell.evidence.kind == "empirical" and proved.evidence.kind == "certified"
    assert str(Claim.SOUND_DEPLOYED) in proved.evidence.detail
    assert [j.verdict for j in fell.judged()] == [
        Verdict.FALSIFIED if f else Verdict.UNKNOWN for f in fell.success
    ]
    assert {j.verdict for j in proved.judged()} == {Verdict.CERTIFIED}
    with pytest.raises(DataError, match="differ in threat"):
        proved.judged(fell)
    same = attack(model, data, PGD(), Linf(1e-4), seed=0)
    assert proved.judged(same) == proved.judged()
    lie = replace(same, success=torch.ones_like(same.success))
    with pytest.raises(SoundnessError, match="had certified"):
        proved.judged(lie)
    wrong = certify(model, data.labelled((data.y + 1) % 5), Interval(), Linf(1e-4))
    assert {j.verdict for j in wrong.judged()} == {Verdict.FALSIFIED}


def test_a_tie_is_a_success_of_the_attack_and_never_certified() -> None:
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    data = Dataset(torch.tensor([[0.5, 0.25]]), torch.tensor([0]))
    found = attack(linear(weight), data, PGD(steps=1), Linf(0.0), seed=0)
    assert bool(found.success) and float(found.value) == 0.0
    for method in (Interval(), Lipschitz()):
        assert not bool(certify(linear(weight), data, method, Linf(0.0)).certified)


def test_context_stands_still_and_moves_with_its_rows() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor, shift: Tensor) -> Tensor:
            return torch.stack([x.sum(1) + shift, -x.sum(1)], 1)

    x, shift = numbers(7, 3), numbers(7, seed=3)
    data = Dataset(x, torch.zeros(7, dtype=torch.int64), context={"shift": shift})
    outputs = predict(wrap(Shifted()), data, run=Run(batch_size=3))
    assert torch.allclose(outputs[:, 0], x.sum(1) + shift, atol=1e-6)
    some = data.select([5, 1])
    assert torch.allclose(predict(wrap(Shifted()), some), outputs[[5, 1]], atol=1e-6)
    found = attack(wrap(Shifted()), data, PGD(steps=30), Linf(0.1, (-9, 9)), seed=0)
    assert torch.allclose(found.distance[found.clean > 0], torch.tensor(0.1).double(), atol=1e-4)


def test_a_lifted_model_makes_a_shift_of_brightness_an_ordinary_attack() -> None:
    data, model = right(), sequential()
    bright = lifted(model, lambda x, theta: (x + theta[:, :, None, None]).clamp(0, 1))
    spun = data.lifted(torch.zeros(len(data), 1))
    threat = Linf(0.4, bounds=(-1.0, 1.0))
    found = attack(bright, spun, PGD(steps=60, restarts=2), threat, seed=0)
    grid = torch.linspace(-0.4, 0.4, 801)
    least = torch.stack(
        [margin(predict(model, replace(data, x=(data.x + t).clamp(0, 1))), data.y) for t in grid]
    ).amin(0)
    assert bool((found.value >= least - 1e-3).all())
    assert torch.equal(found.success, least <= 0)
    with pytest.raises(DataError, match="stands behind"):
        predict(bright, data)


def test_an_attack_on_an_explanation_is_an_ordinary_attack() -> None:
    smooth = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 5)))
    initialise(smooth.module, 3)
    data = examples(4)
    before = attribute(smooth, data, saliency(), seed=0, target=given)
    start = before.values.flatten(1)
    alike = Asked(lambda outputs, aim: torch.cosine_similarity(outputs, start[: len(outputs)]))
    one = data.select([0])
    found = attack(
        explained(smooth, saliency()), one, PGD(steps=30), Linf(0.3), seed=0, quantity=alike
    )
    moved = attribute(smooth, replace(one, x=found.inputs), saliency(), seed=0, target=given)
    angle = torch.cosine_similarity(moved.values.flatten(1), start[:1])
    assert torch.allclose(angle, found.value, atol=1e-5) and float(found.value) < 0.97


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
        told = again._tensors()
        for name, tensor in result._tensors().items():
            assert torch.equal(told[name].nan_to_num(), tensor.nan_to_num())
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

    def __call__(self, batch: Batch) -> Tensor:
        return batch.x.flatten(1).sum(1)


class _BlackBox(_Flat):
    def __call__(self, batch: Batch) -> Tensor:
        return batch.x.flatten(1)[:, :5].round().detach()


def test_a_missing_capability_names_what_applies() -> None:
    data = examples(4)
    with pytest.raises(CapabilityError, match="gives outputs only"):
        attribute(_BlackBox(), data, saliency(), seed=0)
    with pytest.raises(CapabilityError, match="needs to know the layers"):
        certify(_BlackBox(), data, Interval(), Linf(0.1))
    labels = predict(_BlackBox(), data).argmax(1)
    easy = replace(data, x=data.x + torch.nn.functional.one_hot(labels, 64).reshape(-1, 1, 8, 8))
    with pytest.raises(CapabilityError, match="no gradient reaches the place"):
        attack(_BlackBox(), easy.labelled(labels), PGD(), Linf(0.1, (0, 3)), seed=0)


class _Looks:
    """A certifier that asks the model about other inputs than those it was given."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, model: Model, batch: Batch, *_: object) -> Bounds:
        moved = batch.at(batch.x + 0.25)
        copied = batch.at(batch.x.clone())
        self.seen = [
            model(b).detach() for b in (batch, moved, copied, batch.rows(torch.tensor([1])))
        ]
        return Bounds(torch.full((len(batch),), -torch.inf), Claim.SOUND_REAL)


def test_what_the_driver_knows_is_known_of_its_own_inputs_alone() -> None:
    data, model, looks = right(), sequential(), _Looks()
    found = certify(model, data, looks, Linf(0.1))  # type: ignore[arg-type]
    own, moved, copied, one = looks.seen
    outputs = predict(model, data)
    assert torch.equal(own, outputs) and torch.equal(copied, outputs)
    assert torch.equal(moved, predict(model, replace(data, x=data.x + 0.25)))
    assert not torch.equal(moved, own) and one.shape == (1, 5)
    assert found.provenance.forward == 12, "the driver's own pass serves the certifier"


def test_a_method_that_loses_does_not_replace_what_the_driver_has() -> None:
    data, model = right(), sequential()

    def mixed(batch: Batch) -> Tensor:
        signs = torch.where(torch.arange(len(batch)) % 2 == 0, 0.05, -0.05).reshape(-1, 1, 1, 1)
        return (batch.x + signs).clamp(0, 1)

    found = attack(model, data, Returns(mixed), Linf(0.1), seed=0)
    moved = margin(predict(model, replace(data, x=mixed(batch_of(data.x)))), data.y)
    assert torch.equal(found.value, torch.minimum(moved, found.clean))
    assert bool((moved > found.clean).any()) and bool((moved < found.clean).any())


def test_predictions_come_in_the_order_of_the_data() -> None:
    data, model = examples(11), sequential()
    outputs = predict(model, data, run=Run(batch_size=4))
    with model.held(), torch.no_grad():
        expected = torch.cat([model(batch_of(row[None])) for row in data.x])
    assert torch.allclose(outputs, expected, atol=1e-6)
    assert len(expected.unique(dim=0)) == 11


def test_a_bound_of_real_arithmetic_never_exceeds_the_value_that_was_computed() -> None:
    data, model = right(), sequential()
    clean = margin(predict(model, data), data.y)

    def above(batch: Batch) -> Bounds:
        unit = 4 * torch.finfo(torch.float32).eps * predict(model, data).abs().amax(1)
        return Bounds(clean + unit, Claim.SOUND_REAL)

    found = certify(model, data, Returns(above), Linf(0.1))
    assert torch.equal(found.lower, clean) and torch.equal(found.clean, clean)

    def deployed(batch: Batch) -> Bounds:
        return replace(above(batch), claim=Claim.SOUND_DEPLOYED)

    with pytest.raises(SoundnessError, match="unsound"):
        certify(model, data, Returns(deployed), Linf(0.1))


def test_a_radius_for_an_example_that_is_lost_is_an_alarm() -> None:
    data, model = right(), sequential()
    wrong = data.labelled((data.y + 1) % 5)

    def radius(batch: Batch) -> Bounds:
        lost = torch.full((len(batch),), -torch.inf)
        return Bounds(lost, Claim.SOUND_DEPLOYED, radius=torch.full((len(batch),), 0.05))

    with pytest.raises(SoundnessError, match="lost at x itself"):
        certify(model, wrong, Returns(radius), Linf(0.1))
    found = certify(model, data, Returns(radius), Linf(0.1))
    assert torch.allclose(found.radius, torch.tensor(0.05)) and bool(found.settled.all())


def test_without_a_closed_form_the_radius_is_that_of_the_threat_or_nothing() -> None:
    data, model = right(), sequential()
    half = torch.where(torch.arange(12) % 2 == 0, 1e-6, -1.0)
    clean = margin(predict(model, data), data.y)
    lower = Returns(lambda b: Bounds(torch.minimum(half, clean), Claim.SOUND_DEPLOYED))
    found = certify(model, data, lower, Linf(0.1))
    assert torch.equal(found.certified, half > 0) and not bool(found.settled.any())
    assert torch.equal(found.radius, 0.1 * (half > 0).double())


def test_the_verdict_of_a_certificate_knows_the_attack() -> None:
    data, model = right(), sequential()
    broken = attack(model, data, PGD(), Linf(0.3), seed=0)
    open_ = certify(model, data, bounds(-1e3), Linf(0.3))
    verdicts = [j.verdict for j in open_.judged(broken)]
    assert verdicts == [Verdict.FALSIFIED if f else Verdict.UNKNOWN for f in broken.success]
    assert set(verdicts) >= {Verdict.FALSIFIED}
    for field in ("data", "quantity"):
        story = replace(broken.provenance, **{field: "another"})
        with pytest.raises(DataError, match=f"differ in {field}"):
            open_.judged(replace(broken, provenance=story))


def test_the_weakest_claim_is_that_of_the_whole() -> None:
    data, model = right(), sequential()

    def mixed(batch: Batch) -> Bounds:
        first = bool((batch.x[0] == data.x[0]).all())
        claim = Claim.SOUND_REAL if first else Claim.SOUND_DEPLOYED
        return Bounds(torch.full((len(batch),), -1.0), claim)

    lost = certify(model, data, Returns(mixed), Linf(0.1), run=Run(batch_size=4))
    assert lost.provenance.claim == Claim.SOUND_REAL
    kept = certify(model, data.select(range(4, 12)), Returns(mixed), Linf(0.1))
    assert kept.provenance.claim == Claim.SOUND_DEPLOYED


@pytest.mark.parametrize("places", [(0, 2), (0, 8192), (1, 19_199)])
def test_a_method_that_swaps_two_weights_is_found_out(places: tuple[int, int]) -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 5))
    initialise(wide, 1)
    data = examples(4)

    def swaps(batch: Batch) -> Tensor:
        flat, (a, b) = wide[1].weight.data.view(-1), places  # type: ignore[operator]
        flat[a], flat[b] = flat[b].clone(), flat[a].clone()
        return batch.x

    with pytest.raises(PostconditionError, match="weights or buffers"):
        attribute(wrap(wide), data, Returns(swaps), seed=0)


def test_a_quantity_that_is_no_number_does_not_pass_for_robust() -> None:
    data, model = right(), sequential()
    for odd, said in (
        (Asked(lambda outputs, aim: outputs[:, 0] * torch.nan, goal=0.0), "one number, no NaN"),
        (Asked(lambda outputs, aim: outputs, goal=0.0), r"of shape \(12,\)"),
    ):
        with pytest.raises(PostconditionError, match=said):
            attack(model, data, PGD(steps=1), Linf(0.1), seed=0, quantity=odd)
    with pytest.raises(PlanError, match="is not a number"):
        check_quantity(Asked(lambda outputs, aim: outputs[:, 0], goal=torch.nan))
    with pytest.raises(PlanError, match="at least 1"):
        Run(batch_size=0)


def test_rows_that_contradict_their_quantity_are_refused() -> None:
    class Lies(Margin):
        def rows(self, aim: Tensor, classes: int, /) -> Tensor:
            return 2 * super().rows(aim, classes)

    with pytest.raises(PlanError, match="the rows of the quantity"):
        certify(sequential(), right(), Interval(), Linf(0.01), quantity=Lies())


def test_a_pass_holds_fewer_examples_where_inputs_are_large_unless_it_is_told() -> None:
    def of(run: Run, *shape: int) -> int:
        return run.rows((1, *shape))

    assert of(Run(), 1, 28, 28) == of(Run(), 3, 32, 32) == 128
    assert of(Run(), 3, 64, 64) == 42 and of(Run(), 3, 224, 224) == of(Run(), 3, 2000, 2000) == 4
    assert of(Run(50), 3, 224, 224) == 50
