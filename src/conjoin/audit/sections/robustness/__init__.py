"""Robustness: how far does a model's right answer hold, by attack and by proof?

For each threat an attack leaves some examples standing, an *upper* bound of the accuracy there; a
certificate proves some, a *lower* bound. The truth lies between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Annotated, Any

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from conjoin.attacks import Closest
from conjoin.attribution import saliency
from conjoin.audit.columns import Columns
from conjoin.audit.finding import Finding
from conjoin.audit.methods import Method, context_of
from conjoin.audit.page import fragment
from conjoin.audit.pictures import chart
from conjoin.audit.plan import Plan
from conjoin.audit.references import references_of
from conjoin.audit.section import Cell, Records, Tensors
from conjoin.audit.sections.robustness import attacked
from conjoin.audit.sections.robustness.claims import Papers, findings, terms
from conjoin.audit.sections.robustness.record import NEAREST, Found, Record, Size, under
from conjoin.audit.sections.robustness.sweep import Sweep, applies, gradient, robustness
from conjoin.audit.statistics import share
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import Term
from conjoin.audit.threats import need_numbers
from conjoin.audit.tokens import for_model
from conjoin.audit.wording import movable, sentence, unit
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.core.protocols import Attack, Certifier
from conjoin.core.quantity import log_likelihood, margin
from conjoin.core.substitution import Substitution
from conjoin.core.threat import Graded, Threat
from conjoin.errors import CapabilityError, PlanError

HERE = "conjoin.audit.sections.robustness"
GRADIENT = "gradient"  # the key of the tasks that look at it
PROOF = "proof by "  # the keys of the tasks that ask whether a certifier applies
PGD = {"steps": 20, "step_size": 0.2}
Methods = tuple[Method[Certifier], ...]
ON_TOKENS: dict[str, Any] = {  # by outputs alone: any model of words will do
    "attack": Method.of(Attack, "Greedy"),
    "search": Method.of(Attack, "Greedy"),
    "certify": (),
}


class Settings(BaseModel):
    """How to attack and to certify.

    Attributes:
        attack: At each threat's radius, whose robust accuracy is reported, and at the largest one.
        search: A cheaper one that looks for inputs nearer than those found.
        queried: In place of ``attack`` where that does not apply, as to a model without gradients.
        queried_search: In place of ``search``, then.
        certify: What is tried; the best bound counts.
        reach: How far the curves go, as a multiple of each threat's radius.
        rounds: Attacks per example beyond the first, each halving the interval in which its nearest
            adversarial input is sought.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    attack: Method[Attack] = Method.of(
        Attack,
        "WorstOf",
        attacks=[{"name": "PGD", "surrogate": log_likelihood, **PGD}, {"name": "PGD", **PGD}],
    )
    search: Method[Attack] = Method.of(Attack, "PGD", **PGD)
    queried: Method[Attack] = Method.of(Attack, "BlackBox")
    queried_search: Method[Attack] = Method.of(
        Attack, "BlackBox", queries=200, samples=50, rounds=4, directions=20
    )
    certify: Methods = (Method.of(Certifier, "Lipschitz"), Method.of(Certifier, "Interval"))
    reach: Annotated[float, Field(ge=1)] = 2.0
    rounds: Annotated[int, Field(ge=0)] = 5

    def on(self, data: Dataset) -> Settings:
        """Return the settings for these data: of texts, attacks that replace words."""
        if data.x.is_floating_point():
            return self
        left = {key: said for key, said in ON_TOKENS.items() if key not in self.model_fields_set}
        return self.model_copy(update=left)


def _asset(name: str) -> str:
    return resources.files(HERE).joinpath(name).read_text("utf-8")


