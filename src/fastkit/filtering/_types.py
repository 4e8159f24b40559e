"""What a value must be, so that every database can compare it with a column."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from pydantic_core import PydanticCustomError
from sqlalchemy import (
    BigInteger,
    DateTime,
    Float,
    Integer,
    Interval,
    Numeric,
    String,
    Time,
    TypeDecorator,
    Uuid,
    bindparam,
)
from sqlalchemy import Enum as SQLEnum
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeEngine

__all__ = (
    "MAX_TEXT",
    "bind",
    "bind_many",
    "check_of",
    "is_text",
    "plain_type",
    "python_type",
)

_INT64 = 2**63
# Far more than any column holds, and within what the databases compute with.
_MAX_DIGITS = 1000
MAX_TEXT = 1000
_MAX_OFFSET = timedelta(hours=15, minutes=59, seconds=59)  # PostgreSQL's
_SUPPORTED = (bool, int, float, Decimal, str, UUID, datetime, date, time, Enum)

Check = Callable[[Any], Any]


def plain_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The database's type, inside of an application's own."""
    # An Interval is a DateTime inside, where a database has no intervals.
    while isinstance(type_, TypeDecorator) and not isinstance(type_, Interval):
        type_ = type_.impl_instance
    return type_


def python_type(type_: TypeEngine[Any]) -> type | None:
    """The class of the column's values, or None if values of it cannot be compared here."""
    found: type = object
    with suppress(NotImplementedError):  # before SQLAlchemy 2.1, which says object
        found = plain_type(type_).python_type
    return found if issubclass(found, _SUPPORTED) else None


def is_text(type_: TypeEngine[Any]) -> bool:
    """Whether LIKE works on it; it does not on PostgreSQL's enums."""
    plain = plain_type(type_)
    return isinstance(plain, String) and not isinstance(plain, SQLEnum)


def bind(type_: TypeEngine[Any], value: Any) -> BindParameter[Any]:
    """The value as a parameter of a statement."""
    return bindparam(None, _sent(type_, value), type_=_sent_as(type_, value), unique=True)


def bind_many(type_: TypeEngine[Any], values: list[Any]) -> BindParameter[Any]:
    """Values of one class as the parameters of an IN."""
    sent_as = _sent_as(type_, values[0])
    sent = [_sent(type_, value) for value in values]
    return bindparam(None, sent, type_=sent_as, expanding=True, unique=True)


def _sent_as(type_: TypeEngine[Any], value: Any) -> TypeEngine[Any]:
    # PostgreSQL compares numbers of any two types, but refuses a parameter that its own type cannot
    # hold, and rounds one to a scale.
    if isinstance(type_, Integer):
        if isinstance(value, float):
            return Float()
        return Numeric() if isinstance(value, Decimal) else BigInteger()
    if isinstance(type_, Float):
        return Float()
    return Numeric() if isinstance(type_, Numeric) else type_


def _sent(type_: TypeEngine[Any], value: Any) -> Any:
    if isinstance(type_, TypeDecorator):
        return value
    if isinstance(value, Decimal) and isinstance(type_, Float):
        return float(value)
    if isinstance(value, float) and isinstance(type_, Numeric) and not isinstance(type_, Float):
        return Decimal(str(value))
    return value


def check_of(type_: TypeEngine[Any]) -> Check:
    """A function that returns what to send for a value, and raises for what no database takes."""
    if isinstance(type_, DateTime | Time):
        return _aware if type_.timezone else _naive
    if isinstance(type_, SQLEnum) and type_.enum_class is None:
        return _member_of(type_.enums)
    if isinstance(type_, Uuid) and not type_.as_uuid:
        return _uuid_text
    return _any


def _any(value: Any) -> Any:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int | float | Decimal):
        _check_number(value)
    elif isinstance(value, datetime) and value.tzinfo is not None:
        return _aware(value)
    return value


def _check_number(value: float | Decimal) -> None:
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise PydanticCustomError("int_range", "Input should be within 64 bits")
    elif isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            raise PydanticCustomError("finite_number", "Input should be a finite number")
        if max(len(digits), abs(exponent), len(digits) + exponent) > _MAX_DIGITS:
            raise PydanticCustomError(
                "decimal_max_digits",
                "Input should have at most {max_digits} digits",
                {"max_digits": _MAX_DIGITS},
            )
    elif not isfinite(value):
        raise PydanticCustomError("finite_number", "Input should be a finite number")


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise PydanticCustomError("string_nul", "Input should not have NUL characters")
    if len(text) > MAX_TEXT:
        raise PydanticCustomError(
            "string_too_long",
            "Input should have at most {max_length} characters",
            {"max_length": MAX_TEXT},
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "Input should be valid Unicode") from None


def _member_of(names: list[str]) -> Check:
    def check(value: Any) -> Any:
        if value not in names:
            expected = ", ".join(map(repr, names))
            raise PydanticCustomError(
                "enum", "Input should be one of {expected}", {"expected": expected}
            )
        return value

    return check


def _uuid_text(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise PydanticCustomError("uuid_parsing", "Input should be a valid UUID") from None


def _aware(value: datetime | time) -> datetime | time:
    if value.tzinfo is None:
        raise PydanticCustomError("timezone_aware", "Input should have timezone info")
    if isinstance(value, time):
        if abs(value.utcoffset() or timedelta()) > _MAX_OFFSET:
            raise PydanticCustomError("time_offset", "Input should be within 16 hours of UTC")
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_range", "Input should be within years 1-9999") from None


def _naive(value: datetime | time) -> datetime | time:
    if value.tzinfo is not None:
        raise PydanticCustomError("timezone_naive", "Input should not have timezone info")
    return value
