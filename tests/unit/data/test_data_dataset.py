"""The data set as a value: what it refuses, and what survives selection."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.errors import DataError

X = torch.arange(20, dtype=torch.float32).reshape(5, 4) / 20
Y = torch.tensor([0, 1, 2, 1, 0])


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call as users do, without the run-time type checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_defaults_number_the_examples() -> None:
    data = Dataset(X, Y)
    assert data.positions.tolist() == [0, 1, 2, 3, 4] and data.ids == ("0", "1", "2", "3", "4")
    assert len(data) == 5


def test_it_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Dataset(X, Y).name = "other"  # type: ignore[misc]


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DataError, match="empty; expected at least one example"):
        Dataset(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_counted_and_placed(bad: float) -> None:
    x = X.clone()
    x[2, 1] = bad
    x[4] = bad
    with pytest.raises(DataError, match=r"2 of 5 inputs hold NaN or infinity, .* position 2"):
        Dataset(x, Y)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_inputs_must_be_floating_point(dtype: torch.dtype) -> None:
    with pytest.raises(
        DataError, match=rf"dtype {dtype} and shape .*; expected floating .* by 255"
    ):
        Dataset(X.to(dtype), Y)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "labels",
    [Y.double(), Y.to(torch.complex64), Y[:4], Y[:, None], torch.eye(5, dtype=torch.int64)],
    ids=["float", "complex", "few", "column", "one-hot"],
)
def test_labels_are_one_integer_for_each_input(labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match="expected one integer for each of 5 inputs"):
        Dataset(X, labels)


def test_labels_counted_from_one_get_the_hint() -> None:
    with pytest.raises(DataError, match=r"labels span 1\.\.3; expected 0\.\.2.*subtract 1"):
        Dataset(X, Y + 1, classes=("a", "b", "c"))


def test_labels_far_out_of_range_get_no_hint() -> None:
    with pytest.raises(DataError, match=r"labels span 0\.\.7; expected 0\.\.2$"):
        Dataset(X, torch.tensor([0, 1, 7, 1, 0]), classes=("a", "b", "c"))


def test_negative_labels_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels span -1\.\.1; expected >= 0$"):
        Dataset(X, Y - 1)


def test_ids_must_be_unique_and_as_many_as_the_examples() -> None:
    with pytest.raises(DataError, match="ids must be unique"):
        Dataset(X, Y, ids=("a", "b", "c", "a", "d"))
    with pytest.raises(DataError, match="5 labels came with 2 ids and 5 indices"):
        Dataset(X, Y, ids=("a", "b"))
    with pytest.raises(DataError, match="came with 5 ids and 3 indices"):
        Dataset(X, Y, ids=tuple("abcde"), index=torch.arange(3))


def test_a_region_has_the_shape_of_one_input_or_of_all() -> None:
    each = torch.arange(20).reshape(5, 4) % 2 == 0
    data = Dataset(X, Y, regions={"all": each[0], "each": each})
    assert data.watched == "all" and data.region("all").shape == (1, 4)
    assert torch.equal(data.select([3, 1]).region("each"), each[[3, 1]])
    for wrong in (each[:3], each[:, :2], each[0].float()):
        with pytest.raises(DataError, match=r"region 'odd' is .*expected boolean .* \(4,\)"):
            Dataset(X, Y, regions={"odd": wrong})
    with pytest.raises(DataError, match=r"no region 'none'; it has \['all', 'each'\]"):
        data.region("none")


def test_context_has_one_row_for_each_example() -> None:
    data = Dataset(X, Y, context={"angle": torch.arange(5.0)})
    assert data.select([4, 0]).context["angle"].tolist() == [4.0, 0.0]
    assert data.digest != Dataset(X, Y).digest
    for wrong in (torch.zeros(4), torch.tensor(1.0)):
        with pytest.raises(DataError, match="expected one row for each of 5 examples"):
            Dataset(X, Y, context={"angle": wrong})


def test_tokens_and_tables_have_their_place() -> None:
    tokens = Dataset(torch.arange(15).reshape(5, 3), Y)
    assert tokens.x.dtype == torch.int64
    columns = tuple(
        Feature(name, immutable=name == "age") for name in ("age", "sum", "term", "job")
    )
    assert Dataset(X, Y, features=columns).select([0, 2]).features == columns
    with pytest.raises(DataError, match="name one per column"):
        Dataset(X, Y, features=columns[:3])


def test_lifted_data_has_parameters_in_front_and_its_inputs_behind() -> None:
    region = torch.tensor([True, False, False, True])
    spun = Dataset(X, Y, regions={"corner": region}).lifted(torch.zeros(5, 1))
    assert spun.x.shape == (5, 1) and torch.equal(spun.context["lifted"], X) and not spun.regions


@pytest.mark.parametrize(
    "rows",
    [[4, 1], torch.tensor([4, 1]), torch.tensor([False, True, False, False, True])],
    ids=["list", "positions", "mask"],
)
def test_selection_keeps_what_belongs_together(rows: list[int] | torch.Tensor) -> None:
    region = torch.tensor([True, False, False, True])
    data = Dataset(X, Y, index=Y * 10 + torch.arange(5), ids=tuple("abcde"), regions={"r": region})
    part = data.select(rows)
    order = [1, 4] if isinstance(rows, torch.Tensor) and rows.dtype == torch.bool else [4, 1]
    assert torch.equal(part.x, X[order]) and torch.equal(part.y, Y[order])
    assert part.ids == tuple("abcde"[i] for i in order)
    assert torch.equal(part.positions, data.positions[order])
    assert torch.equal(part.region("r")[0], region)


def test_selecting_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no example is selected"):
        Dataset(X, Y).select(torch.zeros(5, dtype=torch.bool))
    with pytest.raises(DataError, match="give one flag per example"):
        Dataset(X, Y).select(torch.ones(4, dtype=torch.bool))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([7], r"no example 7; expected positions 0\.\.4 of the 5 examples"),
        ([0, 5], "no example 5"),
        ([-6], "no example -6"),
        (True, r"a mask of shape \(\) .*give one flag per example, or positions"),
        ("a", r"expected positions, e.g. \[0, 7\] or range\(10\), .*; got 'a'"),
        (3, "expected positions, .*; got 3"),
        (None, "expected positions, .*; got None"),
        ([0.0, 1.0], "expected positions, .*; got a list"),
        (torch.tensor([0.5]), "expected positions, .*; got torch.float32"),
        ([[0, 1]], "expected positions, .*; got a list"),
        ([[0], [1, 2]], "expected positions, .*; got a list"),
        ([2**70], "expected positions, .*; got a list"),
        (slice(0, 2), "expected positions, .*; got a slice"),
        ({0, 1}, "expected positions, .*; got a set"),
        ([], "no example is selected"),
    ],
    ids=str,
)
def test_what_selects_nothing_that_is_there_is_refused(rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Dataset(X, Y).select(rows)


@pytest.mark.usefixtures("unchecked")
def test_positions_come_in_many_forms() -> None:
    for rows in (range(1, 3), (1, 2), np.array([1, 2], np.uint8), torch.tensor([-4, -3])):
        assert Dataset(X, Y).select(rows).positions.tolist() == [1, 2]  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Dataset([[0.5, 0.5]], [0]), r"inputs are a list; expected a tensor: torch.as_te"),
        (lambda: Dataset(X.numpy(), Y), "inputs are a ndarray; expected a tensor"),
        (lambda: Dataset("x", Y), "inputs are 'x'; expected a tensor"),
        (lambda: Dataset(X, Y.tolist()), "labels are a list; expected a tensor"),
        (lambda: Dataset(torch.tensor(1.0), Y), "empty; expected at least one example"),
        (lambda: Dataset(X, Y, index=[0, 1, 2, 3, 4]), "indices are a list; expected a tensor"),
        (lambda: Dataset(X, Y, index=Y.double()), "indices are torch.float64 .*64-bit integers"),
        (lambda: Dataset(X, Y, index=Y[:, None]), r"indices are .*\(5, 1\).*64-bit integers"),
        (lambda: Dataset(X, Y, regions={"r": [True] * 4}), "flags of region 'r' are a list; exp"),
        (lambda: Dataset(X, Y, context={"c": [0] * 5}), "values of context 'c' are a list; exp"),
    ],
)
def test_what_is_no_tensor_is_named(made: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        made()


@pytest.mark.usefixtures("unchecked")
def test_other_labels_leave_the_rest() -> None:
    data = Dataset(X, Y, ids=tuple("abcde"))
    other = data.labelled(2 - Y)
    assert torch.equal(other.y, 2 - Y) and torch.equal(data.y, Y)
    assert other.ids == data.ids and other.x is data.x
    with pytest.raises(DataError, match="expected one integer"):
        data.labelled(Y[:2])


def test_blanking_fills_the_region_and_nothing_else() -> None:
    region = torch.tensor([True, False, False, True])
    data = Dataset(X, Y, regions={"r": region}, name="some")
    blank = data.blanked("r", 0.5)
    assert bool((blank.x[:, region] == 0.5).all())
    assert torch.equal(blank.x[:, ~region], X[:, ~region])
    assert torch.equal(data.x, X) and blank.name == "some, r blanked"
    with pytest.raises(DataError, match="no region 'r'; it has none"):
        Dataset(X, Y).blanked("r")


def test_what_is_typical_of_a_column_follows_its_kind() -> None:
    columns = (
        Feature("income"),
        Feature("level", Kind.ORDINAL, high=3),
        Feature("job=a", Kind.CATEGORICAL),
        Feature("job=b", Kind.CATEGORICAL),
        Feature("place", Kind.CATEGORICAL, high=9),
        Feature("said", typical=0.25),
    )
    x = torch.tensor(
        [
            [0.0, 3, 1, 0, 5, 0],
            [0.5, 0, 0, 1, 9, 0],
            [1.0, 3, 0, 1, 9, 1],
            [0.5, 1, 1, 0, 2, 1],
            [0, 2, 0, 1, 0, 0],
        ]
    )
    data = Dataset(x, Y, features=columns).with_typical()
    assert [f.typical for f in data.features] == pytest.approx([0.4, 3, 0, 1, 9, 0.25])
    assert data.select([0]).with_typical().features == data.features
    assert Dataset(X, Y).with_typical().features == ()


def test_the_digest_is_of_values_shape_and_type_of_both_parts() -> None:
    one = Dataset(X, Y).digest
    assert one == Dataset(X.clone(), Y.clone(), name="renamed").digest
    nudged = X.clone()
    nudged[3, 2] = torch.nextafter(nudged[3, 2], torch.tensor(2.0))
    others = [
        Dataset(nudged, Y),
        Dataset(X, torch.tensor([0, 1, 2, 1, 1])),
        Dataset(X.reshape(5, 2, 2), Y),
        Dataset(X.double(), Y),
        replace(Dataset(X, Y), x=X.flip(0)),
    ]
    assert len({one, *(other.digest for other in others)}) == 6