class Robustness:
    """The section."""

    name = "robustness"
    title = "How far they hold"
    needs: tuple[type, ...] = ()  # the attack says what it needs: some need no gradient
    Settings: type[BaseModel] = Settings
    after = ("accuracy",)
    style = _asset("style.css")
    script = _asset("script.js")
    limits = (
        "Accuracy under attack is an upper bound: it counts what one attack with one budget left "
        "standing. A stronger attack can only lower it.",
        "A model that gives no gradient is attacked by queries alone, which find less: its upper bound "
        "is weaker than one found along gradients, and the two are not to be compared.",
        "Certified accuracy is a lower bound and says nothing where it is low: the bounds are loose "
        "for networks that were not trained for them.",
        "Both bounds concern the stated sets of changes only: not other norms, larger changes, "
        "rotations, occlusions, other data or a shift of the distribution. Changes of precision and "
        "preprocessing outside the model are not covered.",
    )

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Sweep each threat; look at the gradient; ask each certifier whether it applies."""
        settings = plan.of(self.name, Settings)
        context = context_of(plan, shard.data)
        certifiers = tuple(method.build(context) for method in settings.certify)
        for name, threat in _threats(plan, subject, shard.data).items():
            if not isinstance(threat, Graded):
                raise PlanError(f"{name} has no radius; expected e.g. linf:8/255")
            if not movable(threat):
                raise CapabilityError(
                    "no column of these data can move by degrees: all are categories, immutable or of "
                    "one value"
                )
            sweep = Sweep(
                name=name,
                threat=threat,
                first=settings.attack.build(context),
                search=settings.search.build(context),
                queried=(
                    settings.queried.build(context),
                    settings.queried_search.build(context),
                ),
                certifiers=certifiers,
                reach=settings.reach,
                rounds=settings.rounds,
                seed=plan.seed,
            )
            yield Task(robustness, (subject, shard, sweep), key=name, weight=12)
        if shard.data.x.is_floating_point():  # at words there is none
            yield Task(gradient, (subject, shard), key=GRADIENT, weight=0.2)
        if shard.number == 0:
            threat = next(iter(_threats(plan, subject, shard.data).values()))
            for name, method in zip(names(settings.certify), certifiers, strict=True):
                yield Task(applies, (subject, shard, method, threat), key=PROOF + name, weight=0.2)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Count what stands and what is proved."""
        plan, refused = columns.plan, columns.lacking()
        settings = plan.of(self.name, Settings)
        refused = {n: refused[PROOF + n] for n in names(settings.certify) if PROOF + n in refused}
        used = tuple(n for n in names(settings.certify) if n not in refused)
        made = {name: columns.at(name) for name in columns.plan.balls(data)}
        queried = any(bool(own["queried"].any()) for own in made.values())
        labelled = all(bool(own["labelled"].all()) for own in made.values())
        attack = _told(settings, queried=queried)
        threats = tuple(
            under(name, found, attack, used, plan.alpha)
            for name, found in _found(columns, data).items()
        )
        numbers = data.x.is_floating_point()  # words have no gradient
        seen = numbers and GRADIENT not in columns.lacking()
        blind = int(columns.at(GRADIENT)["vanishing"].sum()) if seen else 0
        vanishing = share(blind, len(data), plan.alpha, Evidence.statistical(plan.alpha))
        return Record(
            threats=threats,
            vanishing=vanishing if seen else None,
            blind=blind,
            count=len(data),
            attack=attack,
            queried=queried,
            labelled=labelled,
            certifiers=used,
            refused=refused,
        )

    def joined(self, record: Record, others: Mapping[str, Any], /) -> Record:
        """Put the verdict of the diagnosis beside each robust accuracy, if there was one."""
        found = others.get("diagnosis")
        told = {} if found is None else {one.threat: one for one in found.threats}
        threats = tuple(
            u.told(told[u.threat].verdict, told[u.threat].reasons) if u.threat in told else u
            for u in record.threats
        )
        return record.model_copy(update={"threats": threats})

    def rows(
        self, columns: Columns, data: Dataset, /
    ) -> Callable[[Mapping[str, Tensor]], Mapping[str, Sequence[object]]]:
        """Add to each row its verdict, the reason, and the evidence of its numbers."""
        threat = columns.plan.balls(data).get(columns.key)
        if threat is None:
            return lambda made: {}
        settings = columns.plan.of(self.name, Settings)
        refused = columns.lacking()
        used = [n for n in names(settings.certify) if PROOF + n not in refused]
        size = _size(threat, settings, data)

        def told(made: Mapping[str, Tensor]) -> Mapping[str, Sequence[object]]:
            attack = _told(settings, queried=bool(made["queried"].any()))
            return Found.read(made, size).rows(attack, used)

        return told

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say what stands, what is proved, and whether the attacks saw anything."""
        settings = records.plan.of(self.name, Settings)
        context = context_of(records.plan, records.data)
        numbers = records.data.x.is_floating_point()
        ways = (settings.attack, settings.search), (settings.queried, settings.queried_search)
        built = [(first.build(context), search.build(context)) for first, search in ways]
        along, queried = (
            references_of((Closest(first) if numbers else first, search)) for first, search in built
        )
        papers = Papers(
            along,
            {
                name: references_of(method.build(context))
                for name, method in zip(names(settings.certify), settings.certify, strict=True)
            },
            saliency(quantity=margin).reference,
            queried,
        )
        for model, record in records.items():
            yield from findings(model, record, records.plan, papers)

    def cells(self, record: Record, /) -> Iterable[Cell]:
        """Show both bounds under each threat."""
        for found in record.threats:
            yield Cell(f"robust, {found.threat}", found.certified, found.robust)

    def opening(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show one attack that succeeded."""
        chosen = attacked.opening(attacked.examples(records, tensors))
        if chosen is None:
            return Markup("")
        return fragment(HERE, "opening.html.j2", example=chosen[0], row=chosen[1])

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what the bounds are evidence towards."""
        yield from terms(records.values())

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show the sets of changes, the curves and every attack."""
        if not records:
            return Markup("")
        plan, data = records.plan, records.data
        one = data.select([next(iter(records.shown), 0)])
        first = next(iter(records.values()))
        shown = attacked.examples(records, tensors)
        open_ = attacked.opening(shown)
        return fragment(
            HERE,
            "fragment.html.j2",
            records=records,
            sizes=[
                (u, sentence(threat, one), attacked.change_of_that_size(one, threat, plan.bounds))
                for u, threat in zip(first.threats, plan.balls(data).values(), strict=True)
            ],
            charts={
                (model, u.threat): chart.band(u.curve.eps, u.curve.attacked, u.curve.certified)
                for model, record in records.items()
                for u in record.threats
            },
            width=chart.WIDTH,
            height=chart.HEIGHT,
            examples=shown,
            unfolded=open_[0].id if open_ else next((e.id for e in shown), ""),
        )


