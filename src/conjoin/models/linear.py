"""Which operations of ``torch`` are linear in what depends on the input, and keep its rows apart.

Their derivatives are their secants, so secant passes let them through; everything else that has no
rule is refused. So are operations that mix rows of the batch or move them: after them it could not be
told which row is whose. Most keep rows apart by what they are; any other is done once more with some
rows marked by NaN, which linear operations carry to all that is made of them. Refused as well are
conversions to a coarser type, which round: a rounding is a staircase, and its steps are not in its
derivative.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.errors import CapabilityError
from conjoin.models.call import Call, tensors


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
    transpose permute movedim hash repr format is_tensor rot90 identity
    grad backward detach nested_tensor_from_mask_left_aligned
    """
)
PRODUCTS = _words(  # linear in one of the values, affine in each of two
    """
    mul multiply rmul imul matmul rmatmul mm bmm mv dot einsum tensordot outer linear conv1d conv2d
    conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution bilinear addcmul inner kron
    """
)
_FIRST = frozenset({"div", "divide", "true_divide", "truediv", "itruediv", "idiv", "lerp"})
_SUMS = frozenset({"addmm", "addmv", "addbmm", "baddbmm"})
EACH = _words(  # each element of what comes out is made of one element, by broadcasting
    """
    add sub rsub radd iadd isub neg negative positive clone contiguous to type double float cpu cuda
    mul multiply rmul imul div divide true_divide truediv itruediv idiv lerp addcmul masked_fill where
    dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout
    batch_norm identity requires_grad
    """
)
_ORDERED = _words("view view_as reshape reshape_as flatten unflatten")
_IMAGES = frozenset(
    f"{kind}{axes}d"
    for kind in ("conv", "conv_transpose", "avg_pool", "adaptive_avg_pool")
    for axes in (1, 2, 3)
)
_PADS = frozenset({"pad", "constant_pad_nd"})
_COMPARISONS = _words(
    "gt greater lt less ge greater_equal le less_equal eq ne not_equal isclose sign signbit"
)
_UNROUNDED = _words(  # round no value: they take the shape of one, or keep each one's type
    """
    zeros_like ones_like empty_like full_like new_zeros new_ones new_full new_empty expand_as view_as
    reshape_as broadcast_tensors grad backward
    """
)
RIGHT = frozenset({"linear", "matmul", "mm", "mv"})  # by a matrix from the right, or a vector
_OUTSIDE = frozenset({"grad", "backward"})  # not in the pass
_PROPERTIES = frozenset({".mT", ".mH", ".real"})


def check_linear(call: Call) -> None:
    """Refuse an operation that is not linear in what depends on the input.

    Raises:
        CapabilityError: Naming it.
    """
    name, args, named, count = call.name, call.args, call.named, len(call.given)
    if name.startswith("."):
        fine = name in _PROPERTIES or name not in (".T", ".H", ".data", ".grad", ".imag")
    elif name in PRODUCTS:
        fine = count <= 1
    elif name in _FIRST:
        rounded = named.get("rounding_mode") is not None
        fine = count <= 1 and bool(args) and args[0] is call.given[0] and not rounded
    elif name in _SUMS:
        factors = (*args[1:], *(value for key, value in named.items() if key != "input"))
        fine = sum(tensor.requires_grad for tensor in tensors(factors)) <= 1
    elif name == "batch_norm":
        fine = count <= 1 and not _training(call)
    elif name.startswith("scatter"):  # one that multiplies, or takes the largest, says so
        fine = name in _ANY and not any(isinstance(v, str) for v in (*args, *named.values()))
    elif name == "float":  # the method keeps a graph, Python's own number does not
        fine = getattr(call.func, "__name__", "") != "__float__"
    else:
        fine = name in _ANY and not _training(call)
    if not fine:
        _refuse(name)


def check_made(call: Call, out: Any, sizes: Collection[int]) -> None:
    """Refuse what a linear operation returned, if it was rounded, or if it mixes or moves rows.

    Raises:
        CapabilityError: Naming the operation.
    """
    check_unrounded(call, out)
    check_rows(call, out, sizes)


