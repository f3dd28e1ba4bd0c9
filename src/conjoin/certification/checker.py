"""Check a certificate file with NumPy alone: ``python checker.py CERT.json --weights W``.

    no z with ‖z - x‖_2 <= radius(x) has another class than x        (in real arithmetic)

of a network of weights and steps. Norms, constants, logits with their errors and radii are derived
again. That the steps are somebody's deployed network is *not* shown, only that they give its logits.

Reference: rump2006, theorem 2.3; sedghi2019; leino2021, equation 3.
"""

import argparse, hashlib, io, json, math, sys  # noqa: E401, I001
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
Json = dict[str, Any]  # of a text, or arrays by their names
UNIT, TINY = 2.0**-53, 2.0**-1000
ENTRIES, SIDE = 2**25, 4096  # of a convolution that is written out
ACTS: dict[str, tuple[float, Any]] = {  # the largest slope, and the function
    "relu": (1.0, lambda x, ends: np.maximum(x, 0)), "abs": (1.0, lambda x, ends: np.abs(x)),
    "leaky_relu": (1.0, lambda x, ends: np.where(x > 0, x, x * ends[0])),
    "clip": (1.0, lambda x, ends: np.clip(x, *ends)), "tanh": (1.0, lambda x, ends: np.tanh(x)),
    "sigmoid": (0.25, lambda x, ends: 0.5 * (1 + np.tanh(x / 2)))}  # fmt: skip
OPS = {"input", "dense", "conv", "gather", "maxima", "elementwise", "sort", "add", "concat"}
KINDS = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}


class RejectedError(Exception):
    """The certificate does not hold, or is not understood."""


def demand(holds: Any, why: str) -> None:
    """Reject unless all of it holds; what is not a number does not."""
    if not np.all(holds):
        raise RejectedError(why)


def numbers(values: Any, whole: bool = False) -> bool:
    """Tell whether this is a flat list of finite numbers, or of whole ones."""
    kinds = {type(v) for v in values} if type(values) is list else {None}
    return kinds <= ({int} if whole else {int, float}) and all(map(math.isfinite, values))


def fitting(step: Json, own: Json, source: list[int]) -> None:
    """Demand that a step's numbers have their types, and its arrays their shapes, none by example."""
    op, shape, sizes = step["op"], step["shape"], {k: a.shape for k, a in own.items()}
    w, single = sizes.get("weight", ()), [step.get("axis", 1), step.get("groups", 1)]
    moves = [step.get(name, []) for name in ("sources", "stride", "padding", "dilation")]
    free = [[step["bound"], step.get("slack", 0)], step.get("ends", []), step.get("signs", [])]
    fits = all(numbers(v, True) for v in (shape, single, *moves)) and all(map(numbers, free))
    fits &= np.broadcast_shapes(sizes.get("bias", ()), tuple(shape)) == tuple(shape)
    if op == "dense":
        fits &= w == (shape[-1], source[-1]) and shape[:-1] == source[:-1]
    elif op == "conv":
        fits &= w[:2] == (shape[0], source[0] / single[1])
        fits &= len(w) - 1 == len(shape) == len(source)
    elif op in {"gather", "maxima"}:
        index, (rows, many) = own["index"], sizes["index"]
        fits &= rows == math.prod(shape) and w in {(), (rows, 1), (rows, many)}
        fits &= sizes.get("witness", ()) == (math.prod(source),) * (op == "gather")
        fits &= index.dtype.kind == "i" and -1 <= index.min() <= index.max() < math.prod(source)
    demand(fits and op in OPS and single[0] > 0, "it does not fit, or mixes the examples")


def fingerprint(arrays: Json) -> str:
    """Return the SHA-256 of names, types, shapes and contents, in the order of the names."""
    held = ((name, np.ascontiguousarray(arrays[name])) for name in sorted(arrays))
    parts = (f"{name} {a.dtype.str} {a.shape} ".encode() + a.tobytes() for name, a in held)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def seal(story: Json) -> str:
    """Return the SHA-256 of a certificate's text without its own ``digest``."""
    text = json.dumps({key: story[key] for key in story if key != "digest"}, sort_keys=True)
    return fingerprint({"text": np.frombuffer(text.encode(), np.uint8)})