def _threats(plan: Plan, subject: Subject, data: Dataset) -> dict[str, Threat]:
    """Return the threats by their text, with what they take from the model.

    Raises:
        CapabilityError: If numbers are to move and these are words, or the model has no embedding.
    """
    found = plan.balls(data)
    for name, threat in found.items():
        if not isinstance(threat, Substitution):
            need_numbers(data)
        found[name] = for_model(name, threat, subject.model, data)
    return found


def names(certifiers: Methods) -> tuple[str, ...]:
    """Name each certifier; its parameters tell it from another of the same name."""
    return tuple(str(method) for method in certifiers)


def _told(settings: Settings, *, queried: bool) -> str:
    if queried:
        ways = f"{settings.queried}, then {settings.queried_search} for what is nearer"
        return f"by queries alone: {ways}"
    return f"{settings.attack}, then {settings.search} for what is nearer"


def _found(columns: Columns, data: Dataset) -> dict[str, Found]:
    settings = columns.plan.of(Robustness.name, Settings)
    return {
        name: Found.read(columns.at(name), _size(threat, settings, data))
        for name, threat in columns.plan.balls(data).items()
    }


def _size(threat: Threat, settings: Settings, data: Dataset) -> Size:
    assert isinstance(threat, Graded)  # noqa: S101 - as its tasks saw to
    one = data.select([0]).x
    eps = float(threat.radius(one)[0])
    largest = float(one.new_tensor(eps * settings.reach))
    return Size(_norm(threat), eps, largest, unit(threat, data))


def _norm(threat: Threat) -> str:
    """Name the kind of change; words that the data give are vouched for, those of a model are not."""
    if isinstance(threat, Substitution):
        return "word" if bool((threat.candidates >= 0).any()) else NEAREST
    return str(getattr(threat, "name", threat))


__all__ = ["Record", "Robustness", "Settings"]
