"""What is shown of an input is bounded, has words, and says by how much a change is amplified."""

from __future__ import annotations

import base64
import io
import re
import wave

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conjoin.audit.pictures import Nothing, amplification, factor_of, pictures_of
from conjoin.audit.pictures.bars import SHOWN, Bars
from conjoin.audit.pictures.chart import HEIGHT, WIDTH, band
from conjoin.audit.pictures.image import LARGEST_SIDE, Images, coloured, map_scale
from conjoin.audit.pictures.line import Lines
from conjoin.audit.pictures.sound import (
    HELD,
    MAP,
    PLAYED,
    STRETCHES,
    WAVE,
    Waves,
    held,
    over_time,
    player,
    spectrogram,
)
from conjoin.audit.pictures.text import Tokens
from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.data import Sounds, Texts

BOUNDS = (0.0, 1.0)


def pixels(markup: str) -> np.ndarray:
    found = re.search(r'src="data:image/(\w+);base64,([^"]+)"', markup)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[2]))))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((8, 8), Images),
        ((1, 8, 8), Images),
        ((3, 8, 8), Images),
        ((5,), Bars),
        ((900,), Lines),
        ((1, 900), Lines),
        ((2, 8, 8), Nothing),
        ((4, 4, 4, 4), Nothing),
    ],
)
def test_pictures_follow_the_kind_of_data(shape: tuple[int, ...], kind: type) -> None:
    data = Dataset(torch.full((2, *shape), 0.5), torch.tensor([0, 1]))
    pictures = pictures_of(data, BOUNDS)
    assert isinstance(pictures, kind)
    x = data.x[0]
    made = [
        pictures.of_input(x, "an <input>"),
        pictures.of_change(x + 0.1, x, 2.0, "a <change>"),
        pictures.of_map(x - 0.5, 1.0, x, "a <map>"),
    ]
    for markup, words in zip(made, ("input", "change", "map"), strict=True):
        if kind is Nothing:
            assert markup == ""
        else:
            assert f"&lt;{words}&gt;" in markup and f"<{words}>" not in markup


def test_a_small_picture_is_kept_exactly() -> None:
    x = torch.arange(16.0).reshape(1, 4, 4) / 15
    got = pixels(Images(BOUNDS).of_input(x, "x"))
    assert np.array_equal(got, (x[0].numpy() * 255).round().astype(np.uint8))


def test_the_range_is_that_of_the_bounds() -> None:
    x = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]])
    assert pixels(Images((-1.0, 1.0)).of_input(x, "x")).tolist() == [[0, 128], [255, 255]]


def test_no_change_is_grey_and_a_change_is_amplified() -> None:
    x = torch.full((1, 1, 3), 0.4)
    z = x + torch.tensor([0.0, 0.05, -0.05])
    got = pixels(Images(BOUNDS).of_change(z, x, 5.0, "x"))[0].tolist()
    assert got == [128, 191, 64]  # 0.5, 0.75 and 0.25 of 255, rounded


@pytest.mark.parametrize("side", [65, 224, 3000])
def test_a_large_picture_is_bounded(side: int) -> None:
    x = torch.linspace(0, 1, 3 * side * side).reshape(3, side, side)
    markup = Images(BOUNDS).of_input(x, "x")
    assert max(pixels(markup).shape) <= LARGEST_SIDE
    assert len(markup) < 60_000


def test_a_map_is_orange_for_and_purple_against() -> None:
    values = torch.tensor([[[1.0, 0.0, -1.0]]])
    for_, silent, against = pixels(Images(BOUNDS).of_map(values, 1.0, values, "x"))[0].tolist()
    assert for_[0] > for_[2] and against[2] > against[0]
    assert min(silent) > 240


def test_the_scale_of_maps_is_a_high_quantile() -> None:
    values = torch.zeros(1, 10, 10)
    values[0, 0, 0] = 100.0
    assert map_scale([values]) < 100.0
    assert map_scale([values + 1]) >= 1.0
    assert map_scale([]) == 0.0


@given(st.floats(1e-9, 10.0), st.floats(0.01, 255.0))
def test_an_amplified_change_still_fits(change: float, width: float) -> None:
    factor = amplification(change, width)
    assert factor >= 1
    if factor > 1:
        assert change * factor <= width / 2
    if change <= width / 2 and factor < 50_000:
        # The next larger factor is at most two and a half times as large.
        assert change * factor * 2.5 >= width / 2 * (1 - 1e-12)


def test_bars_show_those_that_matter_most_with_their_values() -> None:
    names = tuple(f"column {k}" for k in range(40))
    features = tuple(Feature(name) for name in names)
    x = torch.rand(1, 40, generator=torch.Generator().manual_seed(1))
    data = Dataset(x, torch.tensor([0]), features=features)
    values = torch.zeros(40)
    values[33], values[7] = -2.0, 1.0
    svg = pictures_of(data, BOUNDS).of_map(values, 2.0, data.x[0], "x")
    named = re.findall(r">(column \d+) = ([-\d.]+)<", svg)
    assert [name for name, _ in named[:2]] == ["column 33", "column 7"]
    assert float(named[0][1]) == pytest.approx(float(data.x[0, 33]), abs=5e-4)
    assert len(named) == SHOWN
    assert 'class="against"' in svg and 'class="for"' in svg


