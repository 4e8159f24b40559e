"""Sorting by names that stand for columns, and by no others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema
from sqlalchemy import SQLColumnExpression, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement, UnaryExpression
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import replacement_traverse

from fastkit.filtering._fields import as_column, bare_type
from fastkit.filtering._types import python_type

__all__ = ("OrderKey", "SortBy", "sort_by")


@dataclass(frozen=True)
class OrderKey:
    """A column to order by, and which way.

    NULLs count as greater than any value, on each database, unless `nulls_first` says where they
    are: that is how PostgreSQL's indexes have them.
    """

    column: ColumnElement[Any]
    descending: bool = False
    nulls_first: bool | None = None

    @classmethod
    def of(cls, expression: object) -> "OrderKey":
        """The key that a column, `column.desc()` or `column.nulls_last()` describes."""
        descending, nulls_first = False, None
        element = as_column(expression)
        while isinstance(element, UnaryExpression) and element.modifier in _MODIFIERS:
            if element.modifier in (operators.nulls_first_op, operators.nulls_last_op):
                nulls_first = element.modifier is operators.nulls_first_op
            else:
                descending = element.modifier is operators.desc_op
            element = element.element
        if _has_shared(element):
            element = cast("ColumnElement[Any]", replacement_traverse(element, {}, _unshared))
        return cls(element, descending, nulls_first)

    @property
    def nulls_lead(self) -> bool:
        """Whether NULLs come before all values."""
        return self.descending if self.nulls_first is None else self.nulls_first

    def turned(self) -> "OrderKey":
        """The same column, descending instead of ascending or the other way round."""
        return OrderKey(self.column, not self.descending, self.nulls_first)

    def mirrored(self) -> "OrderKey":
        """The exact reverse, NULLs included."""
        return OrderKey(self.column, not self.descending, not self.nulls_lead)

    def expression(self, *, nullable: bool = True) -> ColumnElement[Any]:
        """What to give to `order_by`."""
        ordered = self.column.desc() if self.descending else self.column
        if nullable:
            return ordered.nulls_first() if self.nulls_lead else ordered.nulls_last()
        return ordered


def _is_shared(element: Any) -> bool:
    """Whether it is an attribute of a class that shares the table of the one it inherits from."""
    if getattr(element, "table", None) is None:
        return False
    owner = inspect(element.entity_namespace, raiseerr=False)
    return isinstance(owner, Mapper) and owner.single


def _has_shared(element: Any) -> bool:
    if isinstance(element, SelectBase):
        return False
    return _is_shared(element) or any(map(_has_shared, element.get_children()))


def _unshared(element: Any, **_: Any) -> Any:
    # Where such an attribute is selected, the rows of other classes are not.
    if isinstance(element, SelectBase):
        return element
    return element.table.c[element.key] if _is_shared(element) else None


_MODIFIERS = (
    operators.asc_op,
    operators.desc_op,
    operators.nulls_first_op,
    operators.nulls_last_op,
)


@dataclass(frozen=True, eq=False, slots=True)
class SortBy:
    """The names a client may sort by. Made by `sort_by`."""

    keys: Mapping[str, object]

    def check(self, annotation: Any) -> None:
        """Check that the parameter's type is a name, or a list of names.

        Raises:
            TypeError: It is something else.
        """
        if bare_type(annotation) not in (str, list[str]):
            raise TypeError(f"sort_by takes list[str] or str, and the field is {annotation}")

    def resolve(self) -> dict[str, OrderKey]:
        """What each value that a client may send stands for.

        Raises:
            TypeError: A name stands for something that rows cannot be sorted by.
        """
        resolved: dict[str, OrderKey] = {}
        for name, column in self.keys.items():
            key = OrderKey.of(column)
            if python_type(key.column.type) is None:
                raise TypeError(
                    f"{name}={column} cannot be sorted by: it is {key.column.type!r}. "
                    "Name an expression whose type is plain, as cast() or type_= makes one"
                )
            resolved[name] = key
            resolved[f"-{name}"] = key.turned()
        return resolved

    def names(self) -> list[str]:
        """The values that a client may send."""
        return [sign + name for name in self.keys for sign in ("", "-")]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """An enum, or a list of it, and then what else the field asks for."""
        bare, declared = bare_type(source), handler(source)
        inner: Any = declared["schema"] if declared["type"] == "nullable" else declared
        name = core_schema.literal_schema(self.names())
        most = min(len(self.keys), inner.get("max_length", len(self.keys)))
        found = name if bare is str else core_schema.list_schema(name, max_length=most)
        named = found if source == bare else core_schema.nullable_schema(found)
        return core_schema.chain_schema([named, declared])


def sort_by(**keys: SQLColumnExpression[Any]) -> SortBy:
    """A parameter that sorts by these columns: `?sort=price&sort=-name`, `-` for descending.

        sort: Annotated[list[str], sort_by(name=Item.name, price=Item.price)] = ["-price"]

    A column may also be an expression, and `column.nulls_first()` or `column.nulls_last()` place
    NULLs, which otherwise count as greater than any value.
    """
    if not keys:
        raise TypeError("sort_by() has nothing to sort by: give it name=column")
    for name in keys:
        if not name or name.startswith("-"):
            raise TypeError(f"sort_by() cannot have a name {name!r}: - in front means descending")
    return SortBy(keys)
