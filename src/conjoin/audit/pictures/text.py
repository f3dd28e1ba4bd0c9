"""Texts as coloured tokens: the words themselves, each on the colour of its value.

Orange for and purple against, as in images, and besides by a line below: whole for, dotted against, so
that the sign is told without the colours. Of a long text the first tokens are shown, and how many
follow is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures.image import coloured, map_scale

MOST = 256  # tokens of a picture
COLOURED = Markup('<span class="{}" style="background:rgb({},{},{})" title="{:+.2f}">{}</span>')
REPLACED = Markup('<mark title="{}">{}</mark>')
DARK = 0.55  # of full colour, from where the words are white


@dataclass(frozen=True, slots=True)
class Tokens:
    """Shows sequences of tokens.

    Attributes:
        words: What each token says; without them its number.
    """

    words: tuple[str, ...] = ()
    coloured: bool = field(default=True, init=False)

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show the text."""
        return _drawn([self._said(token) for token in x.tolist()], None, words)

    def of_replaced(self, z: Tensor, x: Tensor, words: str, /) -> Markup:
        """Show a text, each replaced word marked, and what stood there."""
        pairs = list(zip(z.tolist(), x.tolist(), strict=True))
        said = [
            self._said(new)
            if new == old
            else REPLACED.format(f"instead of {self._said(old)}", self._said(new))
            for new, old in pairs
        ]
        return _drawn(said, None, words)

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show the tokens that were replaced, from what to what."""
        pairs = zip(x.tolist(), z.tolist(), strict=True)
        said = [f"{self._said(old)} → {self._said(new)}" for old, new in pairs if old != new]
        return _drawn(said, None, words) if said else Markup("")

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show one value a token, ``(length,)``; nothing if it is a map of something else."""
        if values.shape != x.shape:
            return Markup("")
        shares = values.detach().cpu().double().numpy() / max(scale, 1e-30)
        return _drawn([self._said(token) for token in x.tolist()], shares, words)

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return a high quantile of the magnitude."""
        return map_scale(maps)

    def _said(self, token: int) -> str:
        return self.words[token] if 0 <= token < len(self.words) else str(token)


def _drawn(said: Sequence[str], shares: np.ndarray | None, words: str) -> Markup:
    """Write tokens one after another, each on the colour of its share of full colour."""
    parts = []
    for place, text in enumerate(said[:MOST]):
        if shares is None:
            parts.append(Markup("<span>{}</span>").format(text))
            continue
        share = float(shares[place])
        red, green, blue = (255 * coloured(np.array(share), 1.0)).round().astype(int).tolist()
        kind = "" if share == 0 else "for" if share > 0 else "against"
        parts.append(
            COLOURED.format(
                f"{kind} dark".strip() if abs(share) > DARK else kind,
                *(red, green, blue),
                max(-1.0, min(1.0, share)),
                text,
            )
        )
    more = f" … and {len(said) - MOST} more" if len(said) > MOST else ""
    return Markup('<p class="tokens" role="group" aria-label="{}">{}{}</p>').format(
        words, Markup(" ").join(parts), more
    )


__all__ = ["MOST", "Tokens"]