PEOPLE = Dataset(
    torch.tensor([[50.0, 0.0, 1.0, 7.0]]),
    torch.tensor([0]),
    features=(
        Feature("age", low=0, high=100),
        Feature("job=clerk", Kind.CATEGORICAL),
        Feature("job=none", Kind.CATEGORICAL),
        Feature("country", low=7, high=7),
    ),
)


def test_bars_of_a_table_are_in_units_of_each_column_and_one_an_attribute() -> None:
    bars, x = pictures_of(PEOPLE, BOUNDS), PEOPLE.x[0]
    svg = bars.of_input(x, "x")
    assert re.findall(r">([^<]+)</text>", svg) == ["age = 50", "job = none", "country = 7"]
    assert re.findall(r'width="([\d.]+)"', svg) == ["109.0", "0.0", "0.0"]  # half of the range
    values = torch.tensor([1.0, -1.0, 5.0, 0.0])
    assert bars.scale([values, -values]) == 4.0
    svg = bars.of_map(values, 4.0, x, "x")
    assert re.findall(r">([^<]+)</text>", svg)[:2] == ["job = none", "age = 50"]
    z = x + torch.tensor([-2.0, 0.0, 0.0, 0.0])
    assert factor_of(z, x, PEOPLE, BOUNDS) == 20.0  # 2 % of the range, to 40 %
    svg = bars.of_change(z, x, 20.0, "x")
    assert re.findall(r">([^<]+)</text>", svg) == ["age: 50 → 48"]
    assert bars.of_change(x, x, 1.0, "x") == ""


def test_names_of_columns_are_escaped() -> None:
    svg = Bars(BOUNDS, (Feature("<b>"), Feature("c"))).of_input(torch.tensor([0.5, 0.2]), "x")
    assert "&lt;b&gt;" in svg and "<b>" not in svg


def test_a_long_vector_is_drawn_with_few_points() -> None:
    x = torch.zeros(100_000)
    x[50_000] = 1.0
    svg = Lines(BOUNDS).of_input(x, "x")
    assert len(svg) < 10_000
    heights = [float(p.split(",")[1]) for p in re.findall(r'points="([^"]+)"', svg)[0].split()]
    assert min(heights) == 0.0 and max(heights) == 60.0, "the one peak is seen"


def test_a_chart_stays_in_its_frame() -> None:
    paths = band((0.0, 0.5, 1.0), (1.0, 0.5, 0.0), (0.5, 0.0, 0.0))
    assert paths["upper"] == f"M0.0,0.0 L{WIDTH / 2:.1f},{HEIGHT / 2:.1f} L{WIDTH:.1f},{HEIGHT:.1f}"
    for path in paths.values():
        for x, y in re.findall(r"([\d.]+),([\d.]+)", path):
            assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT


# Sounds

RATE = 8000
TONE = np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE)


def heard(markup: str) -> tuple[np.ndarray, int, int]:
    """Return the samples that a player holds, how many a second, and its channels."""
    found = re.search(r'src="data:audio/wav;base64,([^"]+)"', markup)
    assert found is not None
    with wave.open(io.BytesIO(base64.b64decode(found[1]))) as file:
        assert file.getsampwidth() == 2
        raw = file.readframes(file.getnframes())
        return np.frombuffer(raw, "<i2") / 32767, file.getframerate(), file.getnchannels()


def test_a_sound_is_seen_and_played_as_it_is() -> None:
    x = torch.from_numpy(TONE).float()[None, None] * 0.5
    data = Sounds(x, torch.tensor([0]), rate=RATE)
    pictures = pictures_of(data, (-1.0, 1.0))
    assert isinstance(pictures, Waves)
    shown = pictures.of_input(x[0], "a <sound>")
    assert shown.count("&lt;sound&gt;") == 2, "of the picture and of the player"
    samples, rate, channels = heard(shown)
    assert (rate, channels) == (RATE, 1)
    np.testing.assert_allclose(samples, x[0, 0], atol=1 / 32767)
    for markup in (
        pictures.of_change(x[0] * 0.9, x[0], 5.0, "x"),
        pictures.of_map(x[0], 1, x[0], "x"),
    ):
        assert "<svg" in markup and "<audio" not in markup


