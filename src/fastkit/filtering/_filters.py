"""Filters: an operator on a column, as the annotation of a parameter."""

import operator
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema
from sqlalchemy import SQLColumnExpression, TypeDecorator, or_
from sqlalchemy.orm import QueryableAttribute, aliased
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fastkit.filtering._fields import (
    as_column,
    bare_type,
    fits,
    is_ordered,
    is_relation,
    show,
    values_of,
)
from fastkit.filtering._text import matches
from fastkit.filtering._types import MAX_TEXT, bind, bind_many, check_of, is_text, python_type

__all__ = (
    "Filter",
    "between",
    "contains",
    "endswith",
    "eq",
    "ge",
    "gt",
    "icontains",
    "iendswith",
    "in_",
    "is_null",
    "istartswith",
    "le",
    "lt",
    "ne",
    "not_in",
    "search",
    "startswith",
)

_MAX_VALUES = 1000
_BOUNDED = {"format", "pattern", "enum", "const"}
Column = SQLColumnExpression[Any]
Relation = QueryableAttribute[Any]
Condition = ColumnElement[bool]


class _Operator(NamedTuple):
    name: str
    condition: Callable[[ColumnElement[Any], Any], Condition]
    takes: Literal["one", "many", "two", "flag"] = "one"
    columns: Literal["any", "ordered", "text"] = "any"


class _Target(NamedTuple):
    operator: _Operator
    column: object
    through: tuple[Relation, ...] = ()

    def condition(self, value: Any) -> Condition:
        found = self.operator.condition(as_column(self.column), value)
        for relation in reversed(self.through):
            related = relation.any if relation.property.uselist else relation.has
            found = related(found)
        return found

    @property
    def start(self) -> object:
        """What it needs of the rows themselves: a relation, or the column."""
        return self.through[0] if self.through else self.column

    def connected(self) -> "_Target":
        """The same, with each relation leading to the class of the next, or of the column.

        Raises:
            TypeError: One does not lead there.
        """
        steps: list[Any] = [*self.through, self.column]
        for at in range(len(self.through)):
            steps[at : at + 2] = _connected(*steps[at : at + 2])
        *through, column = steps
        return self._replace(column=column, through=tuple(through))


def _connected(relation: Any, after: object) -> tuple[Any, Any]:
    following: Any = after  # which isinstance would make a class of unknown values
    if not isinstance(after, QueryableAttribute):
        return relation, following
    target, owner = relation.comparator.entity, following.parent
    declared = relation.property.mapper
    is_aliased = target.is_aliased_class or owner.is_aliased_class
    if is_aliased:
        leads = target.selectable is owner.selectable  # each alias is a table of its own
    else:
        leads = owner.isa(target) or target.isa(owner)
    if not leads:
        raise TypeError(
            f"through={relation} leads to {target.class_.__qualname__}, "
            f"which {following} is no attribute of"
        )
    narrows = not is_aliased and owner is not target and owner.isa(target)
    narrowest = owner.mapper if narrows else target.mapper
    if narrowest.single and narrowest is not declared and declared.common_parent(relation.parent):
        # SQLAlchemy would ask for the class of the outer row, and not of the related one.
        raise TypeError(
            f"through={relation} leads to its own table, where {following} cannot be asked of "
            f"{narrowest.class_.__qualname__} alone: name the table's column"
        )
    if not narrows:
        return relation, following
    if narrowest.single:
        return relation.of_type(owner.class_), following
    # An alias, for SQLAlchemy mixes up the tables where a row leads to others of its own table.
    alias = aliased(owner.class_, flat=True)
    found: Any = getattr(alias, following.key)
    if is_relation(following):
        found = found.of_type(following.comparator.entity.entity)
    return relation.of_type(alias), found


