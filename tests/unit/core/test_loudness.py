"""Decibels: a level of a change, relative to the peak of a sound."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import numbers
from hypothesis import given
from hypothesis import strategies as st

from conjoin.core.loudness import decibels, loudness
from conjoin.core.random import Streams
from conjoin.errors import ThreatError

SOUNDS = torch.stack([numbers(1, 50) / 10, numbers(1, 50, seed=1) / 5, torch.zeros(1, 50)])


def test_a_level_is_the_radius_that_the_definition_gives() -> None:
    x = torch.tensor([[0.5, -0.8], [0.01, 0.02]])
    threat = decibels(x, -20.0)
    assert torch.allclose(threat.radius(x), torch.tensor([0.08, 0.002]).double(), rtol=1e-7)
    z = x + torch.tensor([[0.04, 0.0], [0.0, 0.002]])
    exact = [20 * math.log10(0.04 / 0.8), -20.0]
    assert torch.allclose(loudness(z, x), torch.tensor(exact).double(), atol=1e-4)


@given(st.floats(-60, 0), st.integers(0, 50))
def test_no_change_of_the_set_is_louder_than_its_level(level: float, seed: int) -> None:
    threat = decibels(SOUNDS, level)
    z = threat.sample(SOUNDS, Streams.of(seed, torch.arange(3)))
    assert bool(threat.contains(z, SOUNDS).all())
    assert bool((loudness(z, SOUNDS)[:2] <= level + 1e-9).all())
    assert torch.equal(z[2], SOUNDS[2])  # a silence stays
    corner = threat.project(SOUNDS + 5, SOUNDS)
    assert torch.allclose(loudness(corner, SOUNDS)[:2], torch.tensor(level).double(), atol=1e-3)


def test_nothing_and_a_silence_are_told() -> None:
    assert bool((loudness(SOUNDS, SOUNDS) == -torch.inf).all())
    assert float(loudness(SOUNDS[2:] + 0.1, SOUNDS[2:])[0]) == torch.inf


@pytest.mark.parametrize("level", [float("nan"), float("inf")])
def test_what_is_no_level_is_refused(level: float) -> None:
    with pytest.raises(ThreatError, match="finite number of decibels"):
        decibels(SOUNDS, level)
