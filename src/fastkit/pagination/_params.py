"""What a request asks for."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

__all__ = ("CursorParams", "LimitOffsetParams", "PageParams", "query_name", "query_names")

# A page's number times its size is an offset, and the product of these fits in 64 bits.
_MAX_PAGE = _MAX_SIZE = 2**31 - 1
# Clients that count in floating point, as JavaScript does, know no whole number beyond this.
_MAX_OFFSET = 2**53 - 1


class _Params(BaseModel):
    _bounds: ClassVar[Mapping[str, tuple[int, int]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check that no field has lost its bounds by being declared anew."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, (low, high) in cls._bounds.items():
            field = cls.model_fields.get(name)
            if field is None or not _is_bounded(field, low, high):
                raise TypeError(
                    f"{cls.__qualname__}.{name} must be a whole number from {low} to a maximum, "
                    f"its default too: {name}: Annotated[int, Field(ge={low}, le=500)] = 50"
                )


def _is_bounded(field: FieldInfo, low: int, high: int) -> bool:
    if field.default_factory is not None:
        return False  # what it gives is known when it is called
    # Without what only a model's field has, such as an alias, which Pydantic would warn of.
    declared: Any = field.annotation
    for constraint in field.metadata:
        declared = Annotated[declared, constraint]
    adapter = TypeAdapter[Any](declared)
    beyond = (low - 1, high + 1, 1.5, None)
    default = () if field.default is PydanticUndefined else (field.default,)
    return not any(_admits(adapter, value) for value in beyond) and all(
        _admits(adapter, value) for value in default
    )


def _admits(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


class PageParams(_Params):
    """`?page=2&size=50`: numbered pages.

    Another maximum, and another default, are a line in a subclass:

        class ItemQuery(PageParams):
            size: Annotated[int, Field(ge=1, le=500)] = 100

    Raises:
        TypeError: In a subclass, `page` or `size` has no maximum, a minimum below 1, or a default
            that is not between them.
    """

    _bounds = {"page": (1, _MAX_PAGE), "size": (1, _MAX_SIZE)}

    page: Annotated[int, Field(ge=1, le=_MAX_PAGE, description="Which page, from 1 on.")] = 1
    size: Annotated[int, Field(ge=1, le=100, description="How many items a page holds.")] = 50


class LimitOffsetParams(_Params):
    """`?limit=50&offset=100`: any stretch of a list.

    Raises:
        TypeError: In a subclass, `limit` has no maximum or a minimum below 1, `offset` has no
            maximum or a minimum below 0, or a default is not between them.
    """

    _bounds = {"limit": (1, _MAX_SIZE), "offset": (0, _MAX_OFFSET)}

    limit: Annotated[int, Field(ge=1, le=100, description="How many items at most.")] = 50
    offset: Annotated[
        int, Field(ge=0, le=_MAX_OFFSET, description="How many items come before them.")
    ] = 0


class CursorParams(_Params):
    """`?cursor=...&size=50`: from where the last page ended, whatever came or went before it.

    Raises:
        TypeError: In a subclass, `size` has no maximum, a minimum below 1, or a default that is
            not between them.
    """

    _bounds = {"size": (1, _MAX_SIZE)}

    cursor: Annotated[
        str | None, Field(description="The next_cursor or previous_cursor of a page.")
    ] = None
    size: Annotated[int, Field(ge=1, le=100, description="How many items a page holds.")] = 50


def query_name(params: BaseModel, name: str) -> str:
    """What a client calls the field `name`."""
    return query_names(params, name)[0]


def query_names(params: BaseModel, name: str) -> list[str]:
    """All that a client may call it."""
    alias = type(params).model_fields[name].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    names = [choice for choice in choices if isinstance(choice, str)]
    config = params.model_config
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return [*names, name] if by_name or not names else names
