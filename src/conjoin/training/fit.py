"""The training loop: a seeded order, one objective, one step after another.

Everything random is a function of (seed, epoch, example): the order, the augmentation, what an
objective draws. So a training that was killed goes on from its checkpoint to the same weights, bit
for bit, and several processes (``torch.distributed``) take the same steps as one, up to the order of
a sum: each takes every k-th example of a batch, and the gradients are added.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.distributed as dist
from torch import Tensor, nn

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch, Event, Observer
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, ModelError, PlanError
from conjoin.nn.whole_batch import looks_at_the_batch
from conjoin.training.augmentation import Augmentation
from conjoin.training.board import show
from conjoin.training.evaluation import Evaluation
from conjoin.training.gloro import GloRoNetwork
from conjoin.training.objective import Objective, Preparable
from conjoin.training.optimiser import Adam, Optimiser
from conjoin.training.schedule import Cosine, Schedule
from conjoin.training.state import Progress, Store, digest_of

Rows = tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples per step, of all processes together.
        rate: Largest learning rate.
        seed: Seeds the order, the augmentation and every random number of the objective.
        optimiser: What takes the steps.
        schedule: What the rate is multiplied with; by default it rises for 5 % of the steps, then
            falls to 0 on a cosine.
        clip: Largest length of the gradient; longer ones are shortened.
        precision: Of the objective's matrix products, ``torch.bfloat16`` for mixed precision;
            norms are always found in that of the weights.
        augmentation: Changes of the inputs, in order.
    """

    epochs: int
    batch_size: int = 128
    rate: float = 1e-3
    seed: int = 0
    optimiser: Optimiser = Adam()  # noqa: RUF009 - frozen
    schedule: Schedule = Cosine()  # noqa: RUF009 - frozen
    clip: float = math.inf
    precision: torch.dtype = torch.float32
    augmentation: Sequence[Augmentation] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.rate > 0 or not self.clip > 0:
            raise PlanError(f"epochs, batch_size, rate and clip must be positive; got {self!r}")
        if self.precision not in {torch.float32, torch.float64, torch.bfloat16}:
            raise PlanError(
                f"precision is torch.float32, or torch.bfloat16 for mixed precision; got "
                f"{self.precision} (float16 would need its losses scaled)"
            )


def fit(
    network: nn.Module,
    data: Dataset,
    objective: Objective,
    recipe: Recipe,
    observe: Observer | None = None,
    *,
    evaluation: Evaluation | None = None,
    store: Store | None = None,
) -> Rows:
    """Train the network in place; the same recipe on the same machine gives the same weights.

    Args:
        network: Is left in evaluation mode; the constants of a GloRo network are frozen in the end.
        data: To train on.
        objective: The loss; prepared for the network if it has to be.
        recipe: How.
        observe: Is told of every finished epoch.
        evaluation: What is measured at the end of epochs.
        store: Keeps checkpoints and a log, and is gone on from if it holds one.

    Returns:
        What was measured at the end of each epoch.

    Raises:
        ModelError: If the loss is not finite.
        DataError: If the store holds the state of another training.
    """
    inner = network.network if isinstance(network, GloRoNetwork) else network
    loop = _Loop.of(inner, data, objective, recipe, evaluation, store)
    total = recipe.epochs * loop.per_epoch
    while loop.progress.step < total and not loop.progress.stopped:
        epoch = loop.progress.step // loop.per_epoch
        loop.epoch(epoch)
        if observe is not None:
            observe(Event("train", epoch + 1, recipe.epochs))
    loop.finish()
    if isinstance(network, GloRoNetwork):
        network.eval().freeze(data.x[:2])
    return tuple(loop.progress.rows)


