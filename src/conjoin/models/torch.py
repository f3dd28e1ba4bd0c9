"""Any ``torch.nn.Module`` as a model that can be cut.

The module is only ever *looked at*: hooks live inside one call, evaluation mode and frozen
parameters inside :meth:`TorchModel.held`. Where ``torch.fx`` can trace the module, a pass between
cuts computes only what it needs; elsewhere hooks on a full pass give the same values.

Batches are padded to a multiple of four rows, since matrix kernels round the last odd rows of a batch
differently, and small inputs to 16 at least on processors that need it (:mod:`conjoin.models.cuts`).
What then holds on a CPU: batches of any multiple of four rows, cut from the data in order, agree bit
for bit, as long as passes are of 16 rows where those are needed; in other batches an example may come
to another place modulo four, and for dense layers of some widths the kernels round by that place (1 of
40 in single precision, 15 of 40 in double; convolutions none of those tried), so they agree to
rounding. No padding mends that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.operator import Step
from conjoin.core.protocols import NO_VALUES, Batch
from conjoin.core.slice import INPUT, OUTPUT, Cut
from conjoin.errors import CapabilityError, ModelError, PostconditionError
from conjoin.models.between import Passes
from conjoin.models.cuts import filled, fillings, least_of, one_attention, padded
from conjoin.models.held import Snapshot, digest, snapshot
from conjoin.models.secant import Slopes
from conjoin.models.switches import Switches

_MADE_OF = frozenset({"module", "_outputs", "dtype", "_device"})  # the rest is learnt of these


class TorchModel:
    """A classifier held in a ``torch.nn.Module``; see :func:`conjoin.wrap`.

    Args:
        module: Takes one tensor, and possibly the batch's context as keyword inputs; gives logits
            ``(batch, classes)``.
        outputs: Picks the logits when the module gives a tuple or a dictionary.

    Raises:
        ModelError: If parameters are in half precision, on several devices, or not finite.
    """

    def __init__(
        self, module: nn.Module, *, outputs: Callable[[Any], Tensor] | None = None
    ) -> None:
        self.module = module
        self._outputs = outputs
        self._passes: Passes | None = None
        self._steps: tuple[str, dict[object, tuple[Step, ...]]] = ("", {})
        self._drifting: frozenset[tuple[str, str]] = frozenset()
        self._digest: tuple[str, str] = ("", "")
        self._held: Snapshot | None = None
        self._last: Snapshot | None = None
        self._reads_only, self._seen = False, ""
        self.dtype, self._device = _precision_and_place(module)

    def __repr__(self) -> str:
        """Show the wrapped class and its size."""
        count = sum(p.numel() for p in self.module.parameters())
        return f"TorchModel({type(self.module).__name__}, {count} parameters)"

    def __reduce__(self) -> tuple[Callable[..., TorchModel], tuple[nn.Module]]:
        """Copy and send what it is made of; what was learnt of that is learnt anew."""
        return partial(type(self), outputs=self._outputs), (self.module,)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self._device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the logits, shape ``(batch, classes)``."""
        self._check_input(batch.x)
        with one_attention():
            return self._forward(batch.x, batch.context)

    def run(
        self,
        batch: Batch,
        /,
        *,
        put: Mapping[Cut, Tensor] = NO_VALUES,
        take: tuple[Cut, ...] = (OUTPUT,),
    ) -> tuple[Tensor, ...]:
        """Return the values at the cuts ``take`` with the values ``put`` written in.

        They belong to one autograd graph: a value depends on those taken before it. The input still
        serves whatever by-passes the written cuts (skip connections); where the module can be
        traced, nothing else is computed.

        Raises:
            CutError: If a cut names no module, one that runs several times without saying which, or
                no tensor there; or if a value put in has another number of rows.
            ModelError: If the inputs do not fit the model.
        """
        x = put.get(INPUT, batch.x)
        self._check_input(x)
        known = {**put, INPUT: x}
        wanted = tuple(cut for cut in dict.fromkeys(take) if cut not in known)
        written = {cut: z for cut, z in put.items() if cut not in (INPUT, OUTPUT)}
        with one_attention():
            if wanted == (OUTPUT,) and not written:
                known[OUTPUT] = self._forward(x, batch.context)
            elif wanted:
                found = self._now()(batch.at(x), written, wanted)
                known.update(zip(wanted, found, strict=True))
        return tuple(known[cut] for cut in take)

    def steps(self, example: Batch, /) -> tuple[Step, ...]:
        """Return the operators in order, for inputs shaped like ``example``.

        Raises:
            CapabilityError: If a part of the network is not known, or the model takes a context.
        """
        from conjoin.models.trace import operators

        if example.context:
            raise CapabilityError(
                f"the operators of a model with context ({', '.join(example.context)}) are not "
                "known: what stands beside the inputs differs by example. Attacks and gradient "
                "explanations apply to it"
            )
        self._check_input(example.x)
        with self.held():
            assert self._held is not None  # noqa: S101 - just now
            if self._steps[0] != self._held.key:
                self._steps = self._held.key, {}
            known, key = self._steps[1], (example.x.shape[1:], example.x.dtype)
            if key not in known:
                x = example.x.detach()
                made = operators(self.module, lambda z: self._logits(self.module(z)), x)
                self._refuse_state()
                known[key] = made
            return known[key]

    def _refuse_state(self) -> None:
        """Refuse a module that a pass leaves otherwise than it was, e.g. one that counts its calls."""
        assert self._held is not None  # noqa: S101 - operators are asked for while it is held
        now = snapshot(self.module, self._outputs, self._drifting)
        kept = [name for _, name in self._held.differing(now)]
        if kept:
            raise CapabilityError(
                f"{kept[0]} changes from pass to pass: the network has a state that its answers may "
                "depend on, so nothing is certified"
            )

    @contextmanager
    def secants(self, partner: Tensor, /) -> Iterator[None]:
        """Within the context, let row i of a pass have slopes between itself and ``partner[i]``.

        Raises:
            CapabilityError: In the pass, at an operation without a secant, naming it.
        """
        with self.held(), Slopes(partner, fillings(len(partner))):
            yield

    def parted(self, batch: Batch, cuts: tuple[Cut, ...], stop: Cut, /) -> bool:
        """Tell whether every way from the input to ``stop`` leads through ``cuts``, seen in a graph.

        Where the module cannot be traced the answer is no.
        """
        return self._now().parted(batch, (*cuts, stop))

    def switched(
        self, batch: Batch, blocks: int, /, *, put: Mapping[Cut, Tensor] = NO_VALUES
    ) -> Tensor:
        """Return in what share of the network's pieces neighbouring blocks of rows differ."""
        seen = Switches(len(batch), blocks, fillings(len(batch)))
        with self.held(), torch.no_grad(), seen:
            self.run(batch, put=put)
        return seen.shares(batch.x.device)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Freeze the module in evaluation mode; restore modes and gradients, also on an exception.

        Contents are checked once on entry and once on exit; inside, :meth:`digest` is free. What was
        assigned to this adapter is taken back. May be nested: only the outermost counts.

        Raises:
            PostconditionError: If weights, buffers, layers, hooks, forwards, plain attributes or this
                adapter's own were changed meanwhile.
        """
        if self._held is not None:
            yield
            return
        before, own = self._taken_stock(), dict(vars(self))
        modes = [(m, m.training) for m in self.module.modules()]
        wanted = [(p, p.requires_grad) for p in self.module.parameters()]
        self._held, self._reads_only = before, self._reads_only and before.key == self._seen
        self._seen = before.key
        _put(modes, wanted, still=True)
        try:
            yield
        finally:
            self._held = None
            self._steps = "", {}  # read off anew for whoever holds it next
            _put(modes, wanted)
            changed = self._put_back(own)
        if changed:
            raise PostconditionError(
                f"{' and '.join(changed)} of {self!r} were assigned to while it was being evaluated; "
                "wrap what is to be another model by itself"
            )
        self._check_unchanged(before)

    def _put_back(self, own: dict[str, object]) -> list[str]:
        """Put back what this model is made of, drop what was added; return the names of both."""
        now = vars(self)
        assigned = [key for key in _MADE_OF if now.get(key) is not own[key]]
        added = [key for key in now if key not in own]
        for key in added:
            del now[key]
        now.update((key, own[key]) for key in assigned)
        return assigned + added

    def digest(self) -> str:
        """Return the SHA-256 of names and contents of weights and buffers, and of the structure.

        The structure: the layers' types, instance-patched forwards, hooks (also global ones), plain
        attributes, unregistered tensors that stay as they are, and what ``outputs=`` is.
        """
        now = self._held or self._taken_stock()
        if self._digest[0] != now.key:
            self._digest = (now.key, digest(self.module, self._outputs, self._drifting))
        return self._digest[1]

    def cuts(self) -> list[str]:
        """List the names of the modules that can be cut."""
        return [name for name, _ in self.module.named_modules() if name]

    def _taken_stock(self) -> Snapshot:
        now = snapshot(self.module, self._outputs, self._drifting)
        if self._last is None or now != self._last:
            self._last = now
        return self._last  # with its key, which costs as much as all the rest

    def _check_unchanged(self, before: Snapshot) -> None:
        after = self._taken_stock()
        if after is before:
            return
        changes = before.changes(after)
        if changes:
            kinds = " and ".join(dict.fromkeys(kind for kind, _ in changes))
            names = ", ".join(name or "the module itself" for _, name in changes[:5])
            raise PostconditionError(
                f"{kinds} of {self!r} were changed while it was being evaluated ({names}); "
                "load the model again"
            )
        # Activations that a forward pass keeps as attributes say nothing of the next pass.
        self._drifting |= frozenset(before.drifted(after))

    def _now(self) -> Passes:
        """Return the passes known of the module as it is: looked at anew outside :meth:`held`."""
        if self._held is not None:
            state = self._held.key, False
        else:  # in training mode a trace would be another
            state = self._taken_stock().key, any(m.training for m in self.module.modules())
        if self._passes is None or self._passes.state != state:
            self._passes = Passes(state, self.module, self._raw, self._logits)
        return self._passes

    def _forward(self, x: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """Pass through the whole module, padded; once it is seen not to write, without a copy."""
        if (
            self._reads_only
            and self._held is not None
            and not context
            and len(x) == filled(len(x), least_of(x))
        ):
            before = x._version
            out = self._logits(self._raw(x, context))
            if x._version != before:
                raise PostconditionError(f"{self!r} wrote into its input; give it a copy")
            return out
        whole, context = padded(x, context)
        before = whole._version
        out = self._logits(self._raw(whole, context))
        self._reads_only = self._held is not None and whole._version == before
        return out if len(out) == len(x) else out[: len(x)]

    def _raw(self, x: Tensor, context: Mapping[str, Tensor]) -> Any:
        try:
            return self.module(x, **context)
        except TypeError as error:
            try:
                inspect.signature(self.module.forward).bind(x, **context)
            except TypeError as mismatch:
                raise ModelError(
                    f"{type(self.module).__name__} was called with one input and the context "
                    f"{sorted(context)}: {mismatch}. Give further inputs by name, one row per "
                    "example: Dataset(..., context={name: tensor})"
                ) from error
            raise

    def _logits(self, raw: Any) -> Tensor:
        out = raw if self._outputs is None else self._outputs(raw)
        if not isinstance(out, Tensor):
            raise ModelError(
                f"the module returned a {type(out).__name__}; expected a tensor of logits. Say "
                "which one: wrap(module, outputs=lambda out: out['logits'])"
            )
        return out

    def _check_input(self, x: Tensor) -> None:
        precise = x.dtype != self.dtype and x.is_floating_point()
        if precise or x.device != self._device:
            raise ModelError(
                f"inputs are {x.dtype} on {x.device}, the model is {self.dtype} on "
                f"{self._device}; convert one to the other, e.g. x.to(model.dtype)"
            )


def _put(
    modes: list[tuple[nn.Module, bool]],
    wanted: list[tuple[nn.Parameter, bool]],
    *,
    still: bool = False,
) -> None:
    """Put modes and gradients as they are said to be, or all off; what is so already costs nothing."""
    for m, training in modes:
        if m.training != (training and not still):
            m.training = training and not still
    for p, flag in wanted:
        if p.requires_grad != (flag and not still):
            p.requires_grad_(flag and not still)


def _precision_and_place(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    floats = [
        (name, t)
        for name, t in [*module.named_parameters(), *module.named_buffers()]
        if t.is_floating_point()
    ]
    if not floats:
        return torch.float32, torch.device("cpu")
    for name, value in floats:
        if value.dtype not in (torch.float32, torch.float64):
            raise ModelError(
                f"{name} is {value.dtype}; expected float32 or float64, since gradients and "
                "bounds in half precision measure rounding. Convert it: module.float()"
            )
        if not bool(value.isfinite().all()):
            raise ModelError(
                f"{name} holds NaN or infinity; the weights are broken, load a good checkpoint"
            )
    places = {(value.dtype, value.device) for _, value in floats}
    if len(places) > 1:
        raise ModelError(
            f"parameters lie in several precisions or places, {sorted(map(str, places))}; expected "
            "one: module.to(device, dtype)"
        )
    return places.pop()
