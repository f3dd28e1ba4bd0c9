"""The audit: a plan becomes results.

For each model and threat: attack (upper bound), certify (lower bound), cross-check the two; for a
seeded choice of examples: explain and score. Each step is a unit of work in the run folder, so that
an interruption loses at most the unit in hand; what comes out is the same for any batch size.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conjoin.attacks import Closest
from conjoin.attribution import (
    Influence,
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.certification import BestOf, Interval, Lipschitz, certified_radius
from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Constant, Panels, Trapezoid
from conjoin.core.protocols import (
    Attributor,
    Certifier,
    Event,
    Held,
    Metric,
    Model,
    Observer,
)
from conjoin.core.quantity import given, margin, predicted
from conjoin.core.result import Claim
from conjoin.core.run import Run, attribute, certify, predict, prepared, score
from conjoin.errors import CapabilityError, ConjoinError, ModelError, SoundnessError
from conjoin.metrics import (
    CompletenessGap,
    Deletion,
    Insertion,
    MassInside,
    RankStability,
    TopStability,
)
from conjoin.report.choice import choose, explained_positions
from conjoin.report.plan import AuditPlan, ExplainSection
from conjoin.report.sources import Subject, check_fit
from conjoin.report.sweep import sweep
from conjoin.report.workspace import Workspace

SHARD = 100  # examples per unit of work
CERTIFIERS: dict[str, Certifier] = {"lipschitz": Lipschitz(), "interval": Interval()}
Usable = tuple[Certifier | None, str, str]  # the prepared certifier, its name, a note


@dataclass(frozen=True, slots=True)
class Robustness:
    """One model under one threat, per example.

    ``distance`` is that of the nearest adversarial input found (inf if none; an upper bound on the
    true distance), ``radius`` the certified one (a lower bound), both up to ``largest``; ``deployed``
    is where the certificate covers the rounding of the deployed network.
    """

    threat: Ball
    distance: Tensor
    inputs: Tensor
    radius: Tensor
    lower: Tensor
    deployed: Tensor
    largest: float
    attack: str
    certifier: str
    note: str

    @property
    def claim(self) -> str:
        """Of what network the certificates are true; empty where there is none."""
        if self.certifier == "none":
            return ""
        return Claim.SOUND_DEPLOYED if bool(self.deployed.all()) else Claim.SOUND_REAL


@dataclass(frozen=True, slots=True)
class ModelMeasures:
    """What was measured of one model, per example."""

    subject: Subject
    outputs: Tensor
    blanked: Tensor | None
    vanishing: float
    robustness: dict[str, Robustness]
    attributions: dict[str, Tensor]
    scores: dict[tuple[str, str], Tensor]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything an audit measured."""

    plan: AuditPlan
    data: Dataset
    available: int
    models: dict[str, ModelMeasures]
    explained: Tensor
    chosen: dict[int, str]


@dataclass(slots=True)
class Progress:
    """Counts finished work, in arbitrary units of expected cost."""

    total: int
    observe: Observer | None
    done: int = field(default=0)

    def step(self, what: str, weight: int) -> None:
        """Report that a unit is finished."""
        self.done += weight
        if self.observe is not None:
            self.observe(Event(what, min(self.done, self.total), self.total))


def explanations(section: ExplainSection) -> dict[str, Influence]:
    """Build the plan's explanation methods."""
    path = integrated_gradients(Constant(section.baseline), Panels(section.nodes))
    made = {
        "saliency": saliency(),
        "gradient_times_input": gradient_times_input(),
        "integrated_gradients": path,
        "smoothgrad": smoothgrad(draws=section.draws),
    }
    return {name: made[name] for name in section.methods}


def metrics(plan: AuditPlan, data: Dataset) -> dict[str, Metric]:
    """Build the scores of explanations; the small ball is a share of the first threat's."""
    section = plan.explain
    threat = next(iter(plan.balls().values()))
    assert isinstance(threat.eps, float)  # noqa: S101 - a plan gives one radius
    small = threat.at(threat.eps * section.stability_share)
    made: dict[str, Metric] = {
        "deletion": Deletion(baseline=section.baseline),
        "insertion": Insertion(baseline=section.baseline),
        "rank_stability": RankStability(small, section.stability_draws),
        "top_stability": TopStability(small, section.stability_draws),
    }
    if data.watched is not None:
        made["mass_in_region"] = MassInside(data.region(data.watched))
    return made


