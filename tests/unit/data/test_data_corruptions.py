"""The 15 common corruptions: formulas, slow references and peers; any images, in any company."""

from __future__ import annotations

import colorsys
import io
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import numbers
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams
from conjoin.data import fashion_mnist
from conjoin.data.corruptions import CORRUPTIONS, Corruption, corrupted, fog, gaussian_noise
from conjoin.data.corruptions.blur import (
    DEFOCUS,
    GLASS,
    ZOOM,
    defocus_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from conjoin.data.corruptions.digital import (
    CONTRAST,
    JPEG,
    PIXELATE,
    _affine,
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)
from conjoin.data.corruptions.filters import blurred, correlated, mirrored, swept, zoomed
from conjoin.data.corruptions.noise import IMPULSE, SHOT, impulse_noise, poisson, shot_noise
from conjoin.data.corruptions.weather import (
    BRIGHTNESS,
    FOG,
    FROST,
    brightness,
    crystals,
    frost,
    plasma,
    snow,
)
from conjoin.errors import DataError, PlanError

SEVERE = (1, 3, 5)


def images(*shape: int, seed: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Smooth pictures with edges, in 0..1."""
    x = Streams.of(seed, torch.arange(shape[0])).uniform(*shape[1:], dtype=dtype)
    return (blurred(x, 1.0) * 3 - 1).clamp(0, 1)


def streams(count: int, seed: int = 0) -> Streams:
    return Streams.of(seed, torch.arange(count))


def data_of(x: Tensor) -> Dataset:
    return Dataset(x, torch.zeros(len(x), dtype=torch.int64))


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda c: c.__name__)
def test_any_image_stays_one_in_any_company(corruption: Corruption) -> None:
    for shape, dtype in (
        ((7, 1, 28, 28), torch.float32),
        ((5, 3, 32, 32), torch.float32),
        ((3, 2, 17, 40), torch.float64),
        ((2, 3, 50, 48), torch.float32),
        ((2, 1, 8, 8), torch.float32),
    ):
        data = data_of(images(*shape, dtype=dtype))
        for severity in (2, 5):
            found = corrupted(data, corruption, severity, seed=3)
            assert found.x.shape == shape and found.x.dtype == dtype
            assert float(found.x.min()) >= 0 and float(found.x.max()) <= 1
            assert not torch.equal(found.x, data.x)
            assert torch.equal(found.x, corrupted(data, corruption, severity, seed=3).x)
            order = torch.arange(shape[0]).flip(0)
            turned = corrupted(data.select(order), corruption, severity, seed=3)
            assert torch.equal(turned.x[order], found.x)
            for k in range(shape[0]):
                alone = corrupted(data.select([k]), corruption, severity, seed=3)
                assert torch.equal(alone.x[0], found.x[k])


# Severities of the elastic transform change other things: less of a shear, more of rubber.
@pytest.mark.parametrize(
    "corruption", [c for c in CORRUPTIONS if c is not elastic_transform], ids=lambda c: c.__name__
)
def test_the_worst_severity_changes_more_than_the_least(corruption: Corruption) -> None:
    data = fashion_mnist("test").select(range(40))
    change = [
        float((corrupted(data, corruption, severity, seed=0).x - data.x).abs().mean())
        for severity in range(1, 6)
    ]
    assert change[4] > 1.3 * change[0] > 0
    if corruption.__name__ not in {"frost", "snow", "glass_blur"}:
        assert change == sorted(change)


def test_what_is_said_beside_the_pictures() -> None:
    data = fashion_mnist("test").select(range(3))
    found = corrupted(data, fog, 4, seed=0)
    assert found.name == f"{data.name}, fog 4" and found.ids == data.ids
    assert torch.equal(found.y, data.y) and torch.equal(found.positions, data.positions)
    assert not torch.equal(found.x, corrupted(data, fog, 4, seed=1).x)
    with pytest.raises(PlanError, match=r"1, \.\.\., 5; got 6"):
        corrupted(data, fog, 6, seed=0)
    with pytest.raises(PlanError, match="fog; got the class Dataset, not an instance"):
        corrupted(data, Dataset, 1, seed=0)
    with pytest.raises(DataError, match=r"in 0\.\.1"):
        corrupted(replace(data, x=2 * data.x), fog, 1, seed=0)
    with pytest.raises(DataError, match="batch, channels"):
        corrupted(data_of(torch.zeros(2, 9)), fog, 1, seed=0)
    with pytest.raises(PlanError, match="expected images like"):
        corrupted(data, lambda x, severity, rng: x[:, 0], 1, seed=0)


# Noise


def test_gaussian_noise_is_a_sum() -> None:
    x, rng = 0.5 * torch.ones(50, 1, 28, 28), streams(50)
    for severity, size in zip(range(1, 6), (0.04, 0.06, 0.08, 0.09, 0.1), strict=True):
        found = gaussian_noise(x, severity, rng)
        torch.testing.assert_close(found, (x + size * rng.normal(1, 28, 28)).clamp(0, 1))
        assert abs(float((found - x).std()) / size - 1) < 0.01


def test_poisson_numbers_are_quantiles() -> None:
    u = streams(1).uniform(4000, dtype=torch.float64)[0]
    for mean in (0.0, 0.3, 4.7, 31.9):
        found = poisson(torch.full_like(u, mean), u).numpy()
        assert np.array_equal(found, np.maximum(stats.poisson.ppf(u.numpy(), mean), 0)), mean
    for mean in (33.0, 75.0, 500.0):
        wrong = poisson(torch.full_like(u, mean), u).numpy() - stats.poisson.ppf(u.numpy(), mean)
        assert np.abs(wrong).max() <= 1 and (wrong != 0).mean() < 0.02


def test_shot_noise_has_the_mean_and_the_spread_of_photons() -> None:
    for severity in SEVERE:
        x, photons = torch.full((200, 1, 20, 20), 0.4), SHOT[severity - 1]
        found = shot_noise(x, severity, streams(200))
        assert abs(float(found.mean()) - 0.4) < 2e-3
        assert abs(float(found.var()) / (0.4 / photons) - 1) < 0.03
    assert not bool(shot_noise(torch.zeros(2, 1, 4, 4), 5, streams(2)).any())


def test_impulses_are_black_or_white_in_equal_shares() -> None:
    x = torch.full((200, 3, 20, 20), 0.4)
    for severity in SEVERE:
        found, share = impulse_noise(x, severity, streams(200)), IMPULSE[severity - 1]
        for value in (0, 1):
            assert abs(float((found == value).float().mean()) - share / 2) < 1.5e-3
        assert bool(((found == 0) | (found == 1) | (found == x)).all())


# Blur


def test_filters_are_those_of_a_peer() -> None:
    x, kernel = images(2, 3, 12, 15, dtype=torch.float64), numbers(5, 3, dtype=torch.float64)
    for k in range(2):
        for c in range(3):
            peer = ndimage.correlate(x[k, c].numpy(), kernel.numpy(), mode="mirror")
            np.testing.assert_allclose(correlated(x, kernel)[k, c].numpy(), peer, atol=1e-12)
            peer = ndimage.gaussian_filter(x[k, c].numpy(), 1.3, mode="mirror", truncate=4)
            np.testing.assert_allclose(blurred(x, 1.3)[k, c].numpy(), peer, atol=1e-12)
    assert mirrored(4, 6).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert mirrored(1, 2).tolist() == [0] * 5


@pytest.mark.parametrize("blur", [defocus_blur, motion_blur, zoom_blur, glass_blur])
def test_blur_keeps_what_is_even(blur: Corruption) -> None:
    x = torch.full((2, 3, 32, 32), 0.3)
    for severity in range(1, 6):
        torch.testing.assert_close(blur(x, severity, streams(2)), x)


def test_a_point_out_of_focus_is_a_soft_disk() -> None:
    x = torch.zeros(1, 1, 33, 33)
    x[..., 16, 16] = 1
    for severity, (radius, soft) in enumerate(DEFOCUS, start=1):
        spot = defocus_blur(x, severity, streams(1))[0, 0]
        place = np.arange(-16, 17)
        disk = (place[:, None] ** 2 + place[None] ** 2 <= radius**2).astype(float)
        edge = np.exp(-(np.arange(-1, 2) ** 2) / (2 * soft**2))
        edge /= edge.sum()
        peer = ndimage.correlate(disk / disk.sum(), np.outer(edge, edge), mode="constant")
        np.testing.assert_allclose(spot.numpy(), peer, atol=1e-6)
    large = torch.zeros(1, 1, 224, 224)
    large[..., 112, 112] = 1
    assert int((defocus_blur(large, 5, streams(1)) > 1e-4).sum()) > math.pi * 10**2


def test_behind_glass_each_pixel_is_a_neighbour_of_its_own() -> None:
    x = torch.arange(32.0 * 32).reshape(1, 1, 32, 32).div(1024).repeat(3, 1, 1, 1)
    for severity in (1, 4):
        found = glass_blur(x, severity, streams(3))
        rounds = GLASS[severity - 1][2]
        if severity == 1:  # its blur is none, so that pixels are told by their values
            places = (found * 1024).round().long()
            row = torch.arange(32)[:, None] - places // 32
            column = torch.arange(32)[None] - places % 32
            for off in (row, column):
                assert int(off.min()) == 0 and int(off.max()) == rounds
                assert not bool(off[..., :2, :].any())
                assert abs(float(off[..., 2:, 2:].float().mean()) - 0.5) < 0.03
        assert len({tuple(f.flatten().tolist()) for f in found}) == 3


def test_glass_is_what_an_exchange_of_views_computes() -> None:
    """Both sides of it look at one array, so that one of the two values is lost."""
    x = (images(1, 3, 32, 32) * 255).round() / 255
    found = glass_blur(x, 1, streams(1))
    drawn = (streams(1).fold(0).uniform(2, 32 * 32)[0] * 2).floor().long() - 1
    pixels = np.ascontiguousarray(x[0].numpy().transpose(1, 2, 0))
    for r in range(31, 1, -1):
        for c in range(31, 1, -1):
            down, right = drawn[:, r * 32 + c].tolist()
            other = r + down, c + right
            pixels[r, c], pixels[other] = pixels[other], pixels[r, c]
    assert np.array_equal(found[0].numpy().transpose(1, 2, 0), pixels)


def test_motion_smears_along_a_line() -> None:
    x = torch.zeros(2, 1, 31, 31, dtype=torch.float64)
    x[..., 15, 15] = 1
    found = swept(x, 6, 2.0, torch.tensor([0.0, 90.0]).double())
    weight = np.exp(-(np.arange(13) ** 2) / 8.0)
    weight /= weight.sum()
    np.testing.assert_allclose(found[0, 0, 15].numpy()[15:2:-1], weight, atol=1e-4)
    np.testing.assert_allclose(found[1, 0, :, 15].numpy()[15:2:-1], weight, atol=1e-4)
    angles = [motion_blur(x, 3, streams(2, seed))[0] for seed in range(3)]
    assert not torch.equal(angles[0], angles[1]) and not torch.equal(angles[1], angles[2])


def test_zoom_is_the_mean_of_enlargements() -> None:
    x = images(2, 1, 31, 31, dtype=torch.float64)
    twice = zoomed(x, 2.0)
    torch.testing.assert_close(twice[..., 15, 15], x[..., 15, 15])
    torch.testing.assert_close(twice[..., 15 + 6, 15 - 4], x[..., 15 + 3, 15 - 2])
    for severity, last in zip(range(1, 6), (1.06, 1.11, 1.15, 1.20, 1.25), strict=True):
        factors = np.linspace(1, last, ZOOM[severity - 1])
        mean = (x + sum(zoomed(x, float(f)) for f in factors)) / (len(factors) + 1)
        torch.testing.assert_close(zoom_blur(x, severity, streams(2)), mean)


# Weather


def cloud_slowly(side: int, decay: float, rng: Streams) -> np.ndarray:
    """Diamond and square of one example, point by point, with the same draws."""
    m, step, size = np.zeros((side, side)), side, 1.0
    while step >= 2:
        half, drawn = step // 2, rng.fold(f"cloud {step}")
        count = side // step
        noise = [
            size * (2 * drawn.fold(k).uniform(count, count, dtype=torch.float64)[0].numpy() - 1)
            for k in range(3)
        ]
        grid = [(i, j) for i in range(count) for j in range(count)]
        for i, j in grid:
            r, c = i * step, j * step
            down, right = (r + step) % side, (c + step) % side
            around = m[r, c] + m[down, c] + m[r, right] + m[down, right]
            m[r + half, c + half] = around / 4 + noise[0][i, j]
        new = {}
        for i, j in grid:
            r, c = i * step, j * step
            down, right = (r + step) % side, (c + step) % side
            above, before = (r - half) % side, (c - half) % side
            row = m[r, c] + m[r, right] + m[r + half, c + half] + m[above, c + half]
            new[r, c + half] = row / 4 + noise[1][i, j]
            column = m[r, c] + m[down, c] + m[r + half, c + half] + m[r + half, before]
            new[r + half, c] = column / 4 + noise[2][i, j]
        for place, value in new.items():
            m[place] = value
        step, size = half, size / decay**2
    return (m - m.min()) / (m.max() - m.min())


def test_fog_is_a_cloud_of_diamonds_and_squares() -> None:
    x = images(2, 3, 16, 13, dtype=torch.float64)
    for severity in SEVERE:
        thickness, decay = FOG[severity - 1]
        found = fog(x, severity, streams(2))
        for k in range(2):
            cloud = cloud_slowly(16, decay, streams(2).rows(slice(k, k + 1)))[:, :13]
            np.testing.assert_allclose(
                plasma(x, decay, streams(2))[k, 0].numpy(), cloud, atol=1e-12
            )
            most = float(x[k].max())
            expected = (x[k].numpy() + thickness * cloud) * most / (most + thickness)
            np.testing.assert_allclose(found[k].numpy(), expected.clip(0, 1), atol=1e-12)


def test_brightness_is_the_value_of_hsv() -> None:
    x = images(2, 3, 6, 6, dtype=torch.float64)
    x[0, :, 0, 0] = 0
    for severity in SEVERE:
        found = brightness(x, severity, streams(2))
        for k, r, c in np.ndindex(2, 6, 6):
            hue, full, value = colorsys.rgb_to_hsv(*x[k, :, r, c].tolist())
            value = min(1.0, value + BRIGHTNESS[severity - 1])
            expected = colorsys.hsv_to_rgb(hue, full, value)
            np.testing.assert_allclose(found[k, :, r, c].numpy(), expected, atol=1e-12)
        grey = brightness(x[:, :1], severity, streams(2))
        torch.testing.assert_close(grey, (x[:, :1] + BRIGHTNESS[severity - 1]).clamp(max=1))


def test_frost_is_ice_over_the_picture() -> None:
    x, rng = images(30, 1, 32, 32), streams(30)
    ice = crystals(x, rng)
    assert 0.3 < float(ice.mean()) < 0.7 and float(ice.std()) > 0.1
    for severity, (picture, share) in enumerate(FROST, start=1):
        found = frost(x, severity, rng)
        torch.testing.assert_close(found, (picture * x + share * ice).clamp(0, 1))
    blue = frost(x.repeat(1, 3, 1, 1), 3, rng)
    assert float(blue[:, 2].mean()) > float(blue[:, 0].mean())


def test_snow_falls_alike_through_all_channels() -> None:
    x = torch.zeros(3, 3, 32, 32)
    for severity in SEVERE:
        found = snow(x, severity, streams(3))
        assert torch.equal(found[:, 0], found[:, 2])
        assert float(found.std()) > 0.01
        white = snow(torch.ones_like(x), severity, streams(3))
        torch.testing.assert_close(white, torch.ones_like(x))
    one = snow(x[:, :1], 3, streams(3))
    torch.testing.assert_close(one, snow(x, 3, streams(3))[:, :1])


# Digital


def test_contrast_is_drawn_to_the_mean() -> None:
    x = images(2, 3, 9, 9, dtype=torch.float64)
    for severity in SEVERE:
        found = contrast(x, severity, streams(2))
        mean = x.mean((2, 3), keepdim=True)
        torch.testing.assert_close(found, mean + CONTRAST[severity - 1] * (x - mean))


def test_the_affine_map_takes_three_points_to_their_images() -> None:
    x, rng = torch.zeros(4, 1, 33, 40, dtype=torch.float64), streams(4)
    row, column = _affine(x, 3.0, rng)
    points = torch.tensor([[27.0, 31.0], [5.0, 31.0], [5.0, 9.0]]).double()
    moved = points + 3.0 * (2 * rng.uniform(3, 2, dtype=torch.float64) - 1)
    for k in range(4):  # the map is affine: extend it from three pixels
        corner, down, right = (
            torch.stack([row[k][place], column[k][place]]) for place in ((0, 0), (1, 0), (0, 1))
        )
        for point, image in zip(points, moved[k], strict=True):
            source = corner + image[0] * (down - corner) + image[1] * (right - corner)
            torch.testing.assert_close(source, point, atol=1e-9, rtol=0)
    still = _affine(x, 0.0, rng)
    torch.testing.assert_close(still[0][0, :, 0], torch.arange(33.0).double())
    assert not torch.equal(
        elastic_transform(images(1, 1, 28, 28), 5, streams(1)),
        elastic_transform(images(1, 1, 28, 28), 4, streams(1)),
    )


def eight_bits(x: Tensor) -> np.ndarray:
    pixels = (x * 255).round().to(torch.uint8).numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 32, 32), (2, 3, 30, 41)])
def test_pixels_are_those_of_a_peer(shape: tuple[int, ...]) -> None:
    x = (images(*shape) * 255).round() / 255
    for severity, share in enumerate(PIXELATE, start=1):
        found = pixelate(x, severity, streams(2))
        for k in range(2):
            image = Image.fromarray(eight_bits(x[k]))
            size = int(shape[3] * share), int(shape[2] * share)
            peer = image.resize(size, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)
            gap = np.abs(np.asarray(peer).astype(float) - eight_bits(found[k]))
            assert gap.max() <= 1  # it rounds each axis to 8 bits


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (3, 3, 32, 32), (3, 3, 30, 41)])
def test_files_are_those_of_a_peer(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    for severity, quality in enumerate(JPEG, start=1):
        found = jpeg_compression(x, severity, streams(3))
        for k in range(shape[0]):
            file = io.BytesIO()
            Image.fromarray(eight_bits(x[k])).save(file, "JPEG", quality=quality)
            peer = np.asarray(Image.open(file)).astype(float)
            gap = np.abs(peer - eight_bits(found[k]))
            lost = np.abs(peer - eight_bits(x[k])).mean()
            # Its cosines are of whole numbers, so that here and there one is rounded otherwise.
            assert np.median(gap) <= 1 and gap.mean() < lost / 4, (quality, gap.mean(), lost)


@pytest.mark.skipif(
    not Path(os.environ.get("CONJOIN_CIFAR10", "absent")).is_file(),
    reason="CONJOIN_CIFAR10 names no .npz of CIFAR-10 test images (images, labels)",
)
def test_photographs_are_corrupted_by_some_levels() -> None:
    """Of CIFAR-10: the mean change at severity 3 is of some levels of 8 bits."""
    with np.load(os.environ["CONJOIN_CIFAR10"]) as stored:
        x = torch.from_numpy(stored["images"][::50]).permute(0, 3, 1, 2) / 255
    for corruption in CORRUPTIONS:
        change = float((corrupted(data_of(x), corruption, 3, seed=0).x - x).abs().mean())
        assert 2 < 255 * change < 60, (corruption.__name__, 255 * change)
