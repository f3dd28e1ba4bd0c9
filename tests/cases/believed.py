"""Networks whose classes, hooks or outputs promise another function than the one that runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from networks import (
    CLASSES,
    Backwards,
    Called,
    Case,
    Doubled,
    Everywhere,
    EverywhereBefore,
    Expected,
    Loud,
    LoudFlatten,
    Maker,
    Steep,
    changed,
    liar,
    plain,
    seeded,
)
from torch import Tensor, nn


def bare(seed: int = 1) -> Maker:
    return lambda: seeded(nn.Linear(6, CLASSES), seed)


def hooked(kind: str, hook: Callable[..., Any], where: str = "1") -> Maker:
    return changed(
        plain(), lambda m: getattr(m.get_submodule(where), f"register_forward_{kind}hook")(hook)
    )


def patched(where: str, factor: float) -> Maker:
    def change(module: nn.Module) -> None:
        part = module.get_submodule(where)
        before = part.forward
        part.forward = lambda x: factor * before(x)

    return changed(plain(), change)


def swapped(where: str, make: Maker) -> Maker:
    """The plain chain with another layer in the place of one."""
    return lambda: seeded(changed(plain(), lambda m: setattr(m, where, make()))(), 1)


def quantised(real: bool) -> Maker:
    """A chain whose head is a quantisation-aware layer; ``real``: the dense layer that it is."""

    def make() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao announces its own end
            from torch.ao.nn.qat import Linear
            from torch.ao.quantization import disable_observer, get_default_qat_qconfig

            module: Any = plain()()
            head = Linear(8, CLASSES, qconfig=get_default_qat_qconfig("fbgemm"))
            head.load_state_dict(module[4].state_dict(), strict=False)
            head.weight.data.mul_(1 + 0.001 * torch.arange(8))
            head.weight_fake_quant(head.weight)
            head.apply(disable_observer)
            if real:
                dense = nn.Linear(8, CLASSES)
                dense.weight.data = head.weight_fake_quant(head.weight).detach()
                dense.bias.data = head.bias.detach()
                head = dense
            module[4] = head
            return module

    return make


def believed_cases() -> list[Case]:
    """Table rows 1 to 3: outputs, hooks, patched and lying classes."""
    turned = torch.tensor([2, 0, 1])
    outputs: dict[str, Callable[[Any], Tensor]] = {
        "scaled": lambda o: 100 * o,
        "permuted": lambda o: o[:, turned],
        "negated": lambda o: -o,
        "flipped": lambda o: o.flip(1),
        "shifted": lambda o: o + torch.tensor([0.0, 30.0, 0.0], dtype=o.dtype),
        "centred over the batch": lambda o: o - o.mean(0),
    }
    found = [
        Case(
            f"outputs: {name}",
            plain(),
            outputs=pick,
            expected=Expected.REFUSED if "batch" in name else Expected.EITHER,
        )
        for name, pick in outputs.items()
    ]

    def in_place(*args: Any) -> None:
        args[-1].mul_(-30)

    def keywords(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return (30 * args[0], *args[1:]), kwargs

    hooks = {
        "hook: layer": hooked("", lambda m, a, out: 30 * out),
        "hook: dense": hooked("", lambda m, a, out: -30 * out, "2"),
        "hook: head": hooked("", lambda m, a, out: -30 * out, "4"),
        "hook: in place": hooked("", in_place, "2"),
        "hook: before": hooked("pre_", lambda m, args: (30 * args[0],), "2"),
        "hook: before, keywords": changed(
            plain(), lambda m: m[2].register_forward_pre_hook(keywords, with_kwargs=True)
        ),
        "hook: root": hooked("", lambda m, a, out: out.flip(1), ""),
        "hook: before the root": hooked("pre_", lambda m, args: (1 - args[0],), ""),
        "hook: random": hooked("", lambda m, a, out: out + torch.rand_like(out), "1"),
    }
    found += [
        Case(name, make, expected=Expected.REFUSED if "random" in name else Expected.EITHER)
        for name, make in hooks.items()
    ]
    classes = {
        "patched: dense": patched("2", -30.0),
        "patched: head": patched("4", -30.0),
        "patched: activation": patched("1", 30.0),
        "patched: root": patched("", -30.0),
        "subclass: dense": swapped("2", lambda: Loud(8, 8)),
        "subclass: head": swapped("4", lambda: Loud(8, CLASSES)),
        "subclass: activation": swapped("1", Steep),
        "subclass: flatten": swapped("3", LoudFlatten),
        "subclass: call": swapped("2", lambda: Called(8, 8)),
        "subclass: call of the head": swapped("4", lambda: Called(8, CLASSES)),
        "subclass: chain": lambda: seeded(
            Backwards(nn.Linear(6, CLASSES), nn.ReLU(), nn.Linear(6, 6)), 1
        ),
        "liar: head": swapped("4", lambda: liar("Linear", "torch.nn.modules.linear")(8, CLASSES)),
        "liar: hidden": swapped("2", lambda: liar("Linear", "torch.nn.modules.linear")(8, 8)),
        "liar: of conjoin": swapped("2", lambda: liar("MinMax", "conjoin.nn.activation")(8, 8)),
        "changed: class": changed(plain(), lambda m: setattr(m[2], "__class__", Loud)),
        "parametrised: -3 times": changed(
            plain(),
            lambda m: nn.utils.parametrize.register_parametrization(m[2], "weight", Doubled()),
        ),
    }
    found += [Case(name, make) for name, make in classes.items()]
    everywhere = [
        Case("hook: global", plain(), around=Everywhere),
        Case("hook: before, global", plain(), around=EverywhereBefore),
    ]
    return [
        *found,
        *everywhere,
        Case("qat head", quantised(False), twin=quantised(True)),
    ]
