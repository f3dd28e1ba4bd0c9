"""IDX files: what is read, and what is refused with one clear sentence."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

from conjoin.data import idx_folder, read_idx
from conjoin.errors import DataError

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10
KINDS = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def packed(array: np.ndarray) -> bytes:
    kind = KINDS[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def written(folder: Path, *, compressed: bool = False, labels: np.ndarray | None = None) -> Path:
    labels = np.array([7, 2], np.uint8) if labels is None else labels
    for stem, array in (("images-idx3", PIXELS), ("labels-idx1", labels)):
        raw = packed(array)
        name = f"t10k-{stem}-ubyte" + (".gz" if compressed else "")
        (folder / name).write_bytes(gzip.compress(raw) if compressed else raw)
    return folder


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_element_type_is_read_exactly(tmp_path: Path, kind: str) -> None:
    array = np.array([[1, 2, 3], [4, 5, 100]]).astype(kind)
    (tmp_path / "a").write_bytes(packed(array))
    found = read_idx(tmp_path / "a")
    assert found.dtype.newbyteorder("=") == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_gives_pixels_over_255_with_a_channel_axis(
    tmp_path: Path, compressed: bool
) -> None:
    data = idx_folder(written(tmp_path, compressed=compressed))
    assert data.x.shape == (2, 1, 3, 4) and data.x.dtype == torch.float32
    np.testing.assert_array_equal(data.x[:, 0].numpy(), PIXELS.astype(np.float32) / 255)
    assert data.y.tolist() == [7, 2] and data.y.dtype == torch.int64
    assert data.positions.tolist() == [0, 1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*nothing-here"):
        read_idx(tmp_path / "nothing-here")


def test_a_missing_split_says_which_files_were_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\[\.gz\]"):
        idx_folder(written(tmp_path), split="train")


def test_a_wrong_magic_number_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x89PNG" + bytes(40))
    with pytest.raises(DataError, match=r"no IDX file.*\\x89PNG"):
        read_idx(tmp_path / "a")


def test_an_unknown_element_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\0\x07\x01" + struct.pack(">I", 1) + b"\0")
    with pytest.raises(DataError, match="no IDX file"):
        read_idx(tmp_path / "a")


@pytest.mark.parametrize("lost", [1, 5, len(packed(PIXELS)) - 17])
def test_truncated_data_is_told_in_bytes(tmp_path: Path, lost: int) -> None:
    raw = packed(PIXELS)
    (tmp_path / "a").write_bytes(raw[:-lost])
    with pytest.raises(DataError, match=f"holds {24 - lost} bytes.*promises 24"):
        read_idx(tmp_path / "a")


def test_trailing_bytes_are_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(packed(PIXELS) + b"\0")
    with pytest.raises(DataError, match="holds 25 bytes"):
        read_idx(tmp_path / "a")


@pytest.mark.parametrize("length", range(16))
def test_a_truncated_header_is_no_crash(tmp_path: Path, length: int) -> None:
    (tmp_path / "a").write_bytes(packed(PIXELS)[:length])
    with pytest.raises(DataError, match="no IDX file"):
        read_idx(tmp_path / "a")


@pytest.mark.parametrize("damage", ["cut", "altered", "plain"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 20, 20), dtype=np.uint8)
    raw = bytearray(gzip.compress(packed(noise)))
    if damage == "cut":
        raw = raw[:-40]
    elif damage == "altered":
        raw[12:200] = bytes([0x55]) * 188
    else:
        raw = bytearray(packed(noise))
    (tmp_path / "a.gz").write_bytes(bytes(raw))
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "a.gz")


def test_images_and_labels_must_be_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users call it
    with pytest.raises(DataError, match="each of 2 inputs"):
        idx_folder(written(tmp_path, labels=np.array([1, 2, 3], np.uint8)))


def test_images_must_hold_bytes(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(packed(PIXELS.astype("i4")))
    with pytest.raises(DataError, match="expected 8-bit images"):
        idx_folder(tmp_path)
