"""Numbers that methods are made of: what is none is refused by name, for every method that has any."""

from __future__ import annotations

import subprocess
import sys
from copy import copy
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

from conjoin import attacks, attribution, certification, metrics
from conjoin.core import distribution
from conjoin.core.counted import _fields_of, check_number, check_numbers, whole
from conjoin.core.distribution import (
    Gaussian,
    GaussLegendre,
    Midpoint,
    Noisy,
    Panels,
    Point,
    Trapezoid,
)
from conjoin.core.postcondition import aimed
from conjoin.errors import PlanError
from conjoin.testing import shipped

MADE: dict[str, Any] = {
    **{name: make() for name, make in shipped.methods(attribution).items()},
    **{name: make() for name, make in shipped.methods(metrics).items()},
    **{name: make() for name, make in shipped.methods(attacks).items()},
    **{name: make() for name, make in shipped.methods(certification).items()},
    **{str(one): one for one in (Panels(), Midpoint(), Trapezoid(), GaussLegendre(), Gaussian())},
    **{
        str(one): one for one in (Noisy(Point()), distribution.Filled(), distribution.Constant(0.0))
    },
}
NUMBERS = {
    name: made for name, made in MADE.items() if is_dataclass(made) and _fields_of(type(made))
}


def holding(made: Any, name: str, value: object) -> Any:
    """A method whose field holds something else; what types the tests check is passed by."""
    other = copy(made)
    object.__setattr__(other, name, value)
    return other


@pytest.mark.parametrize("name", NUMBERS)
def test_every_method_refuses_what_is_no_number_and_names_the_field(name: str) -> None:
    made = NUMBERS[name]
    check_numbers(made)
    for field, kind, several, optional in _fields_of(type(made)):
        wrong: list[object] = ["20", [20], True, *([2.5] if kind == "int" else [])]
        wrong = [[value] for value in wrong] + [20, "20"] if several else wrong
        for value in wrong if optional else [*wrong, None]:
            with pytest.raises(PlanError, match=rf"{field} of {type(made).__name__} must be a"):
                holding(made, field, value).__post_init__()


def test_there_are_many() -> None:
    assert len(NUMBERS) > 20


def test_whole_numbers_of_any_kind_are_taken() -> None:
    assert whole(np.int64(3), 1, "draws") == 3
    check_number(np.float32(0.5), "scale", "float")
    check_number(1, "scale", "float")
    with pytest.raises(PlanError, match="draws must be at least 1; got 0"):
        whole(0, 1, "draws")
    with pytest.raises(PlanError, match=r"draws must be a whole number; got 2\.0"):
        whole(2.0, 1, "draws")


SAID = (
    "integrated_gradients(nodes='20')",
    "smoothgrad(draws=None)",
    "smoothgrad(scale='a')",
    "rise(masks=2.5)",
    "expected_gradients(torch.zeros(2, 3), draws='4')",
)


def told(said: tuple[str, ...], head: str) -> list[str]:
    """What is printed where nothing checks types."""
    lines = [
        f"try: {one}\nexcept PlanError as error: print(error)\nelse: print('taken')" for one in said
    ]
    done = subprocess.run(
        [sys.executable, "-c", head + "\n".join(lines)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_presets_tell_a_user_who_has_no_checks_of_types() -> None:
    head = "import torch\nfrom conjoin.errors import PlanError\nfrom conjoin.attribution import *\n"
    assert told(SAID, head) == [
        "nodes of Panels must be a whole number; got '20'",
        "draws of Gaussian must be a whole number; got None",
        "scale of Gaussian must be a number; got 'a'",
        "masks of Rise must be a whole number; got 2.5",
        "draws of expected gradients must be a whole number; got '4'",
    ]


DRIVEN = (
    "attack(*given, APGD(steps='20'), Linf(0.1), seed=0)",
    "attack(*given, PGD, Linf(0.1), seed=0)",
    "attack(*given, PGD(surrogate='margin'), Linf(0.1), seed=0)",
    "attack(*given, PGD(), '8/255', seed=0)",
    "attack(*given, PGD(), Linf(0.1), seed=0.0)",
    "attack(*given, PGD(), Linf(0.1), seed=0, target=lambda outputs: outputs)",
    "certify(*given, Interval(), Linf(0.1), target=Dataset)",
    "certify(*given, Interval(), Linf(0.1), run=128)",
    "certify(*given, Interval(), Linf(0.1), run=Run(batch_size='128'))",
    "curve(*given, Linf(0.1), 0.1, seed=0)",
    "curve(*given, Linf(0.1), ['0.1'], seed=0)",
    "worst_case(*given, Linf(0.1), seed=2**70)",
    "attack(*given, Homotopy(sharpness=2.0), Linf(0.1), seed=0)",
)


def test_drivers_and_evaluations_tell_him_too() -> None:
    head = (
        "import torch\nfrom conjoin import *\nfrom conjoin.errors import PlanError\n"
        "from conjoin.attacks import *\nfrom conjoin.certification import Interval\n"
        "from conjoin.audit.evaluation import curve, worst_case\n"
        "net = torch.nn.Linear(3, 2)\n"
        "net.load_state_dict({'weight': torch.ones(2, 3), 'bias': torch.tensor([1.0, 0.0])})\n"
        "given = net, (torch.full((4, 3), 0.5), torch.zeros(4).long())  # right, so attacked\n"
    )
    target = (
        "expected a target, e.g. given, predicted or Always(3), called with outputs and labels;"
    )
    expected = (
        "steps of APGD must be a whole number; got '20'",
        "expected an attack, e.g. PGD(); got the class PGD",
        "expected a surrogate, e.g. surrogate=log_likelihood, or None",
        "expected a threat, e.g. Linf(8 / 255) or L2(0.5); got '8/255'",
        "expected seed, an integer, e.g. seed=0; got 0.0",
        target,
        target,
        "expected run=Run(batch_size=128), how to run; got 128",
        "batch_size of Run must be a whole number; got '128'",
        "expected radii, e.g. [0.01, 0.02, 0.05]; got 0.1",
        "a radius must be a number; got '0.1'",
        "a record keeps seeds of 64 bits; got seed=1180591620717411303424",
        "sharpness of Homotopy must be a tuple of numbers; got 2.0",
    )
    for line, start in zip(told(DRIVEN, head), expected, strict=True):
        assert line.startswith(start), line


def test_a_target_is_asked_about_outputs_and_labels() -> None:
    outputs, labels = torch.zeros(4, 2), torch.zeros(4).long()
    assert torch.equal(aimed(lambda outputs, labels: labels, outputs, labels), labels)
    for other in (lambda outputs: outputs, lambda: 3):
        with pytest.raises(PlanError, match="expected a target"):
            aimed(other, outputs, labels)
