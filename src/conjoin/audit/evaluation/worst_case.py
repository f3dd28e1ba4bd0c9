"""The worst case of every example: certify first, then attack in tiers what still stands.

Cheap steps come first, each sees only what those before it left, in full batches, and what it finds is
kept: a record only grows. Certified points are not attacked, except for a few, drawn at random, that
the first attack looks at to see whether the certificate lies. The result is an *upper* bound of robust
accuracy (what stands) and a lower one (what is certified); where a rule spared work it says so.

Reference: croce2020, section 5 (an ensemble on what stands); carlini2019 (the worst case of each).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from conjoin.attacks import standard
from conjoin.audit.evaluation.diagnose import asked, check_diagnosable
from conjoin.audit.evaluation.known import Known, drawn, shuffled
from conjoin.audit.evaluation.record import record_at
from conjoin.audit.evaluation.result import Evaluation, summarised, tables
from conjoin.audit.evaluation.search import Search, Steps, plan, setting_of
from conjoin.audit.evaluation.setting import Setting
from conjoin.audit.evaluation.stopping import Economy, Extrapolated, Sampled, Stop, Stopped
from conjoin.certification import Interval, Lipschitz
from conjoin.core.arguments import check_seed
from conjoin.core.drive import Run, untouched
from conjoin.core.evidence import Claim, Provenance
from conjoin.core.protocols import Attack, Certifier
from conjoin.core.quantity import Quantity, Target, given, margin
from conjoin.core.rung import meets
from conjoin.core.threat import Graded, Threat
from conjoin.drivers import Labelled, Network


def worst_case(
    model: Network,
    data: Labelled,
    threat: Threat,
    *,
    attack: Attack = standard(),  # noqa: B008 - frozen
    certifiers: Sequence[Certifier] = (Interval(), Lipschitz()),
    seed: int,
    quantity: Quantity = margin,
    target: Target = given,
    folder: Path | str | None = None,
    run: Run = Run(),
    stop: Stop | Sampled | None = None,
    diagnose: int = 0,
) -> Evaluation:
    """Find the worst case of each example, as far as attacks and certificates tell.

    Args:
        model, data, threat, seed, quantity, target, run: As for :func:`conjoin.attack`.
        attack: A ``WorstOf``, whose attacks are run in turn, or any other attack.
        certifiers: Run first; those that do not apply are passed over. ``()`` for none.
        folder: Where the record is kept: a path, or an address that fsspec reaches. A run that was
            killed is gone on with; one with other attacks or another seed adds to what is there.
        stop: What may be spared: ``Stop(width=0.02)`` some examples, ``Sampled(100, after=4)`` the
            dear attacks on some points. The result says so.
        diagnose: On how many of the examples, drawn with the seed, the indicators are asked whether
            the result can be believed (:func:`conjoin.attacks.diagnosis.diagnosed`); some hundreds of
            passes each. Of none the result says that it is not diagnosed.

    Raises:
        SoundnessError: If an attack contradicts a certificate.
        PlanError: If the folder holds the record of another model, data, threat or quantity.
        DataError: If a file of the record was changed, or an adversarial input in it does not win.
        CapabilityError: If none of the attacks applies.
        PostconditionError, ModelError, ThreatError: As the drivers find.
    """
    seed = check_seed(seed)
    steps = plan(attack, certifiers, seed, stop)
    setting = setting_of(model, data, threat, quantity, target, run)
    check_diagnosable(setting, diagnose)
    start = time.perf_counter()
    with untouched(setting.model), record_at(folder, setting) as record:
        search = Search(Known.of(setting), record)
        for part in record.parts(search.known):
            search.known.take(part)
        rows, economy = _spared(search, steps, seed, stop)
        story = setting.story("worst_case", attack, seed)
        story = replace(story, seconds=time.perf_counter() - start)
        found = concluded(search, rows, economy, story)
    return asked(found, rows, setting, attack, diagnose) if diagnose else found


def _spared(
    search: Search, steps: Steps, seed: int, stop: Stop | Sampled | None
) -> tuple[Tensor, Economy | None]:
    """Do what is asked; return which examples were looked at, and what was left out."""
    known = search.known
    count = len(known.clean)
    every = torch.arange(count, device=known.clean.device)
    if isinstance(stop, Stop):
        order = shuffled(known.setting.data.positions, seed, "order")
        seen, interval = 0, (0.0, 1.0)
        for look in stop.looks(count):
            search.go(steps, order[seen:look])
            seen = look
            standing = int((known.right & ~known.fell)[order[:seen]].sum())
            interval = stop.interval(standing, seen, count)
            if interval[1] - interval[0] < stop.width:
                break
        reached = interval[1] - interval[0] < stop.width
        return order[:seen].sort().values, Stopped(seen, count, interval, stop, reached)
    if stop is None:
        search.go(steps, every)
        return every, None
    cheap = replace(steps, attacks=steps.attacks[: stop.after])
    dear = steps.attacks[stop.after :]
    search.go(cheap, every)
    left = known.right & ~known.certified & ~(known.fell & ~search.taken_by(dear))
    chosen = drawn(left, known.setting.data.positions, seed, "sampled", stop.size)
    if not any([search.take(step, chosen) for step in dear]):
        raise search.refused[dear[0].key.method]
    fell, robust = int(known.fell[chosen].sum()), int((known.right & ~known.fell).sum())
    return every, Extrapolated.of(len(chosen), int(left.sum()), fell, robust, count, stop)


def concluded(
    search: Search, rows: Tensor, economy: Economy | None, story: Provenance
) -> Evaluation:
    """Return what is known of some examples as a result."""
    known = search.known
    setting = known.setting
    told, tier_of = summarised(known)
    number = torch.tensor([tier_of[k] for k in range(len(known.parts))] + [-1])
    won = number.to(known.won.device)[known.won]  # -1 is the last
    fell, certified = known.fell[rows], known.certified[rows]
    broken = fell.reshape(-1, *[1] * (setting.data.x.ndim - 1))
    claims = {
        Claim.SOUND_DEPLOYED if d else Claim.SOUND_REAL
        for d in known.deployed[rows][certified].tolist()
    }
    passes = {n: sum(getattr(tier, n) for tier in told) for n in ("forward", "backward")}
    passes["forward"] += len(known.clean)
    data = setting.data if len(rows) == len(setting.data) else setting.data.select(rows)
    return Evaluation(
        data=data,
        aim=known.aim[rows],
        clean=known.clean[rows],
        value=known.value[rows],
        fell=fell,
        inputs=torch.where(broken, known.inputs[rows], data.x),
        distance=torch.where(fell, known.distance[rows], 0.0),
        lower=known.lower[rows],
        certified=certified,
        won=won[rows],
        tiers=told,
        parts=tables(known),
        economy=economy,
        refused=search.passed_over,
        eps=radius_in_words(setting),
        provenance=replace(
            story,
            claim=str(Claim.weakest(claims)) if claims else "",
            passed_over=search.passed_over,
            **passes,
        ),
    )


def radius_in_words(setting: Setting) -> str:
    """Return the radius that all examples share, as a fraction of 255 where it is one."""
    threat = setting.threat
    if not meets(threat, Graded):
        return ""
    radius = threat.radius(setting.data.x).unique()
    if len(radius) != 1:
        return ""
    eps = float(radius[0])
    levels = eps * 255
    return (
        f"{round(levels)}/255" if levels > 0 and abs(levels - round(levels)) < 1e-9 else f"{eps:g}"
    )


__all__ = ["concluded", "worst_case"]
