"""Archives, tables and arrays: what is read as it is, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import jaxtyping
import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet as pq

from conjoin.data import from_arrays, npz, parquet
from conjoin.errors import DataError

X = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
Y = np.array([0, 1, 1])


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call as users do, without the run-time type checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class Armed:
    """An object whose unpickling would be seen."""

    fired = False

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return (_fire, ())


def _fire() -> None:
    Armed.fired = True


def test_an_archive_is_read_as_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, ids=["a", "b", "c"], classes=["no", "yes"])
    data = npz(tmp_path / "d.npz")
    np.testing.assert_array_equal(data.x.numpy(), X)
    assert data.y.tolist() == [0, 1, 1]
    assert data.ids == ("a", "b", "c") and data.classes == ("no", "yes") and data.name == "d"


def test_double_precision_is_kept_and_half_is_widened(tmp_path: Path) -> None:
    assert from_arrays(X.astype(np.float64), Y).x.dtype == torch.float64
    assert from_arrays(X.astype(np.float16), Y).x.dtype == torch.float32


def test_arrays_of_the_other_byte_order_are_read() -> None:
    data = from_arrays(X.astype(">f4"), Y.astype(">i2"))
    np.testing.assert_array_equal(data.x.numpy(), X)
    assert data.y.tolist() == Y.tolist()


@pytest.mark.parametrize("missing", ["x", "y"])
def test_a_missing_array_is_named(tmp_path: Path, missing: str) -> None:
    arrays = {name: a for name, a in (("x", X), ("y", Y), ("extra", Y)) if name != missing}
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=rf"missing \['{missing}'\]"):
        npz(tmp_path / "d.npz")


def test_an_object_array_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([Armed(), None, 1], dtype=object), y=Y)
    with pytest.raises(DataError, match=r"no readable \.npz archive of plain arrays"):
        npz(tmp_path / "d.npz")
    assert not Armed.fired


def test_a_pickle_named_npz_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(pickle.dumps(Armed()))
    with pytest.raises(DataError, match=r"no readable \.npz"):
        npz(tmp_path / "d.npz")
    assert not Armed.fired


@pytest.mark.usefixtures("unchecked")
def test_bytes_of_images_come_with_the_advice_to_divide(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=(X * 255).astype(np.uint8), y=Y)
    with pytest.raises(
        DataError, match=r"uint8 and shape .*; expected floating point.*divide .* by 255"
    ):
        npz(tmp_path / "d.npz")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*gone\.npz"):
        npz(tmp_path / "gone.npz")


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "altered", "array"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    noise = np.random.default_rng(0).random((50, 40))
    np.savez_compressed(tmp_path / "d.npz", x=noise, y=np.zeros(50, int))
    raw = bytearray((tmp_path / "d.npz").read_bytes())
    if damage == "array":
        np.save(tmp_path / "one.npy", noise)
        raw = bytearray((tmp_path / "one.npy").read_bytes())
    elif damage == "altered":
        raw[len(raw) // 4 : len(raw) // 2] = bytes(len(raw) // 2 - len(raw) // 4)
    else:
        raw = {"empty": bytearray(), "text": bytearray(b"no archive"), "cut": raw[:-100]}[damage]
    (tmp_path / "d.npz").write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"no readable \.npz"):
        npz(tmp_path / "d.npz")


def test_arrays_without_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="labels have dtype <U1; expected numbers"):
        from_arrays(X, np.array(["a", "b", "c"]))
    with pytest.raises(DataError, match="inputs have dtype complex64"):
        from_arrays(X.astype(np.complex64), Y)


def test_extended_precision_is_refused() -> None:
    if np.dtype(np.longdouble).itemsize <= 8:
        pytest.skip("this platform has no extended precision")
    with pytest.raises(DataError, match="at most 64 bits"):
        from_arrays(X.astype(np.longdouble), Y)


def test_a_table_with_lists_gives_their_shape(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 11
    table = {"x": x.tolist(), "label": [2, 0, 1], "id": ["p", "q", "r"]}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    data = parquet(tmp_path / "d.parquet")
    np.testing.assert_array_equal(data.x.numpy(), x)
    assert data.y.tolist() == [2, 0, 1] and data.ids == ("p", "q", "r")


def test_a_table_with_columns_gives_features_in_their_order(tmp_path: Path) -> None:
    table = {"b": [1.0, 2.0], "label": [0, 1], "a": [3, 4], "id": [10, 11]}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    data = parquet(tmp_path / "d.parquet")
    assert data.x.tolist() == [[1.0, 3.0], [2.0, 4.0]] and data.x.dtype == torch.float32
    assert data.ids == ("10", "11")


def test_a_table_without_labels_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0]], "target": [0]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"\['x', 'target'\]; expected an integer 'label'"):
        parquet(tmp_path / "d.parquet")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [[1.0], [1.0, 2.0]]}, "not one numeric array"),
        ({"a": ["red", "blue"]}, "not one numeric array"),
        ({}, "not one numeric array"),
        ({"a": [1.0, None]}, "1 of 2 inputs hold NaN"),
    ],
    ids=["ragged", "words", "none", "gaps"],
)
def test_features_that_are_no_numbers_are_refused(
    tmp_path: Path, columns: dict[str, list[object]], words: str
) -> None:
    pq.write_table(pa.table({**columns, "label": [0, 1]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=words):
        parquet(tmp_path / "d.parquet")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("labels", [[0.0, 1.0], [0, None]], ids=["floats", "gaps"])
def test_labels_of_a_table_must_be_integers(tmp_path: Path, labels: list[object]) -> None:
    pq.write_table(pa.table({"a": [0.1, 0.2], "label": labels}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="expected one integer for each of 2 inputs"):
        parquet(tmp_path / "d.parquet")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no readable Parquet file"):
        parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match="no file"):
        parquet(tmp_path / "gone.parquet")
