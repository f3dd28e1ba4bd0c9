"""Recognisers and classifiers of sound: against exhaustive sums over paths, and on real recordings."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin import Dataset, Linf, Run, attack, margin, predict, wrap
from conjoin.attacks import PGD
from conjoin.core.gradient import value_and_gradient
from conjoin.core.loudness import decibels, loudness
from conjoin.core.random import Streams
from conjoin.errors import DataError, ModelError
from conjoin.models.recogniser import HEARD, NOT_HEARD, decoded, recogniser
from conjoin.models.torch import TorchModel
from conjoin.testing import check_attack, check_model

DIGITS = Path(__file__).resolve().parents[3] / "shared/data/spoken_digits/fsdd_8khz_int16.npz"
SAMPLES, WINDOW, HOP = 4096, 256, 128


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    return [s for s, _ in itertools.groupby(path) if s != blank]


@pytest.mark.parametrize("blank", [0, 2])
def test_the_likelihood_is_the_sum_over_all_paths(blank: int) -> None:
    """Q against every alignment of a transcript, and against a decoder in three lines."""
    symbols = [s for s in range(3) if s != blank]
    transcripts = [
        [],
        symbols[:1],
        symbols,
        [symbols[0]] * 2,
        symbols[::-1],
        [*symbols, symbols[0]],
    ]
    wanted = torch.full((len(transcripts), 4), -1)
    for row, one in enumerate(transcripts):
        wanted[row, : len(one)] = torch.tensor(one, dtype=torch.int64)
    heard = 0
    for seed in range(20):
        logits = 3 * numbers(1, 5, 3, seed=seed, dtype=torch.float64)
        x = logits.float().expand(len(wanted), -1, -1)
        batch = replace(batch_of(x), context={"transcript": wanted})
        told = recogniser(TorchModel(nn.Identity()), blank=blank)(batch)
        path = collapsed(tuple(logits[0].argmax(1).tolist()), blank)
        chance = logits[0].float().double().softmax(1)
        for row, one in enumerate(transcripts):
            total = sum(
                float(torch.stack([chance[t, s] for t, s in enumerate(way)]).prod())
                for way in itertools.product(range(3), repeat=5)
                if collapsed(way, blank) == one
            )
            exact = 1 / (1 - np.log(total) / max(1, len(one))) - (path != one)
            assert float(told[row, 0]) == pytest.approx(exact, abs=1e-5)
            assert float(told[row, 1]) == 0.0
            heard += path == one
        assert decoded(logits, blank)[0].tolist() == path + [-1] * (5 - len(path))
    assert heard > 3


class Frames(nn.Module):
    """A tiny recogniser of waveforms: a symbol for each window of eight samples."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv1d(1, 6, 8, stride=8)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.near(x)).transpose(1, 2))


def frames() -> TorchModel:
    module = Frames()
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            value.copy_(numbers(*value.shape, seed=number))
    return TorchModel(module)


def heard_by(model: TorchModel, count: int = 12) -> Dataset:
    """Noise with the transcript that is heard in it."""
    x = 0.5 * Streams.of(0, torch.arange(count)).normal(1, 48).clamp(-2, 2)
    with torch.no_grad():
        wanted = decoded(model(batch_of(x)))
    return Dataset(x, torch.zeros(count, dtype=torch.int64), context={"transcript": wanted})


