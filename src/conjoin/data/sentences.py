"""Texts from files: a table of texts and labels, a vocabulary, and what may stand for what.

    texts.csv         text,label            or JSON lines of the same keys
    vocabulary.txt    a word a line; the number of the line, from 0, is its token
    candidates.csv    word,candidate,candidate,...    what may stand for the word

A text is split into words and signs, each looked up as it is, else in lower case, else it is the
unknown word (``[UNK]`` or ``<unk>``). Shorter texts are filled up with ``[PAD]`` or ``<pad>``. No word
is split into parts: for such vocabularies give the model's own tokens. A candidate may stand for its
word, *not* the word for it, unless a line of its own says so.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from conjoin.core.substitution import listed
from conjoin.data.texts import Texts
from conjoin.errors import DataError

UNKNOWN, PADDING = ("[UNK]", "<unk>", "[unk]"), ("[PAD]", "<pad>", "[pad]")
LINES = frozenset({".jsonl", ".ndjson"})
_PARTS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def text_file(
    path: Path | str,
    vocabulary: Path | str,
    candidates: Path | str | None = None,
    *,
    text: str = "text",
    label: str = "label",
    length: int | None = None,
    mask: str = "",
    classes: Sequence[str] = (),
) -> Texts:
    """Read texts and their labels.

    Args:
        path: CSV with a header, TSV, or JSON lines.
        vocabulary: A word a line.
        candidates: Lines of a word and what may stand for it; ``None`` if nobody says.
        text, label: The columns; a column ``id`` names the texts.
        length: Tokens of a text, longer ones are cut off; by default those of the longest.
        mask: Name of a keyword input of the model that is 1 at words and 0 at what fills up, if it
            takes one.
        classes: Their order, if labels are words; by default in alphabetical order.

    Raises:
        DataError: Naming file and line, if one is missing or is not as above.
    """
    words = _vocabulary(Path(vocabulary))
    number = {word: token for token, word in enumerate(words)}
    rows = list(_rows(Path(path), (text, label)))
    split = [_tokens(row[text], number, f"{path}, text {k + 1}") for k, row in enumerate(rows)]
    if length is not None and length < 1:
        raise DataError(f"length must be at least 1; got {length}")
    longest = length or max(map(len, split))
    fill = next((number[word] for word in PADDING if word in number), None)
    if fill is None and any(len(tokens) < longest for tokens in split):
        raise DataError(
            f"{vocabulary} has none of {', '.join(PADDING)}, and texts differ in length; add one"
        )
    filled = [[*t[:longest], *[fill or 0] * (longest - len(t))] for t in split]
    x = torch.tensor(filled, dtype=torch.int64)
    y, names = _labels([row[label] for row in rows], classes, Path(path))
    ids = tuple(row["id"] for row in rows) if "id" in rows[0] else ()
    counts = torch.tensor([min(len(tokens), longest) for tokens in split])
    context = {mask: (torch.arange(longest) < counts[:, None]).long()} if mask else {}
    table = None if candidates is None else _candidates(Path(candidates), number)
    vouched = "" if candidates is None else Path(candidates).name
    name = Path(path).name
    return Texts(
        *(x, y), ids=ids, classes=names, name=name, context=context, words=words,
        candidates=table, vouched=vouched,
    )  # fmt: skip


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"no file {path}; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable text in UTF-8: {error}") from error


def _rows(path: Path, needed: tuple[str, str]) -> Iterator[Mapping[str, str]]:
    """Yield the rows as texts by column."""
    found = _lines(path) if path.suffix.lower() in LINES else _table(path)
    if not found:
        raise DataError(f"{path} holds no texts; expected a row for each")
    for place, row in enumerate(found, 1):
        for column in needed:
            if row.get(column) in (None, ""):
                raise DataError(
                    f"{path}, row {place}: no {column!r}; it has "
                    f"{', '.join(map(str, row)) or 'nothing'}. Expected columns {needed[0]!r} and "
                    f"{needed[1]!r}"
                )
        yield {
            str(key): value if isinstance(value, str) else str(value) for key, value in row.items()
        }


def _lines(path: Path) -> list[dict[str, object]]:
    found = []
    for place, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {place}: no JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {place}: expected an object, e.g. {{"text": ...}}')
        found.append(row)
    return found


def _table(path: Path) -> list[dict[str, object]]:
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        found = list(
            csv.DictReader(_read(path).splitlines(keepends=True), delimiter=mark, strict=True)
        )
    except csv.Error as error:
        raise DataError(f"{path} is no readable table: {error}") from error
    if any(None in row for row in found):
        raise DataError(f"{path}: a row has more cells than the header; put texts in double quotes")
    return [dict(row) for row in found]


def _vocabulary(path: Path) -> tuple[str, ...]:
    words = tuple(_read(path).splitlines())
    if len(set(words)) < len(words) or not words:
        twice = next((word for word in words if words.count(word) > 1), "")
        raise DataError(f"{path}: expected words, each once, a line each; {twice!r} stands twice")
    return words


def _tokens(said: str, number: Mapping[str, int], where: str) -> list[int]:
    """Return the tokens of a text."""
    unknown = next((number[word] for word in UNKNOWN if word in number), None)
    found = []
    for part in _PARTS.findall(said):
        token = number.get(part, number.get(part.lower(), unknown))
        if token is None:
            raise DataError(
                f"{where}: {part!r} is not in the vocabulary, which has none of {', '.join(UNKNOWN)}"
            )
        found.append(token)
    if not found:
        raise DataError(f"{where} holds no word: {said!r:.40}")
    return found


def _labels(
    said: Sequence[str], classes: Sequence[str], path: Path
) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels as numbers: whole numbers as they are, else places among the classes."""
    if not classes and all(one.isdecimal() for one in said):
        return torch.tensor([int(one) for one in said]), ()
    names = tuple(classes) or tuple(sorted(set(said)))
    if strange := [one for one in said if one not in names]:
        if all(one.isdecimal() and int(one) < len(names) for one in said):
            return torch.tensor([int(one) for one in said]), names
        raise DataError(f"{path}: {strange[0]!r} is no class; they are {', '.join(names)}")
    return torch.tensor([names.index(one) for one in said]), names


def _candidates(path: Path, number: Mapping[str, int]) -> Tensor:
    """Read which words may stand for which."""
    found: dict[int, list[int]] = {}
    for place, cells in enumerate(csv.reader(_read(path).splitlines()), 1):
        row = [cell.strip() for cell in cells if cell.strip()]
        if strange := [word for word in row if word not in number]:
            raise DataError(f"{path}, line {place}: {strange[0]!r} is not in the vocabulary")
        if len(row) == 1:
            raise DataError(f"{path}, line {place}: {row[0]!r} has no candidate beside it")
        if row:
            found.setdefault(number[row[0]], []).extend(number[word] for word in row[1:])
    if not found:
        raise DataError(
            f"{path} names no candidates; expected lines of a word and what may stand for it"
        )
    return listed(found, len(number))


__all__ = ["text_file"]
