"""What the drivers return: frozen tensors, their provenance, and the class of their evidence.

A result is batch-first, its type never depends on an argument, it prints as one line (as a table in a
notebook), and it can be saved: safetensors with the provenance as JSON in the header. Nothing is
pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from conjoin.core.evidence import (
    NOT_DIAGNOSED,
    Evidence,
    Judgement,
    Provenance,
    Verdict,
)
from conjoin.core.files import load_tensors, save_tensors
from conjoin.core.shades import strip
from conjoin.errors import DataError, SoundnessError
from conjoin.typing import Flags, Hidden, Inputs, PerExample

R = TypeVar("R", bound="Result")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Base of the drivers' results: tensors, and one provenance."""

    provenance: Provenance

    @property
    def evidence(self) -> Evidence:
        """How strong the numbers of this result are."""
        return Evidence.heuristic(self.provenance.method)

    def __repr__(self) -> str:
        """Say in one line what came out, by what, against what, from which seed."""
        story = self.provenance
        told = [_one_line(part) for part in (story.method, story.threat) if part]
        return (
            f"{type(self).__name__}({self._outcome()}; {', '.join([*told, f'seed {story.seed}'])})"
        )

    def _repr_html_(self) -> str:
        """Show the provenance and the range of each number per example, as a table."""
        rows = "".join(_row(name, value) for name, value in self._facts().items())
        ranges = "".join(
            _row(name, _range(t)) for name, t in self._tensors().items() if t.ndim == 1
        )
        title = escape(type(self).__name__)
        caption = f"<caption>{title}: {escape(self._outcome())}</caption>"
        return f"<table>{caption}{rows}{ranges}</table>{self._picture()}"

    def _picture(self) -> str:
        """Return what there is to see, as HTML."""
        return ""

    def save(self, path: Path | str) -> None:
        """Write the result to one safetensors file, atomically; equal results give equal bytes."""
        # One key: the order in which safetensors writes several changes from call to call.
        story = {"kind": type(self).__name__, "provenance": asdict(self.provenance)}
        header = {"conjoin": json.dumps(story, sort_keys=True)}  # -Infinity is read back as it is
        save_tensors(self._tensors(), Path(path), header)

    @classmethod
    def load(cls: type[R], path: Path | str) -> R:
        """Read a result of this type from a safetensors file.

        Raises:
            DataError: If the file is missing, is not safetensors, or holds another kind of result.
        """
        tensors, header = load_tensors(Path(path))
        try:
            kind, story = _read_story(header)
            if kind == cls.__name__:
                return cls.of(Provenance.read(story), tensors)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise DataError(
                f"{path} holds no {cls.__name__} that this version can read: {error}; make it again"
            ) from error
        raise DataError(
            f"{path} holds a {kind or 'file of another program'}; expected {cls.__name__}"
        )

    @classmethod
    def of(cls: type[R], provenance: Provenance, columns: Mapping[str, Tensor]) -> R:
        """Make one of its columns."""
        return cls(provenance=provenance, **columns)

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "provenance"}

    def _outcome(self) -> str:
        """Say what came out, in a few words."""
        first = next(iter(self._tensors().values()))
        return f"{len(first)} examples"

    def _facts(self) -> dict[str, str]:
        """Return how it came about, by name; what is empty is left out."""
        story, evidence = self.provenance, self.evidence
        facts = {
            "evidence": f"{evidence.kind}" + (f" ({story.claim})" if story.claim else ""),
            "method": story.method,
            "reference": story.reference,
            "threat": story.threat,
            "quantity": story.quantity,
            "seed": str(story.seed),
            "verdict": "; ".join(part for part in (story.verdict, *story.reasons) if part),
            "passed over": "; ".join(story.passed_over),
            "passes": f"{story.forward} forward, {story.backward} backward{_shared(story)}",
            "seconds": f"{story.seconds:.3g}",
            "weights": story.weights[:12],
            "data": story.data[:12],
        }
        return {name: _one_line(value, 200) for name, value in facts.items() if value}


