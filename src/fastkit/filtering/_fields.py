"""Whether a field's type goes together with the column it is compared with."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AwareDatetime,
    FutureDate,
    FutureDatetime,
    NaiveDatetime,
    PastDate,
    PastDatetime,
)
from sqlalchemy import Enum as SQLEnum
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fastkit.filtering._types import plain_type

__all__ = ("as_column", "bare_type", "fits", "is_ordered", "is_relation", "show", "values_of")


def as_column(column: object) -> ColumnElement[Any]:
    """The expression behind a mapped attribute, a column or an expression.

    Raises:
        TypeError: It is something else.
    """
    if is_relation(column):
        raise TypeError(
            f"{column} is a relation: name a column of it, and in a filter the relation as through="
        )
    element: Any = None
    with suppress(NotImplementedError):  # an association proxy's
        element = getattr(column, "__clause_element__", lambda: column)()
    if not isinstance(element, ColumnElement):
        raise TypeError(f"{column!r} is not a column: name one as Item.name")
    return element  # pyright: ignore[reportUnknownVariableType]


def is_relation(column: object) -> bool:
    """Whether it is a mapped attribute that leads to other rows."""
    return isinstance(getattr(column, "comparator", None), RelationshipProperty.Comparator)


def is_ordered(type_: TypeEngine[Any], kind: type) -> bool:
    # PostgreSQL has members of an enum in the order of their declaration, and others by name.
    return kind is not bool and not isinstance(plain_type(type_), SQLEnum)


def values_of(name: str, takes: str, annotation: Any) -> Iterable[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if takes == "many":
        if origin not in (list, set, frozenset) or len(arguments) != 1:
            raise TypeError(
                f"{name} takes a list, and the field is {show(annotation)}: make it list[...]"
            )
    elif takes == "two":
        if origin is not tuple or len(arguments) != 2 or Ellipsis in arguments:
            raise TypeError(
                f"{name} takes two values, and the field is {show(annotation)}: "
                "make it tuple[..., ...]"
            )
    elif origin in _COLLECTIONS or annotation in _COLLECTIONS:
        raise TypeError(
            f"{name} takes one value, and the field is {show(annotation)}: use in_ or not_in"
        )
    else:
        arguments = (annotation,)
    return [bare_type(argument) for argument in arguments]


_COLLECTIONS = (list, set, frozenset, tuple)


def bare_type(annotation: Any) -> Any:
    """The type inside of `X | None`, `Annotated[X, ...]` and an alias."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif get_origin(annotation) in (Union, UnionType):
            others = [part for part in get_args(annotation) if part is not type(None)]
            if len(others) != 1:
                return annotation
            annotation = others[0]
        else:
            return annotation


# Classes of Pydantic's that stand for one of Python's.
_STANDS_FOR: dict[Any, type] = {
    AwareDatetime: datetime,
    FutureDate: date,
    FutureDatetime: datetime,
    NaiveDatetime: datetime,
    PastDate: date,
    PastDatetime: datetime,
}


def fits(given: Any, kind: type) -> bool:
    if get_origin(given) is Literal:
        return all(fits(type(value), kind) for value in get_args(given))
    given = _STANDS_FOR.get(given, given)
    if not isinstance(given, type):
        return False
    if issubclass(kind, Enum) or issubclass(given, bool) or kind is bool:
        return given is kind
    if issubclass(given, datetime) != issubclass(kind, datetime):
        return False  # a datetime is a date to Python, and not to databases
    numbers = (int, float, Decimal)
    return issubclass(given, kind) or (issubclass(given, numbers) and issubclass(kind, numbers))


def show(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation)
