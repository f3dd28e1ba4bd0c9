"""Tokens in colour: each on a ground of its attribution, in a notebook and in a terminal.

Orange is for and purple against, as on maps; what is against is underlined as well, so that no sign is
told by colour alone. One scale of colours for all texts, stated at the end. No matplotlib is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from conjoin.core.result import Attribution
from conjoin.core.shades import coloured, full_scale
from conjoin.errors import DataError

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue, as WCAG 2 defines contrast
MIDDLE = 0.179  # where black and white ink have the same contrast, 4.58 to 1
Token = tuple[str, float]


@dataclass(frozen=True, slots=True, repr=False)
class Text:
    """Texts in colour: shows itself in a notebook, prints with the colours of a terminal.

    Attributes:
        lines: The tokens of each text, with their attributions.
        titles: What stands before each.
        scale: The attribution of full colour.
    """

    lines: tuple[tuple[Token, ...], ...]
    titles: tuple[str, ...]
    scale: float

    def __repr__(self) -> str:
        """Show the texts with the colours of a terminal."""
        return "\n".join([*map(self._terminal, self.titles, self.lines), self._key()])

    def plain(self) -> str:
        """Return the texts without colours: a token with its attribution, signed, in brackets."""
        rows = [
            f"{title}  {' '.join(f'{token}[{value:+.2g}]' for token, value in line)}"
            for title, line in zip(self.titles, self.lines, strict=True)
        ]
        return "\n".join(row.strip() for row in rows)

    def _repr_html_(self) -> str:
        """Show the texts as HTML; a token says its attribution where the pointer rests on it."""
        rows = "".join(
            f"<p><small>{escape(title)}</small> {' '.join(map(self._marked, line))}</p>"
            for title, line in zip(self.titles, self.lines, strict=True)
        )
        return f"<div>{rows}<small>{escape(self._key())}</small></div>"

    def _marked(self, token: Token) -> str:
        word, value = token
        style = f"background:#{self._ground(value).hex()};color:{self._ink(value)};padding:0 .15em"
        style += ";text-decoration:underline" if value < 0 else ""
        return f'<span style="{style}" title="{value:+.3g}">{escape(word)}</span>'

    def _terminal(self, title: str, line: tuple[Token, ...]) -> str:
        parts = []
        for word, value in line:
            ground = ";".join(map(str, self._ground(value)))
            ink = "97" if self._ink(value) == "white" else "30"
            under = ";4" if value < 0 else ""
            parts.append(f"\x1b[{ink};48;2;{ground}{under}m{word}\x1b[0m")
        return f"{title}  {' '.join(parts)}".lstrip()

    def _ground(self, value: float) -> bytes:
        shares = coloured(np.array(value), self.scale)
        return bytes((shares * 255).round().astype(np.uint8))

    def _ink(self, value: float) -> str:
        shares = np.frombuffer(self._ground(value), np.uint8) / 255
        linear = np.where(shares <= 0.03928, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return "black" if float(linear @ LUMINANCE) > MIDDLE else "white"

    def _key(self) -> str:
        return f"orange for, purple and underlined against, full colour at ±{self.scale:.2g}"


def text(
    explained: Attribution,
    tokens: Sequence[Sequence[str]],
    *,
    titles: Sequence[str] = (),
    count: int = 6,
) -> Text:
    """Colour the tokens of the first texts by what each contributes.

    Args:
        explained: At the embedding, ``(batch, positions, features)``, whose features are added up,
            which keeps the sum; or one value for each position.
        tokens: The words of each text; positions behind them are padding and are left out.
        titles: What stands before each text, e.g. the class.
        count: How many texts, at most.

    Raises:
        DataError: If these are not the tokens of the texts that were explained.
    """
    values = explained.values.detach().cpu().double()
    if values.ndim not in (2, 3):
        raise DataError(
            f"attributions of shape {tuple(values.shape)} are of no text; expected (batch, positions) "
            "or (batch, positions, features): explain the embedding"
        )
    longest = max(map(len, tokens), default=0)
    if len(tokens) != len(values) or longest > values.shape[1] or not longest or count < 1:
        raise DataError(
            f"{len(tokens)} texts of up to {longest} tokens do not fit {len(values)} explanations of "
            f"{values.shape[1]} positions (count={count}); give the tokens that the model saw"
        )
    if titles and len(titles) != len(tokens):
        raise DataError(f"{len(titles)} titles came with {len(tokens)} texts; give one for each")
    sums = (values.sum(2) if values.ndim == 3 else values).numpy()
    lines = tuple(
        tuple(zip(words, row[: len(words)].tolist(), strict=True))
        for words, row in zip(tokens[:count], sums, strict=False)
    )
    sizes = [np.array([value for _, value in line]) for line in lines]
    scale = full_scale(sizes) or 1.0
    return Text(lines, tuple(titles[:count]) or ("",) * len(lines), scale)


__all__ = ["Text", "text"]