# Compared by identity: columns compare to SQL.
@dataclass(frozen=True, eq=False)
class Filter:
    """What a parameter asks of the rows. Made by the functions of this module, such as `eq`."""

    targets: tuple[_Target, ...]

    def condition(self, value: Any) -> Condition:
        """The SQL expression that holds for the rows asked for.

        Raises:
            TypeError: The relations of `through=` do not lead to the column.
        """
        conditions = [target.condition(value) for target in self._connected_targets]
        return conditions[0] if len(conditions) == 1 else or_(*conditions)

    @cached_property
    def _connected_targets(self) -> tuple[_Target, ...]:
        # Not when the class is made: where a relation leads is known when all models are.
        return tuple(target.connected() for target in self.targets)

    def check(self, annotation: Any) -> None:
        """Check that operator, column and the parameter's type go together.

        Raises:
            TypeError: They do not; the message says why.
        """
        for target in self.targets:
            _check_target(target, bare_type(annotation))

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Refuse values that no database takes."""
        types = [_type_of(target.column) for target in self.targets]
        checks = [check_of(type_) for type_ in types if type_ is not None]

        def check(value: Any) -> Any:
            if isinstance(value, list | tuple | set | frozenset):
                values = cast("Collection[Any]", value)
                if len(values) > _MAX_VALUES:
                    raise PydanticCustomError(
                        "too_long", "Input should have at most {max} values", {"max": _MAX_VALUES}
                    )
                return cast("Any", type(values))(map(check, values))
            if value is not None:
                for each in checks:
                    value = each(value)
            return value

        schema = handler(source)
        if self.targets[0].operator.takes == "flag":
            return schema

        def validate(value: Any, inner: core_schema.ValidatorFunctionWrapHandler) -> Any:
            return check(inner(value))

        # Not after: a ValueError that Pydantic 2.10 itself lets out, for a year 0, ends here.
        return core_schema.no_info_wrap_validator_function(validate, schema)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Show how long a text may be, and how many values there may be."""
        shown = handler(schema)
        _show_limits(shown)
        return shown


def _show_limits(shown: dict[str, Any]) -> None:
    if shown.get("type") == "array":
        shown.setdefault("maxItems", _MAX_VALUES)
    elif shown.get("type") == "string" and not shown.keys() & _BOUNDED:
        shown.setdefault("maxLength", MAX_TEXT)
    for part in (*shown.get("anyOf", ()), *shown.get("prefixItems", ())):
        _show_limits(part)
    if "items" in shown:
        _show_limits(shown["items"])


def _type_of(column: object) -> TypeEngine[Any] | None:
    try:
        return as_column(column).type
    except TypeError:
        return None  # FilterParams tells of it, and of the field's name


def _check_target(target: _Target, annotation: Any) -> None:
    name, _, takes, columns = target.operator
    type_ = as_column(target.column).type
    for relation in target.through:
        if not is_relation(relation):
            raise TypeError(
                f"through= is for relations, and {relation} is none: name one, or a tuple of them"
            )
    if takes == "flag":
        if annotation is not bool:
            raise TypeError(f"{name} takes a bool, and the field is {show(annotation)}")
        return
    kind = python_type(type_)
    if kind is None:
        raise TypeError(
            f"{name} does not work on {target.column}, which is {type_!r}: "
            "name an expression of it whose type is plain, as cast() or type_= makes one"
        )
    if columns == "text" and not is_text(type_):
        raise TypeError(f"{name} is for text, and {target.column} is {type_!r}: use eq or in_")
    if columns == "ordered" and not is_ordered(type_, kind):
        raise TypeError(f"{name} needs an order, and {target.column} is {type_!r}: use eq or in_")
    for given in values_of(name, takes, annotation):
        if not isinstance(type_, TypeDecorator) and not fits(given, kind):
            raise TypeError(
                f"{name} compares {target.column}, whose values are {kind.__name__}, "
                f"and the field is {show(annotation)}"
            )


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[ColumnElement[Any], Any], Any]:
    return lambda column, value: compare(column, bind(column.type, value))


def _text(*, before: bool, after: bool, ignore_case: bool = False) -> Any:
    def condition(column: ColumnElement[Any], value: Any) -> Condition:
        return matches(column, value, before=before, after=after, ignore_case=ignore_case)

    return condition


def _is_in(column: ColumnElement[Any], values: Iterable[Any]) -> Condition:
    return column.in_(bind_many(column.type, list(values)))


def _is_not_in(column: ColumnElement[Any], values: Iterable[Any]) -> Condition:
    return ~_is_in(column, values)


