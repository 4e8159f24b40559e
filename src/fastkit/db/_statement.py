"""What a select gives: which rows are one and the same, and in what order that is certain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import (
    FromClause,
    Select,
    func,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import (
    ColumnElement,
    Label,
)

from fastkit.db._joins import (
    certain_of,
    columns_of,
    froms_of,
    has_key,
    has_window,
    key_tables,
    leaves_of,
    many_of,
    may_repeat,
    outer_of,
)
from fastkit.db._parts import added, check_distinct, children, is_simple
from fastkit.filtering._fields import as_column, is_relation
from fastkit.filtering._filters import Filter
from fastkit.filtering._sort import OrderKey
from fastkit.filtering._types import python_type

__all__ = ("Source", "inspect_select", "one_of", "order_columns", "own_order")

_NO_TABLES: frozenset[FromClause] = frozenset()


@dataclass(slots=True)
class Source:
    """A select, and what one must know to page it."""

    select: Select[Any]
    """Without its ORDER BY."""
    ordered: Select[Any]
    """With it."""
    tiebreak: Sequence[OrderKey]
    """Keys that together are unique."""
    froms: frozenset[FromClause]
    """All tables that are selected from."""
    certain: frozenset[FromClause]
    """Those whose columns are NULL only where they are declared so."""
    entities: bool
    """Whether rows have mapped objects in them, which SQLAlchemy may repeat."""
    scalar: bool
    """Whether a row has one member."""
    entity: "_Entity | None" = None
    """The mapped class, where it is all that is selected."""
    simple: bool = False
    """Whether it is a mapped class, whose objects come once, and a WHERE clause, and no more."""
    aggregated: bool = False
    """Whether it has a GROUP BY."""
    distinct: Sequence[ColumnElement[Any]] = ()
    """The columns of a select of columns that is DISTINCT."""
    many: frozenset[FromClause] = _NO_TABLES
    """Joined tables of which several rows may belong to one object of the select's."""
    repeats: bool = False
    """Whether an object of the select's may have several rows."""
    windowed: bool = False
    """Whether a window function is selected."""
    lacks_key: bool = False
    """Whether rows may be equal in all that is known of them."""

    @property
    def has_order(self) -> bool:
        """Whether the select has an ORDER BY of its own."""
        return children(self.ordered) != children(self.select)

    def narrow(self, filters: Iterable[Filter], conditions: Sequence[ColumnElement[bool]]) -> None:
        """Keep the rows that meet the conditions of these filters.

        Raises:
            ValueError: A filter needs a table that is not selected from.
        """
        for start in (target.start for each in filters for target in each.targets):
            if not self.froms.issuperset(_tables_of(start)):
                # It would be joined to each row, and then any of its own meets the condition.
                raise ValueError(
                    f"To filter by {start}, join its table in the select, "
                    "or name the relations that lead to it as through="
                )
        self.select = self.select.where(*conditions)
        self.ordered = self.ordered.where(*conditions)

    def attributes_of(self, keys: Sequence[OrderKey]) -> list[str] | None:
        """The attributes with these columns, if all that is selected is a class that has them."""
        if not self.simple or self.entity is None:
            return None
        known = self.entity.attributes
        names = [known.get(hash(key.column), "") for key in keys]
        return names if all(names) else None

    def count(self) -> Select[Any]:
        """How many rows there are."""
        if self.simple and self.entity is not None:
            # The mapped class is named, so that its loader criteria hold here, too.
            return self.select.with_only_columns(func.count()).select_from(self.entity.subject)
        return select(func.count()).select_from(self.rows().subquery())

    def rows(self) -> Select[Any]:
        """The select with as many rows as it has items."""
        return self.identities(()).order_by(None) if self.repeats else self.select

    def identities(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """The primary keys of the objects, each once, and columns to order them by."""
        keys = [key.column for key in self.tiebreak]
        selected = self.ordered.with_only_columns(*keys, *columns, maintain_column_froms=True)
        return selected.group_by(*keys, *columns)

    def may_be_null(self, key: OrderKey) -> bool:
        """Whether the key's column may be NULL in a row."""
        nullable = getattr(key.column, "nullable", True)
        return bool(nullable) or getattr(key.column, "table", None) not in self.certain

    def check(self, keys: Sequence[OrderKey]) -> None:
        """Check that rows can be sorted by these keys.

        Raises:
            ValueError: One has no value, or several, for a row, or is a text.
        """
        for key in keys:
            text = getattr(key.column, "element", None)
            if isinstance(text, str):
                raise ValueError(f"{text!r} is text: order by the column itself, as Item.name")
            for column in columns_of(key.column):
                if column.table not in self.froms:
                    raise ValueError(f"To sort by {key.column}, join its table in the select")
            if getattr(key.column, "table", None) in self.many:
                raise ValueError(
                    f"{key.column} has several values for each row, which cannot be sorted by it: "
                    "sort by one of them, as func.min(...) gives it"
                )
            if self.distinct and not any(_is(key.column, column) for column in self.distinct):
                raise ValueError(
                    f"Rows that are DISTINCT cannot be sorted by {key.column}, "
                    "which is not one of their columns"
                )


def _tables_of(start: Any) -> Iterable[FromClause]:
    """The tables that a column, or a relation, has to find in the rows."""
    if not is_relation(start):
        return (column.table for column in columns_of(as_column(start)))
    if start.parent.is_mapper:
        return (column.table for column in start.property.local_columns)
    return leaves_of(start.parent.selectable)


def own_order(source: Source) -> list[OrderKey]:
    """What the select is ordered by itself."""
    return [OrderKey.of(part) for part in added(source.ordered, source.select)]


def order_columns(source: Source, keys: Sequence[OrderKey]) -> list[ColumnElement[Any]]:
    """The columns that the order is made of and that have one value for each object."""
    return [
        column
        for key in keys or own_order(source)
        for column in columns_of(key.column)
        if column.table not in source.many
    ]


def _is(one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
    one, other = (part.element if isinstance(part, Label) else part for part in (one, other))
    return hash(one) == hash(other) or one.compare(other)


@dataclass(frozen=True, slots=True)
class _Entity:
    subject: Any
    mapper: Mapper[Any]
    primary_key: tuple[OrderKey, ...]
    tables: frozenset[FromClause]
    certain: frozenset[FromClause]
    repeats: bool
    windowed: bool
    attributes: Mapping[int, str] = field(default_factory=dict[int, str])
    """The names of what a query loads, by the columns' hashes: annotated columns keep them."""


@lru_cache(maxsize=256)
def _entity(subject: Any) -> _Entity:
    inspected = inspect(subject)
    mapper = inspected.mapper
    if any(each.concrete for each in mapper.self_and_descendants if each is not mapper):
        raise ValueError(
            f"Rows of {mapper.class_.__name__} come from several tables, whose primary keys may be "
            "equal: page its concrete classes one by one"
        )
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    keys = tuple(OrderKey(as_column(getattr(subject, name))) for name in names)
    tables = frozenset(leaves_of(inspected.selectable))
    certain = certain_of(tables, outer_of([inspected.selectable]))
    columns = {
        each.key: getattr(subject, each.key).__clause_element__()
        for each in mapper.column_attrs
        if not each.deferred and isinstance(getattr(each, "expression", None), ColumnElement)
    }
    return _Entity(
        subject,
        mapper,
        keys,
        tables,
        certain,
        repeats=any(map(may_repeat, tables)),
        windowed=any(map(has_window, columns.values())),
        attributes={hash(column): name for name, column in columns.items()},
    )


def inspect_select(statement: object) -> Source:
    """Find out what `statement` selects.

    Raises:
        TypeError: It is no `select(...)`.
        ValueError: It selects columns and has a LIMIT, or objects that a row may lack or repeat.
    """
    if not isinstance(statement, Select):
        raise TypeError(
            f"paginate takes a select(...), not a {type(statement).__name__}: "
            "make it a subquery, and select from that"
        )
    return _inspect(cast("Select[Any]", statement))


def _inspect(statement: Select[Any]) -> Source:
    descriptions = statement.column_descriptions
    first = descriptions[0]
    subject: Any = first.get("entity")
    if len(descriptions) > 1 or subject is None or first["expr"] is not subject:
        return _of_columns(statement, descriptions)
    entity = _entity(subject)
    bare = statement.order_by(None)
    if is_simple(bare):
        return _of_simple(bare, statement, entity)
    check_distinct(statement)
    return _of_entity(statement, entity)


def _of_simple(bare: Select[Any], statement: Select[Any], entity: _Entity) -> Source:
    return Source(
        bare,
        statement,
        entity.primary_key,
        entity.tables,
        entity.certain,
        entities=True,
        scalar=True,
        entity=entity,
        simple=not entity.repeats,
        repeats=entity.repeats,
        windowed=entity.windowed,
    )


def _of_entity(statement: Select[Any], entity: _Entity) -> Source:
    columns = [key.column for key in entity.primary_key]
    unlimited = statement.limit(None).offset(None)
    if children(unlimited) != children(statement):
        limited = statement.with_only_columns(*columns, maintain_column_froms=True)
        statement = unlimited.where(one_of(columns, limited))
    bare = statement.order_by(None)
    aggregated = children(bare.group_by(None)) != children(bare)
    froms = froms_of(bare)
    leaves = frozenset(leaf for from_ in froms for leaf in leaves_of(from_))
    outer = outer_of(froms)
    if any(column.table in outer for column in columns):
        raise ValueError(
            f"A row may lack its {entity.mapper.class_.__name__}, which is on the outer side of a "
            "join: select from it, and join the others to it"
        )
    many = many_of(froms, leaves, entity.tables)
    if aggregated:
        for part in added(bare, bare.group_by(None)):
            if any(column.table in many for column in columns_of(part)):
                raise ValueError(
                    f"Rows grouped by {part} may repeat their {entity.mapper.class_.__name__}: "
                    "group by its own columns, or select columns"
                )
        many = _NO_TABLES
    return Source(
        bare,
        statement,
        entity.primary_key,
        leaves | entity.tables,
        certain_of(leaves, outer) | (entity.certain - outer),
        entities=True,
        scalar=True,
        entity=entity,
        aggregated=aggregated,
        many=many,
        repeats=not aggregated and (entity.repeats or bool(many)),
        windowed=entity.windowed,
    )


def one_of(columns: Sequence[ColumnElement[Any]], values: Any) -> ColumnElement[bool]:
    """The condition that the columns are one of `values`, which may be a select."""
    if len(columns) == 1:
        return columns[0].in_(values)
    return tuple_(*columns).in_(values)


def _of_columns(statement: Select[Any], descriptions: Sequence[Any]) -> Source:
    if children(statement.limit(None).offset(None)) != children(statement):
        raise ValueError(
            "A select of columns that has a LIMIT cannot be paged: "
            "make it a subquery, and select from that"
        )
    check_distinct(statement)
    bare = statement.order_by(None)
    ungrouped = bare.group_by(None)
    aggregated = children(ungrouped) != children(bare)
    distinct = bare.compare(bare.distinct())
    froms = froms_of(bare)
    leaves, outer = (
        frozenset(table for from_ in froms for table in leaves_of(from_)),
        outer_of(froms),
    )
    selected = list(bare.selected_columns)
    comparable = [column for column in selected if python_type(column.type) is not None]
    if aggregated:
        columns, lacks_key = added(bare, ungrouped), False
    elif distinct:
        columns, lacks_key = comparable, len(comparable) < len(selected)
    elif all(map(has_key, leaves)):
        tables, named = key_tables(bare, froms, outer)
        columns, lacks_key = [column for table in tables for column in table.primary_key], not named
    else:
        columns, lacks_key = comparable, True
    return Source(
        bare,
        statement,
        [OrderKey(column) for column in columns],
        leaves,
        certain_of(leaves, outer),
        entities=any(
            each.get("entity") is not None and each["expr"] is each["entity"]
            for each in descriptions
        ),
        scalar=len(descriptions) == 1,
        aggregated=aggregated,
        distinct=selected if distinct and not aggregated else (),
        windowed=any(map(has_window, selected)),
        lacks_key=lacks_key or not columns,
    )
