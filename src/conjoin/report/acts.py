"""One act at a time, on the arguments of an audit: attack, certify or explain.

Each writes its results as safetensors that :class:`~conjoin.core.result.Result` reads again, and
returns lines of a table for a person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Observer
from conjoin.core.result import Evidence, EvidenceClass
from conjoin.core.run import Run, attack, attribute, certify
from conjoin.errors import CapabilityError
from conjoin.report import plots
from conjoin.report.audit import CERTIFIERS, check_deterministic, explanations
from conjoin.report.findings import at_least, at_most
from conjoin.report.plan import AuditPlan
from conjoin.report.sources import (
    Subject,
    check_fit,
    draw,
    load_data,
    load_subject,
    unique_names,
)
from conjoin.report.statistics import share


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an act's table."""

    model: str
    setting: str
    result: str
    evidence: EvidenceClass | None
    file: Path | None


Act = Callable[[AuditPlan, Subject, Dataset, Path, Run], list[Line]]


def perform(
    act: Act, plan: AuditPlan, folder: Path, batch_size: int, observe: Observer | None
) -> list[Line]:
    """Load what the plan names and do one act for every model.

    Raises:
        ConjoinError: If plan, models or data cannot be used.
    """
    data = draw(load_data(plan.data), plan.limit, plan.seed)
    subjects = unique_names([load_subject(text) for text in plan.models])
    lines = []
    for subject in subjects:
        check_fit(subject, data, plan.bounds)
        check_deterministic(subject, data)
        lines += act(plan, subject, data, folder, Run(batch_size, observe))
    return lines


def attack_act(
    plan: AuditPlan, subject: Subject, data: Dataset, folder: Path, run: Run
) -> list[Line]:
    """Attack under every threat: robust accuracy, an upper bound."""
    method, lines = plan.attack.method(), []
    for text, threat in plan.balls().items():
        found = attack(subject.model, data, method, threat, seed=plan.seed, run=run)
        file = folder / f"attack-{subject.name}-{_slug(text)}.safetensors"
        found.save(file)
        standing = int((~found.success).sum())
        evidence = Evidence.empirical(repr(method))
        n = share(standing, len(data), plan.alpha, evidence)
        lines.append(
            Line(subject.name, text, f"robust accuracy <= {at_most(n.value)}", evidence.kind, file)
        )
    return lines


def certify_act(
    plan: AuditPlan, subject: Subject, data: Dataset, folder: Path, run: Run
) -> list[Line]:
    """Certify under every threat by every certifier: certified accuracy, a lower bound.

    Raises:
        CapabilityError: If no certifier knows the model.
    """
    lines = []
    for text, threat in plan.balls().items():
        for name in plan.certify.methods:
            setting = f"{text}, {name}"
            try:
                found = certify(subject.model, data, CERTIFIERS[name], threat, run=run)
            except CapabilityError as error:
                lines.append(Line(subject.name, setting, str(error), None, None))
                continue
            file = folder / f"certify-{subject.name}-{_slug(text)}-{name}.safetensors"
            found.save(file)
            value = float(found.certified.float().mean())
            lines.append(
                Line(
                    subject.name,
                    setting,
                    f"certified accuracy >= {at_least(value)}",
                    found.evidence.kind,
                    file,
                )
            )
    if all(line.file is None for line in lines):
        reasons = "; ".join(dict.fromkeys(line.result for line in lines))
        raise CapabilityError(
            f"no certificate for {subject.name}: {reasons or 'none was asked for'}"
        )
    return lines


def explain_act(
    plan: AuditPlan, subject: Subject, data: Dataset, folder: Path, run: Run
) -> list[Line]:
    """Explain the first examples by every method; writes tensors and a picture of each."""
    some = data.select(range(min(len(data), plan.explain.examples)))
    lines = []
    for name, method in explanations(plan.explain).items():
        found = attribute(subject.model, some, method, seed=plan.seed, run=run)
        file = folder / f"explain-{subject.name}-{name}.safetensors"
        found.save(file)
        picture = plots.contact_sheet(some.x, found.values, plan.bounds)
        if picture is not None:
            file = file.with_suffix(".png")
            _save_picture(picture, file)
        gap = found.gap.abs().max()
        said = (
            "no completeness promised" if gap.isnan() else f"completeness gap <= {float(gap):.1e}"
        )
        lines.append(Line(subject.name, name, said, EvidenceClass.HEURISTIC, file))
    return lines


def _save_picture(picture: Image.Image, file: Path) -> None:
    from conjoin.core.result import replace_file

    replace_file(file, lambda temporary: picture.save(temporary, "PNG"))


def _slug(text: str) -> str:
    return text.replace(":", "-").replace("/", "_")


ACTS: dict[str, Act] = {"attack": attack_act, "certify": certify_act, "explain": explain_act}