def gram(a: Array) -> Array:
    """Return the smaller Gram matrix of each of the matrices ``(..., rows, columns)``."""
    a = a if a.shape[-2] <= a.shape[-1] else np.swapaxes(a, -1, -2)
    return a @ np.swapaxes(a, -1, -2).conj()


def split(step: Json, kernel: Array) -> Array:
    """Return the kernel of each group, ``(groups, outputs, inputs, *taps)``."""
    return kernel.reshape(step["groups"], -1, *kernel.shape[1:])


def symbols(step: Json, kernel: Array, source: list[int]) -> Array:
    """Return the blocks, one for each frequency, of a convolution on a torus that holds the image."""
    # A stride makes channels of residues. On (padding + pixels) places no window meets its back.
    k, stride = split(step, kernel), step["stride"]
    ends = zip(step["padding"], source[1:], stride, strict=True)
    periods = [-(-(p + n) // s) for p, n, s in ends]
    grid = [g.ravel() for g in np.meshgrid(*map(np.arange, periods), indexing="ij")]
    w = np.zeros((len(k), len(grid[0]), *k.shape[1:3], math.prod(stride)), complex)
    for tap in product(*map(range, kernel.shape[2:])):
        places = [d * t for d, t in zip(step["dilation"], tap, strict=True)]
        residue = np.ravel_multi_index([q % s for q, s in zip(places, stride, strict=True)], stride)
        parts = zip(grid, places, stride, periods, strict=True)
        turn = sum((g * (q // s)) % p / p for g, q, s, p in parts)  # exact, up to the division
        phase = np.exp(2j * np.pi * np.asarray(turn))[:, None, None]
        w[..., residue] += phase * k[(slice(None),) * 3 + tap][:, None]
    return w.reshape(len(k), len(grid[0]), k.shape[1], -1)


def linear(step: Json, a: Array, source: list[int]) -> tuple[str, Array, float]:
    """Return how the norm of a map is shown, its Gram matrices, and a bound of their errors."""
    if step["op"] == "dense":
        return "cholesky", gram(a), 8 * (max(a.shape) + 4) * UNIT * float(np.square(a).sum())
    rows, columns = math.prod(step["shape"]), math.prod(source)
    if rows * columns <= ENTRIES and min(rows, columns) <= SIDE:
        unit = np.eye(columns).reshape(-1, *source)
        whole = mapped(step, {"weight": a}, unit, size=False).reshape(columns, rows)
        error = 8 * (max(rows, columns) + 4) * UNIT * float(np.square(whole).sum())
        return "cholesky", gram(whole), error
    k = np.abs(split(step, a))
    mass = float(np.square(k.reshape(*k.shape[:3], -1).sum(3)).sum((1, 2)).max())
    return "torus", gram(symbols(step, a, source)), 16 * (a.size + 24) * UNIT * mass


def needed_slack(square: float, side: int, error: float) -> float:
    """Return the share of τ² that must be left for the errors of factorisation and Gram matrix."""
    return 8 * (side + 4) * side * UNIT + 1.01 * error / square


def factorise(bound: float, slack: float, grams: Array, error: float) -> None:
    """Demand that each G lies below τ², by factorising (1 - slack) τ² I - G."""
    sane = 0 < slack < 0.5 and 1e-100 < bound < 1e100 and np.isfinite(grams).all()
    demand(sane, "bound, slack or numbers make no sense")
    demand(slack >= needed_slack(bound**2, grams.shape[-1], error), "no room for rounding errors")
    square = bound**2 * (1 - slack) * (1 - 8 * UNIT)
    try:
        np.linalg.cholesky(square * np.eye(grams.shape[-1]) - grams)
    except np.linalg.LinAlgError:
        raise RejectedError("the norm is not below its bound") from None


def local(step: Json, own: Json, source: list[int]) -> float:
    """Check what a step claims of itself; return its Lipschitz constant."""
    op, claimed, least, index = step["op"], float(step["bound"]), 1.0, np.asarray(own.get("index"))
    if op in {"dense", "conv"}:
        method, grams, error = linear(step, own["weight"], source)
        demand(step["method"] == method, f"its norm is shown by {method}")
        factorise(claimed, float(step["slack"]), grams, error)
        return claimed
    if op == "gather":  # Schur's test: ‖A‖² <= max (|A|ᵀ|A| v)_j / v_j for any v > 0
        v = np.append(own["witness"], 0.0)
        demand(v[:-1] > TINY, "no vector above 0")
        back, factor = np.zeros(len(v)), np.abs(own["weight"]) * np.ones(index.shape)
        np.add.at(back, index, factor * (factor * v[index]).sum(-1, keepdims=True))
        least = math.sqrt((back[:-1] / v[:-1]).max()) * (1 + 16 * (index.size + 8) * UNIT)
    elif op == "maxima":  # an element of n windows counts √n
        demand((index >= 0).any(-1), "a window is empty")
        least = math.sqrt(np.bincount(index[index >= 0].ravel()).max()) * (1 + 4 * UNIT)
    elif op == "elementwise":
        leaky = step["function"] == "leaky_relu"
        least = max(ACTS[step["function"]][0], abs(step["ends"][0]) * leaky)
    demand(claimed >= least, f"its constant is at least {least!r}")
    return claimed


def constant(step: Json, own: float, before: list[float]) -> float:
    """Compose: constants multiply on paths and add where branches do; lengths join by squares."""
    if step["op"] == "add":
        return math.fsum(before) * (1 + 4 * UNIT)
    if step["op"] == "concat":
        return math.hypot(*before) * (1 + 8 * UNIT)
    demand(len(before) == (step["op"] != "input"), "it has one source")
    return max(own * (before[0] if before else 1.0) * (1 + 4 * UNIT), TINY)


def mapped(step: Json, own: Json, x: Array, size: bool) -> Array:
    """Apply the linear part of a step, or the map with the magnitudes of its entries."""
    w = np.abs(own["weight"]) if size else own["weight"]
    if step["op"] == "dense":
        return x @ w.T
    if step["op"] == "gather":
        flat = np.concatenate([x.reshape(len(x), -1), np.zeros((len(x), 1))], 1)  # -1 is 0
        return (flat[:, own["index"]] * w).sum(-1).reshape(len(x), *step["shape"])
    k, n = split(step, w), np.array(x.shape[2:])
    p, d, s = (np.array(step[name]) for name in ("padding", "dilation", "stride"))
    most = (n + 2 * p - d * (np.array(w.shape[2:]) - 1) - 1) // s + 1
    demand((p >= 0) & (d > 0) & (s > 0) & (step["shape"][1:] <= most), "it is no convolution")
    whole = np.pad(x, [(0, 0), (0, 0), *zip(p, p, strict=True)])
    whole = whole.reshape(len(x), len(k), -1, *whole.shape[2:])
    out = np.zeros((len(x), *k.shape[:2], *step["shape"][1:]))
    for tap in product(*map(range, w.shape[2:])):
        spans = zip(tap, d, s, step["shape"][1:], strict=True)
        cut = tuple(slice(t * b, t * b + c * (m - 1) + 1, c) for t, b, c, m in spans)
        part, taps = whole[(slice(None),) * 3 + cut], k[(slice(None),) * 3 + tap]
        out += np.einsum("goi,ngi...->ngo...", taps, part)
    return out.reshape(len(x), *step["shape"])


def forward(step: Json, own: Json, sources: list[Any]) -> tuple[Array, Array]:
    """Return the value of a step and a bound of its error, from those of its sources."""
    op, (value, error) = step["op"], sources[0]
    if op == "concat":
        value, error = (np.concatenate(parts, step["axis"]) for parts in zip(*sources, strict=True))
    elif op == "add":
        value = sum(s * v for s, (v, _) in zip(step["signs"], sources, strict=True))
        alike = len({v.shape for v, _ in sources}) == 1 and set(step["signs"]) <= {1, -1}
        demand(alike, "what it adds does not fit")
        error = sum(e + 1.01 * (len(sources) + 2) * UNIT * np.abs(v) for v, e in sources)
    elif op == "elementwise":
        made, slope = ACTS[step["function"]][1](value, step["ends"]), max(1.0, float(step["bound"]))
        value, error = made, error * slope + 8 * UNIT * (np.abs(made) + np.abs(value))
    elif op == "sort":
        (a, b), parts = (np.split(part, 2, step["axis"]) for part in (value, error))
        value = np.concatenate([np.minimum(a, b), np.maximum(a, b)], step["axis"])
        error = np.concatenate([np.maximum(*parts)] * 2, step["axis"])
    elif op == "maxima":
        flat = (part.reshape(len(part), -1)[:, own["index"]] for part in sources[0])
        taken = zip(flat, (-np.inf, 0.0), strict=True)
        value, error = (np.where(own["index"] < 0, low, part).max(-1) for part, low in taken)
        value, error = (part.reshape(-1, *step["shape"]) for part in (value, error))
    elif op != "input":
        bias, w = own.get("bias", np.zeros(())), own["weight"]
        terms = own["index"].shape[-1] if op == "gather" else math.prod(w.shape[1:])
        share = 1.01 * (terms + 10) * UNIT  # of a sum of so many products
        error = mapped(step, own, error + share * np.abs(value), size=True) * (1 + 1e-9)
        value = mapped(step, own, value, size=False) + bias
        error = error + share * np.abs(bias) + TINY
    demand(value.shape == (len(error), *step["shape"]), "a step has another shape")
    return value, error


def pair_constants(rows: Array, inner: float) -> Array:
    """Return ‖w_i - w_j‖ K for the rows of the last layer and the constant of what it takes."""
    apart = np.stack([np.sqrt(np.square(rows - row).sum(1)) for row in rows])
    pairs = (apart * (1 + (rows.shape[1] + 24) * UNIT) + 1e-140) * inner * (1 + 16 * UNIT)
    np.fill_diagonal(pairs, 0)
    return pairs


def radii(logits: Array, error: Array, pairs: Array) -> tuple[Array, Array]:
    """Return the class of each example, and min (z_y - z_i - errors) / K_yi, rounded down."""
    y, rows = logits.argmax(1), np.arange(len(logits))
    margin = (logits - error)[rows, y][:, None] - (logits + error)
    margin = margin - 8 * UNIT * np.abs(logits).max(1, keepdims=True)
    r = margin / np.maximum(pairs[y], TINY)
    r[rows, y] = np.inf
    return y, np.maximum(r.min(1) * (1 - 1e-12), 0)


def logits_of(steps: list[Json], given: list[Json], x: Array) -> tuple[Array, Array]:
    """Run a batch through the steps; return the logits and a bound of their errors."""
    x, values = np.asarray(x, np.float64), list[tuple[Array, Array]]()
    for step, own in zip(steps, given, strict=True):
        sources = [values[s] for s in step["sources"]] or [(x, np.zeros_like(x))]
        values.append(forward(step, own, sources))
    return values[-1]


def check_examples(story: Json, arrays: Json, steps: list[Json], given: list[Json]) -> None:
    """Run the examples again, and demand that every radius is at most what follows."""
    x, n, c = arrays["x"], len(story["ids"]), steps[-1]["shape"][0]
    labels, y, recorded, claimed = (arrays[k] for k in ("labels", "classes", "logits", "radii"))
    fits = x.shape == (n, *steps[0]["shape"]) and recorded.shape == (n, c)
    fits &= labels.shape == y.shape == claimed.shape == (n,) and arrays["pairs"].shape == (c, c)
    demand(fits and {labels.dtype.kind, y.dtype.kind} <= set("iu"), "an array has another shape")
    for some in (slice(at, at + 128) for at in range(0, n, 128)):
        logits, error = logits_of(steps, given, x[some])
        found, radius = radii(logits, error, arrays["pairs"])
        near = np.abs(logits - recorded[some]) <= 1e-3 * np.abs(logits).max(1, keepdims=True)
        demand(near, "the logits are not those that were recorded")
        demand((claimed[some] <= radius) & (claimed[some] >= 0), "a radius is larger than proved")
        demand((claimed[some] == 0) | (found == y[some]), "a class is another")
    for eps, count in zip(story["eps"], story["certified"], strict=True):
        demand(count == ((y == labels) & (claimed > eps)).sum(), "a count is not that of the radii")


def tensors(step: Json, weights: Json, arrays: Json) -> Json:
    """Return the numbers of a step, in double precision: from the weights, or from beside them."""
    found: Json = {}
    for role, name in step["tensors"].items():
        inside = step["op"] in {"dense", "conv"} or not name.startswith(":")  # else beside
        a = weights[name] if inside else arrays[name[1:]]
        demand(np.isfinite(a), f"{name} is not finite")
        a = a if role == "index" else np.asarray(a, np.float64)
        a = a.T if role in step["turned"] else a
        found[role] = a.reshape(step["forms"][role]) if role in step["forms"] else a
    return found


def check(story: Json, arrays: Json, weights: Json) -> str:
    """Check a certificate; return in a line what it proves, or raise ``RejectedError``."""
    demand(story["format"] == "conjoin-certificate 1: l2, sound-real", "it is of another kind")
    demand([a.dtype.kind in "fiub" for a in (*arrays.values(), *weights.values())], "no numbers")
    demand(story["digest"] == seal(story), "its text was changed")
    demand(story["arrays_sha256"] == fingerprint(arrays), "its arrays were changed")
    demand(story["weights_sha256"] == fingerprint(weights), "the weights are others")
    steps, inner = story["steps"], story["inner"]
    plain = numbers([inner, *story["eps"]]) and numbers(story["certified"], True)
    demand(plain and len(set(story["ids"])) == len(story["ids"]) > 0, "numbers or ids are wrong")
    given, constants = [tensors(step, weights, arrays) for step in steps], list[float]()
    for place, step in enumerate(steps):
        demand([0 <= s < place for s in step["sources"]], f"step {place} is not after its sources")
        demand((step["op"] == "input") == (place == 0), "the first step alone is the input")
        source = steps[step["sources"][0]]["shape"] if step["sources"] else []
        fitting(step, given[place], source)
        own = local(step, given[place], source)
        constants.append(constant(step, own, [constants[s] for s in step["sources"]]))
    last = steps[-1]
    demand(last["op"] == "dense" and len(last["shape"]) == 1, "the last step is no dense layer")
    demand(constants[last["sources"][0]] <= inner < 1e300, "the constant of the features is larger")
    pairs = pair_constants(given[-1]["weight"], inner)
    demand((arrays["pairs"] >= pairs) & (arrays["pairs"] < 1e300), "a pair's constant is larger")
    check_examples(story, arrays, steps, given)
    counts = (f"{c} at {e:g}" for e, c in zip(story["eps"], story["certified"], strict=True))
    return f"{len(story['ids'])} examples, K <= {inner:.6g}; certified {', '.join(counts)}"


def read(path: Path) -> Json:
    """Read a .npz or a .safetensors; no pickle is opened."""
    content, found = path.read_bytes(), {}
    if path.suffix == ".npz":
        return dict(np.load(io.BytesIO(content), allow_pickle=False).items())
    start = 8 + int.from_bytes(content[:8], "little")
    for name, story in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = story["data_offsets"]
            flat = np.frombuffer(content[start + first : start + last], KINDS[story["dtype"]])
            found[name] = flat.reshape(story["shape"])
    return found


def verified(certificate: Path, weights: Path) -> str:
    """Read and check a certificate; return what it proves, or raise ``RejectedError``."""
    try:
        story = json.loads(certificate.read_text(), parse_constant=int)  # no NaN
        with np.errstate(all="ignore"):
            return check(story, read(certificate.with_suffix(".npz")), read(weights))
    except RejectedError:
        raise
    except Exception as error:  # of whatever a damaged file leads to
        raise RejectedError(f"it is not understood: {type(error).__name__}, {error}") from error


def main() -> None:
    """Check a file; leave with 0 if it holds, 1 if not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("certificate", type=Path, help="the .json; its .npz lies beside it")
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors or .npz")
    said = parser.parse_args()
    try:
        sys.stdout.write(f"accepted: {verified(said.certificate, said.weights)}\n")
    except RejectedError as error:
        sys.exit(f"rejected: {error}")  # with status 1


if __name__ == "__main__":
    main()
