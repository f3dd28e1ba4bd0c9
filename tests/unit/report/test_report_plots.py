"""Pictures of a report: exact where they are small, small where they are large."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from conftest import numbers
from PIL import Image

from conjoin.report import plots

# The default plan shows 12 inputs, 144 maps and 96 adversarial inputs of four models.
PICTURES = 252
BUDGET = 5e6


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_small_pictures_are_exact() -> None:
    x = (numbers(1, 28, 28).sigmoid() * 255).round() / 255
    source = plots.as_picture(x, 0.0, 1.0)
    assert source is not None
    assert np.array_equal(np.asarray(decoded(source)), (x[0] * 255).round().numpy().astype("u1"))


def test_photographs_and_noise_keep_a_report_within_its_budget() -> None:
    noise = plots.as_map(numbers(3, 224, 224), 1.0)
    assert noise is not None and len(noise) * PICTURES < BUDGET
    assert max(decoded(noise).size) == plots.LARGEST_SIDE


def test_a_map_shows_the_sign_and_one_scale() -> None:
    values = torch.zeros(1, 2, 2)
    values[0, 0, 0], values[0, 1, 1] = 2.0, -2.0
    source = plots.as_map(values, 2.0)
    assert source is not None
    pixels = np.asarray(decoded(source)).astype(int)
    assert pixels[0, 0, 0] > pixels[0, 0, 2] + 80  # orange
    assert pixels[1, 1, 2] > pixels[1, 1, 1] + 40  # purple
    assert pixels[0, 1].min() > 240  # silence is white
    # The scale is the 99th percentile of the magnitude over a row of maps.
    assert plots.map_scale([values, 3 * values]) <= 6.0
    assert plots.map_scale([torch.full((1, 9, 9), -0.5)]) == 0.5


def test_what_is_no_image_gives_no_picture() -> None:
    assert plots.as_picture(torch.zeros(5), 0.0, 1.0) is None
    assert plots.as_map(torch.zeros(7), 1.0) is None
    assert plots.contact_sheet(torch.zeros(2, 5), torch.zeros(2, 5), (0.0, 1.0)) is None
