"""Methods as a plan says them: ``{name = "integrated_gradients", nodes = 50}``.

``Method[Attack]`` is a type for the settings of a section: it reads a name, a table or the method
itself, keeps the table with every parameter explicit, and builds the method when data are at hand.
Which methods there are is read off the packages' ``__all__``; ``package.module:callable`` names one of
somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast, get_args

from pydantic import GetCoreSchemaHandler, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema

from conjoin.audit.calls import arguments
from conjoin.audit.parameters import choices, parameters_of, reader_of
from conjoin.audit.readers import Context, LaterError
from conjoin.audit.reading import MisreadError
from conjoin.core.arguments import check_method
from conjoin.core.dataset import Dataset
from conjoin.core.naming import describe
from conjoin.core.protocols import Attributor
from conjoin.core.rung import meets
from conjoin.errors import PlanError

if TYPE_CHECKING:
    from conjoin.audit.plan import Plan

K = TypeVar("K")


class Method(Generic[K]):
    """A method with its parameters, as a plan says it.

    Attributes:
        kind: What it is: ``Attack``, ``Certifier``, ``Attributor`` or ``Metric``.
        table: Its name and all its parameters, plain.
    """

    def __init__(self, kind: type, table: Mapping[str, Any]) -> None:
        self.kind, self.table = kind, dict(table)

    @classmethod
    def of(cls, kind: type, said: object, **parameters: object) -> Method[Any]:
        """Read a name with parameters, a table, or a method itself.

        Raises:
            MisreadError: If it cannot be read, saying where in ``path``.
        """
        if isinstance(said, Method):
            return said
        table = reader_of(kind).read({"name": said, **parameters} if parameters else said)
        made = cls(kind, {"name": table} if isinstance(table, str) else table)
        with suppress(LaterError):  # it depends on the data, and is made then
            _made(kind, made.name, reader_of(kind).make(table, None))
        return made

    @property
    def name(self) -> str:
        """Its name in a plan."""
        return str(self.table["name"])

    def build(self, context: Context = Context()) -> K:  # noqa: B008 - frozen
        """Make the method.

        Raises:
            CapabilityError: If the data lack what it is to be made of, such as a region.
            PlanError: If it refuses its parameters.
        """
        try:
            made = reader_of(self.kind).make(self.table, context)
            return cast(K, _made(self.kind, self.name, made))
        except MisreadError as error:
            raise PlanError(f"{'.'.join((self.name, *error.path))}: {error}") from error

    def __str__(self) -> str:
        """Show its name and what differs from the defaults, the same in every process."""
        make = choices(self.kind).get(self.name)
        usual = {} if make is None else parameters_of(make)
        said = [
            f"{name}={_short(value)}"
            for name, value in self.table.items()
            if name != "name" and (name not in usual or value != usual[name].default)
        ]
        return " ".join([self.name, *said])

    def __repr__(self) -> str:
        return f"Method({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and (self.kind, self.table) == (other.kind, other.table)

    def __hash__(self) -> int:
        return hash((self.kind, repr(self.table)))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate, write and describe it wherever it stands in settings."""
        (kind,) = get_args(source) or (object,)  # bare: pydantic writes a default
        written = PlainSerializer(lambda method: dict(method.table), return_type=dict[str, Any])
        schema = WithJsonSchema({"type": "object"} if kind is object else schema_of(kind))
        read = PlainValidator(partial(cls.of, kind))
        return handler.generate_schema(Annotated[Any, read, written, schema])


def context_of(plan: Plan, data: Dataset) -> Context:
    """Return what a plan's methods are built of on some data."""
    first = next(iter(plan.balls(data).values()))
    return Context(data, first, plan.bounds)


def read_method(kind: type, text: str) -> Any:
    """Make the method that a text names: ``name``, ``module:callable``, with ``?parameter=value``.

    Raises:
        PlanError: If there is none, or it takes no such parameters.
    """
    try:
        said = Method.of(kind, text.partition("?")[0], **arguments(text, PlanError))
    except MisreadError as error:
        raise PlanError(": ".join([text, *error.path, str(error)])) from error
    return said.build()


def schema_of(kind: type) -> dict[str, Any]:
    """Describe methods of a kind for a JSON Schema: a name, or a table of one and its parameters."""
    known = choices(kind)
    tables = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, **{key: {} for key in parameters_of(make)}},
            "required": ["name"],
            "additionalProperties": False,
        }
        for name, make in known.items()
    ]
    stranger = {"type": "string", "pattern": ":", "description": "package.module:name"}
    other = {"type": "object", "properties": {"name": stranger}, "required": ["name"]}
    return {
        "title": kind.__name__,
        "anyOf": [{"enum": list(known)}, stranger, *tables, other],
    }


def _made(kind: type, name: str, made: object) -> object:
    """Refuse what a stranger's function made if it is no method of the kind."""
    what = kind.__name__.lower()
    try:
        if kind is not Attributor:  # all others are told by how they are called
            check_method(made, f"a method, here: {what}")
    except PlanError as error:
        raise MisreadError(f"{name} makes no {what}: {error}") from error
    if not meets(made, kind):
        raise MisreadError(f"{name} makes no {what} but {describe(made)}")
    return made


def _short(value: object) -> str:
    """Write a parameter in one word or a few."""
    if isinstance(value, Mapping):
        inner = [f"{name}={_short(part)}" for name, part in value.items() if name != "name"]
        return f"{value.get('name', '')}({', '.join(inner)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return str(value)


__all__ = ["Context", "Method", "context_of", "read_method", "schema_of"]
