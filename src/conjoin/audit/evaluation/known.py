"""What is known of every example: the least value seen, the best bound proved, and by which step.

Knowledge only grows. A point that any step broke stays broken, one that a step certified stays
certified; and the two hold each other in check: a value seen below a bound that was proved is a
defect of the certifier, *never* a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from conjoin.audit.evaluation.setting import Act, Key, Setting, Step
from conjoin.core.postcondition import aimed, asked
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.errors import SoundnessError

CHECKED = 32  # certified points of a step that are attacked all the same
ROUNDING = 256  # units in the last place of the largest logit: as the driver that certifies allows


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one step found out about some examples.

    Attributes:
        key: The step.
        rows: Positions in the data.
        columns: By name, one number for each row: ``value``, ``distance`` and ``success`` of an attack;
            ``lower`` and ``deployed`` (whether the claim covers rounding) of a certificate. Of an
            attack also what its :class:`~conjoin.core.trace.Trace` kept, unless an older run wrote it.
        inputs: Of an attack: the worst input found, for each row.
        forward, backward: Examples that were passed through the model.
    """

    key: Key
    rows: Tensor
    columns: Mapping[str, Tensor]
    inputs: Tensor | None
    forward: int
    backward: int


@dataclass(slots=True, eq=False)
class Known:
    """What is known of each example of a setting, and from which parts.

    Attributes:
        setting: The question.
        aim: What the quantity is about.
        clean: The quantity at x.
        scale: The largest output at x.
        value, inputs, distance: The least value that was seen, where, and how far from x that is.
        lower, deployed: The best bound, and whether it covers rounding.
        fell: Where an attack won.
        won: The number of the part that was the first to win; -1 where none did.
        parts: All that was found, in order.
    """

    setting: Setting
    aim: Tensor
    clean: Tensor
    scale: Tensor
    value: Tensor
    inputs: Tensor
    distance: Tensor
    lower: Tensor
    deployed: Tensor
    fell: Tensor
    won: Tensor
    parts: list[Part] = field(default_factory=list)
    _covered: dict[Key, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, setting: Setting) -> Known:
        """Begin with the outputs at the examples themselves."""
        outputs = predict(setting.model, setting.data, run=setting.run)
        aim = aimed(setting.target, outputs, setting.data.y)
        clean = asked(setting.quantity, outputs, aim)
        return cls._begun(setting, aim, clean, outputs.abs().amax(1))

    def again(self, setting: Setting) -> Known:
        """Begin anew with another threat: the outputs at the examples are the same."""
        return self._begun(setting, self.aim, self.clean, self.scale)

    @classmethod
    def _begun(cls, setting: Setting, aim: Tensor, clean: Tensor, scale: Tensor) -> Known:
        data, nowhere = setting.data, torch.zeros_like(clean, dtype=torch.bool)
        return cls(
            setting,
            aim,
            clean,
            scale,
            clean.clone(),
            data.x.clone(),
            torch.zeros_like(clean, dtype=torch.float64),
            torch.full_like(clean, -torch.inf, dtype=torch.float64),
            nowhere.clone(),
            nowhere.clone(),
            torch.full_like(nowhere, -1, dtype=torch.int64),
        )

    @property
    def right(self) -> Tensor:
        """Where the attacker has not won before he began."""
        return self.clean > self.setting.quantity.goal

    @property
    def certified(self) -> Tensor:
        """Where the bound is above the goal, and no attack has won by rounding."""
        return self.right & (self.lower > self.setting.quantity.goal) & ~self.fell

    @property
    def standing(self) -> Tensor:
        """What is neither lost nor decided."""
        return self.right & ~self.fell & ~self.certified

    def covered(self, key: Key) -> Tensor:
        """Return of which examples a step has told already."""
        return self._covered.setdefault(key, torch.zeros_like(self.fell))

    def todo(self, step: Step, rows: Tensor) -> Tensor:
        """Return which of some examples a step has still to see."""
        among = torch.zeros_like(self.fell)
        among[rows] = True
        if step.act is Act.ATTACK:
            among &= self.standing
        elif step.act is Act.CERTIFY:  # broken ones too: a bound there would be wrong
            among &= self.right & (self.lower <= self.setting.quantity.goal)
        else:
            among &= self.certified
            chosen = drawn(among, self.setting.data.positions, step.seed, "checked", CHECKED)
            among = torch.zeros_like(among)
            among[chosen] = True
        return (among & ~self.covered(step.key)).nonzero()[:, 0]

    def take(self, part: Part) -> None:
        """Learn what a part says.

        Raises:
            SoundnessError: If a certificate and an attack contradict each other.
        """
        rows, columns = part.rows, part.columns
        self.covered(part.key)[rows] = True
        if part.key.act == Act.CERTIFY:
            better = columns["lower"] > self.lower[rows]
            self.lower[rows[better]] = columns["lower"][better]
            self.deployed[rows[better]] = columns["deployed"][better]
        else:
            nearer = columns["value"] < self.value[rows]
            self.value[rows[nearer]] = columns["value"][nearer]
            self.distance[rows[nearer]] = columns["distance"][nearer]
            if part.inputs is not None:
                self.inputs[rows[nearer]] = part.inputs[nearer]
            news = columns["success"] & ~self.fell[rows]
            self.won[rows[news]] = len(self.parts)
            self.fell[rows[news]] = True
        self.parts.append(replace(part, inputs=None))  # they are held once, not for each part
        self.hold(rows)

    def carry(self, before: Known) -> None:
        """Take over what was seen in a set that this one contains.

        Raises:
            SoundnessError: If a certificate of this set and an attack on that one disagree.
        """
        for name in ("value", "inputs", "distance", "fell"):
            setattr(self, name, getattr(before, name).clone())
        self.hold(torch.arange(len(self.clean), device=self.clean.device))

    def hold(self, rows: Tensor) -> None:
        """Hold what was seen against what was proved.

        Raises:
            SoundnessError: If they contradict each other.
        """
        slack = ROUNDING * torch.finfo(self.clean.dtype).eps * self.scale[rows].double()
        room = torch.where(self.deployed[rows], 0.0, slack)
        goal = self.setting.quantity.goal
        proved = self.lower[rows] > goal
        bad = rows[proved & (self.value[rows].double() + room < self.lower[rows])]
        if not len(bad):
            return
        names = [self.setting.data.ids[i] for i in bad[:5].tolist()]
        certifiers = [p.key.method for p in self.parts if p.key.act == Act.CERTIFY]
        raise SoundnessError(
            f"an attack saw the value {float(self.value[bad[0]]):g} where at least "
            f"{float(self.lower[bad[0]]):g} had been certified by "
            f"{' or '.join(dict.fromkeys(certifiers))}, at the examples {names}: the certificate is "
            "wrong for this model, and no result is given"
        )


def drawn(among: Tensor, positions: Tensor, seed: int, purpose: str, count: int) -> Tensor:
    """Draw ``count`` of the flagged examples without replacement; return their places, in order.

    Whether one is drawn depends on the seed, on its position in the data, and on who else is flagged.
    """
    rows = among.nonzero()[:, 0]
    order = shuffled(positions[rows], seed, purpose)
    chosen: Tensor = rows[order[:count]].sort().values
    return chosen


def shuffled(positions: Tensor, seed: int, purpose: str) -> Tensor:
    """Return an order of examples that is drawn at random."""
    ticket = Streams.of(seed, positions).fold(purpose).uniform(1, dtype=torch.float64)[:, 0]
    return ticket.argsort(stable=True)


__all__ = ["CHECKED", "Known", "Part", "drawn", "shuffled"]