def test_the_spectrogram_of_a_tone_is_a_line_at_its_pitch() -> None:
    shares = spectrogram(TONE, RATE)
    rows = len(shares)
    loudest = shares.mean(1).argmax()
    # Row 0 is the highest frequency, half the rate; a row is at most 1 / rows of that.
    assert abs((rows - 1 - loudest) / rows - 1000 / (RATE / 2)) <= 1.5 / rows
    assert shares.max() == 1.0 and (shares.mean(1) > 0.9).sum() <= 2
    assert not spectrogram(np.zeros(4000), RATE).any(), "silence is white"


def test_an_attribution_stands_over_its_time_and_on_its_side() -> None:
    values = torch.zeros(1, 4000)
    values[0, 1000:1040], values[0, 3000:3040] = 0.5, -0.25
    pictures = Waves((-1.0, 1.0), RATE)
    assert pictures.scale([values, values / 2]) == pytest.approx(20.0)
    assert len(over_time(values)) == STRETCHES and float(over_time(values).sum()) == pytest.approx(
        10
    )
    svg = pictures.of_map(values, 20.0, torch.zeros(1, 4000), "x")
    (for_,) = re.findall(r'class="for" d="([^"]*)"', svg)
    (against,) = re.findall(r'class="against" d="([^"]*)"', svg)
    middle, half = WAVE + MAP / 2, MAP / 2 - 1
    assert for_ == f"M50.0 {middle:g}v{-half:.1f}h2.0V{middle:g}z"
    assert against == f"M150.0 {middle:g}v{half / 2:.1f}h2.0V{middle:g}z"


def test_a_sound_of_any_length_is_bounded() -> None:
    rng = np.random.default_rng(0)
    sound = torch.from_numpy(rng.uniform(-1, 1, (2, 3_000_000))).float()
    shown = Waves((-1.0, 1.0), 44_100).of_input(sound, "long")
    samples, _, channels = heard(shown)
    assert (len(samples), channels) == (PLAYED, 1) and f"the first {PLAYED / 44_100:.3g} s" in shown
    drawing = shown[: shown.index("<audio")]
    assert len(drawing) < 20_000
    for few in (1, 2, 7):
        assert "<svg" in Waves((-1.0, 1.0), RATE).of_input(torch.zeros(1, few), "short")


def test_a_page_holds_so_many_players_and_says_what_is_not_played() -> None:
    one = player(np.zeros(PLAYED), RATE, "silence")
    many = HELD // len(one)
    page = held("<p>" + one * (many + 3) + "</p>")
    assert page.count("<audio") == many and page.count("not played") == 3
    assert len(page) < HELD + 1000
    assert held("no <b>sound</b>") == "no <b>sound</b>"


def test_the_colours_of_maps_are_those_of_the_plots() -> None:
    total = np.linspace(-1.5, 1.5, 500)[None]
    scale = (total.clip(-1, 1) + 1) / 2
    wanted = matplotlib.colormaps["PuOr_r"].resampled(4096)(scale)[..., :3]
    assert np.abs(coloured(total, 1.0) - wanted).max() < 2e-3


# Texts


def test_tokens_are_coloured_by_their_value_and_told_by_more_than_colour() -> None:
    data = Texts(torch.tensor([[2, 0, 1, 2]]), torch.tensor([0]), words=("a", "<b>", "c"))
    pictures = pictures_of(data, (0.0, 1.0))
    assert isinstance(pictures, Tokens) and pictures.scale([torch.tensor([0.0, -2.0])]) > 1.9
    x = data.x[0]
    assert re.findall(r"<span>(.*?)</span>", pictures.of_input(x, "x")) == [
        "c",
        "a",
        "&lt;b&gt;",
        "c",
    ]
    shown = pictures.of_map(torch.tensor([2.0, -1.0, 0.5, 0.0]), 2.0, x, "a <text>")
    assert 'aria-label="a &lt;text&gt;"' in shown
    spans = re.findall(r'<span class="(.*?)" style="background:(.*?)" title="(.*?)">(.*?)<', shown)
    assert [(kind, said, text) for kind, _, said, text in spans] == [
        ("for dark", "+1.00", "c"),
        ("against", "-0.50", "a"),
        ("for", "+0.25", "&lt;b&gt;"),
        ("", "+0.00", "c"),
    ]
    assert (spans[0][1], spans[3][1]) == ("rgb(127,59,8)", "rgb(247,247,247)")
    assert pictures.of_map(torch.zeros(7), 1.0, x, "x") == "", "a map of something else"
    changed = pictures.of_change(torch.tensor([2, 1, 1, 2]), x, 1.0, "x")
    assert "a → &lt;b&gt;" in changed and pictures.of_change(x, x, 1.0, "x") == ""


def test_tokens_without_words_are_numbers_and_a_long_text_is_cut() -> None:
    x = torch.arange(300)[None]
    pictures = pictures_of(Dataset(x, torch.tensor([0])), (0.0, 1.0))
    shown = pictures.of_map(torch.ones(300), 1.0, x[0], "x")
    assert shown.count("<span") == 256 and "and 44 more" in shown and ">255<" in shown