def measure(
    plan: AuditPlan,
    subjects: list[Subject],
    data: Dataset,
    available: int,
    workspace: Workspace,
    *,
    batch_size: int = 128,
    observe: Observer | None = None,
) -> Measured:
    """Carry out a plan.

    Raises:
        ModelError, DataError, PlanError: Before any work, if model, data and plan do not fit.
        SoundnessError: If an attack contradicts a certificate: the run stops.
    """
    for subject in subjects:
        check_fit(subject, data, plan.bounds)
        check_deterministic(subject, data)
    context = {"plan": plan.fingerprint(), "data": data.digest}
    for subject in subjects:
        context[f"weights of {subject.name}"] = identity(subject.model)
    workspace.claim(context)
    work = _Work(plan, data, workspace, Run(batch_size=batch_size), observe, len(subjects))
    outputs = {s.name: work.predictions(s) for s in subjects}
    chosen = choose(plan, data, {name: found["outputs"] for name, found in outputs.items()})
    explained = explained_positions(plan, data, chosen)
    models = {}
    for subject in subjects:
        found = outputs[subject.name]
        models[subject.name] = ModelMeasures(
            subject=subject,
            outputs=found["outputs"],
            blanked=found.get("blanked"),
            vanishing=float(found["vanishing"].float().mean()),
            robustness={t: work.robustness(subject, t, b) for t, b in plan.balls().items()},
            **work.explanations(subject, explained),
        )
    return Measured(plan, data, available, models, explained, chosen)


