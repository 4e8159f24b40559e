"""Pages of what is in memory."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from fastkit.pagination._pages import LimitOffsetPage, Page, add_links, make_page
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
    if isinstance(params, PageParams):
        kind: Any = Page
        place = {"page": params.page, "size": params.size}
        start, size = (params.page - 1) * params.size, params.size
    elif isinstance(params, LimitOffsetParams):
        kind = LimitOffsetPage
        place = {"limit": params.limit, "offset": params.offset}
        start, size = params.offset, params.limit
    else:
        raise TypeError(
            f"{type(params).__name__} says nothing of pages in memory: "
            "derive it from PageParams or LimitOffsetParams"
        )
    total = len(items)
    members = {
        "total": total,
        "total_capped": False,
        "has_next": start + size < total,
        "links": None,
        **place,
    }
    page = make_page(kind, list(items[start : start + size]), into, members)
    add_links(page, params, request, response)
    return page
