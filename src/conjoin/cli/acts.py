"""One act at a time, on the arguments of an audit: attack, certify or explain.

Each writes its results as safetensors that :class:`~conjoin.core.result.Result` reads again, and
returns lines of a table for a person.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conjoin.audit.evaluation import Tier, worst_case
from conjoin.audit.finding import written
from conjoin.audit.methods import context_of
from conjoin.audit.perform import draw
from conjoin.audit.pictures.image import contact_sheet
from conjoin.audit.plan import Plan
from conjoin.audit.schema import Bound
from conjoin.audit.sections.diagnosis import Settings as Doubting
from conjoin.audit.sections.explain import Settings as Explaining
from conjoin.audit.sections.robustness import Settings as Testing
from conjoin.audit.sections.robustness import names
from conjoin.audit.sources import load_data, load_subject
from conjoin.audit.statistics import share
from conjoin.audit.subject import Subject, check_answers, check_data, check_fit, unique
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import EvidenceClass
from conjoin.core.files import replace_file
from conjoin.core.protocols import Observer
from conjoin.core.run import attribute, certify
from conjoin.data.stored import Stored
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an act's table."""

    model: str
    setting: str
    result: str
    evidence: EvidenceClass | None
    file: Path | None
    tiers: tuple[Tier, ...] = ()
    notes: tuple[str, ...] = ()


Act = Callable[[Plan, Subject, Dataset, Path, Run], list[Line]]


def perform(
    act: Act, plan: Plan, folder: Path, batch_size: int | None, observe: Observer | None
) -> list[Line]:
    """Load what the plan names and do one act for every model.

    Raises:
        ConjoinError: If plan, models or data cannot be used.
    """
    if isinstance(act, Attacking):
        act.check(plan)
    data = draw(load_data(plan.data), plan.limit, plan.seed)
    if isinstance(data, Stored):
        data = data.held()  # what an act writes is as large
    subjects = unique([load_subject(text) for text in plan.models])
    plan = plan.on(data)
    check_data(data, plan.bounds)
    lines = []
    for subject in subjects:
        check_fit(subject, data, plan.bounds)
        check_answers(subject, data)
        lines += act(plan, subject, data, folder, Run(batch_size, observe))
    return lines


@dataclass(frozen=True, slots=True)
class Attacking:
    """Attack under every threat: robust accuracy, an upper bound, and its verdict.

    Attributes:
        record: A folder in which a record of each model and threat is kept, and gone on with.
        diagnose: Whether the indicators are asked, on as many examples as the plan's diagnosis.
        robustbench: A file for a leaderboard entry: of one model under one threat.
    """

    record: Path | None = None
    diagnose: bool = False
    robustbench: Path | None = None

    def check(self, plan: Plan) -> None:
        """Refuse before any work what cannot be done.

        Raises:
            PlanError: If several entries would be one, or no example would be asked about.
        """
        if self.robustbench is not None and len(plan.models) * len(plan.threats) != 1:
            raise PlanError(
                f"--robustbench writes one entry, and there are {len(plan.models)} models and "
                f"{len(plan.threats)} threats; give one of each (-m, -t)"
            )
        if self.diagnose and not plan.of("diagnosis", Doubting).examples:
            raise PlanError(
                "--diagnose asks about examples, and the plan says diagnosis.examples = 0"
            )

    def __call__(
        self, plan: Plan, subject: Subject, data: Dataset, folder: Path, run: Run
    ) -> list[Line]:
        """Attack one model."""
        method = plan.of("robustness", Testing).attack.build(context_of(plan, data))
        asked = plan.of("diagnosis", Doubting).examples if self.diagnose else 0
        lines = []
        for text, threat in plan.balls(data).items():
            own = slug(subject.name, text)
            found = worst_case(
                subject.model,
                data,
                threat,
                attack=method,
                certifiers=(),
                seed=plan.seed,
                folder=None if self.record is None else self.record / own,
                run=run,
                diagnose=asked,
            )
            file = folder / f"attack-{own}.safetensors"
            found.attacked().save(file)
            if self.robustbench is not None:
                about = {"name": subject.name, "dataset": data.name}
                found.save_robustbench(self.robustbench, about)
            number = found.numbers(plan.alpha)["robust_accuracy"]
            said, story = f"robust accuracy <= {written(number)}", found.provenance
            notes = *story.reasons, *(f"passed over: {why}" for why in story.passed_over)
            kind = number.evidence.kind
            lines.append(Line(subject.name, text, said, kind, file, found.tiers, notes))
        return lines


def certify_act(plan: Plan, subject: Subject, data: Dataset, folder: Path, run: Run) -> list[Line]:
    """Certify under every threat by every certifier: certified accuracy, a lower bound.

    Raises:
        CapabilityError: If no certifier knows the model.
    """
    lines, methods = [], plan.of("robustness", Testing).certify
    for text, threat in plan.balls(data).items():
        for name, method in zip(names(methods), methods, strict=True):
            setting, made = f"{text}, {name}", method.build(context_of(plan, data))
            try:
                found = certify(subject.model, data, made, threat, run=run)
            except CapabilityError as error:
                lines.append(Line(subject.name, setting, str(error), None, None))
                continue
            file = folder / f"certify-{slug(subject.name, text, name)}.safetensors"
            found.save(file)
            proved, evidence = int(found.certified.sum()), found.evidence
            n = share(proved, len(data), plan.alpha, evidence, Bound.LOWER)
            said = f"certified accuracy >= {written(n)}"
            lines.append(Line(subject.name, setting, said, evidence.kind, file))
    if all(line.file is None for line in lines):
        reasons = "; ".join(dict.fromkeys(line.result for line in lines))
        raise CapabilityError(
            f"no certificate for {subject.name}: {reasons or 'none was asked for'}"
        )
    return lines


def explain_act(plan: Plan, subject: Subject, data: Dataset, folder: Path, run: Run) -> list[Line]:
    """Explain the first examples by every method; writes tensors and, of images, a picture."""
    some = data.select(range(min(len(data), plan.shown)))
    lines = []
    for method in plan.of("explain", Explaining).methods:
        made = method.build(context_of(plan, some))
        found = attribute(subject.model, some, made, seed=plan.seed, run=run)
        file = folder / f"explain-{slug(subject.name, str(method))}.safetensors"
        found.save(file)
        picture = contact_sheet(some.x, found.values, plan.bounds)
        if picture is not None:
            file = file.with_suffix(".png")
            replace_file(file, lambda aside, sheet=picture: sheet.save(aside, "PNG"))  # type: ignore[misc]
        gap = found.gap.abs().max()
        said = (
            "no completeness promised" if gap.isnan() else f"completeness gap <= {float(gap):.1e}"
        )
        lines.append(Line(subject.name, str(method), said, EvidenceClass.HEURISTIC, file))
    return lines


def slug(*words: str) -> str:
    """Join words to a name that can be part of a file's."""
    return "-".join(re.sub(r"[^\w.=+-]+", "_", w.replace(":", "-")) for w in words)[:160]


ACTS: dict[str, Act] = {"attack": Attacking(), "certify": certify_act, "explain": explain_act}
