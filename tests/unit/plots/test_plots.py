"""Plots against kept pictures, without their words: fonts differ by machine, places must not.

A change that is meant: delete the picture in ``pictures/``, run once (it is drawn anew, and the test
fails), look at it, run again.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conjoin import plots
from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.core.evidence import Claim, Provenance
from conjoin.core.random import Streams
from conjoin.core.result import AttackResult, Attribution, Certificate, Result, Score
from conjoin.core.slice import Cut
from conjoin.data import Sounds
from conjoin.errors import DataError
from conjoin.metrics.seen import Directed
from conjoin.plots import canvas

PICTURES = Path(__file__).parent / "pictures"
CLOSE = 2 / 255  # root mean square: antialiasing by another version of the renderer


def numbers(*shape: int, purpose: str = "x") -> torch.Tensor:
    return Streams.of(5, torch.arange(shape[0])).fold(purpose).uniform(*shape[1:])


def story(act: str, threat: str = "L2(eps=0.5, bounds=(0.0, 1.0), mask=None)") -> Provenance:
    return Provenance(act, "Method(steps=3)", "", 0, threat=threat, goal=0.0)


def images(channels: int = 1) -> Dataset:
    return Dataset(numbers(8, channels, 6, 6), torch.arange(8) % 2, classes=("cat", "dog"))


def sounds() -> Sounds:
    x = 0.8 * torch.sin(torch.arange(200) / 9 + torch.arange(4)[:, None])[:, None]
    return Sounds(x, torch.zeros(4, dtype=torch.int64), rate=8000)


def people() -> Dataset:
    features = (
        Feature("age", low=0, high=99),
        Feature("job=none", Kind.CATEGORICAL),
        Feature("job=miner", Kind.CATEGORICAL),
        Feature("amount", low=0, high=9000),
    )
    x = torch.tensor([[20.0, 1, 0, 500], [60, 0, 1, 8000], [40, 0, 1, 70]])
    return Dataset(x, torch.tensor([0, 1, 1]), features=features, name="people")


def explained(data: Dataset) -> Attribution:
    values = numbers(*data.x.shape, purpose="values") - 0.4
    zeros = torch.zeros(len(data))
    return Attribution(story("attribute"), {"input": values}, data.y, zeros, zeros)


def attacked(data: Dataset, size: float = 0.05) -> AttackResult:
    """Every other example falls; the first is lost at x itself."""
    change = size * (numbers(*data.x.shape, purpose="change") - 0.5).sign()
    clean = torch.linspace(0.1, 2, len(data))
    clean[0] = -0.3
    success = torch.arange(len(data)) % 2 == 0
    moved = success & (clean > 0)
    value = torch.where(moved, -0.1, clean)
    away = torch.where(moved, torch.linspace(0.1, 0.5, len(data)), 0.0).double()
    inputs = torch.where(moved.reshape(-1, *[1] * (data.x.ndim - 1)), data.x + change, data.x)
    return AttackResult(story("attack"), inputs, value, clean, success, away)


def proved(count: int = 8) -> Certificate:
    radius = torch.linspace(0, 0.4, count).double()
    clean, flags = torch.ones(count), torch.arange(count) > 0
    story_ = replace(story("certify"), claim=Claim.SOUND_REAL)
    return Certificate(story_, clean / 2, clean, flags, radius, flags.clone())


def sights(data: Dataset) -> Directed:
    """Two units of a layer of three, and what each sees."""
    one, influences = explained(data), torch.tensor([0.25, -1.0, 0.5], dtype=torch.float64)
    other = replace(one, layers={"input": one.values.flip(3)})
    return Directed(Cut("body.3"), (2, 0), influences, {2: one, 0: other}, "Conductance")


def table(data: Dataset) -> dict[str, dict[str, Attribution]]:
    """Two methods, two models; one cell is not there."""
    one = explained(data)
    double = replace(one, layers={"input": 2 * one.values})
    return {"saliency": {"plain": one, "robust": double}, "LRP": {"plain": double}}


SCORE = Score(story("score"), numbers(12, 1)[:, 0])
DRAWN: dict[str, Callable[[], Any]] = {
    "maps": lambda: plots.maps(explained(images()), images(), count=4),
    "maps-colour": lambda: plots.maps(explained(images(3)), images(3), count=2),
    "maps-alone": lambda: plots.maps(explained(images()), count=3),
    "maps-sound": lambda: plots.maps(explained(sounds()), sounds(), count=2),
    "attacked": lambda: plots.attacked(attacked(images()), images(), count=3),
    "attacked-sound": lambda: plots.attacked(attacked(sounds()), sounds(), count=2),
    "curves": lambda: plots.curves(attacked(images()), proved(), names=("PGD", "Lipschitz")),
    "bars": lambda: plots.bars(explained(people()), people()),
    "bars-example": lambda: plots.bars(explained(people()), people(), example=1, count=2),
    "score": lambda: plots.show(SCORE),
    "maps-over": lambda: plots.maps(
        explained(images(3)), images(3), count=3, look=plots.Overlay(blur=0.8)
    ),
    "maps-mask": lambda: plots.maps(
        explained(images(3)), images(3), count=3, look=plots.Mask(share=0.3)
    ),
    "compared": lambda: plots.compared(table(images()), images(), example=1),
    "compared-sound": lambda: plots.compared(table(sounds()), sounds()),
    "units": lambda: plots.units(sights(images(3)), images(3), explained(images(3)), title="cat"),
}


def drawn(figure: Any) -> np.ndarray:
    """Return the pixels of a figure without its words."""
    for axes in figure.axes:
        axes.tick_params(labelleft=False, labelbottom=False)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts):
            text.set_visible(False)
        if axes.get_legend() is not None:
            axes.get_legend().set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=50)
    return np.asarray(Image.open(content).convert("RGB"), dtype=np.float64) / 255


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(((one - other) ** 2).mean()))


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_looks_as_it_did(name: str) -> None:
    found, file = drawn(DRAWN[name]()), PICTURES / f"{name}.png"
    if not file.exists():
        PICTURES.mkdir(exist_ok=True)
        Image.fromarray((found * 255).round().astype(np.uint8)).save(file, optimize=True)
        pytest.fail(f"{file} was not there and has been drawn; look at it")
    kept = np.asarray(Image.open(file).convert("RGB"), dtype=np.float64) / 255
    assert found.shape == kept.shape
    assert apart(found, kept) <= CLOSE


def test_the_comparison_sees_what_is_drawn() -> None:
    """Another input, another map, another scale: each is further away than the tolerance."""
    data, maps = images(), explained(images())
    pairs = [
        (plots.maps(maps, data), plots.maps(replace(maps, layers={"input": -maps.values}), data)),
        (plots.maps(maps, data), plots.maps(maps, replace(data, x=1 - data.x))),
        (plots.maps(maps, data), plots.maps(maps, data, bounds=(-1.0, 2.0))),
        (plots.attacked(attacked(data), data), plots.attacked(attacked(data, -0.05), data)),
        (plots.curves(proved()), plots.curves(attacked(data))),
        (
            plots.bars(explained(people()), people()),
            plots.bars(explained(people()), people(), example=0),
        ),
    ]
    for one, other in pairs:
        first, second = drawn(one), drawn(other)
        assert first.shape != second.shape or apart(first, second) > 2 * CLOSE


def words(figure: Any) -> list[str]:
    """All words that a figure says."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_plots_say_what_they_show() -> None:
    said = words(plots.attacked(attacked(images()), images(), count=3))
    assert {"original", "attacked", "change ×10"} <= set(said)
    assert "0.64 → -0.1\nat 0.214" in said and not any("-0.3" in text for text in said)
    assert {"cat", "dog"} <= set(words(plots.maps(explained(images()), images())))
    assert "class 1" in words(plots.maps(explained(images())))
    said = words(plots.curves(attacked(images()), proved(), names=("PGD", "Lipschitz")))
    assert {"PGD: left standing (not diagnosed)", "Lipschitz: proved", "radius of L2"} <= set(said)
    said = words(plots.bars(explained(people()), people(), example=1))
    assert {"job = miner", "age = 60", "amount = 8000"} <= set(said)
    assert {"job", "age", "amount"} <= set(words(plots.bars(explained(people()), people())))


