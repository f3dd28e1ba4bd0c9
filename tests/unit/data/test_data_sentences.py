"""Files of texts: words to tokens, labels, candidates, and what is refused by file and line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conjoin.audit.sources import load_data
from conjoin.data import Texts, text_file
from conjoin.errors import DataError

WORDS = ("[PAD]", "[UNK]", "good", "fine", "bad", "it", "is", ".", "don't", "Bad")
ROWS = 'text,label\nIt is good.,praised\nBad,panned\n"Fine, I don\'t",praised\n'


def written(folder: Path, rows: str = ROWS, name: str = "texts.csv") -> Path:
    (folder / "vocabulary.txt").write_text("\n".join(WORDS) + "\n")
    (folder / name).write_text(rows)
    return folder / name


def test_words_are_looked_up_as_they_are_then_in_lower_case(tmp_path: Path) -> None:
    path = written(tmp_path)
    found = text_file(path, tmp_path / "vocabulary.txt", mask="seen")
    assert found.x.tolist() == [[5, 6, 2, 7], [9, 0, 0, 0], [3, 1, 1, 8]]
    assert found.classes == ("panned", "praised") and found.y.tolist() == [1, 0, 1]
    assert found.context["seen"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert found.words == WORDS and found.candidates is None and found.name == "texts.csv"
    short = text_file(path, tmp_path / "vocabulary.txt", length=2, classes=("praised", "panned"))
    assert short.x.tolist() == [[5, 6], [9, 0], [3, 1]] and short.y.tolist() == [0, 1, 0]


def test_json_lines_and_numbers_as_labels(tmp_path: Path) -> None:
    rows = [{"id": f"r{k}", "said": "good", "y": k} for k in (0, 2)]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "texts.jsonl")
    found = load_data(f"{path}?text=said&label=y")
    assert found.ids == ("r0", "r2") and found.y.tolist() == [0, 2] and found.classes == ()


def test_candidates_lead_one_way(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "candidates.csv").write_text("good,fine\n\ngood, good ,[UNK]\nbad,Bad\n")
    found = load_data(str(path))  # vocabulary and candidates lie beside it
    assert isinstance(found, Texts) and found.candidates is not None
    assert found.vouched == "candidates.csv"
    rows = {k: sorted(t for t in row if t >= 0) for k, row in enumerate(found.candidates.tolist())}
    assert {k: row for k, row in rows.items() if row} == {2: [1, 2, 3], 4: [9]}
    (tmp_path / "vocabulary.txt").rename(tmp_path / "words.txt")
    plain = load_data(f"{path}?vocabulary={tmp_path / 'words.txt'}&classes=panned,praised")
    assert plain.digest == found.digest
    bare = replace(found, candidates=None)
    assert bare.digest != found.digest
    other = replace(found, candidates=torch.full_like(found.candidates, -1))
    assert other.digest not in {found.digest, bare.digest}
    assert found.select([1]).candidates is found.candidates


def test_a_table_with_a_column_of_that_name_is_still_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\na,x\nb,y\n")
    assert load_data(str(tmp_path / "t.csv")).features


REFUSED: dict[str, tuple[str, str, str]] = {
    "no column": ("words,label\na,1\n", "", "row 1: no 'text'"),
    "an empty text": ("text,label\n,1\n", "", "row 1: no 'text'"),
    "more cells": ("text,label\ngood, it is,1\n", "", "more cells than the header"),
    "no rows": ("text,label\n", "", "holds no texts"),
    "no words": ("text,label\n  \u00a0 ,1\n", "", "holds no word"),
    "a candidate that is no word": (ROWS, "good,fin\n", "line 1: 'fin' is not in the vocabulary"),
    "a word alone": (ROWS, "good\n", "has no candidate beside it"),
    "no candidates": (ROWS, "\n", "names no candidates"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_by_file_and_line(name: str, tmp_path: Path) -> None:
    rows, candidates, said = REFUSED[name]
    path = written(tmp_path, rows)
    if candidates:
        (tmp_path / "candidates.csv").write_text(candidates)
    with pytest.raises(DataError, match=said):
        load_data(f"{path}?vocabulary={tmp_path / 'vocabulary.txt'}")


def test_vocabularies_without_the_words_that_are_needed(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "vocabulary.txt").write_text("[UNK]\ngood\n")
    with pytest.raises(DataError, match=r"none of \[PAD\]"):
        load_data(str(path))
    (tmp_path / "vocabulary.txt").write_text("[PAD]\ngood\n")
    with pytest.raises(DataError, match="text 1: 'It' is not in the vocabulary"):
        load_data(str(path))
    (tmp_path / "vocabulary.txt").write_text("good\ngood\n")
    with pytest.raises(DataError, match="'good' stands twice"):
        load_data(str(path))
    written(tmp_path, "{", "texts.jsonl")
    with pytest.raises(DataError, match="line 1: no JSON"):
        load_data(str(tmp_path / "texts.jsonl"))
    with pytest.raises(DataError, match="is no class"):
        text_file(written(tmp_path), tmp_path / "vocabulary.txt", classes=("a", "panned"))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 1).long(), torch.full((2, 1), 5), torch.zeros(2, 1)]
)
def test_candidates_that_are_no_row_for_each_word(wrong: torch.Tensor) -> None:
    with pytest.raises(DataError, match="a row for each word"):
        Texts(torch.tensor([[0, 1]]), torch.tensor([0]), words=("a", "b"), candidates=wrong)
