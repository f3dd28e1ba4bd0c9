"""Numbers that methods are made of: what is none is refused by name, for every method that has any."""

from __future__ import annotations

import subprocess
import sys
from copy import copy
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import pytest

from conjoin import attribution, metrics
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
from conjoin.errors import PlanError
from conjoin.testing import shipped

MADE: dict[str, Any] = {
    **{name: make() for name, make in shipped.methods(attribution).items()},
    **{name: make() for name, make in shipped.methods(metrics).items()},
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
    for field, kind, optional in _fields_of(type(made)):
        wrong: list[object] = ["20", [20], True, *([] if optional else [None])]
        for value in [*wrong, 2.5] if kind == "int" else wrong:
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


def test_presets_tell_a_user_who_has_no_checks_of_types() -> None:
    lines = [
        f"try: {said}\nexcept PlanError as error: print(error)\nelse: print('taken')"
        for said in SAID
    ]
    head = "import torch\nfrom conjoin.errors import PlanError\nfrom conjoin.attribution import *\n"
    done = subprocess.run(
        [sys.executable, "-c", head + "\n".join(lines)], capture_output=True, text=True, check=True
    )
    told = done.stdout.splitlines()
    assert told == [
        "nodes of Panels must be a whole number; got '20'",
        "draws of Gaussian must be a whole number; got None",
        "scale of Gaussian must be a number; got 'a'",
        "masks of Rise must be a whole number; got 2.5",
        "draws of expected gradients must be a whole number; got '4'",
    ]