def _is_between(column: ColumnElement[Any], limits: tuple[Any, Any]) -> Condition:
    low, high = limits
    return column.between(bind(column.type, low), bind(column.type, high))


def _is_null(column: ColumnElement[Any], value: bool) -> Condition:
    return column.is_(None) if value else column.is_not(None)


_EQ = _Operator("eq", _comparison(operator.eq))
_NE = _Operator("ne", _comparison(operator.ne))
_LT = _Operator("lt", _comparison(operator.lt), columns="ordered")
_LE = _Operator("le", _comparison(operator.le), columns="ordered")
_GT = _Operator("gt", _comparison(operator.gt), columns="ordered")
_GE = _Operator("ge", _comparison(operator.ge), columns="ordered")
_BETWEEN = _Operator("between", _is_between, "two", "ordered")
_IN = _Operator("in_", _is_in, "many")
_NOT_IN = _Operator("not_in", _is_not_in, "many")
_IS_NULL = _Operator("is_null", _is_null, "flag")
_CONTAINS = _Operator("contains", _text(before=True, after=True), columns="text")
_STARTSWITH = _Operator("startswith", _text(before=False, after=True), columns="text")
_ENDSWITH = _Operator("endswith", _text(before=True, after=False), columns="text")
_ICONTAINS = _Operator(
    "icontains", _text(before=True, after=True, ignore_case=True), columns="text"
)
_ISTARTSWITH = _Operator(
    "istartswith", _text(before=False, after=True, ignore_case=True), columns="text"
)
_IENDSWITH = _Operator(
    "iendswith", _text(before=True, after=False, ignore_case=True), columns="text"
)


def _filter(
    operator: _Operator, column: Column, through: Relation | tuple[Relation, ...]
) -> Filter:
    path = through if isinstance(through, tuple) else (through,)
    return Filter((_Target(operator, column, path),))


def eq(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is the value."""
    return _filter(_EQ, column, through)


def ne(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is another value. NULL is no other value: such rows are left out."""
    return _filter(_NE, column, through)


def lt(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is less than the value."""
    return _filter(_LT, column, through)


def le(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is the value or less."""
    return _filter(_LE, column, through)


def gt(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is greater than the value."""
    return _filter(_GT, column, through)


def ge(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is the value or greater."""
    return _filter(_GE, column, through)


def between(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column lies between two values, given as `?x=1&x=9`, or is one of them."""
    return _filter(_BETWEEN, column, through)


def in_(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is one of the values, given as `?x=a&x=b`; up to 1,000 of them."""
    return _filter(_IN, column, through)


def not_in(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose column is none of the values. Rows with NULL are left out, as by `ne`."""
    return _filter(_NOT_IN, column, through)


def is_null(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """With `true`, rows whose column is NULL; with `false`, rows whose column is not."""
    return _filter(_IS_NULL, column, through)


def contains(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose text has the value in it."""
    return _filter(_CONTAINS, column, through)


def startswith(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose text starts with the value."""
    return _filter(_STARTSWITH, column, through)


def endswith(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose text ends with the value."""
    return _filter(_ENDSWITH, column, through)


def icontains(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose text has the value in it, in upper or lower case."""
    return _filter(_ICONTAINS, column, through)


def istartswith(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose text starts with the value, in upper or lower case."""
    return _filter(_ISTARTSWITH, column, through)


def iendswith(column: Column, *, through: Relation | tuple[Relation, ...] = ()) -> Filter:
    """Rows whose text ends with the value, in upper or lower case."""
    return _filter(_IENDSWITH, column, through)


def search(*columns: Column | Filter) -> Filter:
    """Rows that have the value in any of these columns, in upper or lower case.

    A column of a relation is given as `icontains(Artist.name, through=Item.artist)`, and any
    other filter that takes one text may stand there, too.
    """
    targets: list[_Target] = []
    for column in columns:
        targets += column.targets if isinstance(column, Filter) else [_Target(_ICONTAINS, column)]
    if not targets:
        raise TypeError("search() has no columns to search in: name one at least")
    return Filter(tuple(targets))
