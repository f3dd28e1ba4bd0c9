"""What strangers give and return is named, and nothing that they do outlives a driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from conftest import batch_of, examples, linear, numbers, sequential
from torch import Tensor, nn

from conjoin.attacks import PGD, Closest, WorstOf, fgsm
from conjoin.attribution import Influence, integrated_gradients, saliency
from conjoin.certification import BestOf, Interval
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Point
from conjoin.core.drive import Run
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.protocols import Batch, Model, Probe, Sliceable
from conjoin.core.quantity import (
    Always,
    Asked,
    Avoid,
    Contrast,
    Margin,
    Quantity,
    given,
    log_likelihood,
    logit,
    margin,
)
from conjoin.core.run import attack, attribute, certify, predict, score
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.errors import (
    CapabilityError,
    ConjoinError,
    DataError,
    ModelError,
    PlanError,
    PostconditionError,
    SoundnessError,
    ThreatError,
)
from conjoin.metrics import CompletenessGap, Deletion


@pytest.fixture(autouse=True)
def _as_users_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run-time type checks of the tests, which would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@dataclass(frozen=True)
class Returns:
    """A method of any kind that returns what it is told."""

    needs = Model
    where = Slice()
    make: Callable[[Batch], object]
    promise: Callable[[Batch], object] = lambda batch: None

    def __repr__(self) -> str:
        return "Returns()"

    def __call__(self, model: object, batch: Batch, *_: object) -> object:
        return self.make(batch)

    def ends(self, model: object, batch: Batch, /) -> object:
        return self.promise(batch)


def right(count: int = 6) -> Dataset:
    """Data labelled by the model's own answers, so that attacks have something to do."""
    data = examples(count)
    return data.labelled(predict(sequential(), data).argmax(1))


def attacked(make: Callable[[Batch], object]) -> object:
    return attack(sequential(), right(), Returns(make), Linf(0.1), seed=0)


def attributed(make: Callable[[Batch], object]) -> object:
    return attribute(sequential(), right(), Returns(make), seed=0)


def scored(make: Callable[[Batch], object]) -> object:
    by = Returns(lambda b: per_example(make(b)))
    return score(sequential(), right(), saliency(), by, seed=0)


def bounded(make: Callable[[Batch], object]) -> object:
    by = Returns(lambda b: Bounds(per_example(make(b)), Claim.SOUND_REAL))
    return certify(sequential(), right(), by, Linf(0.1))


def radius_of(make: Callable[[Batch], object]) -> object:
    def lost(batch: Batch) -> Tensor:
        return torch.full((len(batch),), -torch.inf)

    by = Returns(lambda b: Bounds(lost(b), Claim.SOUND_REAL, radius=per_example(make(b))))
    return certify(sequential(), right(), by, Linf(0.1))


def asked(make: Callable[[Batch], object]) -> object:
    ask = Asked(lambda outputs, aim: per_example(make(batch_of(outputs))), goal=0.0)
    return attack(sequential(), right(), PGD(steps=1), Linf(0.1), seed=0, quantity=ask)


def per_example(value: Any) -> Any:
    """The first column of a tensor; anything else as it is."""
    return value.reshape(len(value), -1)[:, 0] if hasattr(value, "reshape") else value


