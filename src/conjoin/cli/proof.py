"""Certificate files: ``conjoin certify --certificate`` writes one, ``conjoin verify`` checks it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conjoin.audit.plan import Plan
from conjoin.audit.subject import Subject
from conjoin.certification import checker
from conjoin.certification.certificate import write_certificate
from conjoin.cli.acts import Line, certify_act
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import EvidenceClass
from conjoin.errors import CapabilityError, PlanError, SoundnessError
from conjoin.models.torch import TorchModel


@dataclass(frozen=True, slots=True)
class Certifying:
    """Certify as ever, and write what the Lipschitz bounds rest on.

    Attributes:
        certificate: The .json; arrays and weights go beside it.
    """

    certificate: Path

    def __call__(
        self, plan: Plan, subject: Subject, data: Dataset, folder: Path, run: Run
    ) -> list[Line]:
        """Certify one model, and write its certificate.

        Raises:
            PlanError: If there are several models.
            CapabilityError: If it is no module of torch, or has an operator without a rule.
        """
        if len(plan.models) != 1:
            raise PlanError(
                f"--certificate writes one file, and there are {len(plan.models)} models; give one (-m)"
            )
        if not isinstance(subject.model, TorchModel):
            raise CapabilityError(
                f"{subject.name} is no torch.nn.Module; its weights are not known"
            )
        lines = certify_act(plan, subject, data, folder, run)
        made = write_certificate(subject.model, data, self.certificate)
        kind = EvidenceClass.CERTIFIED
        return [*lines, Line(subject.name, "certificate file", made.proved, kind, made.path)]


def verify(certificate: Path, weights: Path) -> str:
    """Check a certificate; return what it proves.

    Raises:
        SoundnessError: If it does not hold.
    """
    try:
        return checker.verified(certificate, weights)
    except checker.RejectedError as error:
        raise SoundnessError(f"{certificate} is rejected: {error}") from error


__all__ = ["Certifying", "verify"]
