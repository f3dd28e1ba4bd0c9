"""The exceptions of the library.

Every message says what was expected, what came, and how to mend it::

    ConjoinError
    ├── DataError            the examples: files, shapes, dtypes, ranges, labels
    ├── ModelError           the model: loading, precision, randomness, non-finite weights
    │   ├── CapabilityError  the model cannot do what a method needs (names what would work)
    │   └── CutError         no such place in the network, or an ambiguous one
    ├── ThreatError          an ill-formed set of perturbations
    ├── PlanError            an audit plan that cannot be carried out
    └── PostconditionError   a method broke its contract; its result was discarded
        └── SoundnessError   a certificate contradicts a known point of the set it covers
"""


class ConjoinError(Exception):
    """Base of every error this library raises on purpose."""


class DataError(ConjoinError, ValueError):
    """The examples cannot be used: a missing file, or a wrong shape, dtype, range or label."""


class ModelError(ConjoinError, ValueError):
    """The model cannot be used: unreadable, half precision, random, or with non-finite weights."""


class CapabilityError(ModelError):
    """The model lacks a capability that the method needs."""


class CutError(ModelError):
    """The network has no such cut, or the cut is ambiguous."""


class ThreatError(ConjoinError, ValueError):
    """The set of perturbations is ill-formed."""


class PlanError(ConjoinError, ValueError):
    """The audit plan is invalid, or a run folder belongs to another plan."""


class PostconditionError(ConjoinError, RuntimeError):
    """A method returned something outside its contract."""


class SoundnessError(PostconditionError):
    """A lower bound lies above a value that was seen inside the set it covers."""