ODD = {
    "None": (lambda batch: None, "returned None"),
    "tuple": (lambda batch: (batch.x,), "returned a tuple"),
    "array": (lambda batch: batch.x.numpy(), "returned a ndarray"),
    "list": (lambda batch: batch.x.tolist(), "returned a list"),
    "float": (lambda batch: 0.5, "returned 0.5"),
    "class": (lambda batch: Bounds, "returned the class Bounds"),
    "integers": (lambda batch: batch.x.long(), "returned torch.int64"),
    "flags": (lambda batch: batch.x > 0, "returned torch.bool"),
    "half": (lambda batch: batch.x.half(), "returned torch.float16"),
    "complex": (lambda batch: batch.x + 0j, "returned torch.complex64"),
    "device": (lambda batch: batch.x.to("meta"), "on meta"),
    "rows": (lambda batch: batch.x[:2], "of shape"),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("act", [attacked, attributed, scored, bounded, radius_of, asked])
def test_whatever_a_method_returns_instead_is_named(act: Any, odd: str) -> None:
    make, said = ODD[odd]
    if act is radius_of and odd == "None":
        return  # a method without a radius
    with pytest.raises(PostconditionError, match=said) as caught:
        act(make)
    message = str(caught.value)
    assert message.startswith("Asked(" if act is asked else "Returns()")
    assert "expected torch.float32" in message and " of shape (6" in message, message


def test_candidates_and_explanations_have_the_dtype_of_what_they_are_like() -> None:
    for act in (attacked, attributed):
        with pytest.raises(PostconditionError, match=r"torch.float64 .*expected torch.float32"):
            act(lambda batch: batch.x.double())
    one = scored(lambda batch: batch.x.double())
    assert one.values.dtype == torch.float64  # type: ignore[attr-defined]


def test_a_certifier_that_returns_no_bounds_is_named_without_its_numbers() -> None:
    for make, said in ((lambda b: b.x, "torch.float32 of shape"), (lambda b: None, "None")):
        with pytest.raises(PostconditionError, match=f"{said}.*expected Bounds") as caught:
            certify(sequential(), right(), Returns(make), Linf(0.1))
        assert len(str(caught.value)) < 120


def test_bounds_of_later_batches_are_not_rounded_to_the_dtype_of_the_first() -> None:
    """A bound in double precision just below a number of single precision would be rounded up."""
    data, model = right(8), sequential()

    def bound(batch: Batch) -> Bounds:
        first = bool((batch.x[0] == data.x[0]).all())
        low = torch.full((len(batch),), -0.1, dtype=torch.float32)
        return Bounds(low if first else low.double() - 1e-12, Claim.SOUND_REAL)

    with pytest.raises(PostconditionError, match=r"Returns\(\) gave lower of torch.float64.*after"):
        certify(model, data, Returns(bound), Linf(0.1), run=Run(batch_size=4))


# Threats.


def threat(**methods: object) -> Any:
    return type("Odd", (Linf,), {"__slots__": (), **methods})(0.1)


@pytest.mark.parametrize(
    "came", [None, 1.0, [True], torch.ones(3), torch.ones(6, dtype=torch.int64)]
)
@pytest.mark.parametrize("name", ["contains", "distance"])
def test_a_threat_that_gives_no_tensor_or_another_is_named(name: str, came: object) -> None:
    odd, method = threat(**{name: lambda self, z, x: came}), Returns(lambda b: b.x.clone())
    with pytest.raises(PostconditionError, match=rf"for {name}\(z, x\); expected torch"):
        attack(sequential(), right(), method, odd, seed=0)


@pytest.mark.parametrize("name", ["rows", "to"])
def test_a_part_of_a_threat_is_a_threat(name: str) -> None:
    odd = threat(**{name: lambda self, where: None})
    with pytest.raises(PostconditionError, match=rf"for {name}\(.*expected a threat"):
        attack(sequential(), right(), Returns(lambda b: b.x), odd, seed=0)


def test_a_radius_that_is_no_tensor_is_named() -> None:
    odd = threat(radius=lambda self, x: 0.1)
    low = Returns(lambda b: Bounds(torch.full((len(b),), -9.0), Claim.SOUND_REAL))
    with pytest.raises(PostconditionError, match=r"returned 0.1 for radius\(x\)"):
        certify(sequential(), right(), low, odd)


@pytest.mark.parametrize("eps", ["0.1", None, [0.1], (0.1, 0.2), 1j])
def test_a_radius_is_a_number_or_a_tensor(eps: Any) -> None:
    with pytest.raises(ThreatError, match="eps must be a number or a tensor; got"):
        Linf(eps)


@pytest.mark.parametrize("bounds", [1.0, None, ("0", "1"), (0, 1, 2), (None, 1.0)])
def test_bounds_are_two_numbers_or_tensors(bounds: Any) -> None:
    with pytest.raises(ThreatError, match="bound"):
        L2(0.1, bounds=bounds)


def test_arrays_are_taken_for_tensors_of_their_own() -> None:
    mask = np.zeros((1, 1, 8, 8), dtype=bool)
    mask[..., :4] = True
    given_, same = Linf(np.float32(0.25), mask=mask), Linf(0.25, mask=torch.from_numpy(mask.copy()))
    mask[:] = True
    x = examples(3).x.clamp(0.3, 0.7)
    assert torch.equal(given_.project(x + 1, x), same.project(x + 1, x))
    assert str(given_) == "linf:0.25"


@pytest.mark.parametrize("mask", [np.ones((1, 1, 8, 8)), torch.ones(1, 1, 8, 8), 1, [True]])
def test_a_mask_that_is_not_boolean_is_described(mask: Any) -> None:
    with pytest.raises(ThreatError, match="mask must be"):
        Linf(0.1, mask=mask)


# Classes that are not there.


@pytest.mark.parametrize(
    ("quantity", "aim", "said"),
    [
        (logit, Always(9), "logit is asked about class 9, but there are 5 outputs"),
        (margin, Always(9), "margin is asked about class 9"),
        (log_likelihood, Always(9), "log_likelihood is asked about class 9"),
        (Contrast(7), given, r"Contrast\(against=7\) is asked about class 7"),
        (Contrast(1), Always(9), r"Contrast\(against=1\) is asked about class 9"),
        (Contrast(), given, r"Contrast\(against=None\) is about two classes .*RunnerUp"),
        (Avoid(8), given, r"Avoid\(target=8\) is asked about class 8"),
        (Avoid(), Always(9), r"Avoid\(target=None\) is asked about class 9"),
        (margin, lambda o, y: y - 7, "margin is asked about class -"),
        (logit, lambda o, y: torch.stack([y, y], 1), "one class of each example"),
        (Contrast(), lambda o, y: torch.stack([y, y + 9], 1), "is asked about class"),
    ],
)
def test_a_class_that_is_not_there_is_named(quantity: Quantity, aim: Any, said: str) -> None:
    model, data = sequential(), right()
    with pytest.raises(DataError, match=said):
        attribute(model, data, saliency(quantity), seed=0, target=aim)
    beyond = "|labels go up to 9"  # where the driver itself sees the aim first
    with pytest.raises(DataError, match=said + beyond):
        attack(model, data, PGD(steps=1), Linf(0.1), seed=0, quantity=quantity, target=aim)
    with pytest.raises(DataError, match=said + beyond):
        certify(model, data, Interval(), Linf(0.1), quantity=quantity, target=aim)


@pytest.mark.parametrize("aim", [torch.tensor([0, -1]), torch.tensor([3, 0])])
def test_rows_of_a_class_that_is_not_there_are_not_those_of_another(aim: Tensor) -> None:
    for quantity in (logit, margin, Contrast(1)):
        with pytest.raises(DataError, match="is asked about class"):
            quantity.rows(aim, 3)


def test_on_an_accelerator_a_class_is_looked_at_before_it_is_an_index() -> None:
    """A wrong index ends the process there; here a tensor that only says that it lies there."""

    class Elsewhere(Tensor):
        @property
        def is_cpu(self) -> bool:  # type: ignore[override]
            return False

        def __getitem__(self, at: object) -> Tensor:
            assert not (isinstance(at, tuple) and None in at), "it became an index unseen"
            return super().__getitem__(at)  # type: ignore[no-any-return, misc]

    aim = torch.tensor([1, 9]).as_subclass(Elsewhere)
    with pytest.raises(DataError, match="class 9"):
        margin(torch.zeros(2, 5), aim)
    with pytest.raises(DataError, match="class 9"):
        logit.rows(aim, 5)
    fine = torch.tensor([1, 2]).as_subclass(Elsewhere)
    for classes in (5, 5, 2):  # known to be fine for five classes, which says nothing of two
        with pytest.raises(DataError if classes == 2 else AssertionError):
            margin(torch.zeros(2, classes), fine)
    fine.fill_(7)
    with pytest.raises(DataError, match="class 7"):
        margin(torch.zeros(2, 5), fine)


@pytest.mark.parametrize("make", [Contrast, Avoid, Always])
@pytest.mark.parametrize("label", [-1, 1.5, "cat"])
def test_a_class_is_a_number_of_one(make: Any, label: object) -> None:
    with pytest.raises(PlanError, match=r"names no class; expected an integer >= 0"):
        make(label)


@pytest.mark.parametrize("make", ODD)
def test_an_aim_is_integers_with_a_row_for_each_example(make: str) -> None:
    if make == "integers":
        return
    odd, _ = ODD[make]
    with pytest.raises(ConjoinError, match=r"expected torch.int64 of shape \(6"):
        attribute(sequential(), right(), saliency(), seed=0, target=lambda o, y: odd(batch_of(o)))


# What a caller gives.


class Plain(nn.Module):
    """Has a device, as modules of some libraries do, and is no model for that."""

    device = torch.device("cpu")

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(64, 5), "got a Linear"),
        (Plain(), "got a Plain"),
        (nn.Linear, "got the class Linear"),
        (type(sequential()), "got the class TorchModel"),
        (None, "got None"),
        (torch.zeros(3), "got torch.float32"),
    ],
)
def test_what_is_no_model_is_named_with_the_mend(model: Any, said: str) -> None:
    data = examples(3)
    for act in (
        lambda: attack(model, data, PGD(), Linf(0.1), seed=0),
        lambda: certify(model, data, Interval(), Linf(0.1)),
        lambda: attribute(model, data, saliency(), seed=0),
        lambda: score(model, data, saliency(), Deletion(), seed=0),
        lambda: predict(model, data),
    ):
        with pytest.raises(ModelError, match=f"{said}.*wrap\\(module\\)"):
            act()