def test_an_attack_that_found_nothing_says_so() -> None:
    data = images().select([1, 3])
    found = attacked(images())
    part = AttackResult(
        found.provenance,
        data.x,
        *(v[[1, 3]] for v in (found.value, found.clean, found.success)),
        found.distance[[1, 3]],
    )
    said = words(plots.attacked(part, data))
    assert sum(text.startswith("nothing found") for text in said) == 2 and "change ×1" in said
    lost = replace(part, clean=-part.clean, value=-part.clean)
    assert any(text.startswith("lost without attack") for text in words(plots.attacked(lost, data)))


def test_one_hot_columns_are_one_bar_that_keeps_the_sum() -> None:
    found, data = explained(people()), people()
    figure = plots.bars(found, data, example=2)
    lengths = [bar.get_width() for bar in figure.axes[0].patches]
    assert len(lengths) == 3
    assert sum(lengths) == pytest.approx(float(found.values[2].double().sum()))
    mean = [bar.get_width() for bar in plots.bars(found, data).axes[0].patches]
    jobs = float(found.values[:, 1:3].double().sum(1).abs().mean())
    assert any(width == pytest.approx(jobs) for width in mean) and min(mean) >= 0
    assert mean == sorted(mean)  # the largest on top


def test_curves_are_the_bounds_they_claim_to_be() -> None:
    """At any radius: shares counted from the definition, left and right of each step."""
    found, certificate = attacked(images()), proved()
    lines = plots.curves(found, certificate).axes[0].get_lines()
    for eps in (0.0, 0.05, 0.2, 0.2285, 0.3, 0.399, 0.41):
        values = []
        for line in lines:
            x, y = line.get_xdata(), line.get_ydata()
            values.append(float(y[np.searchsorted(x, eps, side="right") - 1]))
        upper = (~(found.success & (found.distance <= eps))).double().mean()
        lower = (certificate.radius > eps).double().mean()
        assert values == pytest.approx([float(upper), float(lower)])
    assert float(lines[0].get_ydata()[0]) == 7 / 8  # one is lost without any attack


