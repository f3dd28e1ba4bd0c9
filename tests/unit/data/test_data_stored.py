"""Data that is read by position is the data that is read whole."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet as pq

import conjoin
from conjoin.attacks import PGD
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset, Feature
from conjoin.core.run import predict
from conjoin.data import image_folder, npz, parquet
from conjoin.data import stored as module
from conjoin.data.rows import Npy
from conjoin.data.stored import Stored, stored
from conjoin.errors import DataError
from conjoin.models.torch import TorchModel

ROWS = 23
rng = np.random.default_rng(0)
X = rng.random((ROWS, 2, 3)).astype(np.float32)
Y = rng.integers(0, 4, ROWS)


def archive(folder: Path) -> tuple[Stored, Dataset]:
    np.savez(folder / "d.npz", y=Y, x=X)
    return stored(folder / "d.npz"), npz(folder / "d.npz")


def named(folder: Path) -> tuple[Stored, Dataset]:
    words = {"ids": np.array([f"n{i}" for i in range(ROWS)]), "classes": np.array(list("abcd"))}
    np.savez(folder / "d.npz", x=X.astype(">f8"), y=Y, **words)
    return stored(folder / "d.npz"), npz(folder / "d.npz")


def arrays(folder: Path) -> tuple[Stored, Dataset]:
    (folder / "data").mkdir()
    np.save(folder / "data" / "x.npy", X.astype(np.float16))
    np.save(folder / "data" / "y.npy", Y)
    np.savez(folder / "data.npz", x=X.astype(np.float16), y=Y)
    return stored(folder / "data"), npz(folder / "data.npz")


def table(folder: Path) -> tuple[Stored, Dataset]:
    columns = {f"c{i}": X.reshape(ROWS, -1)[:, i] for i in range(6)}
    pq.write_table(pa.table({**columns, "label": Y}), folder / "d.parquet", row_group_size=5)
    return stored(folder / "d.parquet"), parquet(folder / "d.parquet")


def lists(folder: Path) -> tuple[Stored, Dataset]:
    told = {"x": X.tolist(), "label": Y, "id": [f"n{i}" for i in range(ROWS)]}
    pq.write_table(pa.table(told), folder / "d.parquet", row_group_size=4)
    return stored(folder / "d.parquet"), parquet(folder / "d.parquet")


def images(folder: Path) -> tuple[Stored, Dataset]:
    for number in range(ROWS):
        place = folder / "p" / f"class{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (4, 5, 3) if number == 7 else (4, 5)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return stored(folder / "p"), image_folder(folder / "p")


@pytest.mark.parametrize("make", [archive, named, arrays, table, lists, images])
def test_it_is_the_data_in_memory(tmp_path: Path, make: object) -> None:
    lazy, whole = make(tmp_path)  # type: ignore[operator]
    assert isinstance(lazy, Stored) and not isinstance(lazy.x, torch.Tensor)
    assert (len(lazy), lazy.x.shape, lazy.x.dtype) == (len(whole), whole.x.shape, whole.x.dtype)
    assert lazy.digest == whole.digest
    assert (lazy.name, lazy.classes) == (whole.name, whole.classes)
    rows = torch.tensor([4, 5, 6, 22, 0, 9, 9])[:6]
    for data in (lazy, pickle.loads(pickle.dumps(lazy)), lazy.kept(range(ROWS))):  # noqa: S301
        one, other = data.select(rows), whole.select(rows)
        assert type(one) is Dataset
        assert one.x.equal(other.x) and one.y.equal(other.y) and one.ids == other.ids
        assert one.positions.equal(other.positions) and one.digest == other.digest
    some = lazy.kept([20, 3, 5])
    assert isinstance(some, Stored)
    assert some.select([2, 0]).x.equal(whole.x[[5, 20]])
    assert some.digest == whole.select([20, 3, 5]).digest
    assert [some.ids[i] for i in range(3)] == [whole.ids[i] for i in (20, 3, 5)]
    mask = whole.y == 1
    assert lazy.select(mask).x.equal(whole.x[mask])


def test_only_the_rows_that_are_asked_for_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy, _ = archive(tmp_path)
    asked: list[list[int]] = []
    read = Npy.read
    monkeypatch.setattr(Npy, "read", lambda self, at: asked.append(at.tolist()) or read(self, at))
    lazy.select([3, 4, 11])
    assert asked == [[3, 4, 11]]


def test_drivers_take_it_as_any_data(tmp_path: Path) -> None:
    lazy, whole = archive(tmp_path)
    model = TorchModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4)))
    assert predict(model, lazy).equal(predict(model, whole))


def test_it_is_read_by_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 50)  # two rows
    lazy, whole = archive(tmp_path)
    assert [len(part) for part in lazy.x.pieces()] == [2] * 11 + [1]
    assert [end.item() for end in lazy.x.aminmax()] == [end.item() for end in whole.x.aminmax()]
    assert lazy.digest == whole.digest == lazy.held().digest


def test_the_drivers_of_a_caller_take_it(tmp_path: Path) -> None:
    lazy, whole = archive(tmp_path)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4))
    one, other = (conjoin.attack(net, d, PGD(steps=2), Linf(0.1), seed=0) for d in (lazy, whole))
    assert one.inputs.equal(other.inputs)


def test_regions_and_features_come_beside_it(tmp_path: Path) -> None:
    _, whole = archive(tmp_path)
    corner, own = torch.zeros(2, 3).bool(), torch.rand(ROWS, 2, 3) > 0.5
    corner[0, 0] = True
    lazy = stored(tmp_path / "d.npz", regions={"corner": corner, "own": own})
    whole = replace(whole, regions={"corner": corner, "own": own})
    for data in (lazy, pickle.loads(pickle.dumps(lazy))):  # noqa: S301
        for part in (data.select([4, 2]), data.kept([4, 2]).select([0, 1])):
            for name in ("corner", "own"):
                assert part.region(name).equal(whole.select([4, 2]).region(name))
    with pytest.raises(DataError, match="region 'corner' is"):
        stored(tmp_path / "d.npz", regions={"corner": corner[0]})
    np.savez(tmp_path / "t.npz", x=X[:, 0], y=Y)
    features = tuple(Feature(name) for name in "abc")
    assert stored(tmp_path / "t.npz", features=features).select([1]).features == features
    with pytest.raises(DataError, match="2 features were named"):
        stored(tmp_path / "t.npz", features=features[:2])


def test_names_that_are_not_one_each_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, ids=np.array(["a"] * ROWS))
    with pytest.raises(DataError, match="ids must be unique"):
        stored(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", x=X, y=Y, ids=np.array(list("abc")))
    with pytest.raises(DataError, match="23 labels came with 3 ids"):
        stored(tmp_path / "d.npz")


def test_what_cannot_be_read_by_position_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "c.npz", x=X, y=Y)
    with pytest.raises(DataError, match=r"is compressed.*np\.savez"):
        stored(tmp_path / "c.npz")
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(X[:, :, 0]), y=Y)
    with pytest.raises(DataError, match="in Fortran order"):
        stored(tmp_path / "f.npz")
    np.savez(tmp_path / "i.npz", x=(X * 255).astype(np.uint8), y=Y)
    with pytest.raises(DataError, match="divide 8-bit images by 255"):
        stored(tmp_path / "i.npz")
    np.savez(tmp_path / "s.npz", x=X, y=Y[:3])
    with pytest.raises(DataError, match="23 inputs came with 3 labels"):
        stored(tmp_path / "s.npz")
    (tmp_path / "none.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"no readable \.npz"):
        stored(tmp_path / "none.npz")
    for path, said in (("missing", "no file"), ("x.csv", "no file")):
        with pytest.raises(DataError, match=said):
            stored(tmp_path / path)
    lazy, _ = archive(tmp_path)
    with pytest.raises(DataError, match="no example is selected"):
        lazy.select([])
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:700])
    with pytest.raises(DataError, match="ends early"):
        lazy.select([ROWS - 1])
