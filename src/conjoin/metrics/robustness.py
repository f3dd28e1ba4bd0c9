"""Accuracy under common corruptions: a table, and the mean corruption error.

With error E of the model for corruption c and severity s, and E' of a baseline,
``CE_c = Σ_s E_cs / Σ_s E'_cs`` and mCE is its mean over c; the relative one takes E_clean and E'_clean
off first. Without a baseline E' is 1 (and 0 where nothing is corrupted), so that mCE is the mean error.
It is an average over one seeded draw for each example, *not* a worst case: it says nothing of an
adversary.

Reference: hendrycks2019, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.naming import name_of
from conjoin.core.protocols import Event, Model
from conjoin.core.run import predict
from conjoin.data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupted
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CorruptionTable:
    """What a model gets right under corruptions, example by example.

    Attributes:
        corruptions: Their names, in order.
        severities: In order.
        right: Which examples are right, by corruption and severity.
        clean: Which are right as they are.
        baseline: Accuracy of the baseline, by corruption and severity; 0 if none was given.
        baseline_clean: Its accuracy on the data as they are; 1 if none was given.
        seed: Of all draws.
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    right: Bool[Tensor, "corruptions severities batch"]
    clean: Bool[Tensor, "batch"]
    baseline: Float[Tensor, "corruptions severities"]
    baseline_clean: float
    seed: int

    def __post_init__(self) -> None:
        check_numbers(self)

    @property
    def accuracy(self) -> Float[Tensor, "corruptions severities"]:
        """The share that is right, by corruption and severity."""
        return self.right.double().mean(2)

    @property
    def mean_accuracy(self) -> float:
        """The plain mean over corruptions and severities, RobustBench's ``corruptions_acc``."""
        return float(self.accuracy.mean())

    @property
    def clean_accuracy(self) -> float:
        """The share that is right as it is."""
        return float(self.clean.double().mean())

    @property
    def corruption_errors(self) -> Float[Tensor, "corruptions"]:
        """CE of each corruption, 1 where the model errs as often as the baseline."""
        return (1 - self.accuracy).sum(1) / (1 - self.baseline).sum(1)

    @property
    def mean_corruption_error(self) -> float:
        """mCE; the mean error if no baseline was given."""
        return float(self.corruption_errors.mean())

    @property
    def relative_mean_corruption_error(self) -> float:
        """mCE of what is lost to the corruptions, the clean errors taken off."""
        lost = (self.clean_accuracy - self.accuracy).sum(1)
        return float((lost / (self.baseline_clean - self.baseline).sum(1)).mean())

    @property
    def evidence(self) -> Evidence:
        """A measurement on one draw for each example."""
        return Evidence.heuristic("common corruptions, one draw for each example")

    def __repr__(self) -> str:
        """Say in one line what came out."""
        return (
            f"CorruptionTable(mean accuracy {self.mean_accuracy:.3f}, clean {self.clean_accuracy:.3f}; "
            f"{len(self.corruptions)} corruptions, severities {self.severities}, seed {self.seed})"
        )

    def __str__(self) -> str:
        """Show the accuracies in percent, a corruption a line."""
        head = f"{'':20}" + "".join(f"{severity:>7}" for severity in self.severities)
        lines = [
            f"{name:20}" + "".join(f"{100 * share:7.1f}" for share in line)
            for name, line in zip(self.corruptions, self.accuracy.tolist(), strict=True)
        ]
        mean = f"{'mean':20}{100 * self.mean_accuracy:7.1f}   clean {100 * self.clean_accuracy:.1f}"
        return "\n".join([head, *lines, mean])


def mean_corruption_error(
    model: Model,
    data: Dataset,
    *,
    seed: int,
    severities: Sequence[int] = SEVERITIES,
    corruptions: Sequence[Corruption] = CORRUPTIONS,
    baseline: Model | None = None,
    run: Run = Run(),
) -> CorruptionTable:
    """Measure a model under corruptions; a baseline sees the same pictures.

    The draws depend on the seed and on each example's index, never on batch size or order.

    Raises:
        DataError: If the inputs are no images in 0..1.
        PlanError: If there is no corruption, no severity, or a severity is not 1, ..., 5.
    """
    if not corruptions or not severities:
        raise PlanError("expected one corruption and one severity at least; got none")
    shape = len(corruptions), len(severities)
    found = torch.zeros(*shape, len(data), dtype=torch.bool)
    theirs = torch.zeros(shape, dtype=torch.float64)
    for row, corruption in enumerate(corruptions):
        for place, severity in enumerate(severities):
            some = corrupted(data, corruption, severity, seed=seed)
            found[row, place] = _right(model, some, run)
            if baseline is not None:
                theirs[row, place] = _right(baseline, some, run).double().mean()
        if run.observe is not None:
            run.observe(Event("corrupt", row + 1, len(corruptions)))
    return CorruptionTable(
        tuple(name_of(corruption) for corruption in corruptions),
        tuple(severities),
        found,
        _right(model, data, run),
        theirs,
        1.0 if baseline is None else float(_right(baseline, data, run).double().mean()),
        seed,
    )


def _right(model: Model, data: Dataset, run: Run) -> Tensor:
    """Tell which predictions are right; the observer is told of corruptions, not of batches."""
    return (predict(model, data, run=replace(run, observe=None)).argmax(1) == data.y).cpu()


__all__ = ["CorruptionTable", "mean_corruption_error"]