def test_what_is_heard_has_a_positive_margin_and_both_labels_are_attacked() -> None:
    inner = frames()
    model, data = recogniser(inner), heard_by(inner)
    assert bool((predict(model, data)[:, 0] > 0).all())
    check_model(model, data)
    check_attack(PGD(steps=5), model, data, threats=(Linf(0.3, (-2, 2)),))
    garbled = attack(model, data, PGD(steps=20), Linf(0.3, (-2, 2)), seed=0)
    for row in garbled.success.nonzero()[:, 0].tolist():
        with torch.no_grad():
            now = decoded(inner(batch_of(garbled.inputs[row : row + 1])))
        assert not torch.equal(now[0], data.context["transcript"][row])
    assert float(garbled.success.double().mean()) > 0.7
    # A phrase that is not there: what the next example says.
    other = data.context["transcript"].roll(1, 0)
    aimed = replace(data, y=torch.full((12,), NOT_HEARD), context={"transcript": other})
    some = aimed.select((other != data.context["transcript"]).any(1))
    reached = attack(model, some, PGD(steps=200, step_size=0.02), Linf(1.0, (-2, 2)), seed=0)
    for row in reached.success.nonzero()[:, 0].tolist():
        with torch.no_grad():
            now = decoded(inner(batch_of(reached.inputs[row : row + 1])))
        assert torch.equal(now[0], some.context["transcript"][row])
    assert float(reached.success.double().mean()) > 0.5
    assert HEARD == 0 and bool((reached.value <= reached.clean).all())


def test_the_gradient_has_the_direction_of_the_loss() -> None:
    inner = frames()
    data = heard_by(inner)
    aimed = torch.full((12,), NOT_HEARD)
    batch = replace(batch_of(data.x, aimed), context=dict(data.context))
    _, gradient = value_and_gradient(recogniser(inner), margin, batch)
    x = data.x.clone().requires_grad_()
    wanted = data.context["transcript"]
    log = inner(batch_of(x)).log_softmax(2).transpose(0, 1)
    length = (wanted >= 0).sum(1)
    loss = functional.ctc_loss(
        log, wanted.clamp(min=0), torch.full((12,), 6), length, reduction="sum"
    )
    (expected,) = torch.autograd.grad(loss, x)
    cosine = functional.cosine_similarity(gradient.flatten(1), expected.flatten(1))
    assert bool((cosine > 0.9999).all())


def test_transcripts_that_do_not_fit_are_refused() -> None:
    model, x = recogniser(frames()), torch.zeros(1, 1, 48)
    with pytest.raises(DataError, match="expected transcripts"):
        model(batch_of(x))
    for odd in ([1, -1, 2], [0, 1], [4], [-2], [1, 1, 1, 1], [1, 2, 3, 1, 2, 3, 1]):
        batch = replace(batch_of(x), context={"transcript": torch.tensor([odd])})
        with pytest.raises(DataError, match="a transcript does not fit"):
            model(batch)
    flat = recogniser(wrap(nn.Flatten()))
    with pytest.raises(ModelError, match=r"expected logits of shape \(batch, time, symbols\)"):
        flat(replace(batch_of(x), context={"transcript": torch.tensor([[1]])}))


# Real recordings.


def recordings() -> tuple[Dataset, Dataset]:
    """Spoken digits, 0.5 s each, in -1..1: those to train on, and the first five takes."""
    if not DIGITS.exists():
        pytest.skip("the recordings do not lie beside the repository")
    with np.load(DIGITS) as stored:
        names = ("data", "offsets", "labels", "takes")
        samples, offsets, labels, takes = (stored[name] for name in names)
    x = torch.zeros(len(labels), SAMPLES)
    for row, start in enumerate(offsets[:-1]):
        own = samples[start : min(offsets[row + 1], start + SAMPLES)]
        x[row, : len(own)] = torch.from_numpy(own.astype(np.float32) / 32768)
    data = Dataset(x, torch.from_numpy(labels.astype(np.int64)))
    return data.select(torch.from_numpy(takes >= 5)), data.select(torch.from_numpy(takes < 5))


class Listener(nn.Module):
    """Two convolutions over a logarithmic spectrogram: a symbol for each frame, 0 for none."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(129, 48, 5, padding=2)
        self.b = nn.Conv1d(48, 48, 9, padding=12, dilation=3)
        self.head = nn.Linear(48, 11)
        self.register_buffer("window", torch.hann_window(WINDOW))

    def forward(self, x: Tensor) -> Tensor:
        power = torch.stft(x, WINDOW, HOP, window=self.window, return_complex=True).abs()
        h = torch.relu(self.a(((power + 1e-2).log() + 2) / 2))
        return self.head(torch.relu(self.b(h)).transpose(1, 2))


def pairs(data: Dataset, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two recordings one after the other, and the two digits as symbols 1..10."""
    x = torch.cat([data.x[first], data.x[second]], 1)
    return x, torch.stack([data.y[first], data.y[second]], 1) + 1


