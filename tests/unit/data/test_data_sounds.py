"""Folders of wave files: what is read as it is, and what is refused."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from conjoin.core.dataset import Dataset
from conjoin.data import Sounds, sound_folder
from conjoin.data.sounds import read_wave
from conjoin.errors import DataError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"  # beside the repository
DIGITS = SHARED / "spoken_digits/fsdd_8khz_int16.npz"
TONE = np.sin(np.arange(400) / 5)


def write(
    path: Path, sound: np.ndarray, *, width: int = 2, rate: int = 8000, channels: int = 1
) -> Path:
    """Write numbers in -1..1 as PCM."""
    top = 2 ** (8 * width - 1)
    whole = np.clip(np.round(sound * top), -top, top - 1).astype(np.int64)
    if width == 1:
        raw = (whole + 128).astype(np.uint8).tobytes()
    else:
        raw = whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(raw)
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_of_pcm_is_read_to_its_last_bit(tmp_path: Path, width: int) -> None:
    top = 2 ** (8 * width - 1)
    sound = np.array([0, 1, -1, top - 1, -top, 5]) / top
    found, rate = read_wave(write(tmp_path / "a.wav", sound, width=width, rate=44100))
    assert rate == 44100 and found.dtype == np.float32
    np.testing.assert_array_equal(found, sound.astype(np.float32))


def test_a_folder_is_read_by_class_and_keeps_its_rate(tmp_path: Path) -> None:
    write(tmp_path / "yes" / "b.wav", TONE)
    write(tmp_path / "no" / "a.WAV", -TONE)
    write(tmp_path / "no" / "c.wav", TONE / 2)
    (tmp_path / "no" / "notes.txt").write_text("no sound")
    (tmp_path / ".hidden").mkdir()
    data = sound_folder(tmp_path)
    assert isinstance(data, Sounds) and tuple(data.x.shape) == (3, 1, 400) and data.rate == 8000
    assert data.classes == ("no", "yes") and data.y.tolist() == [0, 0, 1]
    assert data.ids == ("no/a.WAV", "no/c.wav", "yes/b.wav")
    assert float((data.x[2, 0] - torch.from_numpy(TONE)).abs().max()) <= 2.0**-15
    part = data.select([2]).labelled(torch.tensor([0]))
    assert isinstance(part, Sounds) and part.rate == 8000 and part.ids == ("yes/b.wav",)


def test_samples_cut_and_fill_with_silence(tmp_path: Path) -> None:
    write(tmp_path / "a" / "long.wav", TONE)
    write(tmp_path / "a" / "short.wav", TONE[:100])
    with pytest.raises(
        DataError, match=r"differ in samples long, e\.g\. a/short\.wav is 100, .*400"
    ):
        sound_folder(tmp_path)
    data = sound_folder(tmp_path, samples=200)
    assert tuple(data.x.shape) == (2, 1, 200)
    assert bool((data.x[1, 0, 100:] == 0).all())
    assert torch.equal(data.x[0, 0, :100], data.x[1, 0, :100])
    with pytest.raises(DataError, match="samples must be at least 1; got 0"):
        sound_folder(tmp_path, samples=0)


def test_rates_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.wav", TONE)
    write(tmp_path / "a" / "two.wav", TONE, rate=16000)
    with pytest.raises(DataError, match=r"differ in samples per second, .*8000, .*16000; resample"):
        sound_folder(tmp_path)


def test_stereo_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", TONE, channels=2)
    with pytest.raises(DataError, match=r"a\.wav has 2 channels; expected 1: mix them down"):
        read_wave(path)


def damaged(path: Path, damage: str) -> None:
    raw = bytearray(write(path, TONE).read_bytes())
    content = {
        "empty": b"",
        "text": b"no sound at all",
        "cut": bytes(raw[:-100]),
        "header": bytes(raw[:20]),
        "float": bytes(raw[:20] + b"\x03\x00" + raw[22:]),
        "silent": bytes(raw[:40] + b"\0\0\0\0"),
    }
    path.write_bytes(content[damage])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("empty", "no readable wave file: it ends before its header does"),
        ("text", "no readable wave file: .*RIFF"),
        ("cut", "holds 700 bytes of sound; its header promises 800: it is empty, truncated"),
        ("header", "no readable wave file"),
        ("float", "no readable wave file: unknown format: 3. Expected PCM"),
        ("silent", "holds 0 bytes of sound"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str, words: str) -> None:
    damaged(tmp_path / "a.wav", damage)
    with pytest.raises(DataError, match=words):
        read_wave(tmp_path / "a.wav")


def test_folders_without_sounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        sound_folder(tmp_path / "gone")
    write(tmp_path / "flat.wav", TONE)
    with pytest.raises(DataError, match=r"one sub-folder of \.wav files per class"):
        sound_folder(tmp_path)
    with pytest.raises(DataError, match="no file"):
        read_wave(tmp_path / "gone.wav")


def test_sounds_without_a_rate_are_refused() -> None:
    with pytest.raises(DataError, match="a rate of 0 a second"):
        Sounds(torch.zeros(2, 1, 5), torch.tensor([0, 1]))
    with pytest.raises(DataError, match=r"shape \(2, 5\)"):
        Sounds(torch.zeros(2, 5), torch.tensor([0, 1]), rate=8000)
    assert issubclass(Sounds, Dataset)


@pytest.mark.skipif(not DIGITS.is_file(), reason="the spoken digits are not here")
def test_spoken_digits_as_files_are_what_was_recorded(tmp_path: Path) -> None:
    with np.load(DIGITS, allow_pickle=False) as stored:
        whole, ends, digits = (stored[name] for name in ("data", "offsets", "labels"))
    for number in range(0, 3000, 300):
        sound = whole[ends[number] : ends[number + 1]]
        write(tmp_path / str(digits[number]) / f"{number:04}.wav", sound / 2.0**15)
    data = sound_folder(tmp_path, samples=8000)
    assert tuple(data.x.shape) == (10, 1, 8000) and data.rate == 8000
    for row, name in enumerate(data.ids):
        number = int(Path(name).stem)
        sound = whole[ends[number] : ends[number + 1]][:8000]
        assert data.classes[int(data.y[row])] == str(digits[number])
        np.testing.assert_array_equal(data.x[row, 0, : len(sound)].numpy(), sound / 2.0**15)
