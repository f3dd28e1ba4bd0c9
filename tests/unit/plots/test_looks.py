"""Looks, grids, what units see: what they draw and say, and that nothing is written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from unit.plots.test_plots import explained, images, sights, sounds, table, words

from conjoin import plots
from conjoin.core.shades import coloured, full_scale, strip
from conjoin.errors import DataError, PlanError
from conjoin.plots import Heat, Mask, Overlay, canvas

BLACK = (0.0, 1.0)


class Drawn:
    """Axes that keep the picture that is drawn on them."""

    def __init__(self) -> None:
        self.axes: Any = canvas.grid(1, 1, (1, 1))[1][0, 0]

    def by(self, look: Any, values: torch.Tensor, x: torch.Tensor, scale: float) -> np.ndarray:
        look.draw(self.axes, look.of(values), scale, x, BLACK)
        (image,) = self.axes.get_images()
        return np.asarray(image.get_array(), dtype=np.float64)


def test_colours_have_a_sign_and_an_end() -> None:
    ends = coloured(np.array([-2.0, -1, 0, 1, 2]), 1.0)
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[3], ends[4])
    red, _, blue = ends[3]
    assert red > blue and ends[1][2] > ends[1][0]  # orange for, purple against
    assert ends[2].min() > 0.95


def test_a_few_outliers_do_not_bleach_the_rest() -> None:
    values = np.linspace(-1, 1, 1001)
    assert full_scale([values]) == pytest.approx(0.99, abs=2e-3)
    values[7] = 1e6
    assert full_scale([values]) < 1.01
    assert full_scale([]) == 0 and canvas.full_colour([np.zeros((3, 3))]) == 1.0
    assert canvas.full_colour([np.eye(40)[0]]) > 0  # one place alone is still drawn


def test_a_mask_keeps_the_places_that_speak_most_for_it() -> None:
    values = torch.tensor([[[4.0, -9, 1, 0], [3, 2, -1, 0]]])
    x = torch.full((1, 2, 4), 0.5)
    found = Drawn().by(Mask(share=0.25, left=0.0), values, x, 1.0)
    assert found.tolist() == [[0.5, 1, 1, 1], [0.5, 1, 1, 1]]
    found = Drawn().by(Mask(share=1.0, left=0.5), values, x, 1.0)
    assert found.tolist() == [[0.5, 0.75, 0.5, 0.75], [0.5, 0.5, 0.75, 0.75]]
    assert Mask(share=0.25).says(1.0) == "top 25 %"


def test_a_mask_counts_what_is_for_and_not_the_balance() -> None:
    values = torch.zeros(1, 9, 9)
    values[0, 2, 2], values[0, 2, 3] = 1.0, -1.0
    balance, density = Overlay(blur=1.5).of(values), Mask(blur=1.5).of(values)
    assert abs(balance.sum()) < 1e-6 and density.min() >= 0
    assert density.sum() == pytest.approx(1, abs=1e-6)
    assert np.unravel_index(density.argmax(), density.shape) == (2, 2)


def test_an_overlay_is_the_image_where_nothing_is_said() -> None:
    x = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    values = torch.zeros(3, 4, 4)
    values[:, 1, 2] = 2.0
    found = Drawn().by(Overlay(opacity=1.0), values, x, 6.0)
    grey = x.double().mean(0).numpy()
    assert found[1, 2].tolist() == coloured(np.array(1.0), 1.0).tolist()
    found[1, 2] = grey[1, 2]
    assert np.allclose(found, grey[..., None])


def test_a_blur_stays_within_a_map() -> None:
    values = torch.zeros(3, 15, 15)
    values[1, 7, 7] = 3.0
    found = Heat(blur=1.0).of(values)
    assert found.shape == (15, 15) and found.sum() == pytest.approx(3, abs=1e-6)
    assert found[7, 8] == pytest.approx(found[7, 7] * np.exp(-0.5), rel=1e-6)
    assert np.allclose(found, found.T)


@pytest.mark.parametrize("look", [Heat(), Heat(1.0), Overlay(1.0), Mask(0.2, 1.0)])
def test_nothing_is_written_to_what_is_drawn(look: Any) -> None:
    data, found = images(), explained(images())
    data = replace(data, x=data.x.double())
    found = replace(found, layers={"input": found.values.double()})
    before = data.x.clone(), found.values.clone()
    plots.maps(found, data, look=look)
    plots.compared({"a": {"b": found}}, data, look=look)
    found._repr_html_()
    assert torch.equal(data.x, before[0]) and torch.equal(found.values, before[1])


def test_a_row_has_one_scale_which_it_states() -> None:
    data = images()
    grid = table(data)
    said = words(plots.compared(grid, data, example=1))
    assert {"plain", "robust"} <= set(said)
    both = [grid["saliency"][name].values[1].numpy() for name in ("plain", "robust")]
    assert f"saliency\n±{full_scale(both):.2g}" in said
    assert f"LRP\n±{full_scale(both[1:]):.2g}" in said
    figure = plots.compared(grid, data, example=1)
    scales = [image.get_clim()[1] for axes in figure.axes for image in axes.get_images()[-1:]]
    assert scales[1] == scales[2] == pytest.approx(full_scale(both))


def test_units_say_their_influence() -> None:
    said = words(plots.units(sights(images()), images(), explained(images()), title="cat"))
    assert {"cat", "unit 2: +0.5", "unit 0: +0.25"} <= set(said)
    assert any("body.3" in text and "±" in text for text in said)
    assert "top 10 %" in said


def test_a_notebook_shows_small_maps() -> None:
    assert strip(torch.ones(2, 5, 4, 4)) is None and strip(torch.ones(2, 7)) is None
    page = explained(images(3))._repr_html_()
    assert page.count("<table>") == 1 and page.count('src="data:image/png;base64,') == 1
    assert "orange for, purple against" in page and len(page) < 60_000
    assert strip(torch.zeros(1, 1, 3, 3)) is not None


def test_a_strip_shows_the_maps_in_order() -> None:
    import base64
    import io

    values = torch.zeros(2, 1, 4, 4)
    values[0], values[1] = 1.0, -1.0
    found = strip(values)
    assert found is not None and found[1] == 1.0
    code = base64.b64decode(found[0].split(",")[1])
    picture = np.asarray(Image.open(io.BytesIO(code)), np.float64)
    assert picture.shape == (96, 196, 3)
    assert np.array_equal(picture[5, 5], (coloured(np.array(1.0), 1.0) * 255).round())
    assert np.array_equal(picture[5, 190], (coloured(np.array(-1.0), 1.0) * 255).round())


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Heat(blur=-1), PlanError, "blur must be at least 0"),
        (lambda: Overlay(opacity=0), PlanError, "opacity must be above 0"),
        (lambda: Mask(share=0), PlanError, "share must be above 0"),
        (lambda: Mask(left=2), PlanError, "left at most 1"),
        (
            lambda: plots.maps(explained(images()), look=Mask()),
            DataError,
            "looks through the input; give the data",
        ),
        (
            lambda: plots.maps(explained(sounds()), sounds(), look=Overlay()),
            DataError,
            "draw it with Heat",
        ),
        (lambda: plots.compared({}, images()), DataError, "expected an explanation in every row"),
        (lambda: plots.compared({"a": {}}, images()), DataError, "an explanation in every row"),
        (
            lambda: plots.compared(table(images(3)), images()),
            DataError,
            "are not of inputs of shape",
        ),
        (lambda: plots.compared(table(images()), images(), example=8), DataError, "no example 8"),
        (
            lambda: plots.units(sights(images(3)), images(), explained(images())),
            DataError,
            "explain the input of these data",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    make: Callable[[], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make()