@pytest.mark.parametrize(
    "data", [(torch.zeros(2, 64), torch.zeros(2)), torch.zeros(2, 64), None, Dataset]
)
def test_what_is_no_data_is_named_with_the_mend(data: Any) -> None:
    model = sequential()
    for act in (
        lambda: attack(model, data, PGD(), Linf(0.1), seed=0),
        lambda: certify(model, data, Interval(), Linf(0.1)),
        lambda: attribute(model, data, saliency(), seed=0),
        lambda: score(model, data, saliency(), Deletion(), seed=0),
        lambda: predict(model, data),
    ):
        with pytest.raises(DataError, match=r"expected a Dataset; got .*Dataset\(x, y\)"):
            act()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (PGD, "the class PGD, not an instance"),
        (fgsm, "the function fgsm"),
        (None, "None"),
        ("pgd", "'pgd'"),
        (lambda: None, "the function <lambda>"),
    ],
)
def test_what_is_no_method_is_named(method: Any, said: str) -> None:
    model, data = sequential(), examples(3)
    for act, expected in (
        (lambda: attack(model, data, method, Linf(0.1), seed=0), "an attack"),
        (lambda: certify(model, data, method, Linf(0.1)), "a certifier"),
        (lambda: attribute(model, data, method, seed=0), "an attributor"),
        (lambda: score(model, data, method, Deletion(), seed=0), "an attributor"),
        (lambda: score(model, data, saliency(), method, seed=0), "a metric"),
    ):
        with pytest.raises(PlanError, match=f"expected {expected}, .*got {said}"):
            act()


