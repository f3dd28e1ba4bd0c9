"""What a sweep's numbers say of a model, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict, plain
from conjoin.audit.plan import Plan
from conjoin.audit.rules import blind, proves, withstands
from conjoin.audit.sections.robustness.record import NEAREST, Record, UnderThreat, best_of
from conjoin.audit.terms import NEURAL, RISK, Term
from conjoin.core.evidence import Claim

NO_CAP = Ruling(Bearing.OPEN, Verdict.TRUST)
UNVOUCHED = (
    " Near in the embedding of this model is not alike in meaning, and nobody vouches for it: so it "
    "caps no verdict."
)
COVERS = {
    Claim.SOUND_DEPLOYED.value: ", also as the network is computed in its own precision, in any order "
    "of summation (not by Winograd, FFT or TF32 kernels)",
    Claim.SOUND_REAL.value: " in real arithmetic; rounding of the deployed network is not covered",
    "": "",
}


def findings(model: str, record: Record, plan: Plan, papers: Papers) -> Iterator[Finding]:
    """State what attacks left standing, what is proved, and whether the attacks saw anything."""
    for under in record.threats:
        yield _attacked(model, record, under, plan, papers)
    most = max((u.proved for u in record.threats), default=0)
    best = next((u.threat for u in record.threats if u.proved == most), None)
    for under in record.threats:
        yield _proved(model, record, under, plan, papers, deciding=under.threat == best)
    if record.blind and any(under.standing for under in record.threats):
        yield _blind(model, record, plan, papers)


class Papers:
    """The papers of what attacked, of what proved, and of what asked for the gradient."""

    def __init__(
        self,
        attack: tuple[str, ...],
        certifiers: dict[str, tuple[str, ...]],
        gradient: str,
        queried: tuple[str, ...] = (),
    ) -> None:
        self.attack, self.queried = attack, queried
        self.certifiers, self.gradient = certifiers, gradient

    def of(self, certifiers: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the certifiers that were used, each once."""
        found = (paper for name in certifiers for paper in self.certifiers.get(name, ()))
        return tuple(dict.fromkeys(found))


def _attacked(
    model: str, record: Record, under: UnderThreat, plan: Plan, papers: Papers
) -> Finding:
    ruling = withstands(under.standing, under.count, plan.alpha, plan.rules)
    ruling = NO_CAP if under.norm == NEAREST else ruling
    some = plain(under.changes)
    text = f"Attacks by {some} leave `{{model}}` right on at most {{robust}} of the examples."
    limits = "An upper bound: a stronger attack can only lower it."
    if record.queried:
        gives = "labels" if record.labelled else "outputs"
        text += f" It gives {gives} and no gradient, so it was attacked by queries alone."
        limits = (
            "An upper bound by queries alone, which is weaker than one along gradients: a stronger "
            "attack can only lower it, and may well."
        )
    if ruling.enough is not None:
        text += f" {_few(under.count, ruling)}"
    return Finding(
        kind="attacked_accuracy",
        model=model,
        ruling=ruling,
        text=text,
        numbers={"robust": under.robust},
        method=record.attack,
        references=papers.queried if record.queried else papers.attack,
        limits=limits + UNVOUCHED * (ruling is NO_CAP),
    )


def _proved(
    model: str, record: Record, under: UnderThreat, plan: Plan, papers: Papers, *, deciding: bool
) -> Finding:
    ruling = proves(under.proved, under.count, plan.alpha, plan.rules) if deciding else NO_CAP
    some = plain(under.changes)
    if not record.certifiers:
        why = plain("; ".join(f"{name}: {said}" for name, said in record.refused.items()))
        text = f"Nothing is proved of `{{model}}` under {some}: {why or 'no certifier was asked'}"
    elif under.proved == 0:
        text = (
            f"Nothing is proved of `{{model}}` under {some}: its accuracy there lies between 0 % and "
            "{robust}."
        )
    else:
        text = (
            f"Whatever the attack, `{{model}}` stays right on at least {{certified}} under {some}, and "
            "on at most {robust}: {gap} are open."
        )
    if ruling.enough is not None:
        text += f" {_few(under.count, ruling)}"
    return Finding(
        kind="certified_accuracy",
        model=model,
        ruling=ruling,
        text=text,
        numbers={"certified": under.certified, "robust": under.robust, "gap": under.gap},
        method=best_of(record.certifiers),
        references=papers.of(record.certifiers),
        limits="Proved for these examples and this set of changes, for the stored weights"
        f"{COVERS[under.claim]}. That nothing is proved does not mean that the model is not robust.",
    )


def _blind(model: str, record: Record, plan: Plan, papers: Papers) -> Finding:
    assert record.vanishing is not None  # noqa: S101 - some vanish
    return Finding(
        kind="vanishing_gradient",
        model=model,
        ruling=blind(record.blind, record.count, plan.rules),
        text="The gradient of `{model}` vanishes on {vanishing} of the examples: attacks by gradients "
        "are blind there, and what they left standing may be far too much.",
        numbers={"vanishing": record.vanishing},
        method="the gradient of the margin at each example",
        references=(papers.gradient,),
        limits="Where the gradient does not vanish it may still mislead an attack.",
    )


def terms(records: Iterable[Record]) -> Iterator[Term]:
    """Say what the numbers are evidence towards: proofs only where there are some."""
    told = list(records)
    proved = any(record.certifiers for record in told)
    fooled = any(u.median_distance is not None for record in told for u in record.threats)
    shares = "robust accuracy under attack" + " and certified accuracy" * proved
    sizes = ["the smallest adversarial distance found"] * fooled + ["the certified radius"] * proved
    yield Term(NEURAL, "stability", f"{shares}, for each set of changes")
    if sizes:
        yield Term(NEURAL, "sensitivity", " and ".join(sizes))
    if proved:
        yield Term(NEURAL, "reachability", "proved bounds of the margin; of no other output")
    yield Term(RISK, "MEASURE 2.7, secure and resilient", shares)


def _few(count: int, ruling: Ruling) -> str:
    return f"{count} examples are few for that: {ruling.enough} would decide, at the same share."


__all__ = ["COVERS", "Papers", "findings", "terms"]