@pytest.fixture(scope="module")
def listener() -> tuple[TorchModel, Dataset]:
    """A recogniser of two digits, trained frame by frame in some seconds."""
    train, test = recordings()
    module = Listener()
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            size = value[0].numel() ** -0.5 if value.ndim > 1 else 0.0
            value.copy_(numbers(*value.shape, seed=number) * size)
    steps = torch.optim.Adam(module.parameters(), 3e-3)
    for step in range(150):
        draw = Streams.of(step, torch.arange(2)).uniform(64)
        x, symbols = pairs(train, *(draw * len(train)).long())
        out = module(x)
        loud = (
            functional.pad(x.unfold(1, WINDOW, HOP).abs().amax(2), (1, 1), mode="replicate") > 0.02
        )
        second = torch.arange(out.shape[1]) * HOP >= SAMPLES
        frame = torch.where(loud, torch.where(second, symbols[:, 1:], symbols[:, :1]), 0)
        steps.zero_grad()
        functional.cross_entropy(out.flatten(0, 1), frame.flatten()).backward()
        steps.step()
    rows = torch.arange(0, len(test), 2)
    x, symbols = pairs(test, rows, rows.roll(7))
    said = Dataset(x, torch.zeros(len(x), dtype=torch.int64), context={"transcript": symbols})
    return wrap(module), said


def test_a_change_of_few_decibels_garbles_spoken_digits_or_says_others(
    listener: tuple[TorchModel, Dataset],
) -> None:
    inner, said = listener
    model = recogniser(inner)
    heard = predict(model, said)[:, 0] > 0
    assert float(heard.double().mean()) > 0.3
    said = said.select(heard.nonzero()[:24, 0])
    threat = decibels(said.x, -30.0)
    garbled = attack(model, said, PGD(steps=20), threat, seed=0)
    assert float(garbled.success.double().mean()) > 0.9
    assert bool((loudness(garbled.inputs, said.x)[garbled.success] <= -30 + 1e-9).all())
    quiet = attack(model, said, PGD(steps=20), threat.at(0.0), seed=0)
    assert not bool(quiet.success.any())
    phrase = said.context["transcript"].flip(1) % 10 + 1  # other digits, in another order
    aimed = replace(said, y=torch.full((len(said),), NOT_HEARD), context={"transcript": phrase})
    told = attack(model, aimed, PGD(steps=60), decibels(said.x, -20.0), seed=0, run=Run(12))
    with torch.no_grad():
        now = decoded(inner(batch_of(told.inputs)))[:, :3]
    ended = functional.pad(phrase, (0, 1), value=-1)
    assert torch.equal((now == ended).all(1), told.success)  # the decoder says so
    assert float(told.success.double().mean()) > 0.5


class Loudest(nn.Module):
    """A classifier of single digits: the largest of each symbol over time."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[:, :, 1:].mean(1)


def test_a_classifier_of_digits_falls_at_a_level(listener: tuple[TorchModel, Dataset]) -> None:
    model, (_, test) = wrap(Loudest(listener[0].module)), recordings()
    some = test.select(range(0, 300, 3))
    left = {}
    for level in (-60.0, -40.0, -20.0):
        found = attack(model, some, PGD(steps=15), decibels(some.x, level), seed=0)
        left[level] = float((~found.success).double().mean())
    clean = float((found.clean > 0).double().mean())
    assert clean > 0.6 and clean >= left[-60.0] >= left[-40.0] >= left[-20.0], (clean, left)
    assert left[-20.0] < 0.1 and left[-60.0] > left[-20.0] + 0.2, (clean, left)
