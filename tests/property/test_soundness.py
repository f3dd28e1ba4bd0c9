"""No certificate is contradicted: a network is bounded rightly, or refused with a reason.

Each network of :mod:`cases` was certified wrongly, refused without need, or could have been. The
search of :mod:`search` knows nothing of the library's own bounds and attacks.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from cases import ACTIVATIONS, CASES
from networks import Case, Expected, Loud, changed, flat, net, plain, seeded
from search import against, margin
from torch import Tensor, nn

from conjoin import L1, L2, Contrast, Dataset, Linf, Run, attack, certify, predict, wrap
from conjoin.attacks import PGD
from conjoin.certification import Interval, Lipschitz
from conjoin.core.protocols import Batch, Preparable
from conjoin.core.random import Streams
from conjoin.core.result import Certificate
from conjoin.errors import CapabilityError, ConjoinError, DataError, ModelError, ThreatError

METHODS = [Interval(), Lipschitz()]
KINDS: dict[float, Any] = {math.inf: Linf, 2.0: L2, 1.0: L1}
SMALL = 1e-5
WHOLE = Run()
pytestmark = [
    # What the network itself is warned of is its author's matter.
    pytest.mark.filterwarnings("ignore:This overload of:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
]


def drawn(shape: tuple[int, ...], count: int = 4) -> Tensor:
    return Streams.of(7, torch.arange(count)).uniform(*shape)


def labelled(case: Case, count: int = 4) -> Dataset:
    """Inputs inside the box, labelled as the network answers in double precision."""
    x = drawn(case.shape, count)
    module = case.make()
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    with torch.no_grad():
        outputs = case.truth()(x.double().clone())
    y = torch.zeros(count, dtype=torch.int64)
    if isinstance(outputs, Tensor) and len(outputs) == count:
        y = outputs.argmax(1)
    return Dataset(x.to(dtype), y)


def bounded(
    case: Case, method: Any, data: Dataset, order: float, eps: float, run: Run = WHOLE
) -> Certificate:
    """Certify a fresh copy of the network; the data must be as before."""
    before = data.x.clone()
    model = wrap(case.make(), outputs=case.outputs)
    try:
        return certify(model, data, method, KINDS[order](eps), run=run)
    finally:
        assert torch.equal(data.x, before)


def sound(case: Case, found: Certificate, data: Dataset, order: float, eps: float) -> None:
    result = against(found, case.truth(), data.x, data.y, order, eps)
    assert not result.contradictions, f"{case.name}: {result.contradictions[0]}"


def trials(case: Case, method: Any) -> list[tuple[float, float]]:
    """Norms and radii: l2 for all, linf and l1 in turn; a tiny one where bounds must not be void."""
    turn = (CASES.index(case) + METHODS.index(method)) % 2
    found = [(2.0, 0.1), (math.inf, 0.02) if turn else (1.0, 0.2)]
    return [*found, (2.0, SMALL)] if case.expected is Expected.BOUNDS else found


def explained(error: ConjoinError, case: Case) -> None:
    """A refusal is about the model, and says more than a word."""
    assert isinstance(error, ModelError), f"{type(error).__name__}: {error}"
    assert len(str(error)) > 30
    assert case.match.lower() in str(error).lower()


@pytest.mark.parametrize("method", METHODS, ids=["interval", "lipschitz"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_network_is_bounded_rightly_or_refused(case: Case, method: Any) -> None:
    with case.around():
        data = labelled(case)
        if case.expected is Expected.REFUSED:
            for size in (128, 1):  # also where no example has company
                with pytest.raises(ConjoinError) as refusal:
                    bounded(case, method, data, 2.0, 0.01, Run(batch_size=size))
                if not case.name.startswith(("random", "stateful", "hook: random", "mixes")):
                    explained(refusal.value, case)
                data = data.select([0])
            return
        for order, eps in trials(case, method):
            try:
                found = bounded(case, method, data, order, eps)
            except ConjoinError as error:
                if case.expected is Expected.BOUNDS:
                    raise
                explained(error, case)
                continue
            if case.expected is Expected.BOUNDS:
                assert bool(found.lower.isfinite().all())
                assert eps != SMALL or bool(found.certified.any()), "the bounds are void"
            if eps != SMALL:
                sound(case, found, data, order, eps)


@pytest.mark.parametrize("method", METHODS, ids=["interval", "lipschitz"])
@pytest.mark.parametrize(
    "name", ["relu", "gelu", "silu", "mish", "hardswish", "leaky relu, turned"]
)
def test_bounds_hold_where_an_activation_turns(name: str, method: Any) -> None:
    """A scalar network that dwells on the turning points, where slopes change their sign."""
    x = torch.linspace(0.0, 1.0, 41)[:, None]

    def make() -> nn.Module:
        first, last = nn.Linear(1, 1), nn.Linear(1, 2)
        first.weight.data.fill_(8.0)
        first.bias.data.fill_(-5.0)
        last.weight.data = torch.tensor([[3.0], [0.0]])
        last.bias.data = torch.tensor([0.6, 0.0])
        return nn.Sequential(first, ACTIVATIONS[name](), last)

    case = Case(name, make, (1,))
    with torch.no_grad():
        data = Dataset(x, make()(x).argmax(1))
    for eps in (0.001, 0.03, 0.2, 1.0):
        sound(case, bounded(case, method, data, math.inf, eps), data, math.inf, eps)


def prepared_for(method: Any, model: Any, data: Dataset) -> Any:
    if not isinstance(method, Preparable):
        pytest.skip("it prepares nothing")
    return method.prepare(model, whole(data))


def whole(data: Dataset) -> Batch:
    return Batch(data.x, data.y, Streams.of(0, data.positions))


def refuses(ready: Any, model: Any, data: Dataset) -> None:
    """Called by itself and through the driver."""
    with pytest.raises(ConjoinError):
        ready(model, whole(data), L2(0.1), Contrast(0))
    with pytest.raises(ConjoinError):
        certify(model, data, ready, L2(0.1))


def newly_hooked(module: Any) -> None:
    module[1].register_forward_hook(lambda *args: 30 * args[-1])


CHANGES = {
    "data.mul_": lambda m: m[2].weight.data.mul_(30),
    "data=": lambda m: setattr(m[2].weight, "data", 30 * m[2].weight.data),
    "no_grad mul_": lambda m: torch.no_grad()(m[2].weight.mul_)(30),
    "numpy": lambda m: m[2].weight.detach().numpy().__imul__(30),
    "bias": lambda m: m[4].bias.data.add_(torch.tensor([0.0, 9.0, -9.0])),
    "one weight": lambda m: m[0].weight.data.view(-1)[3:4].add_(30),
    "new layer": lambda m: m.__setitem__(0, seeded(nn.Linear(6, 8), 9)),
    "new class": lambda m: m.__setitem__(2, seeded(Loud(8, 8), 9)),
    "new activation": lambda m: m.__setitem__(1, nn.LeakyReLU(30.0)),
    "slope": lambda m: setattr(m[1], "forward", lambda x: 30 * x),
    "hook": newly_hooked,
    "parametrisation": lambda m: nn.utils.parametrize.register_parametrization(
        m[0], "weight", nn.Softplus()
    ),
}


@pytest.mark.parametrize("method", METHODS, ids=["interval", "lipschitz"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_prepared_certifier_is_for_the_model_as_it_was(method: Any, change: str) -> None:
    module = plain()()
    model = wrap(module)
    data = labelled(Case("plain", plain()))
    ready = prepared_for(method, model, data)
    assert bool(certify(model, data, ready, L2(SMALL)).certified.any())  # as long as it is the same
    CHANGES[change](module)
    refuses(ready, model, data)


@pytest.mark.parametrize("method", METHODS, ids=["interval", "lipschitz"])
def test_a_prepared_certifier_is_for_its_model_alone(method: Any) -> None:
    data = labelled(Case("plain", plain()))
    mild, loud = wrap(plain()()), wrap(changed(plain(), lambda m: m[2].weight.data.mul_(30))())
    ready = prepared_for(method, mild, data)
    refuses(ready, loud, data)


@pytest.mark.parametrize("method", METHODS, ids=["interval", "lipschitz"])
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_the_old_weights_is_kept(method: Any, change: str) -> None:
    """The same model object, certified again after a change: other bounds, another digest."""
    module = plain()()
    model = wrap(module)
    data = labelled(Case("plain", plain()))
    certify(model, data, method, L2(0.05))
    before = model.digest()
    CHANGES[change](module)
    changed_case = Case(change, changed(plain(), CHANGES[change]))
    again = labelled(changed_case)
    try:
        found = certify(model, again, method, L2(0.05))
    except CapabilityError:
        pass
    else:
        sound(changed_case, found, again, 2.0, 0.05)
    if change not in ("slope", "new activation", "hook", "parametrisation", "new class"):
        assert model.digest() != before
    assert torch.equal(predict(model, again).argmax(1), again.y)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "threat",
    [
        lambda n: L2(0.1, mask=torch.ones(6, dtype=torch.bool)),
        lambda n: L2(0.1, mask=torch.ones(n + 1, 6, dtype=torch.bool)),
        lambda n: L2(0.1, mask=torch.ones(1, 5, dtype=torch.bool)),
        lambda n: L2(0.1, mask=torch.ones(n, 1, 6, dtype=torch.bool)),
        lambda n: L2(torch.full((n + 1,), 0.1)),
        lambda n: L2(torch.full((n + 5,), 0.1)),
        lambda n: Linf(torch.full((n + 130,), 0.1)),
    ],
    ids=["no batch axis", "rows", "columns", "axes", "eps", "more eps", "many eps"],
)
def test_a_threat_that_does_not_fit_is_refused(threat: Any, count: int) -> None:
    model, data = wrap(plain()()), labelled(Case("plain", plain()), count)
    for method in METHODS:
        with pytest.raises((ThreatError, DataError)):
            certify(model, data, method, threat(count))
    with pytest.raises((ThreatError, DataError)):
        attack(model, data, PGD(steps=1), threat(count), seed=0)


@pytest.mark.parametrize("short", ["eps", "mask"])
def test_too_few_rows_are_refused(short: str) -> None:
    model, data = wrap(plain()()), labelled(Case("plain", plain()), 4)
    mask = torch.ones(3, 6, dtype=torch.bool)
    threat = L2(torch.full((3,), 0.1)) if short == "eps" else L2(0.1, mask=mask)
    for method in METHODS:
        for size in (1, 2, 128):
            with pytest.raises((ThreatError, DataError)):
                certify(model, data, method, threat, run=Run(batch_size=size))


def test_a_mask_without_batch_axis_is_refused_on_images() -> None:
    case = Case(
        "image", lambda: seeded(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), 1), (1, 6, 6)
    )
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    with pytest.raises((ThreatError, DataError)):
        certify(wrap(case.make()), labelled(case, 1), Lipschitz(), L2(0.1, mask=mask))


def test_a_contrast_with_the_own_class_is_zero_at_any_radius() -> None:
    model, data = wrap(plain()()), labelled(Case("plain", plain()))
    data = data.labelled(torch.zeros_like(data.y))
    for eps in (0.1, math.inf):
        for method in METHODS:
            lower = certify(model, data, method, L2(eps), quantity=Contrast(0)).lower
            assert bool((lower <= 0).all())
            assert not bool(lower.isnan().any())


def test_an_infinite_radius_proves_no_more_than_the_box() -> None:
    case = Case("plain", plain())
    data = labelled(case)
    for method in METHODS:
        for order in KINDS:
            found = bounded(case, method, data, order, math.inf)
            assert not bool(found.lower.isnan().any())
            sound(case, found, data, order, math.inf)


def exact(z: Tensor, x: Tensor, order: float) -> tuple[Fraction, int]:
    """The distance (squared in l2) as a fraction, and the power it is raised to."""
    d = [abs(Fraction(a) - Fraction(b)) for a, b in zip(z.tolist(), x.tolist(), strict=True)]
    if math.isinf(order):
        return max(d), 1
    return (sum(d, Fraction(0)), 1) if order == 1 else (sum((v * v for v in d), Fraction(0)), 2)


@pytest.mark.parametrize("order", list(KINDS))
def test_what_an_attack_returns_is_inside_in_exact_arithmetic(order: float) -> None:
    make = lambda: seeded(nn.Sequential(nn.Flatten(), nn.Linear(100, 3)), 1)  # noqa: E731
    case = Case("flat", make, (1, 10, 10))
    data = labelled(case, 12)
    for eps in (0.03, 0.5, 1.7, 8 / 255):
        for goal_of in (Contrast(0), None):
            words = {} if goal_of is None else {"quantity": goal_of}
            threat = KINDS[order](eps)
            found = attack(wrap(make()), data, PGD(steps=9), threat, seed=0, **words)
            assert bool(threat.contains(found.inputs, data.x).all())
            for z, x in zip(found.inputs.flatten(1), data.x.flatten(1), strict=True):
                size, power = exact(z, x, order)
                assert size <= Fraction(eps) ** power
                assert float(z.min()) >= 0 and float(z.max()) <= 1


def test_membership_is_strict() -> None:
    large = torch.full((1, 3, 224, 224), 0.5)
    moved = large.clone()
    moved[0, 0, 0, :2] += 0.32
    assert not bool(L1(0.5).contains(moved, large).any())
    moved = large.clone()
    moved[0, 0, 0, 0] += 3e-4
    assert not bool(L2(0.0).contains(moved, large).any())
    x = torch.full((1, 4), 0.25)
    z = x.clone()
    z[0, 0] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    for kind in KINDS.values():
        assert not bool(kind(0.25).contains(z, x).any())
        assert bool(kind(0.25).contains(torch.tensor([[0.5, 0.25, 0.25, 0.25]]), x).all())


@pytest.mark.parametrize("driver", ["predict", "attack", "lipschitz", "interval"])
def test_what_the_batch_size_changes_on_dense_layers(driver: str) -> None:
    """No bit between multiples of four, in which no row moves modulo four; elsewhere rounding.

    An attack drops the rows that have fallen, so that theirs move whatever the size.
    """
    widths = (64, 50, 33, 10)

    def make() -> nn.Module:
        parts: list[nn.Module] = []
        for number in range(3):
            parts += [nn.Linear(widths[number], widths[number + 1]), nn.ReLU()]
        return seeded(nn.Sequential(*parts[:-1]), 1)

    case = Case("mlp", make, (64,))
    data = labelled(case, 131)
    model = wrap(case.make())

    def result(size: int) -> Tensor:
        run = Run(batch_size=size)
        if driver == "predict":
            return predict(model, data, run=run)
        if driver == "attack":
            return attack(model, data, PGD(steps=3), Linf(0.02), seed=0, run=run).value
        method = Lipschitz() if driver == "lipschitz" else Interval()
        return certify(model, data, method, Linf(0.001), run=run).lower

    many = result(128)
    for size in (1, 4, 7, 64):
        assert torch.allclose(result(size), many, rtol=0, atol=1e-6)
        if size % 4 == 0 and driver != "attack":
            assert torch.equal(result(size), many)


def test_the_search_itself_finds_what_is_there() -> None:
    """A linear network's minimum is known: the search must reach it, or it proves nothing."""
    make = net(lambda m, x: m.head(x), head=flat(6))
    module = make().double()
    x = 0.4 + 0.2 * drawn((6,)).double()
    with torch.no_grad():
        clean, y = module(x), module(x).argmax(1)
    rows = module.head.weight[y][:, None] - module.head.weight  # type: ignore[union-attr, index]
    for order, dual in ((math.inf, 1), (2.0, 2), (1.0, math.inf)):
        norm = torch.linalg.vector_norm(rows.detach(), ord=dual, dim=2)
        gap = clean.gather(1, y[:, None]) - clean - 0.1 * norm
        least = gap.scatter(1, y[:, None], math.inf).amin(1)
        lie = Certificate(
            provenance=certify(
                wrap(make()), Dataset(x.float(), y), Lipschitz(), L2(0.0)
            ).provenance,
            lower=(least + 1e-5).float(),
            clean=margin(clean, y).float(),
            certified=least > 0,
            radius=torch.zeros(4),
            settled=torch.zeros(4, dtype=torch.bool),
        )
        found = against(lie, module, x, y, order, 0.1)
        assert len(found.contradictions) == 4
