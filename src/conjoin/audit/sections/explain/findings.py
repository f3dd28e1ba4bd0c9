"""What the chapter finds: of a model, that its explanations are stable or not; of a method, that it
does not notice what it should; of two methods, that they disagree.

A method that draws the same map for random weights, or for another class, shows the input and not the
model. That is evidence against the *method*, on this model: it caps no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from conjoin.audit.finding import Bearing, Finding, plain
from conjoin.audit.rules import Rules, disagree, stable, unmoved
from conjoin.audit.sections.explain.agreement import REFERENCE, Agreement
from conjoin.audit.sections.explain.scores import Scored

Papers = Mapping[str, tuple[str, ...]]  # of methods and of metrics, by their text in the plan
UNMOVED = {
    "ModelRandomisation": (
        "weights_unnoticed",
        "{method} does not notice that the weights of `{{model}}` are gone: its maps and those of the "
        "same network with random weights have a rank correlation of {{correlation}} on average. They "
        "show the input rather than what was learnt.",
    ),
    "RandomLogit": (
        "class_unnoticed",
        "{method} hardly depends on which class of `{{model}}` it explains: its maps and those of "
        "another, random class have a rank correlation of {{correlation}} on average. They are no "
        "explanation of one answer rather than another.",
    ),
}
AGAINST_A_METHOD = (
    "Evidence against the method on this model, not against the model. That a method notices is no "
    "proof of it: random maps notice, too."
)


FLAT = 0.0  # exactly: the mean rank correlation of maps that are all constant, which have no ranks


def stability(model: str, one: Scored, rules: Rules, papers: Papers) -> Iterator[Finding]:
    """Say whether the explanation survives a change too small to matter; nothing of constant maps."""
    if one.mean.value == FLAT:
        return
    ruling = stable(one.mean.value, rules)
    text = {
        Bearing.FOR: "The explanations of `{model}` survive small random changes of the input: rank "
        "correlation {correlation} on average.",
        Bearing.OPEN: "The explanations of `{model}` change under small random changes of the "
        "input: rank correlation {correlation} on average. If the method is faithful, that is "
        "evidence about the model.",
    }
    yield Finding(
        kind="explanation_stability",
        model=model,
        ruling=ruling,
        text=text[ruling.bearing],
        numbers={"correlation": one.mean},
        method=f"{one.explanation}; {one.meaning}",
        references=_once(*papers[one.metric], *papers[one.explanation]),
        limits="Random changes, the least of a few draws: an attack on the explanation finds less.",
    )


def sanity(
    model: str, scores: Sequence[Scored], rules: Rules, papers: Papers, titles: Mapping[str, str]
) -> Iterator[Finding]:
    """Say of each method that fails a sanity check what it does not notice."""
    for one in scores:
        name = one.metric.split()[0]
        ruling = unmoved(one.mean.value, rules) if name in UNMOVED else None
        if ruling is not None:
            kind, text = UNMOVED[name]
            title = plain(titles[one.explanation])
            yield Finding(
                kind=kind,
                model=model,
                ruling=ruling,
                text=text.format(method=title[:1].upper() + title[1:]),
                numbers={"correlation": one.mean},
                method=f"{one.explanation}; {one.meaning}",
                references=_once(*papers[one.metric], *papers[one.explanation]),
                limits=AGAINST_A_METHOD,
            )


def disagreement(
    model: str,
    told: Sequence[Agreement],
    rules: Rules,
    papers: Papers,
    titles: Mapping[str, str],
) -> Iterator[Finding]:
    """Say which two methods disagree most, if any two do."""
    compared = [one for one in told if one.correlation.value != FLAT]
    apart = [one for one in compared if disagree(one.correlation.value, rules) is not None]
    if not apart:
        return
    worst = min(apart, key=lambda one: one.correlation.value)
    ruling = disagree(worst.correlation.value, rules)
    assert ruling is not None  # noqa: S101 - as for all of these
    one, other = (plain(titles[name]) for name in (worst.first, worst.second))
    more = f", the lowest of {len(apart)} such pairs" if len(apart) > 1 else ""
    yield Finding(
        kind="explanations_disagree",
        model=model,
        ruling=ruling,
        text=f"On `{{model}}` {one} and {other} disagree: rank correlation {{correlation}} on "
        f"average{more}. What the one shows is not what the other shows; neither alone is what the "
        "model looks at.",
        numbers={"correlation": worst.correlation},
        method=f"{worst.first}; {worst.second}; rank correlation over the elements of the input",
        references=_once(REFERENCE, *papers[worst.first], *papers[worst.second]),
        limits="Methods answer different questions: neither of two that disagree need be wrong.",
    )


def _once(*references: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(references))


__all__ = ["disagreement", "sanity", "stability"]
