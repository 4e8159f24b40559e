"""The model of a request's filters and sorting."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar, cast, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo
from sqlalchemy import Select
from sqlalchemy.sql.elements import ColumnElement

from fastkit.filtering._filters import Filter
from fastkit.filtering._sort import OrderKey, SortBy

__all__ = (
    "FilterParams",
    "apply_filters",
    "apply_sort",
    "conditions_of",
    "filters_of",
    "order_of",
)

_S = TypeVar("_S", bound=Select[Any])


class _Declared(NamedTuple):
    filters: Mapping[str, Filter]
    sort: str | None
    keys: Mapping[str, OrderKey]
    names: frozenset[str]
    """What a client calls them."""


@cache
def _declared(cls: type[BaseModel]) -> _Declared:
    filters: dict[str, Filter] = {}
    sort: str | None = None
    keys: dict[str, OrderKey] = {}
    names: set[str] = set()
    for name, field in cls.model_fields.items():
        found = [each for each in field.metadata if isinstance(each, Filter | SortBy)]
        try:
            _check_alone(found, field.annotation)
            for each in found:
                each.check(field.annotation)
                names |= _names_of(name, field, cls.model_config)
                if isinstance(each, Filter):
                    filters[name] = each
                elif sort is None:
                    sort, keys = name, each.resolve()
                    _check_default(field, keys)
                else:
                    raise TypeError(f"{sort} sorts already: name its columns there")
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}.{name}: {error}") from None
    return _Declared(filters, sort, keys, frozenset(names))


def _names_of(name: str, field: FieldInfo, config: ConfigDict) -> set[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    names = {choice for choice in choices if isinstance(choice, str)}
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return names | {name} if by_name or not names else names


def _check_alone(found: Sequence[Filter | SortBy], annotation: Any) -> None:
    if len(found) > 1:
        raise TypeError("a field has one filter: make it two fields, or one with search()")
    if any(isinstance(each, Filter | SortBy) for each in _metadata_inside(annotation)):
        raise TypeError(
            "the filter belongs to a part of the annotation: "
            "put all of the type inside of Annotated, as in Annotated[str | None, eq(...)]"
        )


def _metadata_inside(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _metadata_inside(part)


def _check_default(field: FieldInfo, keys: Mapping[str, OrderKey]) -> None:
    if field.default_factory is not None:
        raise TypeError("its default cannot be checked: write it as = [...], which is copied")
    default = () if field.is_required() else field.default
    for value in [default] if isinstance(default, str) else default or ():
        if value not in keys:
            raise TypeError(f"its default {value!r} is none of {', '.join(keys)}")


class FilterParams(BaseModel):
    """A query model with filters and sorting; it refuses parameters that it does not know.

    Parameters of others in the same request, a dependency's for example, are unknown to it, too:
    `model_config = ConfigDict(extra="ignore")` in a subclass lets them pass.

    A parameter that is absent or empty (`?name=`) has its default. None and an empty list filter
    nothing.

    Raises:
        TypeError: A filter does not fit its column or its field, when the class is made.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check the filters."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_complete__:  # otherwise a name in an annotation is still unknown
            _declared(cls)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast("dict[str, Any]", data)
        names = _declared(cls).names
        kept: dict[str, Any] = {}
        for name, value in given.items():
            if name not in names:
                kept[name] = value
            elif isinstance(value, list) and "" in value:
                if several := [each for each in cast("Iterable[Any]", value) if each != ""]:
                    kept[name] = several
            elif value != "":
                kept[name] = value
        return kept


def filters_of(params: BaseModel) -> dict[str, Filter]:
    """Those filters of `params` that have a value, by their fields' names.

    Raises:
        TypeError: It has filters, but is no FilterParams.
    """
    declared = _declared(type(params))
    if not isinstance(params, FilterParams):
        if declared.names:
            raise TypeError(f"{type(params).__qualname__} has filters: derive it from FilterParams")
        return {}
    given = params.__dict__
    return {
        name: filter_
        for name, filter_ in declared.filters.items()
        if given[name] not in (None, [], set(), frozenset())
    }


def conditions_of(params: BaseModel) -> list[ColumnElement[bool]]:
    """What the filters of `params` ask for."""
    given = params.__dict__
    return [filter_.condition(given[name]) for name, filter_ in filters_of(params).items()]


def order_of(params: BaseModel) -> list[OrderKey]:
    """What the sorting of `params` asks for."""
    declared = _declared(type(params))
    if declared.sort is None:
        return []
    value = params.__dict__[declared.sort]
    return [declared.keys[name] for name in ([value] if isinstance(value, str) else value or ())]


def apply_filters(select: _S, params: FilterParams) -> _S:
    """The select with the filters of `params` in its WHERE clause."""
    return select.where(*conditions_of(params))


def apply_sort(select: _S, params: FilterParams) -> _S:
    """The select ordered as `params` ask for, instead of by an ORDER BY of its own.

    Rows that are equal in that come in no certain order; `paginate` adds the primary key.
    """
    keys = order_of(params)
    return select.order_by(None).order_by(*[key.expression() for key in keys]) if keys else select
