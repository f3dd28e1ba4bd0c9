"""The verdict on an evaluation: the indicators, asked about some of its examples.

They see what the tiers left standing and not how; they judge the margin of the labels alone, and no
other quantity or target.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from conjoin.attacks.diagnosis import diagnosed
from conjoin.audit.evaluation.known import drawn
from conjoin.audit.evaluation.result import Evaluation
from conjoin.audit.evaluation.setting import Setting
from conjoin.core.drive import Run
from conjoin.core.naming import describe, name_of
from conjoin.core.postcondition import part_of
from conjoin.core.protocols import Attack
from conjoin.core.quantity import given, margin
from conjoin.errors import PlanError


def check_diagnosable(setting: Setting, examples: int) -> None:
    """Refuse before any work what the indicators do not judge.

    Raises:
        PlanError: If that is no number of examples, or the quantity or the target is another.
    """
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 0:
        raise PlanError(f"expected diagnose=64, a number of examples; got {describe(examples)}")
    if examples and (setting.quantity is not margin or setting.target is not given):
        what = f"{name_of(setting.quantity)} for {name_of(setting.target)}"
        raise PlanError(
            f"the indicators judge the margin of the labels, not {what}; leave out diagnose"
        )


def asked(
    found: Evaluation, rows: Tensor, setting: Setting, attack: Attack, examples: int
) -> Evaluation:
    """Ask the indicators about some examples, drawn with the seed.

    Args:
        rows: Which examples of the setting were looked at.
    """
    seed, whole = found.provenance.seed, found.attacked()
    every = torch.ones(len(found), dtype=torch.bool, device=rows.device)
    some = drawn(every, found.data.positions.to(rows.device), seed, "diagnosed", examples)
    if not bool(found.right[some].any()):
        story = replace(found.provenance, reasons=(f"the model is right on none of {len(some)}",))
        return replace(found, provenance=story)
    told = diagnosed(
        setting.model,
        found.data.select(some),
        part_of(setting.threat, rows[some]),
        seed=seed,
        method=attack,
        run=Run(setting.run.batch_size),
        found=whole.rows(some),
    )
    return found.told(told)


__all__ = ["asked", "check_diagnosable"]
