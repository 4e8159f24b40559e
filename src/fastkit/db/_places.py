"""The values at a place of a walk, as a cursor holds them."""

from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Literal, Optional

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
)
from sqlalchemy import Enum as SQLEnum
from sqlalchemy import Uuid
from sqlalchemy.types import TypeEngine

from fastkit.filtering._types import check_of, python_type

__all__ = ("adapter_of",)

_INT64 = 2**63
# What a numeric of PostgreSQL can hold.
_MAX_BEFORE_POINT, _MAX_AFTER_POINT = 131072, 16383


def adapter_of(
    types: tuple[tuple[TypeEngine[Any], bool], ...], *, sqlite: bool
) -> TypeAdapter[tuple[Any, ...]]:
    """Writes values of these types as JSON, and reads nothing else than what they can hold.

    Args:
        types: The database's types, and whether there may be NULLs.
        sqlite: Whether it is SQLite, where a number may be of either kind, and a text hold NUL.

    Raises:
        TypeError: The values of one cannot be written.
    """
    return _adapter(tuple(_optional(_typed(type_, sqlite), null) for type_, null in types))


@lru_cache(maxsize=256)
def _adapter(types: tuple[Any, ...]) -> TypeAdapter[tuple[Any, ...]]:
    whole: Any = tuple.__class_getitem__(types)
    return TypeAdapter[tuple[Any, ...]](whole, config=ConfigDict(ser_json_inf_nan="constants"))


def _optional(kind: Any, nullable: bool) -> Any:
    return Optional[kind] if nullable else kind  # noqa: UP045


def _typed(type_: TypeEngine[Any], sqlite: bool) -> Any:
    if isinstance(type_, SQLEnum):
        return _enum(type_.enum_class, tuple(type_.enums))
    if isinstance(type_, Uuid) and not type_.as_uuid:
        return Annotated[str, AfterValidator(check_of(type_))]
    kind: Any = python_type(type_)
    if kind is None:
        raise TypeError(
            f"A cursor cannot hold a value of {type_!r}: sort by another column, "
            "or give the expression a type"
        )
    if issubclass(kind, datetime | time):
        return _moment(kind, check_of(type_))
    if sqlite and issubclass(kind, float):
        return _INTEGER | float
    if sqlite and issubclass(kind, str):
        return str
    return _KINDS.get(kind, kind)


def _fits_int64(value: int) -> int:
    if not -_INT64 <= value < _INT64:
        raise ValueError("beyond 64 bits")
    return value


def _has_no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("has NUL")
    return value


def _fits_numeric(value: Decimal) -> Decimal:
    if value.is_nan():
        return Decimal("NaN")  # without a sign, a payload or signalling, which no database has
    if value.is_finite() and (
        value.adjusted() >= _MAX_BEFORE_POINT or -int(value.as_tuple().exponent) > _MAX_AFTER_POINT
    ):
        raise ValueError("beyond what the database has")
    return value


_INTEGER: Any = Annotated[int, AfterValidator(_fits_int64)]
_KINDS: dict[type, Any] = {
    int: _INTEGER,
    str: Annotated[str, AfterValidator(_has_no_nul)],
    Decimal: Annotated[Decimal, Field(allow_inf_nan=True), AfterValidator(_fits_numeric)],
}


@lru_cache(maxsize=16)
def _moment(kind: Any, check: Callable[[Any], Any]) -> Any:
    # Pydantic writes offsets without their seconds, which those of long ago have.
    def read(text: Any) -> Any:
        if not isinstance(text, str):
            raise ValueError("not a text")
        return check(kind.fromisoformat(text))

    return Annotated[kind, PlainValidator(read), PlainSerializer(kind.isoformat)]


@lru_cache(maxsize=256)
def _enum(enum_class: type[Enum] | None, names: tuple[str, ...]) -> Any:
    if enum_class is None:
        return Literal[names]

    def member(name: Any) -> Enum:
        try:
            return enum_class[name]
        except (KeyError, TypeError):
            raise ValueError("not a member") from None

    def name_of(value: Enum) -> str:
        return value.name

    return Annotated[enum_class, PlainValidator(member), PlainSerializer(name_of)]