def _one_line(text: str, longest: int = 80) -> str:
    """Fold a text to one line; tensors print on many."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _shared(story: Provenance) -> str:
    return f", for {len(story.shared)} quantities together" if story.shared else ""


def _row(name: str, value: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"


def _range(column: Tensor) -> str:
    """Say how a number, a flag or a class is spread over the examples."""
    if column.dtype == torch.bool:
        return f"{int(column.sum())} of {len(column)}"
    if not column.is_floating_point():
        return f"{len(column.unique())} different"
    known = column[~column.isnan()]
    if not len(known):
        return "not known"
    least, middle, most = (float(v) for v in (known.min(), known.median(), known.max()))
    return f"{least:.4g} to {most:.4g}, median {middle:.4g}"


def _read_story(header: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return kind and provenance, from the one key of today or from the two of version 0.1."""
    if "conjoin" in header:
        story = json.loads(header["conjoin"])
        return story.get("kind", ""), story.get("provenance", {})
    return header.get("kind", ""), json.loads(header.get("provenance", "{}"))


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult(Result):
    """The worst inputs an attack found.

    Attributes:
        inputs: Shape of the data; the clean input where nothing worse was found.
        value: The quantity there, recomputed in a fresh pass; never above ``clean``.
        clean: The quantity at the clean inputs.
        success: Where ``value`` is at or below the quantity's goal: an empirical fact, an *upper*
            bound on robustness.
        distance: Between inputs and x as the threat measures it, in input units.
    """

    inputs: Inputs
    value: PerExample
    clean: PerExample
    success: Flags
    distance: PerExample

    @property
    def evidence(self) -> Evidence:
        """Empirical: what this attack found."""
        return Evidence.empirical(self.provenance.method)

    def _outcome(self) -> str:
        told = f"{int(self.success.sum())} of {len(self.success)} reached the goal"
        return f"{told}; {self.verdict}"

    @property
    def verdict(self) -> str:
        """Whether what was left standing can be believed: a colour, or that nobody asked."""
        return self.provenance.verdict or NOT_DIAGNOSED

    def robust_accuracy(self, eps: float) -> float:
        """Return the share of examples for which no input that wins is known within ``eps``.

        An *upper* bound of the robust accuracy at this radius, in the threat's units, as the distances
        are: one run of a minimum-norm attack under a large radius gives the whole curve. An attack that
        does not look for the nearest input gives a looser bound below its own radius.

        Raises:
            DataError: If ``eps`` is negative or NaN.
        """
        if not eps >= 0:
            raise DataError(f"eps must be >= 0; got {eps!r}")
        return float((~self.success | (self.distance > eps)).double().mean())

    def rows(self, keep: Tensor) -> AttackResult:
        """Return what was found of some of the examples."""
        kept = {name: value[keep] for name, value in self._tensors().items()}
        return AttackResult(self.provenance, **kept)

    def judged(self) -> tuple[Judgement, ...]:
        """Return what is known of each example: falsified, or unknown."""
        return tuple(
            Judgement(Verdict.FALSIFIED, f"{self.provenance.method} found an input")
            if fell
            else Judgement(Verdict.UNKNOWN, f"{self.provenance.method} found nothing")
            for fell in self.success.tolist()
        )


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(Result):
    """Proved lower bounds of the quantity over S(x); ``provenance.claim`` says of what network.

    Attributes:
        lower: A lower bound of the minimum over S(x), per example; may be -inf (nothing proved).
        clean: The quantity at the clean inputs; never below ``lower``.
        certified: Where ``lower`` is above the quantity's goal, strictly.
        radius: A radius of the threat within which the quantity is proved to stay above its goal,
            in input units; 0 where nothing is proved.
        settled: Where ``radius`` is the largest that the method can prove, by a closed form;
            elsewhere it is the threat's radius or 0, and bisection may raise it.
    """

    lower: PerExample
    clean: PerExample
    certified: Flags
    radius: PerExample
    settled: Flags

    @property
    def evidence(self) -> Evidence:
        """Certified, by this method and with this claim."""
        return Evidence.certified(f"{self.provenance.method}, {self.provenance.claim}")

    def _outcome(self) -> str:
        proved = f"{int(self.certified.sum())} of {len(self.certified)} certified"
        return f"{proved}, {self.provenance.claim}" if self.provenance.claim else proved

    def judged(self, attacked: AttackResult | None = None) -> tuple[Judgement, ...]:
        """Return what is known of each example, from the certificate and from an attack on it.

        Raises:
            SoundnessError: If the attack contradicts the certificate.
            DataError: If the attack was on other data, or under another threat or quantity.
        """
        for field_ in ("data", "threat", "quantity") if attacked else ():
            mine, other = (getattr(r.provenance, field_) for r in (self, attacked) if r)
            if mine != other:
                raise DataError(f"certificate and attack differ in {field_}: {mine} and {other}")
        fell = self.clean <= self.provenance.goal
        if attacked is not None:
            fell = fell | attacked.success
        if bool((fell & self.certified).any()):
            places = (fell & self.certified).nonzero()[:5, 0].tolist()
            raise SoundnessError(
                f"an attack won at examples {places}, which {self.provenance.method} had certified: "
                "the certificate is wrong for this model"
            )
        return tuple(map(self._judgement, self.certified.tolist(), fell.tolist()))

    def _judgement(self, certified: bool, fell: bool) -> Judgement:
        story = self.provenance
        if certified:
            return Judgement(Verdict.CERTIFIED, f"{story.method} ({story.claim})")
        if fell:
            return Judgement(Verdict.FALSIFIED, "an input in the set is known to win")
        return Judgement(Verdict.UNKNOWN, f"{story.method} does not prove it; nothing refutes it")


