"""Which operations of ``torch`` are linear in what depends on the input.

Their derivatives are their secants, so secant passes let them through; everything else that has no
rule is refused. Operations that move the batch to another axis are refused as well: after them it
could not be told which row is whose. So are conversions to a coarser type, which round: a rounding
is a staircase, and its steps are not in its derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from conjoin.errors import CapabilityError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANY = _words(
    """
    add sub rsub radd iadd isub neg negative positive sum mean cumsum nansum clone contiguous to type
    double float cpu cuda view view_as reshape reshape_as flatten unflatten squeeze unsqueeze expand
    expand_as repeat tile repeat_interleave cat concat concatenate stack hstack vstack dstack chunk
    split split_with_sizes tensor_split unbind select narrow index_select gather scatter take_along_dim
    getitem setitem copy masked_fill masked_scatter where select_scatter slice_scatter index_copy
    index_fill scatter_add index_add pad constant_pad_nd avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample pixel_shuffle
    pixel_unshuffle channel_shuffle unfold fold broadcast_to broadcast_tensors diff tril triu diagonal
    requires_grad register_hook retain_grad zeros_like ones_like empty_like full_like new_zeros new_ones
    new_full new_empty new_tensor size dim ndimension numel nelement element_size stride len
    is_floating_point is_complex is_contiguous is_same_size get_device dropout dropout1d dropout2d
    dropout3d feature_dropout alpha_dropout feature_alpha_dropout batch_norm flip roll swapaxes
    transpose permute movedim hash repr format iter is_tensor rot90 identity
    grad backward detach
    """
)
_ONE = _words(  # linear in one of the values, so only one of them may depend on the input
    """
    mul multiply rmul imul matmul rmatmul mm bmm mv dot einsum tensordot outer linear conv1d conv2d
    conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution bilinear addcmul inner kron
    """
)
_FIRST = frozenset({"div", "divide", "true_divide", "truediv", "itruediv", "idiv", "lerp"})
_SUMS = frozenset({"addmm", "addmv", "addbmm", "baddbmm"})
_DROPOUTS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d"})
_AXES = frozenset({"transpose", "swapaxes", "permute", "movedim", "flip", "roll", "rot90"})
_COMPARISONS = _words(
    "gt greater lt less ge greater_equal le less_equal eq ne not_equal isclose sign signbit"
)
_UNROUNDED = _words(  # round no value: they take the shape of one, or keep each one's type
    """
    zeros_like ones_like empty_like full_like new_zeros new_ones new_full new_empty expand_as view_as
    reshape_as broadcast_tensors grad backward
    """
)
_PROPERTIES = frozenset({".mT", ".mH", ".real"})


def check_linear(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Refuse an operation that is not linear in what depends on the input.

    Raises:
        CapabilityError: Naming it.
    """
    values = (*args, *named.values())
    count = _dependent(values)
    if name.startswith("."):
        fine = name in _PROPERTIES or name not in (".T", ".H", ".data", ".grad", ".imag")
    elif name in _ONE:
        fine = count <= 1
    elif name in _FIRST:
        rounded = named.get("rounding_mode") is not None
        fine = count <= 1 and bool(args) and _dependent(args[:1]) == 1 and not rounded
    elif name in _SUMS:
        factors = (*args[1:], *(value for key, value in named.items() if key != "input"))
        fine = _dependent(factors) <= 1
    elif name == "batch_norm":
        fine = count <= 1 and not _training(name, args, named)
    elif name.startswith("scatter"):  # one that multiplies, or takes the largest, says so
        fine = name in _ANY and not any(isinstance(value, str) for value in values)
    elif name in _AXES:
        fine = not _moves_batch(name, args, named)
    elif name == "float":  # the method keeps a graph, Python's own number does not
        fine = getattr(func, "__name__", "") != "__float__"
    else:
        fine = name in _ANY and not _training(name, args, named)
    if not fine:
        _refuse(name)


def check_result(name: str, args: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
    """Refuse what a linear operation returned, if it was rounded on the way.

    That is a value of a coarser floating type than the finest one that went in and depends on the
    input, or an integer.

    Raises:
        CapabilityError: Naming the operation.
    """
    if name.startswith(".") or name in _UNROUNDED:
        return
    given = _tensors((*args, *named.values()))
    finest = min((torch.finfo(t.dtype).eps for t in given if t.requires_grad), default=1.0)
    returned = args[:1] if name == "setitem" else (out,)
    if any(not _floating(t) or torch.finfo(t.dtype).eps > finest for t in _tensors(returned)):
        _refuse(f"{name}, to a coarser type,")


def check_comparison(name: str) -> None:
    """Refuse a comparison of values that depend on the input, where no graph is recorded either.

    Raises:
        CapabilityError: Naming it.
    """
    if name in _COMPARISONS:
        _refuse(name)


def _refuse(name: str) -> NoReturn:
    raise CapabilityError(
        f"{name.strip('.')} of values that depend on the input has no secant here. Take "
        "Midpoint() or Trapezoid(), which need derivatives only"
    )


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors among values, also those in tuples and lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _dependent(values: Any) -> int:
    """Count the tensors that depend on the input, each of those in tuples and lists."""
    return sum(tensor.requires_grad for tensor in _tensors(values))


def _floating(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _training(name: str, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Tell whether a batch norm uses the batch's own statistics, or a dropout drops."""
    if name == "batch_norm":
        bound = dict(enumerate(args))
        return bool(named.get("training", bound.get(5, False)))
    if name in _DROPOUTS or "dropout" in name:
        bound = dict(enumerate(args))
        training = named.get("training", named.get("train", bound.get(2, True)))
        return bool(training) and float(named.get("p", bound.get(1, 0.5))) > 0
    return False


def _moves_batch(name: str, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    rank = args[0].ndim
    flat: list[int] = []
    for value in (*args[1:], *named.values()):
        flat += list(value) if isinstance(value, Sequence) else [value]
    if name == "permute":
        return bool(flat) and flat[0] % rank != 0
    if name == "roll":  # shifts, then axes
        axes = named.get("dims", args[2] if len(args) > 2 else ())
        flat = [axes] if isinstance(axes, int) else list(axes) or [0]
    return any(axis % rank == 0 for axis in flat)