def test_an_attributor_says_a_rung_and_a_slice() -> None:
    @dataclass(frozen=True)
    class Nowhere(Returns):
        where = "input"  # type: ignore[assignment]

    with pytest.raises(PlanError, match="expected an attributor"):
        attribute(sequential(), right(), Nowhere(lambda b: b.x), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("threat_", "said"), [(Linf, "the class Linf"), (0.1, "0.1"), (None, "None")]
)
def test_what_is_no_threat_is_named(threat_: Any, said: str) -> None:
    for act in (
        lambda: attack(sequential(), examples(3), PGD(), threat_, seed=0),
        lambda: certify(sequential(), examples(3), Interval(), threat_),
    ):
        with pytest.raises(PlanError, match=f"expected a threat, .*got {said}"):
            act()


def test_what_is_no_quantity_is_named() -> None:
    for quantity in (Margin, "margin", Asked(logit, goal="low")):  # type: ignore[arg-type]
        with pytest.raises(PlanError, match=r"states no goal|is not a number"):
            attack(sequential(), examples(3), PGD(), Linf(0.1), seed=0, quantity=quantity)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [[1.0], torch.zeros(3, 8, dtype=torch.int64), torch.zeros(3)])
def test_explanations_to_be_scored_are_numbers(values: Any) -> None:
    with pytest.raises(DataError, match="expected explanations"):
        score(sequential(), examples(3), saliency(), Deletion(), seed=0, values=values)


