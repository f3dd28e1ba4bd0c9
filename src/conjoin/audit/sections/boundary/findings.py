"""What the chapter finds: that maps can be moved while the answers stay, or are proved not to.

The same method on another model tells whose fault it is. Where it holds on one network and not on
the other, the map that moves is evidence about the *model*: its gradient does turn there. It caps no
verdict: a model may answer rightly for reasons that nobody can read off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict, plain
from conjoin.audit.references import references_of
from conjoin.audit.rules import Rules, unmovable
from conjoin.audit.sections.boundary.record import Moved, Proved, Record
from conjoin.metrics.attacked import DESCENT, AttackedStability
from conjoin.metrics.certified import REFERENCES

PAPERS = (AttackedStability.reference, references_of((DESCENT,))[0])
UPPER = "Upper bounds of the stability: a stronger attack may move a map further."


def movable(
    records: Mapping[str, Record], rules: Rules, titles: Mapping[str, str]
) -> Iterator[Finding]:
    """Say of each model how far the first explanation is moved, and what it does on the others."""
    for model, record in records.items():
        if record.moved:
            one = record.moved[0]
            others = {
                name: other.moved[0]
                for name, other in records.items()
                if name != model and other.moved and _same(other.moved[0], one)
            }
            yield _movable(model, one, others, rules, titles[one.explanation])


def _same(one: Moved, other: Moved) -> bool:
    return (one.explanation, one.threat) == (other.explanation, other.threat)


def _movable(
    model: str, one: Moved, others: Mapping[str, Moved], rules: Rules, title: str
) -> Finding:
    ruling = unmovable(one.top.value, rules)
    threat = _within(one)
    numbers = {"cosine": one.cosine, "top": one.top}
    if ruling.bearing is Bearing.FOR:
        text = (
            f"The explanations of `{{model}}` withstand an attack: {threat}, its answers unchanged, "
            f"{{top}} of the top tenth of {title} stays on top (cosine {{cosine}})."
        )
    else:
        text = (
            f"The explanations of `{{model}}` do not withstand an attack: {threat}, its answers "
            f"unchanged, only {{top}} of the top tenth of {title} stays on top (cosine {{cosine}})."
        )
        stable = [name for name, o in others.items() if o.top.value >= rules.attacked_top_floor]
        if stable:
            best = max(stable, key=lambda name: others[name].top.value)
            numbers["other"] = others[best].top
            text += (
                f" On `{plain(best)}` the same method keeps {{other}} against the same attack: that is "
                "evidence about the model, not about the method."
            )
    return Finding(
        kind="explanation_attacked",
        model=model,
        ruling=ruling,
        text=text,
        numbers=numbers,
        method=f"{one.explanation}, attacked; mean of {one.count} examples",
        references=PAPERS,
        limits=UPPER,
    )


def _within(one: Moved | Proved) -> str:
    """Say in which set, and how much of it where that is not all."""
    share = f" (eps {one.eps:g})" if one.part < 1 else ""
    return f"within {plain(one.threat)}{share}"


def certified(model: str, one: Proved, alpha: float) -> Iterator[Finding]:
    """Say on how many examples prediction and explanation are proved together, if on any."""
    if one.joint.value > 0:
        yield Finding(
            kind="explanation_certified",
            model=model,
            ruling=Ruling(Bearing.FOR, Verdict.TRUST),
            text="On {joint} of the examples the answer of `{model}` and its SmoothGrad are both "
            f"proved to stand, {_within(one)}: the cosine of the map stays above 0, and at {{cosine}} "
            "on average.",
            numbers={"joint": one.joint, "cosine": one.cosine},
            method=f"Lipschitz constant; concentration, failing with probability {alpha:g} an example",
            references=REFERENCES,
            limits="SmoothGrad of that noise is another explanation than the gradient.",
        )


__all__ = ["PAPERS", "certified", "movable"]
