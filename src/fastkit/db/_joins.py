"""What the joins of a select say of its rows."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

from sqlalchemy import (
    CTE,
    Alias,
    BindParameter,
    FromClause,
    Join,
    Select,
    Subquery,
    Table,
    literal_column,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ClauseElement, Over
from sqlalchemy.sql.selectable import FromGrouping, SelectBase

__all__ = (
    "certain_of",
    "columns_of",
    "conjuncts",
    "froms_of",
    "has_key",
    "has_window",
    "key_tables",
    "leaves_of",
    "many_of",
    "may_repeat",
    "outer_of",
)


def columns_of(element: ClauseElement) -> Iterator[Any]:
    """The columns of tables in an expression, but for those in a select of its own."""
    if getattr(element, "table", None) is not None:
        yield element
    elif not isinstance(element, SelectBase):
        for child in element.get_children():
            yield from columns_of(child)


def has_window(element: ClauseElement) -> bool:
    """Whether a window function is in an expression, but for those in a select of its own."""
    if isinstance(element, Over):
        return True
    return not isinstance(element, SelectBase) and any(map(has_window, element.get_children()))


def froms_of(statement: Select[Any]) -> Sequence[FromClause]:
    """What is selected from, without what is eagerly joined to it."""
    nothing = cast("Any", literal_column("1"))
    bare: Select[Any] = statement.group_by(None).with_only_columns(
        nothing, maintain_column_froms=True
    )
    return bare.get_final_froms()


def leaves_of(from_: Any) -> Iterator[FromClause]:
    if isinstance(from_, FromGrouping):
        yield from leaves_of(cast("Any", from_).element)
    elif isinstance(from_, Join):
        yield from leaves_of(from_.left)
        yield from leaves_of(from_.right)
    else:
        yield from_


def outer_of(froms: Sequence[FromClause]) -> frozenset[FromClause]:
    """The tables that a row may lack."""
    return frozenset(
        table
        for from_ in froms
        for join in _joins(from_)
        if join.isouter or join.full
        for table in leaves_of(join if join.full else join.right)
    )


def certain_of(
    leaves: frozenset[FromClause], outer: frozenset[FromClause]
) -> frozenset[FromClause]:
    """The tables whose columns are NULL only where they are declared so."""
    # A subquery declares its columns as the tables do that they come from, whatever it joins.
    return frozenset(leaf for leaf in leaves - outer if isinstance(_table_of(leaf), Table))


def many_of(
    froms: Sequence[FromClause], leaves: frozenset[FromClause], own: frozenset[FromClause]
) -> frozenset[FromClause]:
    """The tables that may repeat a row: nothing that is known for it tells their primary key."""
    equal = _equalities(froms)
    one, many = own, leaves - own
    while found := {table for table in many if _is_told(table, one, equal)}:
        one, many = one | found, many - found
    return many


def key_tables(
    statement: Select[Any], froms: Sequence[FromClause], outer: frozenset[FromClause]
) -> tuple[list[FromClause], bool]:
    """The tables whose primary keys together make a row unique, and if these can be named."""
    tables = [table for from_ in froms for table in leaves_of(from_)]
    equal = _equalities(froms)
    # Those between two others come first: each of the three is told by the other two.
    for table in sorted(tables, key=lambda table: -len(list(table.primary_key))):
        if len(tables) > 1 and _is_told(table, {*tables} - {table} - outer, equal):
            tables.remove(table)
    if not any(isinstance(table, Alias) for table in tables):
        return tables, True
    # The alias of a relation's secondary table is another one each time.
    again = {leaf for from_ in froms_of(statement) for leaf in leaves_of(from_)}
    named = [table for table in tables if table in again]
    return named, len(named) == len(tables)


def _is_told(
    table: FromClause, by: Collection[FromClause], equal: Sequence[tuple[Any, Any]]
) -> bool:
    """Whether the rows of the other tables tell which one of `table` is joined to them."""
    known = {
        hash(column)
        for column, value in equal
        if isinstance(value, BindParameter) or getattr(value, "table", None) in by
    }
    return has_key(table) and all(hash(column) in known for column in table.primary_key)


def has_key(from_: FromClause) -> bool:
    """Whether its primary key is one: a subquery's is its tables', and may be there repeatedly."""
    table = _table_of(from_)
    return isinstance(table, Table) and bool(table.primary_key)


def may_repeat(from_: FromClause) -> bool:
    """Whether rows of a subquery may have the primary key of one object."""
    if not isinstance(from_, Subquery | CTE):
        return False
    element: Any = from_.element
    froms = froms_of(element) if isinstance(element, Select) else ()  # pyright: ignore[reportUnknownArgumentType]
    leaves = [leaf for each in froms for leaf in leaves_of(each)]
    return len(leaves) != 1 or not has_key(leaves[0])


def _table_of(from_: FromClause) -> FromClause:
    return from_.element if isinstance(from_, Alias) else from_


def _equalities(froms: Sequence[FromClause]) -> list[tuple[Any, Any]]:
    """What columns are equal to in all rows that have them, both ways round."""
    return [
        pair
        for join in (_joins(froms[0]) if len(froms) == 1 else ())
        if not join.full
        for condition in conjuncts(join.onclause)
        if isinstance(condition, BinaryExpression) and condition.operator is operators.eq
        for pair in ((condition.left, condition.right), (condition.right, condition.left))
        # A row that an outer join finds nothing for need not meet its condition.
        if not join.isouter or getattr(pair[0], "table", None) in {*leaves_of(join.right)}
    ]


def _joins(from_: FromClause) -> Iterator[Join]:
    if isinstance(from_, FromGrouping):
        yield from _joins(from_.element)
    elif isinstance(from_, Join):
        yield from_
        yield from _joins(from_.left)
        yield from _joins(from_.right)


def conjuncts(condition: ClauseElement | None) -> Iterator[ClauseElement | None]:
    """The conditions that all have to hold for this one to hold."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for clause in condition.clauses:
            yield from conjuncts(clause)
    else:
        yield condition