# What a method leaves behind.


def leaves(act: Callable[[], object], said: str) -> None:
    """It is told after a method that returns, and undone after one that raises as well."""

    def does(batch: Batch) -> Tensor:
        act()
        return batch.x.clone()

    def fails(batch: Batch) -> Tensor:
        act()
        raise KeyError("broken")

    for driver in (
        lambda m: attack(sequential(), right(), m, Linf(0.1), seed=0),
        lambda m: attribute(sequential(), right(), m, seed=0),
        lambda m: score(sequential(), right(), saliency(), m, seed=0),
        lambda m: certify(sequential(), right(), m, Linf(0.1)),
    ):
        with pytest.raises(KeyError):
            driver(Returns(fails))
    with pytest.raises(PostconditionError, match=said):
        attack(sequential(), right(), Returns(does), Linf(0.1), seed=0)


KEPT: list[object] = []


def inferring() -> None:
    KEPT.append(torch.inference_mode())
    KEPT[-1].__enter__()  # type: ignore[attr-defined]


SETTINGS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "gradient mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "inference mode": (inferring, torch.is_inference_mode_enabled),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
    ),
    "anomaly detection": (
        lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_torchs_settings_are_as_before(name: str) -> None:
    act, read = SETTINGS[name]
    before = read()
    try:
        leaves(act, f"{name} of torch was left changed")
        assert read() == before
    finally:
        KEPT.clear()
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.autograd.set_detect_anomaly(False, check_nan=True)


def test_a_driver_computes_alike_whatever_its_caller_has_set() -> None:
    model, data = sequential(), right()
    plain = attribute(model, data, integrated_gradients(), seed=0)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again = attribute(model, data, integrated_gradients(), seed=0)
            assert not torch.is_grad_enabled()
        assert torch.equal(again.values, plain.values) and not again.values.is_inference()


@pytest.mark.parametrize("name", ["module", "_outputs", "dtype", "_device", "outputs", "run"])
def test_what_is_assigned_to_a_model_is_taken_back(name: str) -> None:
    model, data = sequential(), right()
    other, before = sequential(seed=3).module, dict(vars(model))
    outputs = predict(model, data)

    def assigns(batch: Batch) -> Tensor:
        setattr(model, name, other)
        return batch.x.clone()

    def fails(batch: Batch) -> Tensor:
        assigns(batch)
        raise KeyError("broken")

    for make, error in ((assigns, PostconditionError), (fails, KeyError)):
        # With nothing to attack afterwards, no pass of the driver's own trips over it.
        with pytest.raises(error, match=name if make is assigns else "broken"):
            attribute(model, data, Returns(make), seed=0, target=given)
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[k] is before[k] for k in ("module", "_outputs", "dtype", "_device"))
    assert torch.equal(predict(model, data), outputs)


def test_a_method_cannot_assign_to_the_model_that_the_driver_passes_through() -> None:
    """Else the driver's own pass would be what the method made of it."""

    @dataclass(frozen=True)
    class Swaps(Returns):
        def __call__(self, model: Any, batch: Batch, *_: object) -> object:
            model.model = linear(-numbers(5, 64))
            return batch.x.clone()

    with pytest.raises(PostconditionError, match="assigned a TorchModel to 'model'"):
        attack(sequential(), right(), Swaps(lambda b: b.x), Linf(0.1), seed=0)  # type: ignore[arg-type]


