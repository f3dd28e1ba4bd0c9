"""A recogniser of sequences as a classifier of two classes: is this transcript heard, or another?

Its network gives symbols over time, ``(batch, time, symbols)``; the transcript in question stands
beside the sound as context. The first output Q is above 0 iff the decoder hears the transcript, and
within each side it grows with the transcript's likelihood by connectionist temporal classification:
with the loss c = -log P(transcript | x) and n symbols,

    Q = 1 / (1 + c / n) - [not heard],        outputs = (Q, 0).

So the margin says who has won, and its gradient is along c's. Label 0 (it is to be heard) makes an
attack that garbles the transcript, label 1 (it is not) one that makes the network hear it, a target
phrase. The decoder takes the likeliest symbol of each frame, drops repeats and blanks: it is *not* a
search over beams, and knows no language model.

Reference: graves2006, sections 3 and 4 (best path decoding, the loss); carlini2018 (in attacks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.core.naming import describe
from conjoin.core.protocols import Batch, Model
from conjoin.errors import DataError, ModelError
from conjoin.models.around import Around

HEARD, NOT_HEARD = 0, 1


def recogniser(model: Model, transcript: str = "transcript", *, blank: int = 0) -> Recogniser:
    """Make a classifier of a recogniser: label 0 where its transcript is to be heard, 1 where not.

    Args:
        model: Gives logits over time, ``(batch, time, symbols)``, all frames in use.
        transcript: The name of the context that holds the transcripts, 64-bit integers ``(batch,
            length)``, filled up by -1.
        blank: The symbol that stands for none.
    """
    return Recogniser(model, transcript, blank)


def decoded(logits: Tensor, blank: int = 0) -> Tensor:
    """Return the best path of ``(batch, time, symbols)``, ``(batch, time)``, filled up by -1."""
    path = logits.argmax(2)
    new = torch.ones_like(path, dtype=torch.bool)
    new[:, 1:] = path[:, 1:] != path[:, :-1]
    kept = new & (path != blank)
    count = path.shape[1]
    place = torch.where(kept, kept.cumsum(1) - 1, count)
    found = path.new_full((len(path), count + 1), -1)
    return found.scatter_(1, place, torch.where(kept, path, -1))[:, :count]


@dataclass(frozen=True, slots=True)
class Recogniser(Around):
    """A recogniser as a classifier; see :func:`recogniser`."""

    transcript: str
    blank: int

    def __repr__(self) -> str:
        """Show model, context and blank."""
        return f"recogniser({self.model!r}, {self.transcript!r}, blank={self.blank})"

    def logits(self, batch: Batch, /) -> Tensor:
        """Return what the model gives over time, ``(batch, time, symbols)``.

        Raises:
            ModelError: If it is something else.
        """
        others = {name: v for name, v in batch.context.items() if name != self.transcript}
        found: object = self.model(replace(batch, context=others))
        if not isinstance(found, Tensor) or found.ndim != 3 or len(found) != len(batch):
            raise ModelError(
                f"the recogniser gave {describe(found)} for {len(batch)} examples; expected logits of "
                "shape (batch, time, symbols)"
            )
        return found

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return (Q, 0), ``(batch, 2)``.

        Raises:
            DataError: If no transcript stands beside the sounds, or one does not fit.
            ModelError: If the model gives no logits over time.
        """
        logits = self.logits(batch)
        wanted, length = self._transcripts(batch, logits)
        frames = torch.full_like(length, logits.shape[1])
        loss = functional.ctc_loss(
            logits.log_softmax(2).transpose(0, 1),
            wanted.clamp(min=0),
            frames,
            length,
            blank=self.blank,
            reduction="none",
        )
        with torch.no_grad():
            heard = (
                decoded(logits, self.blank)[:, : wanted.shape[1] + 1] == _ended(wanted, logits)
            ).all(1)
        quantity = 1 / (1 + loss / length.clamp(min=1)) - (~heard).to(loss.dtype)
        return torch.stack([quantity, torch.zeros_like(quantity)], dim=1)

    def _transcripts(self, batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transcripts and their lengths.

        Raises:
            DataError: If they are none, hold unknown symbols, or are too long for the frames.
        """
        wanted = batch.context.get(self.transcript)
        if wanted is None or wanted.dtype != torch.int64 or wanted.ndim != 2:
            raise DataError(
                f"context {self.transcript!r} is {describe(wanted)}; expected transcripts, 64-bit "
                "integers (batch, length), filled up by -1: Dataset(..., context={"
                f"{self.transcript!r}: ...}})"
            )
        there = wanted >= 0
        length = there.sum(1)
        odd = (wanted == self.blank) | (wanted >= logits.shape[2]) | (wanted < -1)
        odd[:, 1:] |= there[:, 1:] & ~there[:, :-1]
        again = (there[:, 1:] & (wanted[:, 1:] == wanted[:, :-1])).sum(1)
        most = int((length + again).max()) if wanted.numel() else 0
        if bool(odd.any()) or most > logits.shape[1]:
            raise DataError(
                f"a transcript does not fit: expected symbols 0..{logits.shape[2] - 1} but the blank "
                f"{self.blank}, then -1, and at most {logits.shape[1]} symbols and repeats, the number "
                f"of frames; the longest has {most}"
            )
        return wanted, length


def _ended(wanted: Tensor, logits: Tensor) -> Tensor:
    """Return transcripts with an end, so that a longer one is not taken for them."""
    ended = functional.pad(wanted, (0, 1), value=-1)
    return ended[:, : logits.shape[1]]


__all__ = ["HEARD", "NOT_HEARD", "Recogniser", "decoded", "recogniser"]