@dataclass(slots=True, eq=False)
class _Loop:
    network: nn.Module
    data: Dataset
    objective: Objective
    recipe: Recipe
    evaluation: Evaluation | None
    store: Store | None
    optimiser: torch.optim.Optimizer
    digest: str
    progress: Progress
    rank: int
    world: int

    @classmethod
    def of(
        cls,
        network: nn.Module,
        data: Dataset,
        objective: Objective,
        recipe: Recipe,
        evaluation: Evaluation | None,
        store: Store | None,
    ) -> _Loop:
        """Prepare everything, and take back what the store holds."""
        rank, world = _processes()
        if world > 1 and (layer := looks_at_the_batch(network)):
            raise CapabilityError(
                f"{layer} looks at the whole batch, of which each process sees a part; train it in "
                "one process, or leave it out"
            )
        digest = ""
        if store is not None:
            weights = tuple(network.state_dict().values())
            digest = digest_of(objective, recipe, tensors=(data.x[:64], data.y, *weights))
            digest = digest_of(digest, [(n, tuple(p.shape)) for n, p in network.named_parameters()])
        if isinstance(objective, Preparable):
            objective = objective.prepare(network, data.x[:1])
        parameters = [p for p in network.parameters() if p.requires_grad]
        optimiser = recipe.optimiser.build(parameters, recipe.rate)
        made = cls(
            network,
            data,
            objective,
            recipe,
            evaluation,
            store,
            optimiser,
            digest,
            Progress(),
            rank,
            world,
        )
        if store is not None:
            made.progress = store.load(made.parts(), optimiser, digest)
        return made

    @property
    def per_epoch(self) -> int:
        return math.ceil(len(self.data) / self.recipe.batch_size)

    def parts(self) -> Mapping[str, nn.Module]:
        """Return the modules whose state belongs in a checkpoint."""
        state = getattr(self.objective, "state", None)
        return {"network": self.network} | ({} if state is None else {"objective": state})

    def epoch(self, epoch: int) -> None:
        """Take the steps of an epoch that are left, and measure."""
        began, progress = time.process_time(), self.progress
        streams = Streams.of(self.recipe.seed, self.data.positions).fold(epoch)
        order = streams.uniform(1, dtype=torch.float64)[:, 0].argsort()
        batches = order.split(self.recipe.batch_size)
        self.network.train()
        for rows in batches[progress.step - epoch * self.per_epoch :]:
            progress.loss += self.step(rows, streams) * len(rows)
            progress.step += 1
            within = progress.step % self.per_epoch
            if within and self.store is not None and self.store.due(progress.step):
                began = self._clock(began)
                self._save()
        self.network.eval()
        row = {"epoch": epoch + 1.0, "loss": progress.loss / len(self.data)}
        row["rate"] = self.optimiser.param_groups[0]["lr"]
        progress.loss = 0.0
        self.measure(epoch, row)
        self._clock(began)
        progress.rows.append(row | {"cpu_seconds": progress.seconds})
        if self.store is not None and self.rank == 0:
            self.store.log(progress.rows)
            show(self.store.folder, progress.rows[-1])
        self._save()

    def step(self, rows: Tensor, streams: Streams) -> float:
        """Take one step; return the mean loss of the batch."""
        recipe, total = self.recipe, self.recipe.epochs * self.per_epoch
        number = self.progress.step
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate * recipe.schedule((number + 0.5) / total)
        mine = rows[self.rank :: self.world]
        share = len(mine) / len(rows)
        batch = self._batch(mine if len(mine) else rows[:1], streams)
        device = batch.x.device.type
        with torch.autocast(device, recipe.precision, enabled=recipe.precision is torch.bfloat16):
            loss = self.objective(self.network, batch, number / max(1, total - 1))
        self.optimiser.zero_grad()
        (loss * share).backward()
        whole = self._added(loss.detach() * share)
        if not math.isfinite(value := float(whole)):
            raise ModelError(
                f"the loss is {value} at step {number}: lower the rate (now {group['lr']:.3g}), or "
                "shorten the gradient (clip)"
            )
        if math.isfinite(recipe.clip):
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        return value

    def _batch(self, rows: Tensor, streams: Streams) -> Batch:
        data, rng = self.data, streams.rows(rows)
        x = reduce(lambda x, change: change(x, rng), self.recipe.augmentation, data.x[rows])
        context = {name: value[rows] for name, value in data.context.items()}
        return Batch(x, data.y[rows], rng, context)

    def _added(self, loss: Tensor) -> Tensor:
        """Add up gradients and loss over the processes."""
        if self.world == 1:
            return loss
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([loss.reshape(1), *(p.grad.flatten() for p in parameters)])
        dist.all_reduce(flat)
        parts = flat[1:].split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            p.grad = part.view_as(p)
        return flat[0]

    def measure(self, epoch: int, row: dict[str, float]) -> None:
        """Evaluate if it is time, and decide whether to go on."""
        evaluation, progress = self.evaluation, self.progress
        last = epoch + 1 == self.recipe.epochs
        if evaluation is None or ((epoch + 1) % evaluation.every and not last):
            return
        found = evaluation(self.network)
        row |= found
        if evaluation.patience is None:
            return
        if found[evaluation.watched] > progress.best:
            progress.best, progress.waited = found[evaluation.watched], 0
            self._keep_best()
        else:
            progress.waited += 1
            progress.stopped = progress.waited >= evaluation.patience

    def _keep_best(self) -> None:
        if self.store is None:
            raise PlanError("early stop keeps the best weights; give fit a store for them")
        if self.rank == 0:
            self.store.keep_best(self.network)

    def finish(self) -> None:
        """Leave the network ready, with its best weights if those were asked for."""
        if self.evaluation is not None and self.evaluation.patience is not None:
            if self.world > 1:
                dist.barrier()
            assert self.store is not None  # noqa: S101 - else nothing was best
            self.store.take_best(self.network)
        self.network.eval()

    def _clock(self, began: float) -> float:
        now = time.process_time()
        self.progress.seconds += now - began
        return now

    def _save(self) -> None:
        if self.store is not None and self.rank == 0:
            self.store.save(self.parts(), self.optimiser, replace(self.progress), self.digest)


def _processes() -> tuple[int, int]:
    """Return the number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


__all__ = ["Recipe", "fit"]