def check_unrounded(call: Call, out: Any) -> None:
    """Refuse a value of a coarser floating type than the finest one that went in, or an integer.

    Raises:
        CapabilityError: Naming the operation.
    """
    results, name = call.results(out), call.name
    if not name.startswith(".") and name not in _UNROUNDED:
        finest = min(torch.finfo(t.dtype).eps for t in call.given)
        if any(not _floating(t) or torch.finfo(t.dtype).eps > finest for t in results):
            _refuse(f"{name}, to a coarser type,")


def check_rows(call: Call, out: Any, sizes: Collection[int]) -> None:
    """Refuse what mixes or moves rows.

    ``sizes`` are the rows of the batch, and of the padded one: the first axis of all that depends on
    the input, but of a single number, and of that nothing else may be made.

    Raises:
        CapabilityError: Naming the operation.
    """
    name, made = call.name, [t for t in call.results(out) if t.requires_grad]
    if name in _OUTSIDE or all(t.ndim == 0 for t in made):
        return
    if any(t.ndim == 0 or len(t) not in sizes for t in (*call.given, *made)):
        _refuse(name, ", since a first axis there is not the batch")
    if not _keeps_rows(call, made[0]) and _mixes_rows(call):
        _refuse(name, ", since it mixes or moves the rows of the batch")


def check_comparison(name: str) -> None:
    """Refuse a comparison of values that depend on the input, where no graph is recorded either.

    Raises:
        CapabilityError: Naming it.
    """
    if name in _COMPARISONS:
        _refuse(name)


def _refuse(name: str, why: str = "") -> NoReturn:
    raise CapabilityError(
        f"{name.strip('.')} of values that depend on the input has no secant here{why}. Take "
        "Midpoint() or Trapezoid(), which need derivatives only"
    )


def _floating(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _training(call: Call) -> bool:
    """Tell whether a batch norm uses the batch's own statistics, or a dropout drops."""
    bound, named = dict(enumerate(call.args)), call.named
    if call.name == "batch_norm":
        return bool(named.get("training", bound.get(5, False)))
    if "dropout" in call.name:
        training = named.get("training", named.get("train", bound.get(2, True)))
        return bool(training) and float(named.get("p", bound.get(1, 0.5))) > 0
    return False


def _keeps_rows(call: Call, made: Tensor) -> bool:
    """Tell by what an operation is that each row it made is made of the same row alone."""
    z, name = call.given[0], call.name
    first = bool(call.args) and call.args[0] is z
    if name in EACH:
        return all(t.ndim == made.ndim and len(t) == len(made) for t in call.given)
    if name in _ORDERED:
        return len(made) == len(z)
    if name in _IMAGES:
        return first and z.ndim == int(name[-2]) + 2
    if name in _PADS:  # a pair for each of the last axes
        return first and len(call.args) > 1 and len(call.args[1]) // 2 < z.ndim
    return name in RIGHT and first and z.ndim > 1 and all(a.ndim < 3 for a in call.args[1:2])


def _mixes_rows(call: Call) -> bool:
    """Do an operation again with some rows marked; tell whether a mark comes to another row."""
    with torch.no_grad():
        again = Call(call.func, marked(call.args), {k: marked(v) for k, v in call.named.items()})
        again.name = call.name
        return any(
            bool((t.isnan().reshape(len(t), -1).any(1) & ~marks(len(t), t.device)).any())
            for t in again.results(again.made())
        )


def marked(value: Any) -> Any:
    """Return zeros for what depends on the input, NaN in the marked rows; other values as they are."""
    if isinstance(value, tuple):
        return tuple(map(marked, value))
    if isinstance(value, list):
        return [*map(marked, value)]
    if not (isinstance(value, Tensor) and value.requires_grad):
        return value
    rows = marks(len(value), value.device).reshape(-1, *[1] * (value.ndim - 1))
    return torch.zeros_like(value).masked_fill_(rows, torch.nan)


@lru_cache(maxsize=64)
def marks(rows: int, device: torch.device) -> Tensor:
    """Mark about half of the rows, in no order that a program may keep; the first is not."""
    found = Streams.of(0, torch.arange(rows, device=device)).key < 0
    found[:1], found[1:2] = False, True
    return found
