"""Pages of what is in memory."""

# Pydantic would make a class for each page that an overload names.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from fastkit.pagination._pages import LimitOffsetPage, Page, add_links, make_page, stretch_of
from fastkit.pagination._params import LimitOffsetParams, PageParams

__all__ = ("paginate_sequence",)

T = TypeVar("T")
Out = TypeVar("Out")


@overload
def paginate_sequence(
    items: Sequence[T],
    params: PageParams,
    *,
    into: None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Page[T]: ...
@overload
def paginate_sequence(
    items: Sequence[Any],
    params: PageParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    request: Request | None = None,
    response: Response | None = None,
) -> Page[Out]: ...
@overload
def paginate_sequence(
    items: Sequence[T],
    params: LimitOffsetParams,
    *,
    into: None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> LimitOffsetPage[T]: ...
@overload
def paginate_sequence(
    items: Sequence[Any],
    params: LimitOffsetParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    request: Request | None = None,
    response: Response | None = None,
) -> LimitOffsetPage[Out]: ...
def paginate_sequence(
    items: Sequence[Any],
    params: BaseModel,
    *,
    into: Any = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Any:
    """The page of `items` that `params` ask for; its total is their number.

    Args:
        items: All of them. Only those on the page are looked at.
        params: What the request asks for.
        into: Validate each item as this type, or pass it through this function.
        request: Put links to the other pages into the page.
        response: Put them into the `Link` header of this response instead (RFC 8288).

    Raises:
        TypeError: There is a response and no request, or `params` are of another kind.
    """
    stretch = stretch_of(params)
    if stretch is None:
        raise TypeError(
            f"{type(params).__name__} says nothing of pages in memory: "
            "derive it from PageParams or LimitOffsetParams"
        )
    end, total = stretch.offset + stretch.size, len(items)
    members = {
        "total": total,
        "total_capped": False,
        "has_next": end < total,
        "links": None,
        **stretch.place,
    }
    page = make_page(stretch.kind, list(items[stretch.offset : end]), into, members)
    add_links(page, params, request, response)
    return page
