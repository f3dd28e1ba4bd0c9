"""The rules of the verdicts: counts in, a ruling out; each monotone in each of its arguments.

More harm, or fewer examples at the same shares, never improves what a rule allows. Where the point
estimate is bad the finding stands against the model, however few the examples; where it is good but
the interval is too wide, the finding is open and says how many examples would do. The floors are
shares of *all* examples, since a share of what a model gets right improves when it gets less right.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from conjoin.attacks.diagnosis import Level
from conjoin.audit.finding import Bearing, Ruling, Verdict
from conjoin.audit.schema import Part
from conjoin.audit.statistics import clopper_pearson, enough

Share = Annotated[float, Field(ge=0, le=1)]
Correlation = Annotated[float, Field(ge=-1, le=1)]


class Rules(Part):
    """The thresholds, which a plan may replace; shares are of all examples.

    Attributes:
        least_examples: Below so many nothing is said for a model.
        attacked_floor: A share that withstands the attacks, at least.
        proved_floor: A share that is proved under one of the threats, at least.
        lost_ceiling: A share that is right, and wrong once the region is blanked: below this.
        blind_ceiling: A share where the attack saw no gradient, at most.
        stability_floor: Mean rank correlation of explanations that counts as stable.
        agreement_floor: Mean rank correlation of two methods below which they disagree: they then have
            less than its square of the variance of their ranks in common.
        sanity_ceiling: Mean rank correlation with the map of random weights, or of another class, from
            which a method does not notice: that of a map which counts as the same under noise.
        attacked_top_floor: Mean share of an explanation's top tenth that stays on top under attack,
            from which it counts as holding.
        required: Kinds of findings without which no model is trusted.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    least_examples: int = Field(default=100, ge=1)
    attacked_floor: Share = 0.25
    proved_floor: Share = 0.5
    lost_ceiling: Share = 0.1
    blind_ceiling: Share = 0.01
    stability_floor: Correlation = 0.5
    agreement_floor: Correlation = 0.25
    sanity_ceiling: Correlation = 0.5
    attacked_top_floor: Share = 0.5
    required: tuple[str, ...] = ("accuracy", "certified_accuracy")


def beats_guessing(hits: int, count: int, guess: float, alpha: float, rules: Rules) -> Ruling:
    """Is a model shown to be right more often than ``guess``, what ignoring the input achieves?"""
    if hits / count <= guess:
        return Ruling(Bearing.AGAINST, Verdict.GUESSING)
    low, _ = clopper_pearson(hits, count, alpha)
    least = enough(hits / count, guess, alpha)
    if low <= guess:
        return _too_few(least, rules)
    return _if_enough(Ruling(Bearing.FOR, Verdict.TRUST), count, least, rules)


def withstands(standing: int, count: int, alpha: float, rules: Rules) -> Ruling:
    """Do enough examples withstand the attacks under a threat? Nothing is proved if they do."""
    if standing / count < rules.attacked_floor:
        return Ruling(Bearing.AGAINST, Verdict.DO_NOT_TRUST)
    low, _ = clopper_pearson(standing, count, alpha)
    least = enough(standing / count, rules.attacked_floor, alpha)
    if low < rules.attacked_floor:
        return _too_few(least, rules)
    return _if_enough(Ruling(Bearing.OPEN, Verdict.TRUST), count, least, rules)


def proves(certified: int, count: int, alpha: float, rules: Rules) -> Ruling:
    """Are enough examples proved under a threat? Of several threats the best one counts."""
    low, _ = clopper_pearson(certified, count, alpha)
    least = enough(certified / count, rules.proved_floor, alpha)
    if low < rules.proved_floor:
        # That little is proved is no harm, and more examples need not mend it.
        return _if_enough(Ruling(Bearing.OPEN, Verdict.WITH_CARE, least), count, least, rules)
    return _if_enough(Ruling(Bearing.FOR, Verdict.TRUST), count, least, rules)


def relies(lost: int, count: int, alpha: float, rules: Rules) -> Ruling:
    """Does a model rely on the region: how many right answers are lost when it is blanked?"""
    if lost / count >= rules.lost_ceiling:
        return Ruling(Bearing.AGAINST, Verdict.DO_NOT_TRUST)
    _, high = clopper_pearson(lost, count, alpha)
    least = enough(1 - lost / count, 1 - rules.lost_ceiling, alpha)
    if high >= rules.lost_ceiling:
        return _too_few(least, rules)
    return _if_enough(Ruling(Bearing.FOR, Verdict.TRUST), count, least, rules)


def blind(vanishing: int, count: int, rules: Rules) -> Ruling:
    """Did the attack see no gradient on too many examples, so that it says nothing?

    By the point alone: an interval below one percent would ask for 368 examples.
    """
    if vanishing / count > rules.blind_ceiling:
        return Ruling(Bearing.AGAINST, Verdict.DO_NOT_TRUST)
    return Ruling(Bearing.OPEN, Verdict.TRUST)


def believed(level: Level) -> Ruling:
    """Can what the attacks left standing be believed? If it cannot, it is no evidence at all."""
    match level:
        case Level.RED:
            return Ruling(Bearing.AGAINST, Verdict.TOO_FEW)
        case Level.AMBER:
            return Ruling(Bearing.OPEN, Verdict.WITH_CARE)
        case Level.GREEN:
            return Ruling(Bearing.OPEN, Verdict.TRUST)


def stable(correlation: float, rules: Rules) -> Ruling:
    """Do explanations survive small changes? That is a heuristic, and never caps a verdict."""
    found = Bearing.FOR if correlation >= rules.stability_floor else Bearing.OPEN
    return Ruling(found, Verdict.TRUST)


def disagree(correlation: float, rules: Rules) -> Ruling | None:
    """Do two methods tell different things? That is evidence about both of them, and caps nothing."""
    return Ruling(Bearing.OPEN, Verdict.TRUST) if correlation < rules.agreement_floor else None


def unmoved(correlation: float, rules: Rules) -> Ruling | None:
    """Does a method give much the same map of what is another? That is evidence against the method."""
    return Ruling(Bearing.OPEN, Verdict.TRUST) if correlation >= rules.sanity_ceiling else None


def unmovable(top: float, rules: Rules) -> Ruling:
    """Do explanations withstand an attack on them? The answers stay, so it caps no verdict."""
    found = Bearing.FOR if top >= rules.attacked_top_floor else Bearing.OPEN
    return Ruling(found, Verdict.TRUST)


def _too_few(least: int | None, rules: Rules) -> Ruling:
    needed = None if least is None else max(least, rules.least_examples)
    return Ruling(Bearing.OPEN, Verdict.TOO_FEW, needed)


def _if_enough(ruling: Ruling, count: int, least: int | None, rules: Rules) -> Ruling:
    """Let a ruling stand if there are examples enough to say anything for a model."""
    if count >= rules.least_examples:
        return ruling
    return _too_few(least or rules.least_examples, rules)


__all__ = [
    "Rules",
    "beats_guessing",
    "believed",
    "blind",
    "disagree",
    "proves",
    "relies",
    "stable",
    "unmovable",
    "unmoved",
    "withstands",
]