def test_a_method_may_infer_in_a_mode_of_its_own() -> None:
    @torch.inference_mode()
    def inferred(batch: Batch) -> Tensor:
        return batch.x + 0

    data = right()
    for driver in (attacked, attributed, scored, bounded):
        found = driver(inferred) if driver is not bounded else driver(lambda b: inferred(b) - 99)
        assert found.provenance.data == data.digest  # type: ignore[attr-defined]


# What an explanation promises.


def promise(
    quantity: Any = logit, start: Any = None, stop: Any = None
) -> Callable[[Batch], object]:
    from conjoin.core.protocols import Promise

    def made(batch: Batch) -> object:
        from_ = {INPUT: torch.zeros_like(batch.x)} if start is None else start
        return Promise(quantity, from_, {INPUT: batch.x} if stop is None else stop)

    return made


def test_the_driver_evaluates_what_a_method_promises() -> None:
    weight, bias = numbers(5, 64), numbers(5, seed=3)
    model, data = linear(weight, bias), examples(6)
    y = predict(model, data).argmax(1)
    exact = (weight[y] * data.x.flatten(1)).reshape(data.x.shape)
    for share in (1.0, 0.5):
        method = Returns(lambda b, share=share: share * exact, promise())
        found = attribute(model, data, method, seed=0)  # type: ignore[arg-type]
        change = exact.flatten(1).sum(1)
        assert torch.allclose(found.gap, (share - 1) * change, atol=1e-5)
        relative = score(model, data, method, CompletenessGap(), seed=0)  # type: ignore[arg-type]
        assert torch.allclose(relative.values, torch.full((6,), 1 - share), atol=1e-4)


def test_a_model_of_outputs_only_can_be_promised_a_change_at_its_input() -> None:
    class Box:
        device = torch.device("cpu")

        def __call__(self, batch: Batch) -> Tensor:
            return batch.x.flatten(1)[:, :5]

    data = examples(4)
    found = attribute(Box(), data, Returns(lambda b: b.x, promise()), seed=0)  # type: ignore[arg-type]
    change = data.x.flatten(1)[:, :5].amax(1)
    assert torch.allclose(found.gap, data.x.flatten(1).sum(1) - change, atol=1e-5)
    inner = promise(start={Cut("3"): torch.zeros(4, 2)})
    with pytest.raises(PostconditionError, match="values at cuts of this model"):
        attribute(Box(), data, Returns(lambda b: b.x, inner), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda batch: (batch.x[:, 0, 0, 0], batch.x[:, 0, 0, 0]), "a tuple for its ends.*Promise"),
        (lambda batch: 0.0, "0.0 for its ends"),
        (promise(quantity="logit"), "for its ends"),
        (promise(start=torch.zeros(6, 1, 8, 8)), "for an end; expected values at cuts"),
        (
            promise(start={INPUT: torch.zeros(6, 64)}),
            "for its end at input; expected torch.float32",
        ),
        (promise(start={INPUT: None}), "None for its end at input"),
        (promise(quantity=lambda o, a: 1.0), "<lambda> returned 1.0"),
        (promise(quantity=lambda o, a: o), r"of shape \(6, 5\) on cpu for an end; expected"),
        (promise(quantity=lambda o, a: o[:, 0] / 0 * 0), "no NaN"),
    ],
)
def test_a_promise_that_cannot_be_held_is_named(made: Any, said: str) -> None:
    with pytest.raises(PostconditionError, match=said):
        attribute(sequential(), right(), Returns(lambda b: b.x, made), seed=0)  # type: ignore[arg-type]


