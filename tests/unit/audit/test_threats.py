"""Threats in plans: read in any spelling, written whole, said in a sentence."""

from __future__ import annotations

import math

import pytest
import torch

from conjoin.audit.threats import (
    make_threat,
    parse_number,
    parse_threat,
    read_threat,
    simplest,
    write_threat,
)
from conjoin.audit.wording import movable, sentence, unit
from conjoin.core.ball import L1, L2, Linf
from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.core.scaled import Scaled
from conjoin.errors import CapabilityError, PlanError

PICTURES = Dataset(
    torch.full((2, 1, 10, 10), 0.5),
    torch.tensor([0, 1]),
    regions={
        "mark": torch.eye(10).bool()[None],
        "own": torch.arange(200).reshape(2, 1, 10, 10) % 3 == 0,
    },
)
TABLE = Dataset(
    torch.full((2, 3), 0.5),
    torch.tensor([0, 1]),
    features=(
        Feature("age", low=18, high=78, immutable=True),
        Feature("income", high=10),
        Feature("sex", immutable=True),
    ),
)


@pytest.mark.parametrize("text", ["linf:8/255", "Linf:8/255", "LINF: 8/255", " linf : 8/255 "])
def test_spelling_does_not_matter(text: str) -> None:
    assert read_threat(text) == "linf:8/255"
    threat = parse_threat(text, (-1.0, 1.0))
    assert isinstance(threat, Linf)
    assert (threat.eps, threat.bounds) == (8 / 255, (-1.0, 1.0))
    assert isinstance(parse_threat("L2:0.5"), L2)
    assert isinstance(parse_threat("l1:1e1"), L1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("l3:1", "one of l1, l2, linf"),
        ("linf", "expected NORM:EPS"),
        ("", "expected NORM:EPS"),
        ("linf:", "'' is no number"),
        ("linf:x", "'x' is no number"),
        ("linf:1/0", "'1/0' is no number"),
        ("linf:nan", "not finite"),
        ("linf:inf", "not finite"),
        ("linf:-0.1", "eps must be >= 0"),
        ("linf:0.1 of each sprout", "no number"),
        ("of each spread", "expected NORM:EPS"),
    ],
)
def test_what_is_no_threat_is_refused(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        read_threat(text)


def test_fractions_are_the_nearest_float() -> None:
    assert parse_number("8/255") == 8 / 255
    assert parse_number("1e-3") == 1e-3


@pytest.mark.parametrize(
    "threat",
    [Linf(0.3), L2(0.5, (-1.0, 1.0)), L1(2.0), Scaled(L2(0.5), 0.25)],
    ids=str,
)
def test_a_threat_itself_is_written_and_read_as_it_was(threat: Linf | Scaled) -> None:
    for bounds in ((0.0, 1.0), (-1.0, 1.0)):
        said = simplest(write_threat(threat), bounds)
        made = make_threat(said, bounds)
        assert isinstance(made, type(threat))
        assert (made.eps, made.bounds, made.order) == (threat.eps, threat.bounds, threat.order)
    assert simplest(write_threat(Linf(1 / 3)), (0.0, 1.0)) == "linf:0.3333333333333333"


@pytest.mark.parametrize(
    "value",
    [Linf(torch.tensor([0.1])), Linf(0.1, mask=torch.ones(1, 3).bool()), Linf(math.inf), 0.5, Linf],
    ids=str,
)
def test_what_a_plan_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(PlanError, match="no threat that a plan can say"):
        read_threat(value)


def test_units_of_each_column_s_spread_and_columns_that_stay() -> None:
    said = read_threat({"name": "Linf", "eps": "1/10", "scale": "spread"})
    assert said == read_threat("linf: 1/10  of each Spread")
    made = make_threat(said, (0.0, 100.0), TABLE)
    assert isinstance(made, Scaled)
    assert made.scale.tolist() == [[60.0, 10.0, 1.0]]
    assert made.mask.tolist() == [[False, True, False]]
    moved = make_threat(said, (0.0, 100.0), TABLE).project(TABLE.x + 50, TABLE.x)
    assert torch.equal(moved - TABLE.x, torch.tensor([[0.0, 1.0, 0.0]] * 2))
    assert str(said) == "linf:0.1 of each spread"
    assert sentence(made, TABLE) == (
        "every other column may change by up to 10 % of its spread (a spread is from a column's least "
        "to its largest value); age, sex: as they are"
    )
    assert unit(made, TABLE) == "of each spread" and unit(Linf(0.1), TABLE) == "input units"
    for data in (None, PICTURES):
        with pytest.raises(CapabilityError, match="the data state none"):
            make_threat(said, (0.0, 1.0), data)


def test_a_table_keeps_to_its_columns_and_what_cannot_move_stays() -> None:
    columns = (
        Feature("income", low=-5, high=10),
        Feature("job=clerk", Kind.CATEGORICAL),
        Feature("job=none", Kind.CATEGORICAL),
        Feature("level", Kind.ORDINAL, high=3),
        Feature("age", low=18, high=78, immutable=True),
        Feature("country", low=7, high=7),
    )
    x = torch.tensor([[0.0, 1.0, 0.0, 2.0, 50.0, 7.0]])
    people = Dataset(x, torch.tensor([0]), features=columns)
    for said in ("linf:100", "linf:100 of each spread"):
        threat = make_threat(read_threat(said), (0.0, 1.0), people)
        assert threat.mask.tolist() == [[True, False, False, True, False, False]]
        assert threat.project(x + 1000, x).tolist() == [[10, 1, 0, 3, 50, 7]]
        assert threat.project(x - 1000, x).tolist() == [[-5, 1, 0, 0, 50, 7]]
    assert isinstance(make_threat("l2:0.5", (0.0, 1.0), people), L2)
    assert sentence(threat, people).endswith("; job, age, country: as they are")
    own = make_threat(read_threat({"name": "linf", "eps": 9, "bounds": [-1, 2]}), (0, 1), people)
    assert own.bounds == (-1.0, 2.0)
    still = Dataset(x[:, 1:3], torch.tensor([0]), features=columns[1:3])
    assert not movable(make_threat("linf:1", (0.0, 1.0), still)) and movable(threat)


def test_many_categories_are_counted_not_listed() -> None:
    columns = (
        Feature("income", high=10),
        Feature("age", immutable=True),
        *(Feature(f"c{k}={v}", Kind.CATEGORICAL) for k in range(5) for v in "ab"),
    )
    table = Dataset(torch.zeros(1, 12), torch.tensor([0]), features=columns)
    said = sentence(make_threat("linf:0.5", (0.0, 1.0), table), table)
    assert said == "every other column may change by up to 0.5; age and 5 categories: as they are"


def test_the_sentence_of_l2_counts_the_columns_that_move() -> None:
    columns = tuple(Feature(str(k), immutable=k > 3) for k in range(9))
    table = Dataset(torch.full((1, 9), 0.5), torch.tensor([0]), features=columns)
    threat = make_threat(read_threat("l2:0.2 of each spread"), (0.0, 1.0), table)
    assert "all 4 by 10 % of its spread each" in sentence(threat, table)
    x, step = table.x.double(), torch.tensor([[0.1] * 4 + [0.0] * 5], dtype=torch.float64)
    assert bool(threat.contains(x + step * (1 - 1e-9), x).all())
    assert not bool(threat.contains(x + step * (1 + 1e-9), x).any())


def test_names_of_columns_and_regions_stay() -> None:
    named = make_threat(read_threat({"name": "l2", "eps": 1, "fixed": ["income"]}), (0, 1), TABLE)
    assert named.mask.tolist() == [[False, False, False]]
    shared = make_threat(read_threat({"name": "l2", "eps": 1, "fixed": ["mark"]}), (0, 1), PICTURES)
    assert torch.equal(shared.mask, ~PICTURES.region("mark"))
    both = make_threat(
        read_threat({"name": "l2", "eps": 1, "fixed": ["mark", "own"]}), (0, 1), PICTURES
    )
    assert torch.equal(both.mask, ~(PICTURES.region("mark") | PICTURES.region("own")))
    assert sentence(shared, PICTURES).endswith("; 10 % of the input stays as it is")
    with pytest.raises(PlanError, match="no column or region 'sky'; they have mark, own"):
        make_threat(read_threat({"name": "l2", "eps": 1, "fixed": ["sky"]}), (0, 1), PICTURES)
    numbers = make_threat(read_threat({"name": "l2", "eps": 1, "scale": [1, 2, 3]}), (0, 1), TABLE)
    assert numbers.scale.tolist() == [[1.0, 2.0, 3.0]]
    assert "of its own scale" in sentence(numbers, TABLE)


@pytest.mark.parametrize(
    ("threat", "data", "words"),
    [
        (Linf(0.05), None, "every value may change by up to 5 % of the range"),
        (Linf(0.05), PICTURES, "every pixel may change by up to 5 % of the range"),
        (Linf(0.1, (-1.0, 1.0)), None, "every value may change by up to 5 % of the range"),
        (Linf(3.0), TABLE, "every column may change by up to 100 % of the range"),
        (Linf(0.0), None, "nothing may change"),
        (Linf(math.inf), None, "every value may change to anything in the range"),
        (Linf(0.1, (-math.inf, math.inf)), None, "every value may change by up to 0.1"),
        (
            L2(0.5),
            PICTURES,
            "one pixel may change by up to 50 % of the range, or several by less: all 100 by 5 % of "
            "the range each",
        ),
        (
            L1(2.0),
            None,
            "all changes may add up to 200 % of the range: that of one value, or a part each of "
            "several",
        ),
        (Scaled(Linf(0.5), 0.1), None, "every value may change by up to 5 % of the range"),
        (
            Linf(torch.tensor([0.1, 0.2])),
            None,
            "every example may change by a radius of its own",
        ),
    ],
)
def test_a_sentence_says_how_much_may_change(
    threat: Linf | Scaled, data: Dataset | None, words: str
) -> None:
    assert sentence(threat, data) == words


def test_the_sentence_of_l2_is_true() -> None:
    """All pixels at once by the share that it names reach the radius, and no further."""
    x = PICTURES.x.double()
    assert bool(L2(0.5).contains(x + 0.05 - 1e-9, x).all())
    assert not bool(L2(0.5).contains(x + 0.05 + 1e-9, x).any())
