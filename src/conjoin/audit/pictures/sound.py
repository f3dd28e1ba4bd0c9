"""Sounds: the waveform above the spectrogram on one axis of time, and a player.

A map stands between the two: its values added up over each of so many stretches of time, upwards for
and downwards against. The spectrogram is the power of evenly spaced windows of about 25 ms, so many
decibels down from the loudest of the picture; of a long sound it shows some windows, not all. Whatever
the length of a sound, picture and player are bounded, and so are all players of a page together.
"""

from __future__ import annotations

import base64
import io
import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures.image import encoded

WIDTH, WAVE, MAP, SPECTRUM, WORDS = 200, 44, 26, 52, 12  # units of a picture
STRETCHES = 100  # of time
WINDOW = 0.025  # seconds
FRAMES, BINS = 128, 48  # of a spectrogram, at most
DECIBELS = 60.0  # from white to black
PLAYED = 1 << 16  # samples of a player; longer sounds are played to there
HELD = 4_000_000  # letters of all players of a page

_PLAYER = re.compile(r"<audio\b[^>]*></audio>")
_SILENT = Markup("<small>not played: there are more sounds than a page can hold</small>")


@dataclass(frozen=True, slots=True)
class Waves:
    """Shows waveforms of shape ``(channels, samples)``, the mean of the channels."""

    bounds: tuple[float, float]
    rate: int
    coloured: bool = field(default=False, init=False)

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show the waveform over its range, the spectrogram and a player."""
        sound = _mono(x)
        return _drawn(sound, self.bounds, self.rate, words) + player(sound, self.rate, words)

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show the change round the middle, and its own spectrogram."""
        half = (self.bounds[1] - self.bounds[0]) / 2
        return _drawn(factor * (_mono(z) - _mono(x)), (-half, half), self.rate, words)

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show the values over time between waveform and spectrogram of the input."""
        return _drawn(
            _mono(x), self.bounds, self.rate, words, over_time(values) / max(scale, 1e-30)
        )

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return the largest sum over a stretch of time."""
        return max((float(np.abs(over_time(values)).max()) for values in maps), default=0.0)


def _mono(x: Tensor) -> np.ndarray:
    mean: np.ndarray = x.detach().cpu().double().flatten(0, -2).mean(0).numpy()
    return mean


def over_time(values: Tensor) -> np.ndarray:
    """Add up a map, shape ``(channels, samples)``, over each stretch of time."""
    total: np.ndarray = values.detach().cpu().double().flatten(0, -2).sum(0).numpy()
    return np.array([part.sum() for part in _even(total, STRETCHES)])


def _even(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Split along the first axis so that parts stand where they belong: sizes differ all along."""
    count = min(count, len(values))
    return np.split(values, np.arange(1, count) * len(values) // count)


def spectrogram(sound: np.ndarray, rate: int) -> np.ndarray:
    """Return shares of full loudness, ``(bins, frames)``, the lowest frequency last."""
    length = min(1 << max(3, round(np.log2(WINDOW * rate))), len(sound))
    frames = min(FRAMES, 1 + 2 * (len(sound) - length) // length)
    starts = np.linspace(0, len(sound) - length, frames).round().astype(int)
    windows = sound[starts[:, None] + np.arange(length)] * np.hanning(length + 2)[1:-1]
    power = np.abs(np.fft.rfft(windows)) ** 2
    loud = np.stack([part.max(0) for part in reversed(_even(power.T, BINS))])
    with np.errstate(divide="ignore"):  # silence
        decibels = 10 * np.log10(loud / max(loud.max(), 1e-30))
    shares: np.ndarray = (1 + decibels / DECIBELS).clip(0, 1)
    return shares


def player(sound: np.ndarray, rate: int, words: str) -> Markup:
    """Return a player of a mono sound in -1..1, as 16-bit PCM in the page itself."""
    played = (sound[:PLAYED].clip(-1, 1) * 32767).round().astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(played.tobytes())
    code = base64.b64encode(buffer.getvalue()).decode()
    if len(sound) > PLAYED:
        words = f"{words}, the first {PLAYED / rate:.3g} s"
    return Markup(
        '<audio controls preload="metadata" aria-label="{}" src="data:audio/wav;base64,{}"></audio>'
    ).format(words, code)


def held(page: str) -> str:
    """Keep the first players of a page, so many letters of them in all; say it of the others."""
    room = HELD

    def kept(found: re.Match[str]) -> str:
        nonlocal room
        room -= len(found[0])
        return found[0] if room >= 0 else _SILENT

    return _PLAYER.sub(kept, page)


def _drawn(
    sound: np.ndarray,
    ends: tuple[float, float],
    rate: int,
    words: str,
    shares: np.ndarray | None = None,
) -> Markup:
    """Draw a sound, and shares of full height over time if there are any."""
    below = WAVE + (0 if shares is None else MAP)
    source, _ = encoded(1 - spectrogram(sound, rate))
    parts = [Markup('<path class="wave" d="{}"/>').format(_wave(sound, ends))]
    if shares is not None:
        parts += [
            Markup('<path class="{}" d="{}"/>').format(name, _bars(shares, sign))
            for name, sign in (("for", 1), ("against", -1))
        ]
    return Markup(
        '<svg class="sound" viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
        '<image href="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none"/>'
        '<text x="1" y="{}">0 to {:.3g} kHz</text><text x="{}" y="{}" text-anchor="end">{:.3g} s</text>'
        "</svg>"
    ).format(
        *(WIDTH, below + SPECTRUM + WORDS, words, Markup("").join(parts)),
        *(source, below, WIDTH, SPECTRUM),
        *(below + SPECTRUM + WORDS - 2, rate / 2000),
        *(WIDTH, below + SPECTRUM + WORDS - 2, len(sound) / rate),
    )


def _wave(sound: np.ndarray, ends: tuple[float, float]) -> str:
    """Draw each stretch from its least to its largest value."""
    low, high = ends
    parts = _even(sound, STRETCHES)
    heights = [
        [
            (1 - min(max((v - low) / (high - low), 0.0), 1.0)) * WAVE
            for v in (part.min(), part.max())
        ]
        for part in parts
    ]
    step = WIDTH / len(parts)
    # A stretch of one value is a dot, which the round ends of the lines draw.
    return "".join(f"M{(k + 0.5) * step:.1f} {a:.1f}V{b:.1f}" for k, (a, b) in enumerate(heights))


def _bars(shares: np.ndarray, sign: int) -> str:
    """Draw those of a sign from the middle, positive ones upwards."""
    step, middle = WIDTH / len(shares), WAVE + MAP / 2
    tall = (sign * shares).clip(0, 1) * (MAP / 2 - 1)
    return "".join(
        f"M{k * step:.1f} {middle:g}v{-sign * height:.1f}h{step:.1f}V{middle:g}z"
        for k, height in enumerate(tall)
        if height > 0
    )


__all__ = ["Waves", "held", "over_time", "player", "spectrogram"]