def test_a_method_cannot_change_its_values_after_they_were_looked_at() -> None:
    kept: list[Tensor] = []

    def values(batch: Batch) -> Tensor:
        kept.append(batch.x)
        return batch.x

    def spoils(batch: Batch) -> None:
        kept[-1].fill_(torch.nan)

    with pytest.raises(PostconditionError, match="finite values"):
        attribute(sequential(), right(), Returns(values, spoils), seed=0)  # type: ignore[arg-type]


def test_a_missing_capability_is_not_taken_for_a_missing_model() -> None:
    @dataclass(frozen=True)
    class Needs(Returns):
        needs = Sliceable

    class Box:
        device = torch.device("cpu")

        def __call__(self, batch: Batch) -> Tensor:
            return batch.x.flatten(1)[:, :5]

    with pytest.raises(CapabilityError, match="gives outputs only"):
        attribute(Box(), examples(3), Needs(lambda b: b.x), seed=0)  # type: ignore[arg-type]


def test_a_model_that_returns_no_logits_is_named() -> None:
    class Box:
        device = torch.device("cpu")

        def __init__(self, make: Callable[[Tensor], object]) -> None:
            self.make = make

        def __call__(self, batch: Batch) -> object:
            return self.make(batch.x.flatten(1)[:, :5])

    for make in (lambda x: None, lambda x: x.numpy(), lambda x: x.long(), lambda x: x.half(), list):
        with pytest.raises(ModelError, match="expected logits of shape"):
            predict(Box(make), examples(3))  # type: ignore[arg-type]


# Distributions and quantities of explanations


def explained_by(distribution: Any, quantity: Any = logit) -> object:
    return attribute(sequential(), right(), Influence(distribution, quantity), seed=0)


def yields(*values: Any, end: Any = None) -> Any:
    def distribution(model: object, batch: Batch, cuts: object) -> Any:
        for value in values:
            yield value(batch) if callable(value) else value
        return end

    distribution.ends = lambda *_: None  # type: ignore[attr-defined]
    return distribution


def at_x(batch: Batch) -> list[Probe]:
    return [Probe({INPUT: batch.x})]


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        (lambda model, batch, cuts: [1], "returned a list; expected a generator"),
        (lambda model, batch, cuts: None, "returned None; expected a generator"),
        (yields(None), "returned None for what it yields; expected probes"),
        (yields([]), "returned a list for what it yields; expected probes"),
        (yields([7]), "returned a list for what it yields; expected probes"),
        (yields(at_x), "returned None for its end; expected an Estimate"),
    ],
)
def test_a_distribution_that_is_none_is_named(distribution: Any, said: str) -> None:
    with pytest.raises(PostconditionError, match=said):
        explained_by(distribution)


@pytest.mark.parametrize("value", [None, 1.0, [1.0]])
def test_what_is_explained_is_one_number_for_each_example(value: Any) -> None:
    with pytest.raises(PostconditionError, match=r"returned .*expected .* of shape \(6,\)"):
        explained_by(Point(), lambda outputs, aim: value)


def test_a_mode_that_a_certifier_leaves_behind_is_told() -> None:
    def leaks(batch: Batch) -> Bounds:
        torch.set_grad_enabled(False)
        return Bounds(torch.full((len(batch),), -torch.inf), Claim.SOUND_REAL)

    with pytest.raises(PostconditionError, match="gradient mode of torch was left changed"):
        certify(sequential(), right(), Returns(leaks), Linf(0.1), run=Run(2))
    assert torch.is_grad_enabled()


def test_a_certifier_that_prepares_no_certifier_is_named() -> None:
    class Prepares:
        def prepare(self, model: object, example: Batch, /) -> object:
            return None

        def __call__(self, *_: object) -> object:
            raise AssertionError("it was to be prepared")

    with pytest.raises(PlanError, match=r"expected a certifier from prepare.*got None"):
        certify(sequential(), right(), Prepares(), Linf(0.1))


# Methods that are made of methods.


def worst_of(part: Any) -> Any:
    return attack(sequential(), right(), WorstOf((part, fgsm())), Linf(0.1), seed=0)


def closest(part: Any) -> Any:
    return attack(sequential(), right(), Closest(part), Linf(0.1), seed=0)


