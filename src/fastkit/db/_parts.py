"""The parts that a select is made of, and what one can tell by them."""

from collections import Counter
from typing import Any

from sqlalchemy import Select
from sqlalchemy.sql.elements import ClauseList, ColumnElement

from fastkit.db._joins import conjuncts

__all__ = ("added", "check_distinct", "children", "is_simple")


def is_simple(statement: Select[Any]) -> bool:
    """Whether there is nothing but a table and a WHERE clause: joins and the rest are children."""
    where = statement.whereclause
    if where is None:
        return children(statement) == 2
    # Each condition given to where() is a child, whether it is one or a conjunction of several.
    parts = sum(1 for child in statement.get_children() for _ in conjuncts(child))
    return parts == 2 + sum(1 for _ in conjuncts(where))


def check_distinct(statement: Select[Any]) -> None:
    """Refuse DISTINCT ON, which sorts before it drops rows.

    Raises:
        ValueError: It has one.
    """
    # The one as SQLAlchemy 2.0 has it, and the one as an extension of 2.1.
    if getattr(statement, "_distinct_on", ()) or any(
        getattr(child, "__visit_name__", "") == "postgresql_distinct_on"
        for child in statement.get_children()
    ):
        raise ValueError(
            "A select with DISTINCT ON cannot be paged: make it a subquery, and select from that"
        )


def children(statement: Select[Any]) -> int:
    """How many parts it has."""
    return sum(1 for _ in statement.get_children())


def added(statement: Select[Any], bare: Select[Any]) -> list[Any]:
    """The expressions that `statement` has beyond those of `bare`."""
    parts, others = list(statement.get_children()), list(bare.get_children())
    surplus = Counter(map(id, parts))
    surplus.subtract(Counter(map(id, others)))
    return [
        part
        for key, child in {id(child): child for child in parts}.items()
        if surplus[key] > 0
        # A function in a GROUP BY is a list, as it might return several columns.
        for part in (child.clauses if isinstance(child, ClauseList) else (child,))
        if isinstance(part, ColumnElement)
    ]
