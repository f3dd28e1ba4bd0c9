"""Coloured text: what stands where, in HTML and in a terminal; nothing is told by colour alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from unit.plots.test_plots import explained, images

from conjoin.core.result import Attribution
from conjoin.errors import DataError
from conjoin.plots import Text, text

WORDS = (("a", "<b>good</b>", "film"), ("bad",))
VALUES = torch.tensor([[0.0, 2.0, -1.0], [-4.0, 9.0, 9.0]])


def found(values: torch.Tensor = VALUES) -> Attribution:
    one = explained(images().select([0, 1]))
    return replace(one, layers={"embedding": values})


def test_features_are_added_up_and_padding_is_left_out() -> None:
    wide = torch.stack([VALUES / 4, VALUES * 3 / 4], 2)
    one, other = text(found(), WORDS), text(found(wide), WORDS)
    assert (
        one.lines
        == other.lines
        == (
            (("a", 0.0), ("<b>good</b>", 2.0), ("film", -1.0)),
            (("bad", -4.0),),
        )
    )
    assert 3.9 < one.scale <= 4  # the nines are padding
    assert text(found(), WORDS, count=1).scale < 2.01


def test_html_says_numbers_and_signs_and_runs_nothing() -> None:
    page = text(found(), WORDS, titles=("1: good", "2: <i>"))._repr_html_()
    assert "<b>" not in page and "<i>" not in page and "&lt;b&gt;good" in page
    assert 'title="+2"' in page and 'title="-4"' in page
    marked = dict(re.findall(r'<span style="([^"]*)" title="([^"]*)"', page))
    under = {value for style, value in marked.items() if "underline" in style}
    assert under == {"-1", "-4"}
    assert "full colour at ±" in page and "1: good" in page


def test_a_terminal_gets_colours_and_underlines() -> None:
    said = repr(text(found(), WORDS, titles=("one", "two")))
    first, second, key = said.split("\n")
    assert first.startswith("one  \x1b[") and second.startswith("two  \x1b[")
    bare = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert bare.startswith("one  a <b>good</b> film\ntwo  bad\n") and "against" in key
    codes = dict(re.findall(r"\x1b\[([\d;]*)m([^\x1b]+)\x1b", said))
    assert {word for code, word in codes.items() if code.endswith(";4")} == {"film", "bad"}
    assert first.count("\x1b[0m") == 3


def test_without_colours_numbers_stand_beside_the_words() -> None:
    plain = text(found(), WORDS).plain()
    assert plain == "a[+0] <b>good</b>[+2] film[-1]\nbad[-4]"


def test_words_can_be_read_on_their_ground() -> None:
    """Contrast of at least 4.5 to 1 between ink and ground, as the rules for the web ask."""

    def light(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    shown = Text((), (), 1.0)
    for place in range(-100, 101):
        ground = light(tuple(byte / 255 for byte in shown._ground(place / 100)))
        ink = 0.0 if shown._ink(place / 100) == "black" else 1.0
        high, low = max(ground, ink), min(ground, ink)
        assert (high + 0.05) / (low + 0.05) >= 4.5, place


@pytest.mark.parametrize(
    ("values", "tokens", "titles", "said"),
    [
        (torch.zeros(2, 1, 2, 2), WORDS, (), "are of no text"),
        (VALUES, WORDS[:1], (), "1 texts of up to 3 tokens do not fit 2 explanations"),
        (VALUES[:, :2], WORDS, (), "of 2 positions"),
        (VALUES, WORDS, ("one",), "1 titles came with 2 texts"),
        (VALUES, ((), ()), (), "of up to 0 tokens"),
    ],
)
def test_what_is_no_text_is_refused(
    values: torch.Tensor, tokens: tuple[tuple[str, ...], ...], titles: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        text(found(values), tokens, titles=titles)
