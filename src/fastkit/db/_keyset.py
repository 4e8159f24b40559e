"""Where a walk in some order goes on: conditions that an index answers, and cursors.

The rows after a place are read in segments, the nearest first, each a query of its own, until the
page is full: those that equal the place in all keys but the last ones, then those that equal it in
fewer. Each segment is one range of an index on the keys. A single condition for all of them would
need an OR, which databases answer by reading everything that comes before.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Date,
    DateTime,
    Dialect,
    Float,
    Integer,
    Interval,
    Numeric,
    String,
    Time,
    TypeDecorator,
    bindparam,
    cast,
    tuple_,
    type_coerce,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fastkit.db._joins import has_window
from fastkit.db._places import adapter_of
from fastkit.filtering._sort import OrderKey

__all__ = ("Keyset", "keyset_of")

Condition = ColumnElement[bool]

# By whether the order descends, and whether the place itself belongs to the rows.
_COMPARISONS = {
    (False, False): operator.gt,
    (False, True): operator.ge,
    (True, False): operator.lt,
    (True, True): operator.le,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """A key of the order, as the database compares it."""

    order: OrderKey
    column: ColumnElement[Any]
    nullable: bool
    place: ColumnElement[Any]
    """The parameter for its value at a place."""

    def mirrored(self) -> "_Key":
        return _Key(self.order.mirrored(), self.column, self.nullable, self.place)

    def ordering(self) -> ColumnElement[Any]:
        return self.order.expression(nullable=self.nullable)


class Keyset:
    """Keys that together are unique, and what is made of them once for all walks.

    Raises:
        TypeError: A key has values that no cursor can hold.
        ValueError: A key is a window function.
    """

    def __init__(
        self, orders: Sequence[OrderKey], nullable: Sequence[bool], dialect: Dialect
    ) -> None:
        self.orders = orders
        # Kept alive, like the orders, for `keyset_of` knows it by their ids.
        self._dialect = dialect
        forward = tuple(
            _key(number, *key, dialect)
            for number, key in enumerate(zip(orders, nullable, strict=True))
        )
        self._keys = {False: forward, True: tuple(key.mirrored() for key in forward)}
        self._orderings = {
            backward: [key.ordering() for key in keys] for backward, keys in self._keys.items()
        }
        self.columns = [key.column for key in forward]
        self.labels = [column.label(_name(number)) for number, column in enumerate(self.columns)]
        """The columns, under names that no column of a select has."""
        self.raw = any(key.column is not key.order.column for key in forward)
        """Whether a value differs from the one that the column has in Python."""
        types = [key.column.type.dialect_impl(dialect) for key in forward]
        self.adapter: TypeAdapter[tuple[Any, ...]] = adapter_of(
            tuple(zip(types, nullable, strict=True)), sqlite=dialect.name == "sqlite"
        )
        self.description = "\n".join(_describe(key, dialect) for key in forward)
        """What tells this order from others."""

    def ordering(self, *, backward: bool) -> Sequence[ColumnElement[Any]]:
        """What to give to `order_by`."""
        return self._orderings[backward]

    def segments(
        self, values: Sequence[Any], *, backward: bool, inclusive: bool
    ) -> Sequence[Sequence[Condition]]:
        """The conditions of each segment that follows a place, the nearest first.

        Args:
            values: The place; a statement with the conditions is executed with `parameters` of it.
            backward: Whether the walk goes against the order.
            inclusive: Whether the row at that place belongs to the first segment.
        """
        nulls = tuple(value is None for value in values)
        return _segments(self._keys[backward], nulls, inclusive)

    def parameters(self, values: Sequence[Any]) -> dict[str, Any]:
        """The place as parameters of a statement."""
        return {_name(number): value for number, value in enumerate(values) if value is not None}


_keysets: dict[tuple[Any, ...], Keyset] = {}
_MAX_KEYSETS = 512


def keyset_of(orders: Sequence[OrderKey], nullable: Sequence[bool], dialect: Dialect) -> Keyset:
    """The `Keyset` of these keys, which most often are the same objects as before."""
    # Columns cannot be keys of a dict: a comparator of theirs may answer == with anything.
    known_by = (
        id(dialect),
        *nullable,
        *((id(key.column), key.descending, key.nulls_first) for key in orders),
    )
    found = _keysets.get(known_by)
    if found is None:
        found = Keyset(orders, nullable, dialect)
        if len(_keysets) >= _MAX_KEYSETS:
            _keysets.clear()
        _keysets[known_by] = found
    return found


def _name(number: int) -> str:
    return f"fastkit_cursor_key_{number}"


def _key(number: int, order: OrderKey, nullable: bool, dialect: Dialect) -> _Key:
    declared = order.column.type
    type_ = _stored(declared, dialect)
    if has_window(order.column):
        raise ValueError(
            f"A cursor cannot go on by {order.column}, a window function: "
            "make it a column of a subquery, and select from that"
        )
    if _changes_in_sql(type(type_)):
        raise TypeError(
            f"A cursor cannot hold a value of {type_!r}, which SQL changes on its way: "
            "sort by another column"
        )
    column = order.column if type_ is declared else type_coerce(order.column, type_)
    place: ColumnElement[Any] = bindparam(_name(number), type_=_sent(type_))
    if dialect.name != "sqlite" and (isinstance(type_, Float) or _ignores_case(type_, dialect)):
        # A REAL would be compared with a number of twice its digits, and CITEXT as any text.
        place = cast(place, type_)
    return _Key(order, column, nullable, place)


def _changes_in_sql(class_: Any) -> bool:
    plain: Any = TypeEngine
    return (
        class_.column_expression is not plain.column_expression
        or class_.bind_expression is not plain.bind_expression
    )


def _ignores_case(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    return isinstance(type_, String) and type_.compile(dialect=dialect) == "CITEXT"


def _sent(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    # PostgreSQL compares any two numbers, but refuses one that the type it is sent as cannot hold.
    if isinstance(type_, Integer):
        return BigInteger()
    if isinstance(type_, Numeric) and not isinstance(type_, Float):
        return Numeric()
    return type_


def _stored(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """The type whose values are exactly what is stored, so that they find the same place again."""
    while isinstance(type_, TypeDecorator) and not isinstance(type_, Interval):
        type_ = type_.load_dialect_impl(dialect)
    sqlite = dialect.name == "sqlite"
    if isinstance(type_, Float):
        return type_.adapt(type(type_), asdecimal=False) if type_.asdecimal else type_
    if isinstance(type_, Numeric):
        if sqlite:
            return Float()  # which as decimals would be rounded to the scale
        return type_ if type_.asdecimal else type_.adapt(type(type_), asdecimal=True)
    if sqlite and isinstance(type_, DateTime | Date | Time):
        # Text, in which CURRENT_TIMESTAMP has no fraction, and a parameter always has one.
        return String()
    return type_


def _describe(key: _Key, dialect: Dialect) -> str:
    compiled = key.order.column.compile(dialect=dialect)
    return f"{compiled} {compiled.params} {key.order.descending} {key.order.nulls_lead}"


@lru_cache(maxsize=1024)
def _segments(
    keys: tuple[_Key, ...], nulls: tuple[bool, ...], inclusive: bool
) -> Sequence[Sequence[Condition]]:
    return list(_make_segments(keys, nulls, inclusive))


def _make_segments(
    keys: Sequence[_Key], nulls: Sequence[bool], inclusive: bool
) -> Iterator[list[Condition]]:
    starts = [0]
    while (end := _end_of_run(keys, nulls, starts[-1])) < len(keys):
        starts.append(end)
    for start in reversed(starts):
        equal = [
            key.column.is_(None) if null else key.column == key.place
            for key, null in zip(keys[:start], nulls[:start], strict=True)
        ]
        key, here = keys[start], inclusive and start == starts[-1]
        if not nulls[start]:
            yield [*equal, _beyond(keys[start : _end_of_run(keys, nulls, start)], inclusive=here)]
            if key.nullable and not key.order.nulls_lead:
                yield [*equal, key.column.is_(None)]
        else:
            if here:
                yield [*equal, key.column.is_(None)]
            if key.order.nulls_lead:
                yield [*equal, key.column.is_not(None)]


def _end_of_run(keys: Sequence[_Key], nulls: Sequence[bool], start: int) -> int:
    """The end of the keys from `start` on that one comparison of rows can take together."""
    end = start + 1
    if nulls[start]:
        return end
    while (
        end < len(keys)
        and not nulls[end]
        and keys[end].order.descending == keys[start].order.descending
        # NULLs that follow a key's values are a segment of their own.
        and (not keys[end].nullable or keys[end].order.nulls_lead)
    ):
        end += 1
    return end


def _beyond(run: Sequence[_Key], *, inclusive: bool) -> Condition:
    left: Any = run[0].column if len(run) == 1 else tuple_(*(key.column for key in run))
    right: Any = run[0].place if len(run) == 1 else tuple_(*(key.place for key in run))
    compare = _COMPARISONS[run[0].order.descending, inclusive]
    found: Condition = compare(left, right)
    return found
