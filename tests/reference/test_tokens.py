"""Attacks on tokens against closed forms, exhaustive search and a slow reference."""

from __future__ import annotations

import gzip
import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn

from conjoin.attacks import Greedy, HotFlip
from conjoin.attacks.trial import Edits, tried
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack, Batch
from conjoin.core.quantity import Asked, Avoid, logit, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.core.slice import Cut
from conjoin.core.substitution import Substitution, listed
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.testing import example_reader, example_substitution, example_tokens
from conjoin.training import Recipe, Standard, fit

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"  # beside the repository
ENDLESS = Asked(lambda z, aim: z[:, 0] - z[:, 1])


class Counts(nn.Module):
    """The sum of a weight for each token: what a place adds does not depend on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(numbers(20, 2, dtype=torch.float64))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens).sum(1)


@pytest.mark.parametrize(
    "method", [Greedy(), HotFlip(tries=1), HotFlip(width=3, tries=5)], ids=repr
)
@pytest.mark.parametrize("budget", [0, 1, 3, 8])
def test_the_least_of_a_sum_over_places_is_reached(method: Attack, budget: int) -> None:
    module = Counts()
    data = example_tokens(example_reader(), 30)
    threat = example_substitution().at(budget)
    weight = module.embedding.weight[:, 0] - module.embedding.weight[:, 1]
    options = threat.options(data.x)
    fall = torch.where(options >= 0, weight[options.clamp(min=0)], math.inf).amin(2)
    fall = (fall - weight[data.x]).clamp(max=0).sort(1).values  # the best of each place
    exact = weight[data.x].sum(1) + fall[:, :budget].sum(1)
    found = attack(TorchModel(module), data, method, threat, seed=0, quantity=ENDLESS)
    assert torch.allclose(found.value, exact, atol=1e-12)


def outcomes(model: TorchModel, x: Tensor, threat: Substitution) -> Tensor:
    """Q of every sequence of S(x), by exhaustion."""
    options = threat.options(x[None])[0]
    lists = [
        [t, *(o for o in row if o >= 0)]
        for t, row in zip(x.tolist(), options.tolist(), strict=True)
    ]
    every = torch.tensor(list(itertools.product(*lists)))
    every = every[threat.contains(every, x.expand_as(every))]
    with torch.no_grad():
        return ENDLESS(model(batch_of(every)), torch.zeros(len(every)))


def test_a_beam_that_holds_all_is_exhaustive_search() -> None:
    model = TorchModel(example_reader().module.double())
    data = example_tokens(model, 6)
    threat = example_substitution()
    wide = attack(model, data, HotFlip(width=1000, tries=1000), threat, seed=0, quantity=ENDLESS)
    narrow = attack(model, data, HotFlip(), threat, seed=0, quantity=ENDLESS)
    greedy = attack(model, data, Greedy(), threat, seed=0, quantity=ENDLESS)
    for row, x in enumerate(data.x):
        least = float(outcomes(model, x, threat).min())
        assert abs(float(wide.value[row]) - least) < 1e-12
        for found in (narrow, greedy):
            assert float(found.value[row]) >= least - 1e-12


def value_at(model: TorchModel, z: list[int]) -> float:
    with torch.no_grad():
        return float(ENDLESS(model(batch_of(torch.tensor([z]))), torch.zeros(1)))


def textfooler(
    model: TorchModel, x: list[int], options: list[list[int]], budget: int, blank: int | None
) -> list[int]:
    """Algorithm 1 without its similarity: rank words by their importance, then replace in order."""
    clean, gain = value_at(model, x), {}
    for i, own in enumerate(options):
        trials = own if blank is None or not own else [blank]
        if own:
            gain[i] = max(clean - value_at(model, [*x[:i], t, *x[i + 1 :]]) for t in trials)
    z, least = [*x], clean
    for i in sorted(gain, key=lambda i: -gain[i]):
        if sum(a != b for a, b in zip(z, x, strict=True)) == budget:
            break
        value, token = min((value_at(model, [*z[:i], t, *z[i + 1 :]]), t) for t in options[i])
        if value < least:
            z[i], least = token, value
    return z


@pytest.mark.parametrize("blank", [None, 0, 13])
@pytest.mark.parametrize("budget", [1, 3, 9])
def test_greedy_does_what_the_paper_says(blank: int | None, budget: int) -> None:
    model = TorchModel(example_reader(1).module.double())
    data, threat = example_tokens(model, 12), example_substitution().at(budget)
    found = attack(model, data, Greedy(blank), threat, seed=0, quantity=ENDLESS)
    for row, x in enumerate(data.x.tolist()):
        options = [
            [o for o in own if o >= 0] for own in threat.options(data.x[row][None])[0].tolist()
        ]
        assert found.inputs[row].tolist() == textfooler(model, x, options, budget, blank)


def hotflip(
    model: TorchModel, x: list[int], options: list[list[int]], budget: int, width: int, tries: int
) -> float:
    """The beam search of the paper, a vector at a time; the least Q on the way."""
    table = model.module.embedding.weight.detach()

    def estimates(z: list[int]) -> dict[tuple[int, int], float]:
        at = table[torch.tensor([z])].requires_grad_()
        h = torch.tanh(model.module.pairs(at.transpose(1, 2)))
        out = model.module.head(h.mean(2))
        (g,) = torch.autograd.grad((out[:, 0] - out[:, 1]).sum(), at)
        return {
            (i, t): float(g[0, i] @ (table[t] - table[z[i]]))
            for i, own in enumerate(options)
            for t in own
            if z[i] == x[i]
        }

    beam, least = [x], value_at(model, x)
    for _ in range(budget):
        grown = {}
        for z in beam:
            expected = estimates(z)
            for i, t in sorted(expected, key=lambda e: expected[e])[:tries]:
                grown[tuple([*z[:i], t, *z[i + 1 :]])] = None
        values = {z: value_at(model, [*z]) for z in grown}
        beam = [[*z] for z in sorted(values, key=lambda z: values[z])[:width]]
        least = min([least, *values.values()])
    return least


@pytest.mark.parametrize(("width", "tries"), [(1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("budget", [1, 3])
def test_hotflip_does_what_the_paper_says(width: int, tries: int, budget: int) -> None:
    model = TorchModel(example_reader(2).module.double())
    data, threat = example_tokens(model, 12), example_substitution().at(budget)
    method = HotFlip(width=width, tries=tries)
    found = attack(model, data, method, threat, seed=0, quantity=ENDLESS)
    for row, x in enumerate(data.x.tolist()):
        options = [
            [o for o in own if o >= 0] for own in threat.options(data.x[row][None])[0].tolist()
        ]
        assert (
            abs(float(found.value[row]) - hotflip(model, x, options, budget, width, tries)) < 1e-12
        )


@pytest.mark.parametrize("method", [Greedy(), Greedy(0), HotFlip(), HotFlip(width=3)], ids=repr)
def test_points_rest_at_the_goal_and_no_pass_is_larger_than_asked(method: Attack) -> None:
    sizes: list[int] = []

    class Seen:
        def __init__(self, model: TorchModel) -> None:
            self.model, self.device = model, model.device

        def __call__(self, batch: Batch) -> Tensor:
            sizes.append(len(batch))
            return self.model(batch)

        def run(self, batch: Batch, **more: object) -> tuple[Tensor, ...]:
            return self.model.run(batch, **more)  # type: ignore[arg-type]

    model = example_reader()
    data, threat = example_tokens(model, 40), example_substitution().at(8)
    won = Asked(lambda z, aim: margin(z, aim) - 100, goal=0.0)  # at the example itself
    batch = batch_of(data.x, data.y)
    z = replace(method, at_once=16)(Seen(model), batch, threat, won)
    assert torch.equal(z, data.x)
    assert sizes[:1] == [40] and (isinstance(method, Greedy) or len(sizes) == 1)
    sizes.clear()
    z = replace(method, at_once=16)(Seen(model), batch, threat, margin)
    assert max(sizes[1:]) <= 16
    whole = method(model, batch, threat, margin)
    assert torch.equal(z, whole)  # the size of a pass changes nothing


def test_the_quantity_may_be_any() -> None:
    model = example_reader()
    data, threat = example_tokens(model, 40), example_substitution().at(8)
    for method in (Greedy(), HotFlip(width=2)):
        missed = attack(model, data, method, threat, seed=0)
        towards = attack(model, data, method, threat, seed=0, quantity=Avoid(2))
        lowered = attack(model, data, method, threat, seed=0, quantity=logit)
        answered = predict(model, Dataset(towards.inputs, data.y)).argmax(1)
        assert bool((answered[towards.success & (towards.clean > 0)] == 2).all())
        assert float(missed.success.float().mean()) > 0.3
        assert bool((lowered.value <= lowered.clean).all()) and bool((lowered.value < 0).any())


def test_what_cannot_be_listed_or_cut_is_refused() -> None:
    model = example_reader()
    tokens = example_tokens(model)
    batch, threat = batch_of(tokens.x, tokens.y), example_substitution()
    for method in (Greedy(), HotFlip()):
        with pytest.raises(CapabilityError, match=r"linf:1 has no options\(x\)"):
            method(model, batch, Linf(1.0), margin)

    class Outputs:
        device = torch.device("cpu")

        def __call__(self, batch: Batch) -> Tensor:
            return model(batch)

    with pytest.raises(CapabilityError, match=r"gives outputs only. Greedy\(\) needs no more"):
        HotFlip()(Outputs(), batch, threat, margin)
    assert torch.equal(
        Greedy()(Outputs(), batch, threat, margin), Greedy()(model, batch, threat, margin)
    )
    with pytest.raises(CapabilityError, match="needs a vector for each"):
        HotFlip(Cut("pairs"))(model, batch, threat, margin)

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.both = nn.Embedding(20, 3), nn.Identity()
            self.words.weight.data = numbers(20, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            place = torch.arange(tokens.shape[1])[None, :, None]
            return self.both(self.words(tokens) + place).sum(1)

    placed = TorchModel(Placed())
    batch = batch_of(tokens.x, placed(batch).argmax(1))  # all stand, so there is something to do
    assert HotFlip(Cut("words"))(placed, batch, threat, margin).shape == batch.x.shape
    with pytest.raises(CapabilityError, match="depends on more than the token"):
        HotFlip(Cut("both"))(placed, batch, threat, margin)
    for bad in ({"width": 0}, {"tries": 0}, {"at_once": 0}):
        with pytest.raises(PlanError, match="must be positive"):
            HotFlip(**bad)
    for bad in ({"blank": -1}, {"at_once": 0}):
        with pytest.raises(PlanError, match="must be positive"):
            Greedy(**bad)


def test_edits_are_tried_each_by_itself() -> None:
    model = TorchModel(example_reader().module.double())
    data = example_tokens(model, 7)
    options = example_substitution().options(data.x)
    options[3] = -1  # an example without any
    edits = Edits.of(options)
    for at_once in (1, 6, 100, 10_000):
        value = tried(model, batch_of(data.x), ENDLESS, edits, at_once)
        for k in range(0, len(edits), 17):
            z = data.x[edits.owner[k]].tolist()
            z[int(edits.place[k])] = int(edits.token[k])
            assert abs(float(value[k]) - value_at(model, z)) < 1e-14
    nothing = Edits.of(torch.full_like(options, -1))
    assert len(tried(model, batch_of(data.x), ENDLESS, nothing, 8)) == 0
    assert torch.equal(
        Greedy()(model, batch_of(data.x), Substitution(torch.full((20, 1), -1), 5), ENDLESS), data.x
    )
    assert torch.equal(
        HotFlip()(model, batch_of(data.x), Substitution(torch.full((20, 1), -1), 5), ENDLESS),
        data.x,
    )


# Real text: words of SST-2, letters of AG News.

SYNONYMS = """film movie picture; films movies pictures; funny amusing comical; good fine decent; great
superb excellent; bad poor lousy; dull boring tedious; story tale plot; director filmmaker; actor
performer; actors performers; cast ensemble; smart clever intelligent; touching moving; silly foolish;
comedy farce; drama melodrama; scene sequence; scenes sequences; beautiful lovely gorgeous; fun
enjoyable entertaining; interesting engaging intriguing; hard tough difficult; big large huge; little
small tiny; kids children; old aged; new novel fresh; best finest greatest; worst poorest; love adore;
performance acting portrayal; performances portrayals; characters figures; emotional heartfelt; script
screenplay; makes renders; feels seems; nothing nil; never not; also too; audience viewers; strange odd
weird; predictable obvious; charming delightful; powerful strong; slow sluggish; lacks wants; fails
founders; surprisingly unexpectedly; simply merely just; often frequently; truly genuinely really"""


def sentences() -> tuple[Dataset, Dataset, dict[str, int]]:
    """SST-2 as the 4,000 most common words, 30 of a sentence; 0 fills up, 1 is an unknown word."""
    folder = SHARED / "sst2"
    if not folder.exists():
        pytest.skip("the SST-2 sentences do not lie beside the repository")
    rows = {}
    for split in ("train", "dev"):
        with gzip.open(folder / f"sst2_{split}.tsv.gz", "rt", encoding="utf-8") as file:
            rows[split] = [line.rstrip("\n").split("\t", 1) for line in [*file][1:]]
    seen: dict[str, int] = {}
    for _, sentence in rows["train"]:
        for word in sentence.split():
            seen[word] = seen.get(word, 0) + 1
    common = sorted(seen, key=lambda word: (-seen[word], word))[:4000]
    number = {word: place + 2 for place, word in enumerate(common)}
    return (*(_read(rows[split], number) for split in ("train", "dev")), number)


def _read(rows: list[list[str]], number: dict[str, int]) -> Dataset:
    x = torch.zeros(len(rows), 30, dtype=torch.int64)
    for row, (_, sentence) in enumerate(rows):
        known = [number.get(word, 1) for word in sentence.split()[:30]]
        x[row, : len(known)] = torch.tensor(known)
    return Dataset(x, torch.tensor([int(label) for label, _ in rows]))


class Reader(nn.Module):
    """Pairs of neighbouring tokens, the largest of each feature."""

    def __init__(self, vocabulary: int, classes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 16)
        self.near = nn.Conv1d(16, 32, width, padding=width // 2)
        self.head = nn.Linear(32, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        h = torch.relu(self.near(self.embedding(tokens).transpose(1, 2)))
        return self.head(h.amax(2))


def trained(module: nn.Module, data: Dataset, epochs: int) -> TorchModel:
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            value.copy_(numbers(*value.shape, seed=number) * (0.5 if value.ndim == 2 else 0.1))
    fit(module, data, Standard(), Recipe(epochs=epochs, batch_size=64, rate=3e-3))
    return TorchModel(module)


def test_synonyms_mislead_a_reader_of_reviews() -> None:
    train, test, number = sentences()
    groups = [line.split() for line in SYNONYMS.replace("\n", " ").split(";")]
    known = [[number[word] for word in group if word in number] for group in groups]
    table = listed(
        {w: [o for o in group if o != w] for group in known for w in group}, len(number) + 2
    )
    model = trained(Reader(len(number) + 2, 2, 3), train, 10)
    threat, some = Substitution(table, 3), test.select(range(300))
    found = {
        method: attack(model, some, method, threat, seed=0)
        for method in (Greedy(), Greedy(1), HotFlip(), HotFlip(width=4, tries=32))
    }
    clean = float((found[Greedy()].clean > 0).double().mean())
    left = {method: float((~one.success).double().mean()) for method, one in found.items()}
    assert clean > 0.7
    assert all(share < clean - 0.05 for share in left.values()), (clean, left)
    assert max(left.values()) - min(left.values()) < 0.05, left
    drawn = [threat.sample(some.x, Streams.of(0, some.positions).fold(k)) for k in range(10)]
    fooled = torch.stack(
        [margin(predict(model, Dataset(z, some.y)), some.y) <= 0 for z in drawn]
    ).any(0)
    assert left[Greedy()] < float((~fooled).double().mean())
    small = attack(model, some, HotFlip(), threat, seed=0, run=Run(batch_size=7))
    assert float((small.inputs == found[HotFlip()].inputs).all(1).double().mean()) > 0.98


LOOKALIKES = {
    "o": "0",
    "l": "1",
    "i": "1",
    "e": "3",
    "s": "5",
    "a": "@",
    "t": "7",
    "b": "8",
    "g": "9",
}


def headlines() -> Dataset:
    """AG News: the first 60 bytes of each title, in lower case."""
    file = SHARED / "agnews" / "ag_news_test.csv.gz"
    if not file.exists():
        pytest.skip("the AG News headlines do not lie beside the repository")
    import csv

    with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
        rows = [*csv.reader(stream)]
    x = torch.zeros(len(rows), 60, dtype=torch.int64)
    for row, (_, title, _) in enumerate(rows):
        symbols = title.lower().encode("ascii", "ignore")[:60]
        x[row, : len(symbols)] = torch.tensor([*symbols])
    return Dataset(x, torch.tensor([int(label) - 1 for label, *_ in rows]))


def test_letters_that_look_alike_mislead_a_reader_of_headlines() -> None:
    data = headlines()
    model = trained(Reader(128, 4, 5), data.select(range(5700)), 8)
    table = listed({ord(a): [ord(b)] for a, b in LOOKALIKES.items()}, 128)
    some = data.select(range(5700, 5900))
    found = attack(model, some, Greedy(), Substitution(table, 4), seed=0)
    clean, left = (float(flags.double().mean()) for flags in (found.clean > 0, ~found.success))
    assert clean > 0.42 and left < clean / 4, (clean, left)  # one of four by chance
    read = bytes(found.inputs[int(found.success.nonzero()[0])].tolist()).rstrip(b"\0").decode()
    assert read.isascii()
    quick = attack(model, some, HotFlip(), Substitution(table, 4), seed=0)
    assert abs(float((~quick.success).double().mean()) - left) < 0.1
