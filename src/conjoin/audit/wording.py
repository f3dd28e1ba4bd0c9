"""Threats in plain words: what may change, how much, in what unit, and what stays as it is."""

from __future__ import annotations

import math

from torch import Tensor

from conjoin.audit.threats import OF_SPREAD, spreads
from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset, Kind, grouped
from conjoin.core.scaled import Scaled
from conjoin.core.substitution import Substitution
from conjoin.core.threat import Threat
from conjoin.data.texts import Texts

INPUT_UNITS = "input units"
TOKENS = "words"
MOST_NAMES = 4  # of columns that stay


def sentence(threat: Threat, data: Dataset | None = None) -> str:
    """Say in a plain clause what may change, and how much: no norm, no formula."""
    if isinstance(threat, Substitution):
        return _replaced(threat, data)
    if not isinstance(threat, Ball | Scaled):
        return f"what {threat} allows may change"
    if isinstance(threat.eps, Tensor):
        clause = "every example may change by a radius of its own"
    else:
        clause = _clause(threat.eps, threat, data)
    if isinstance(threat, Scaled) and _in_spreads(threat.scale, data):
        clause += " (a spread is from a column's least to its largest value)"
    return clause + _still(threat, data)


def _replaced(threat: Substitution, data: Dataset | None) -> str:
    """Say what words may be replaced by, and who vouches for that."""
    most = int(float(threat.budget)) if not isinstance(threat.budget, Tensor) else 0
    words = "one word" if most == 1 else f"up to {most} words"
    whole = f"{words} of a text may be replaced"
    have = int((threat.candidates >= 0).any(-1).sum())
    if not have:
        return (
            f"{whole}, each by one of the nearest of each model's own embedding: what this model takes "
            "for near, other models have others, and nobody vouches that they mean the same"
        )
    of = (
        f"; {have:,} of {len(threat.candidates):,} words have some"
        if threat.candidates.ndim == 2
        else ""
    )
    who = (data.vouched if isinstance(data, Texts) else "") or "whoever gave them"
    return (
        f"{whole}, each by one of the candidates of the word that stood there{of}. {who} vouches that "
        "they keep the meaning; words are not moved, added or left out"
    )


def _clause(eps: float, threat: Ball | Scaled, data: Dataset | None) -> str:
    one = _element(data)
    every = f"every {'other ' if threat.mask is not None else ''}{one}"
    if eps == 0 or not movable(threat):
        return "nothing may change"
    if math.isinf(eps):
        return f"{every} may change to anything in the range"
    if math.isinf(threat.order):
        return f"{every} may change by up to {_size(eps, threat, data)}"
    if threat.order == 1:
        whole = _size(eps, threat, data, most=math.inf)
        return f"all changes may add up to {whole}: that of one {one}, or a part each of several"
    clause = f"one {one} may change by up to {_size(eps, threat, data)}, or several by less"
    if data is None:
        return clause
    one_of = data.x[0]
    count = one_of.numel() if threat.mask is None else int(threat.mask[0].expand_as(one_of).sum())
    if count > 1:
        clause += f": all {count:,} by {_size(eps / math.sqrt(count), threat, data)} each"
    return clause


def movable(threat: Threat) -> bool:
    """Tell whether there is anything that may move at all."""
    mask = getattr(threat, "mask", None)
    return mask is None or bool(mask.any())


def unit(threat: Threat, data: Dataset | None) -> str:
    """Say in what eps is measured."""
    if isinstance(threat, Substitution):
        return TOKENS
    if not isinstance(threat, Scaled):
        return INPUT_UNITS
    return OF_SPREAD if _in_spreads(threat.scale, data) else "of a scale of its own"


def _in_spreads(scale: float | Tensor, data: Dataset | None) -> bool:
    columns = () if data is None else data.features
    return isinstance(scale, Tensor) and scale.flatten().tolist() == list(spreads(columns))


def _element(data: Dataset | None) -> str:
    """Name an element of the input."""
    if data is not None and data.features:
        return "column"
    return "pixel" if data is not None and data.x.ndim == 4 and data.x.shape[1] == 1 else "value"


def _size(eps: float, threat: Ball | Scaled, data: Dataset | None, most: float = 1.0) -> str:
    """Write a size in the unit that says most: a column's spread, the range, or none."""
    scale = threat.scale if isinstance(threat, Scaled) else 1.0
    if isinstance(scale, Tensor):
        return f"{_percent(eps)} of its {'spread' if _in_spreads(scale, data) else 'own scale'}"
    low, high = threat.bounds
    if isinstance(low, Tensor) or isinstance(high, Tensor) or not math.isfinite(high - low):
        return f"{eps * scale:.3g}"
    return f"{_percent(min(eps * scale / (high - low), most))} of the range"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _still(threat: Ball | Scaled, data: Dataset | None) -> str:
    """Say what stays as it is."""
    if threat.mask is None:
        return ""
    if data is None or not data.features:
        share = 1 - float(threat.mask.double().mean())
        return f"; {_percent(share)} of the input stays as it is"
    places = grouped(data.features)
    free = threat.mask[0].tolist()
    fixed = [name for name, own in places.items() if not any(free[k] for k in own)]
    kinds = {name: data.features[own[0]] for name, own in places.items()}
    open_ = [n for n in fixed if not kinds[n].immutable and kinds[n].kind is Kind.CATEGORICAL]
    if open_ and len(fixed) > MOST_NAMES:  # what nobody can change has a name, categories a number
        named = ", ".join(n for n in fixed if n not in open_)
        told = [*([named] if named else []), f"{len(open_)} categories"]
        return f"; {' and '.join(told)}: as they are"
    return f"; {', '.join(fixed)}: as {'they are' if len(fixed) > 1 else 'it is'}" if fixed else ""


__all__ = ["INPUT_UNITS", "TOKENS", "movable", "sentence", "unit"]