@pytest.mark.parametrize(
    ("result", "data", "kind"),
    [
        (explained(images()), images(), "maps"),
        (explained(images()), None, "maps"),
        (explained(people()), people(), "bars"),
        (attacked(images()), images(), "attacked"),
        (attacked(images()), None, "curves"),
        (attacked(people()), people(), "curves"),
        (proved(), None, "curves"),
        (proved(), images(), "curves"),
    ],
)
def test_show_picks_by_what_it_is_given(result: Result, data: Dataset | None, kind: str) -> None:
    usual = {
        "maps": lambda: plots.maps(result, data),  # type: ignore[arg-type]
        "bars": lambda: plots.bars(result, data),  # type: ignore[arg-type]
        "attacked": lambda: plots.attacked(result, data),  # type: ignore[arg-type]
        "curves": lambda: plots.curves(result),  # type: ignore[arg-type]
    }[kind]()
    np.testing.assert_array_equal(drawn(plots.show(result, data)), drawn(usual))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: plots.maps(explained(images()), images().select([0])), "of 8 examples, .* hold 1"),
        (lambda: plots.maps(explained(images()), count=0), "count must be at least 1; got 0"),
        (
            lambda: plots.maps(explained(Dataset(numbers(2, 5, 6, 6), torch.zeros(2).long()))),
            r"shape \(5, 6, 6\) have no picture",
        ),
        (lambda: plots.attacked(attacked(images()), images(3)), "give the data that were attacked"),
        (plots.curves, "0 results came with 0 names"),
        (lambda: plots.curves(proved(), names=("a", "b")), "1 results came with 2 names"),
        (lambda: plots.curves(SCORE), r"results of attack\(\) or certify\(\); got Score"),
        (
            lambda: plots.curves(
                proved(), replace(proved(), provenance=story("certify", "Linf(eps=0.1)"))
            ),
            "cannot share an axis",
        ),
        (
            lambda: plots.bars(explained(images()), images()),
            "names no columns; bars are for tables",
        ),
        (lambda: plots.bars(explained(people()), people(), example=3), "no example 3; there are 3"),
        (lambda: plots.show("result"), "expected a result of a driver, .*got a str"),
        (
            lambda: plots.bars(
                replace(explained(people()), layers={"input": numbers(3, 7)}), people()
            ),
            "none of the table's 4 columns",
        ),
    ],
)
def test_what_has_no_picture_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        make()


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call as users do, without the run-time type checks of the tests."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


def test_radii_that_differ_share_an_axis() -> None:
    one = replace(
        proved(), provenance=story("certify", "L2(eps=0.1, bounds=(0.0, 1.0), mask=None)")
    )
    many = "L2(eps=tensor([0.1,\n 0.2]), bounds=(0.0, 1.0), mask=None)"
    two = replace(proved(), provenance=story("certify", many))
    assert len(plots.curves(one, two, proved()).axes[0].get_lines()) == 3


def test_a_figure_belongs_to_no_window_and_a_notebook_shows_it() -> None:
    figure = plots.show(SCORE)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert canvas.full_colour([np.zeros((3, 3))]) == 1.0
    code = (
        "import sys, conjoin.plots; assert 'matplotlib' not in sys.modules; "
        "from conjoin.plots import canvas; assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_all_but_the_drawing_works() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import importlib, pkgutil, torch, conjoin\n"
        "for found in pkgutil.walk_packages(conjoin.__path__, 'conjoin.'):\n"
        "    if found.name != 'conjoin.plots.canvas' and '__main__' not in found.name:\n"
        "        importlib.import_module(found.name)\n"
        "from conjoin.audit.pictures import pictures_of\n"
        "data = conjoin.Dataset(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))\n"
        "assert pictures_of(data, (0.0, 1.0)).of_map(data.x[0] - 0.5, 1.0, data.x[0], 'a map')\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))\n"
        "shown = conjoin.attribute(model, data, conjoin.attribution.saliency(), seed=0)\n"
        "try:\n    conjoin.plots.maps(shown, data)\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "conjoin.plots draws with matplotlib; install it by pip install 'conjoin[plots]'\n"
    )
