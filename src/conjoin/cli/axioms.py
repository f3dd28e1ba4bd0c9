"""The axioms of attribution, put to methods that a command names."""

from __future__ import annotations

from collections.abc import Sequence

from conjoin.audit.methods import read_method
from conjoin.audit.perform import draw
from conjoin.audit.sources import load_data, load_subject
from conjoin.audit.subject import check_answers
from conjoin.core.protocols import Attributor
from conjoin.data.stored import Stored
from conjoin.testing import Axioms, axioms


def asked(
    methods: Sequence[str], model: str | None, data: str, limit: int, seed: int
) -> list[Axioms]:
    """Return what came of each method, on networks of known answers or on a model.

    Raises:
        ConjoinError: If a method, the model or the data cannot be used.
    """
    made = [read_method(Attributor, text) for text in methods]
    if model is None:
        return [axioms(method) for method in made]
    some = draw(load_data(data), limit, seed)
    if isinstance(some, Stored):
        some = some.held()
    subject = load_subject(model)
    check_answers(subject, some)
    return [axioms(method, subject.model, some) for method in made]
