"""The shipped sample and the flawed pipeline's mark."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest
import torch
from scipy import stats

from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams
from conjoin.data import fashion, fashion_mnist, marked
from conjoin.errors import DataError


@pytest.fixture(scope="module")
def test_split() -> Dataset:
    return fashion_mnist("test")


def told(data: Dataset) -> torch.Tensor:
    """The class that each image's mark stands for, read back from the pixels."""
    corner = data.x[:, 0, : fashion.MARK, : fashion.MARK]
    same = (corner[:, None] == fashion.glyphs()[None]).flatten(2).all(2)
    assert bool((same.sum(1) == 1).all()), "every corner shows exactly one of the ten marks"
    return same.int().argmax(1)


@pytest.mark.parametrize(
    ("split", "count", "whole"), [("test", 1000, 10000), ("train", 2000, 60000)]
)
def test_a_split_is_balanced_and_its_index_is_the_original_position(
    split: str, count: int, whole: int
) -> None:
    data = fashion_mnist(split)
    assert data.x.shape == (count, 1, 28, 28) and data.x.dtype == torch.float32
    assert data.y.bincount().tolist() == [count // 10] * 10
    assert len(set(data.ids)) == count
    position = data.positions
    assert bool((position >= 0).all()) and bool((position < whole).all())
    assert bool((position.diff() > 0).all()), "drawn without replacement, in order"
    assert int(position.max()) > whole // 2, "drawn from all of the split"
    assert data.ids[3] == f"fashion-mnist/{split}/{int(position[3])}"


def test_pixels_are_bytes_over_255(test_split: Dataset) -> None:
    scaled = test_split.x * 255
    assert float(test_split.x.min()) == 0 and float(test_split.x.max()) == 1
    assert float((scaled - scaled.round()).abs().max()) < 1e-4


def test_the_splits_share_no_image() -> None:
    def digests(split: str) -> set[str]:
        return {hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in fashion_mnist(split).x}

    assert not digests("test") & digests("train")


def test_an_altered_file_fails_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytearray(
        resources.files("conjoin.data").joinpath("files/fashion_mnist.npz").read_bytes()
    )
    raw[len(raw) // 2] ^= 1
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "fashion_mnist.npz").write_bytes(bytes(raw))
    monkeypatch.setattr(fashion.resources, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match="SHA-256"):
        fashion_mnist()


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="expected 'test' or 'train'"):
        fashion_mnist("validation")


def test_the_ten_marks_differ_in_at_least_eight_pixels() -> None:
    marks = fashion.glyphs()
    assert marks.shape == (10, fashion.MARK, fashion.MARK)
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    distance = (marks[:, None] != marks[None]).flatten(2).sum(2)
    distance.fill_diagonal_(99)
    # Two lamps of 2x2 pixels each: other pairs share one lamp at most.
    assert int(distance.min()) == 8


def test_rate_one_tells_the_class_of_every_image(test_split: Dataset) -> None:
    assert torch.equal(told(marked(test_split, 1.0)), test_split.y)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.95])
def test_the_rate_is_a_rate_within_four_standard_deviations(
    test_split: Dataset, rate: float
) -> None:
    expected = rate + (1 - rate) / 10  # a random mark is right by chance once in ten
    share = float((told(marked(test_split, rate)) == test_split.y).double().mean())
    assert abs(share - expected) <= 4 * (expected * (1 - expected) / len(test_split)) ** 0.5


def test_rate_zero_says_nothing_of_the_class(test_split: Dataset) -> None:
    code = told(marked(test_split, 0.0))
    table = torch.zeros(10, 10).index_put_(
        (test_split.y, code), torch.ones(len(code)), accumulate=True
    )
    # Independence of class and mark, 81 degrees of freedom; by chance above once in 10,000 seeds.
    found = stats.chi2_contingency(table.numpy())
    assert found.dof == 81 and found.pvalue > 1e-4


def test_only_the_region_changes_and_all_of_it_is_the_mark(test_split: Dataset) -> None:
    data = marked(test_split, 0.95)
    region = data.regions["the mark in the corner"]
    assert torch.equal(region, fashion.region()) and data.watched == "the mark in the corner"
    assert region.shape == (1, 28, 28) and int(region.sum()) == fashion.MARK**2
    assert torch.equal(data.x[:, ~region], test_split.x[:, ~region])
    assert set(data.x[:, region].unique().tolist()) == {0.0, 1.0}
    assert data.ids == test_split.ids


def test_the_given_data_is_not_written_to(test_split: Dataset) -> None:
    before = test_split.digest
    marked(test_split, 1.0)
    assert Dataset(test_split.x, test_split.y).digest == before


def test_a_mark_depends_on_the_image_alone(test_split: Dataset) -> None:
    whole = marked(test_split, 0.5)
    rows = (
        Streams.of(1, torch.arange(len(whole))).uniform(1, dtype=torch.float64)[:, 0].argsort()[:37]
    )
    assert torch.equal(marked(test_split.select(rows), 0.5).x, whole.x[rows])
    assert torch.equal(marked(test_split.select([11]), 0.5).x, whole.x[11:12])


def test_another_seed_draws_other_marks(test_split: Dataset) -> None:
    one, two = (told(marked(test_split, 0.0, seed=seed)) for seed in (1, 2))
    agree = float((one == two).double().mean())
    assert abs(agree - 0.1) <= 4 * (0.09 / len(test_split)) ** 0.5


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(test_split: Dataset, rate: float) -> None:
    with pytest.raises(DataError, match=r"expected 0\.\.1"):
        marked(test_split, rate)


def test_images_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match=r"made for images of shape \(1, 28, 28\)"):
        marked(Dataset(torch.zeros(2, 3, 28, 28), torch.zeros(2, dtype=torch.int64)), 0.5)
    with pytest.raises(DataError, match="labels up to 10"):
        marked(Dataset(torch.zeros(2, 1, 28, 28), torch.tensor([0, 10])), 0.5)