def best_of(part: Any) -> Any:
    return certify(sequential(), right(), BestOf((Interval(), part)), Linf(0.1))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("act", [worst_of, closest])
def test_a_part_of_an_attack_is_named_for_what_it_returns(act: Any, odd: str) -> None:
    make, said = ODD[odd]
    with pytest.raises(PostconditionError, match=rf"^Returns\(\) .*{said}.*expected torch.float32"):
        act(Returns(make))


@pytest.mark.parametrize("act", [worst_of, closest])
def test_a_part_of_an_attack_that_leaves_the_set_is_named(act: Any) -> None:
    with pytest.raises(
        PostconditionError, match=r"^Returns\(\) left the threat set linf:0.1 on 6 of 6"
    ):
        act(Returns(lambda batch: batch.x + 0.2))
    with pytest.raises(PostconditionError, match=r"^Returns\(\) returned .*expected finite values"):
        act(Returns(lambda batch: batch.x * torch.nan))


@pytest.mark.parametrize("act", [worst_of, closest])
def test_what_a_part_writes_into_its_batch_stays_there(act: Any) -> None:
    """Else x itself would move along, and what lies far from the input would lie in S(x)."""
    with pytest.raises(PostconditionError, match=r"^Returns\(\) left the threat set"):
        act(Returns(lambda batch: batch.x.add_(0.2)))


@pytest.mark.parametrize("odd", ODD)
def test_a_part_of_a_certifier_is_named_for_what_it_returns(odd: str) -> None:
    make, said = ODD[odd]
    with pytest.raises(PostconditionError, match=rf"^Returns\(\) .*{said}.*expected torch.float32"):
        best_of(Returns(lambda b: Bounds(per_example(make(b)), Claim.SOUND_REAL)))
    with pytest.raises(PostconditionError, match=rf"^Returns\(\) .*{said}.*expected Bounds"):
        best_of(Returns(make))


def test_a_part_of_a_certifier_that_boasts_is_named() -> None:
    def high(batch: Batch) -> Bounds:
        return Bounds(torch.full((len(batch),), 100.0), Claim.SOUND_REAL)

    def far(batch: Batch) -> Bounds:
        low = torch.full((len(batch),), -1.0)
        return Bounds(low, Claim.SOUND_REAL, radius=torch.ones(len(batch)))

    with pytest.raises(SoundnessError, match=r"^Returns\(\) claims a lower bound of 100"):
        best_of(Returns(high))
    with pytest.raises(PostconditionError, match=r"^Returns\(\) gives the radius 1"):
        best_of(Returns(far))


def test_what_one_certifier_writes_does_not_reach_the_next() -> None:
    def spoil(batch: Batch) -> Bounds:
        batch.x.zero_()
        return Bounds(torch.full((len(batch),), -torch.inf), Claim.SOUND_REAL)

    alone = certify(sequential(), right(), Interval(), Linf(0.01))
    both = certify(sequential(), right(), BestOf((Returns(spoil), Interval())), Linf(0.01))
    assert torch.equal(alone.lower, both.lower)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WorstOf(()), r"a tuple of methods, each an attack, e.g. PGD\(\); got none"),
        (lambda: WorstOf([fgsm()]), r"a tuple of methods, .*; got a list"),
        (lambda: WorstOf(fgsm()), r"a tuple of methods, .*; got a PGD"),
        (lambda: WorstOf((PGD,)), r"an attack, .*; got the class PGD, not an instance"),
        (lambda: Closest(PGD), r"an attack, .*; got the class PGD, not an instance"),
        (lambda: Closest(0.1), r"an attack, .*; got 0.1"),
        (lambda: BestOf(()), r"each a certifier, e.g. Lipschitz\(\); got none"),
        (lambda: BestOf((Interval(), None)), r"a certifier, .*; got None"),
        (lambda: BestOf((Interval(), saliency())), r"a certifier, .*; got a Influence"),
    ],
)
def test_what_is_no_part_is_refused_when_it_is_given(make: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        make()