def at_cut(place: int, name: str) -> str:
    """Name the column of an attribution at one of its cuts: files do not keep an order."""
    return f"{_AT}{place} {name}"


_AT = "at "


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Result):
    """An explanation.

    Attributes:
        layers: The values at each cut that was explained, by its name; shaped like the activation
            there; signed.
        target: The class that was explained, per example.
        gap: Sum of the values at the first cut minus the change of the quantity they should add up to,
            in units of the quantity; NaN for methods that promise no completeness.
        error: How far the values are estimated to be from the limit of their method, relative to their
            norm, the largest over the cuts; NaN if nothing was estimated. No guarantee.
    """

    layers: Mapping[str, Hidden]
    target: Tensor
    gap: PerExample
    error: PerExample

    @property
    def values(self) -> Hidden:
        """The values at the first cut, which is the only one unless several were asked for."""
        return next(iter(self.layers.values()))

    @classmethod
    def of(cls, provenance: Provenance, columns: Mapping[str, Tensor]) -> Attribution:
        """Make one of its columns."""
        rest = {key: column for key, column in columns.items() if not key.startswith(_AT)}
        told = [key.split(" ", 2) for key in columns if key.startswith(_AT)]
        ordered = sorted((int(place), name) for _, place, name in told)
        layers = {name: columns[at_cut(place, name)] for place, name in ordered}
        if not layers:  # of version 0.1
            layers = {"values": rest.pop("values")}
        rest.setdefault("error", torch.full_like(rest["gap"], torch.nan))
        return cls(provenance, MappingProxyType(layers), **rest)

    def _tensors(self) -> dict[str, Tensor]:
        own = {at_cut(k, name): values for k, (name, values) in enumerate(self.layers.items())}
        return own | {"target": self.target, "gap": self.gap, "error": self.error}

    def _picture(self) -> str:
        drawn = strip(self.values)
        if drawn is None:
            return ""
        address, scale = drawn
        words = f"the first maps: orange for, purple against, full colour at ±{scale:.2g}"
        return (
            f'<figure><img src="{address}" alt="{words}"><figcaption>{words}</figcaption></figure>'
        )

    def _outcome(self) -> str:
        shapes = [f"{name} {tuple(v.shape[1:])}" for name, v in self.layers.items()]
        first = f"shape {tuple(self.values.shape[1:])}" if len(shapes) == 1 else ", ".join(shapes)
        return f"{len(self.values)} explanations of {first}"


@dataclass(frozen=True, eq=False, repr=False)
class Score(Result):
    """One number per example; see the metric for its range and sign."""

    values: PerExample

    def _outcome(self) -> str:
        return f"{len(self.values)} scores, mean {float(self.values.mean()):.4g}"


__all__ = [
    "AttackResult",
    "Attribution",
    "Certificate",
    "Result",
    "Score",
]
