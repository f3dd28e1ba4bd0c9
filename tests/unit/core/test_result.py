"""Results as values: how they print, and files that are equal when results are."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from conjoin.core.evidence import Claim, Provenance
from conjoin.core.files import save_tensors
from conjoin.core.result import AttackResult, Attribution, Certificate, Result, Score
from conjoin.errors import DataError

NUMBERS = torch.tensor([0.5, -1.0, 2.0])
FLAGS = torch.tensor([True, False, True])


def story(act: str, **more: str) -> Provenance:
    return Provenance(act, "PGD(steps=40)", "madry2018", 7, threat="Linf(eps=0.1)", **more)


def results() -> dict[str, Result]:
    x = torch.zeros(3, 1, 4, 4)
    return {
        "attack": AttackResult(story("attack"), x, -NUMBERS.abs(), NUMBERS, FLAGS, NUMBERS.abs()),
        "certify": Certificate(
            story("certify", claim=Claim.SOUND_DEPLOYED),
            NUMBERS - 1,
            NUMBERS,
            FLAGS,
            NUMBERS.abs(),
            FLAGS.clone(),
        ),
        "attribute": Attribution(
            story("attribute"),
            {"conv": x, "a": x[:, 0].clone()},
            torch.tensor([1, 1, 0]),
            torch.full((3,), torch.nan),
            torch.full((3,), torch.nan),
        ),
        "score": Score(story("score"), NUMBERS),
    }


SAID = {
    "attack": "AttackResult(2 of 3 reached the goal; not diagnosed; PGD(steps=40), Linf(eps=0.1), "
    "seed 7)",
    "certify": "Certificate(2 of 3 certified, sound-deployed; PGD(steps=40), Linf(eps=0.1), seed 7)",
    "attribute": "Attribution(3 explanations of conv (1, 4, 4), a (4, 4); "
    "PGD(steps=40), Linf(eps=0.1), seed 7)",
    "score": "Score(3 scores, mean 0.5; PGD(steps=40), Linf(eps=0.1), seed 7)",
}


@pytest.mark.parametrize("kind", SAID)
def test_a_result_prints_as_one_line(kind: str) -> None:
    assert repr(results()[kind]) == SAID[kind]


def test_a_threat_of_many_numbers_still_prints_as_one_line() -> None:
    threat = f"Linf(eps=0.1, mask={torch.ones(40, 40)!r})"
    text = repr(Score(Provenance("score", "M()", "", 0, threat=threat), NUMBERS))
    assert "\n" not in text and len(text) < 200 and "…" in text


class _Cells(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("kind", SAID)
def test_a_notebook_shows_provenance_and_ranges(kind: str) -> None:
    page = _Cells(results()[kind]._repr_html_())
    picture = {"figure", "img", "figcaption"} & set(page.tags)
    assert set(page.tags) - picture == {"table", "caption", "tr", "th", "td"}
    assert len(picture) == (3 if kind == "attribute" else 0)
    assert page.tags.count("tr") == page.tags.count("th") == page.tags.count("td")
    for word in ("method", "PGD(steps=40)", "reference", "madry2018", "seed", "7", "evidence"):
        assert word in page.texts
    if kind == "attack":
        assert "-2 to -0.5, median -1" in page.texts and "2 of 3" in page.texts
    if kind == "attribute":
        assert "not known" in page.texts and "2 different" in page.texts


def test_what_others_wrote_is_escaped() -> None:
    nasty = Provenance("score", "<script>alert('&')</script>", "", 0, quantity='"><img src=x>')
    shown = Score(nasty, NUMBERS)._repr_html_()
    assert "<script" not in shown and "<img" not in shown
    assert "<script>alert('&')</script>" in _Cells(shown).texts


@pytest.mark.parametrize("kind", SAID)
def test_equal_results_give_equal_bytes(tmp_path: Path, kind: str) -> None:
    """Twenty times: with two keys in the header four files had four contents."""
    hashes = set()
    for number in range(20):
        results()[kind].save(tmp_path / f"{number}.safetensors")
        content = (tmp_path / f"{number}.safetensors").read_bytes()
        hashes.add(hashlib.sha256(content).hexdigest())
    assert len(hashes) == 1
    with safe_open(tmp_path / "0.safetensors", framework="pt") as stored:
        assert set(stored.metadata()) == {"conjoin"}


@pytest.mark.parametrize("kind", SAID)
def test_what_is_saved_is_read_again(tmp_path: Path, kind: str) -> None:
    result = results()[kind]
    result.save(tmp_path / "r.safetensors")
    again = type(result).load(tmp_path / "r.safetensors")
    assert again.provenance == result.provenance  # a goal of minus infinity included
    told = again._tensors()
    for name, tensor in result._tensors().items():
        assert torch.equal(told[name].nan_to_num(), tensor.nan_to_num())
    if isinstance(again, Attribution):  # not by name: the first cut stays the first
        assert list(again.layers) == ["conv", "a"] and again.values.shape == (3, 1, 4, 4)


def test_files_of_version_0_1_are_read(tmp_path: Path) -> None:
    result = results()["score"]
    header = {"kind": "Score", "provenance": json.dumps(asdict(result.provenance))}
    save_tensors(result._tensors(), tmp_path / "old.safetensors", header)
    assert Score.load(tmp_path / "old.safetensors").provenance == result.provenance


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, "holds a file of another program; expected Score"),
        ({"format": "pt"}, "holds a file of another program; expected Score"),
        ({"conjoin": '{"kind": "Certificate"}'}, "holds a Certificate; expected Score"),
        ({"conjoin": "{"}, "no Score that this version can read"),
        ({"conjoin": "[]"}, "no Score that this version can read"),
        ({"conjoin": '{"kind": "Score"}'}, "no Score that this version can read"),
        (
            {"conjoin": '{"kind": "Score", "provenance": {"new": 1}}'},
            "no Score that this version can read",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, header: dict[str, str], words: str) -> None:
    save_tensors({"values": NUMBERS}, tmp_path / "r.safetensors", header)
    with pytest.raises(DataError, match=words):
        Score.load(tmp_path / "r.safetensors")


def test_a_result_without_its_tensors_is_refused(tmp_path: Path) -> None:
    header = {"conjoin": json.dumps({"kind": "Score", "provenance": asdict(story("score"))})}
    save_tensors({"other": NUMBERS}, tmp_path / "r.safetensors", header)
    with pytest.raises(DataError, match="no Score that this version can read"):
        Score.load(tmp_path / "r.safetensors")


def test_an_attack_tells_the_accuracy_at_every_radius() -> None:
    found = AttackResult(
        Provenance("attack", "FMN()", "pintor2021", 0),
        inputs=torch.zeros(4, 1),
        value=torch.tensor([-1.0, -1.0, 1.0, -1.0]),
        clean=torch.tensor([1.0, 1.0, 1.0, -1.0]),
        success=torch.tensor([True, True, False, True]),
        distance=torch.tensor([0.2, 0.1, 0.05, 0.0], dtype=torch.float64),
    )
    told = [found.robust_accuracy(eps) for eps in (0, 0.05, 0.1, 0.15, 0.2, math.inf)]
    assert told == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]  # at its distance an example has fallen
    for wrong in (-0.1, math.nan):
        with pytest.raises(DataError, match="eps must be >= 0"):
            found.robust_accuracy(wrong)