@dataclass(slots=True)
class _Work:
    """The units of work of one audit."""

    plan: AuditPlan
    data: Dataset
    workspace: Workspace
    run: Run
    observe: Observer | None
    models: int
    progress: Progress = field(init=False)
    certifiers: dict[str, Usable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shards, threats = len(list(self._shards())), len(self.plan.threats)
        explained = len(self.plan.explain.methods) * 6
        self.progress = Progress(
            self.models * (shards * (1 + threats * 12) + explained), self.observe
        )

    def _shards(self) -> Iterator[tuple[int, Dataset]]:
        for number, rows in enumerate(torch.arange(len(self.data)).split(SHARD)):
            yield number, self.data.select(rows)

    def _whole(
        self, key: str, what: str, weight: int, unit: Callable[[Dataset], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Run a unit on every shard and join the columns."""
        parts = []
        for number, shard in self._shards():
            made, _ = self.workspace.compute(f"{key}/{number:04d}", lambda s=shard: unit(s))  # type: ignore[misc]
            self.progress.step(what, weight)
            parts.append(made)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def predictions(self, subject: Subject) -> dict[str, Tensor]:
        """Outputs on the data, with its region blanked, and where the gradient vanishes."""

        def unit(shard: Dataset) -> dict[str, Tensor]:
            found = {"outputs": predict(subject.model, shard, run=self.run)}
            if shard.watched is not None:
                blanked = shard.blanked(shard.watched, self.plan.explain.baseline)
                found["blanked"] = predict(subject.model, blanked, run=self.run)
            found["vanishing"] = vanishing_gradient(subject, shard, self.run)
            return found

        return self._whole(f"predict/{subject.name}", f"predict {subject.name}", 1, unit)

    def robustness(self, subject: Subject, text: str, threat: Ball) -> Robustness:
        """Sweep the radii with the attack; bisect the certified radius; cross-check."""
        assert isinstance(threat.eps, float)  # noqa: S101 - a plan gives one radius
        eps = threat.eps
        # Rounded as the radii are, so that an example certified at the largest counts there.
        largest = float(torch.tensor(eps * self.plan.reach, dtype=self.data.x.dtype))
        methods = (Closest(self.plan.attack.method()), Closest(self.plan.attack.search()))
        if subject.name not in self.certifiers:
            self.certifiers[subject.name] = self._certifier(subject)
        certifier, names, note = self.certifiers[subject.name]

        def unit(shard: Dataset) -> dict[str, Tensor]:
            found = sweep(subject, shard, methods, threat, self.plan, self.run)
            if certifier is None:
                radius = torch.zeros(len(shard))
                lower, claim = torch.full((len(shard),), -torch.inf), ""
            else:
                radius = certified_radius(
                    subject.model, shard, certifier, threat, largest=largest, run=self.run
                )
                proved = certify(subject.model, shard, certifier, threat, run=self.run)
                lower, claim = proved.lower, proved.provenance.claim
            # A certificate of the network as deployed has no slack; the others leave out rounding.
            exact = 1 if claim == Claim.SOUND_DEPLOYED else 1 - 1e-5
            contradicted = (found["distance"] < radius * exact) | (
                (found["distance"] <= eps * exact) & (lower > 0)
            )
            if bool(contradicted.any()):
                ids = [i for i, bad in zip(shard.ids, contradicted, strict=True) if bad]
                raise SoundnessError(
                    f"{subject.name} under {text}: an attack succeeded inside a certified radius, "
                    f"at {ids[:5]}. The certificate is wrong for this model; no result is given"
                )
            deployed = torch.full((len(shard),), claim == Claim.SOUND_DEPLOYED)
            return {**found, "radius": radius, "lower": lower, "deployed": deployed}

        slug = text.replace(":", "-").replace("/", "_")
        what = f"attack and certify {subject.name}, {text}"
        whole = self._whole(f"robustness/{subject.name}/{slug}", what, 12, unit)
        return Robustness(
            threat=threat,
            largest=largest,
            attack=f"{methods[0].attack!r}, then {methods[1].attack!r} at other radii",
            certifier=names,
            note=note,
            **whole,
        )

    def _certifier(self, subject: Subject) -> Usable:
        """Prepare the certifiers that know this model's layers; say why the others do not."""
        usable, names, notes = [], [], []
        for name in self.plan.certify.methods:
            try:
                method = prepared(CERTIFIERS[name], subject.model, self.data)
                certify(subject.model, self.data.select([0]), method, _any_ball(self.plan))
                usable.append(method)
                names.append(repr(method))
            except CapabilityError as error:
                notes.append(f"{name}: {error}")
        if not usable:
            return None, "none", "no certificate: " + "; ".join(notes or ["none was asked for"])
        return BestOf(tuple(usable)), "best of " + ", ".join(names), "; ".join(notes)

    def explanations(self, subject: Subject, explained: Tensor) -> dict[str, Any]:
        """Explain the predicted class and score the explanations."""
        attributions: dict[str, Tensor] = {}
        scores: dict[tuple[str, str], Tensor] = {}
        if len(explained) == 0:
            return {"attributions": attributions, "scores": scores}
        shown = self.data.select(explained)
        for name, method in explanations(self.plan.explain).items():

            def unit(name: str = name, method: Influence = method) -> dict[str, Tensor]:
                return self._explained(subject, shown, name, method)

            made, _ = self.workspace.compute(f"explain/{subject.name}/{name}", unit)
            self.progress.step(f"explain {subject.name}", 6)
            attributions[name] = made.pop("values")
            scores.update({(name, metric): values for metric, values in made.items()})
        return {"attributions": attributions, "scores": scores}

    def _explained(
        self, subject: Subject, shown: Dataset, name: str, method: Influence
    ) -> dict[str, Tensor]:
        seed, run, model = self.plan.seed, self.run, subject.model

        def scored(metric: Metric, by: Attributor, values: Tensor | None) -> Tensor:
            return score(model, shown, by, metric, seed=seed, values=values, run=run).values

        values = attribute(model, shown, method, seed=seed, target=predicted, run=run).values
        found = {"values": values}
        for metric_name, metric in metrics(self.plan, shown).items():
            found[metric_name] = scored(metric, method, values)
        if name == "integrated_gradients":
            section = self.plan.explain
            plain = Trapezoid(section.nodes)
            raw = integrated_gradients(Constant(section.baseline), plain)
            found["completeness_gap"] = scored(CompletenessGap(), raw, None)
        return found


def identity(model: Model) -> str:
    """Return the digest of a model's weights; one that never comes again if they cannot be told."""
    told = model.digest() if isinstance(model, Held) else ""
    return told or f"unknown {uuid.uuid4()}"


def _any_ball(plan: AuditPlan) -> Ball:
    return next(iter(plan.balls().values()))


def vanishing_gradient(subject: Subject, shard: Dataset, run: Run) -> Tensor:
    """Flag examples where the margin has no gradient at all: attacks by gradients are blind there."""
    method = saliency(quantity=margin)
    values = attribute(subject.model, shard, method, seed=0, target=given, run=run).values
    return values.flatten(1).abs().amax(1) == 0


def check_deterministic(subject: Subject, data: Dataset) -> None:
    """Refuse a model that answers differently when asked again.

    Raises:
        ModelError: If two passes over the same examples differ, or a pass fails.
    """
    some = data.select(torch.arange(min(16, len(data))))
    # Two batches of one run: each run starts from the same global random state.
    twice = Dataset(torch.cat([some.x, some.x]), torch.cat([some.y, some.y]))
    try:
        first, second = predict(subject.model, twice, run=Run(len(some))).chunk(2)
    except ConjoinError:
        raise
    except Exception as error:  # whatever a stranger's network raises
        raise ModelError(
            f"{subject.name} fails on inputs of shape {tuple(some.x.shape[1:])} and dtype "
            f"{some.x.dtype}: {error}. Give data of the shape it was made for"
        ) from error
    if not torch.equal(first, second):
        differ = int((first != second).any(1).sum())
        raise ModelError(
            f"{subject.name} is random: two passes over the same {len(some)} inputs differ on "
            f"{differ}. An attack on one draw says nothing of the next; fix its randomness (a "
            "dropout called outside a module?) or audit the expectation"
        )
