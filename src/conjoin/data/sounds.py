"""Sounds: wave files in one sub-folder per class, as waveforms in -1..1 with their sampling rate.

Samples are what the file holds, divided by its full scale: nothing is resampled, mixed or made louder.
A file whose rate differs from the others', or in stereo, is refused, not converted: both are part of
what a model was trained for.
"""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from conjoin.core.dataset import Dataset
from conjoin.errors import DataError

WAVES = ".wav"  # in upper or lower case
SHOWN = 3  # files that a message names


@dataclass(frozen=True, eq=False)
class Sounds(Dataset):
    """Labelled waveforms, ``(batch, 1, samples)`` in -1..1.

    Attributes:
        rate: Samples per second, of all of them; selections keep it.
    """

    rate: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate < 1 or self.x.ndim != 3 or not self.x.is_floating_point():
            raise DataError(
                f"sounds have shape {tuple(self.x.shape)} and a rate of {self.rate} a second; expected "
                "(batch, channels, samples) and Sounds(..., rate=8000)"
            )


def sound_folder(folder: Path | str, *, samples: int | None = None) -> Sounds:
    """Read a folder with one sub-folder of ``.wav`` files per class, in alphabetical order.

    PCM of 8, 16, 24 or 32 bits, one channel. The id of an example is its path below the folder.

    Args:
        folder: Its sub-folders name the classes.
        samples: The length of every example: longer sounds are cut at the end, shorter ones go on in
            silence. Default: that of the files, which must then be equally long.

    Raises:
        DataError: If there is no class or no file, a file is unreadable, truncated, compressed or in
            stereo, or files differ in rate or length.
    """
    folder = Path(folder)
    if samples is not None and samples < 1:
        raise DataError(f"samples must be at least 1; got {samples}")
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}; expected one with a sub-folder of .wav files per class"
        )
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [
        (label, file)
        for label, name in enumerate(classes)
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() == WAVES
    ]
    if not files:
        raise DataError(f"{folder} has no sounds; expected one sub-folder of .wav files per class")
    read = [read_wave(file) for _, file in files]
    names = [file.relative_to(folder).as_posix() for _, file in files]
    rate = _one(
        [rate for _, rate in read], names, "samples per second", "resample them to one rate"
    )
    if samples is None:
        lengths = [len(sound) for sound, _ in read]
        samples = _one(
            lengths,
            names,
            "samples long",
            "give samples= to cut and fill to one length, in a plan as "
            "'conjoin.data:sound_folder?folder=FOLDER&samples=8000'",
        )
    x = np.zeros((len(read), 1, samples), dtype=np.float32)
    for row, (sound, _) in zip(x, read, strict=True):
        row[0, : len(sound)] = sound[:samples]
    return Sounds(
        x=torch.from_numpy(x),
        y=torch.tensor([label for label, _ in files]),
        ids=tuple(names),
        classes=tuple(classes),
        name=folder.name,
        rate=rate,
    )


def read_wave(path: Path | str) -> tuple[np.ndarray, int]:
    """Read one wave file: its samples in -1..1, single precision, and how many a second.

    Raises:
        DataError: If it is missing, no PCM wave file of one channel, truncated or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}; check the path")
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, frames, *_ = file.getparams()
            raw = file.readframes(frames)
    except (wave.Error, EOFError, OSError) as error:
        said = str(error) or "it ends before its header does"
        raise DataError(
            f"{path} is no readable wave file: {said}. Expected PCM; other formats must be converted"
        ) from error
    if channels != 1:
        raise DataError(f"{path} has {channels} channels; expected 1: mix them down")
    if width not in (1, 2, 3, 4) or rate < 1:
        raise DataError(
            f"{path} has {8 * width} bits a sample, {rate} a second; expected 8 to 32 bits"
        )
    if not frames or len(raw) != frames * width:
        raise DataError(
            f"{path} holds {len(raw)} bytes of sound; its header promises {frames * width}: it is "
            "empty, truncated or corrupt, fetch it again"
        )
    return _samples(raw, width), rate


def _samples(raw: bytes, width: int) -> np.ndarray:
    """Turn PCM into numbers: unsigned if 8 bits, else signed, little-endian."""
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:  # as the upper bytes of 32 bits
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        wide = np.concatenate([np.zeros((len(parts), 1), np.uint8), parts], axis=1)
        raw, width = wide.tobytes(), 4
    whole = np.frombuffer(raw, f"<i{width}")
    return (whole / 2.0 ** (8 * width - 1)).astype(np.float32)


def _one(values: Sequence[int], names: Sequence[str], what: str, mend: str) -> int:
    """Return what all files agree on.

    Raises:
        DataError: If they do not, with examples.
    """
    found = {value: name for value, name in zip(values, names, strict=True)}
    if len(found) > 1:
        shown = ", ".join(f"{found[value]} is {value}" for value in sorted(found)[:SHOWN])
        raise DataError(f"sounds differ in {what}, e.g. {shown}; {mend}")
    return values[0]


__all__ = ["WAVES", "Sounds", "read_wave", "sound_folder"]
