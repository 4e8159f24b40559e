"""What an endpoint gives back."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import quote

from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from fastkit.pagination._params import LimitOffsetParams, PageParams, query_names

__all__ = (
    "CursorPage",
    "LimitOffsetPage",
    "Page",
    "PageLinks",
    "add_links",
    "make_page",
    "stretch_of",
)

T = TypeVar("T")


class PageLinks(BaseModel):
    """Where the other pages are: paths with a query, that are resolved against the request's URL.

    They have no host, so that they are right behind any proxy that keeps or announces the path's
    prefix (`root_path`).
    """

    first: str | None = None
    previous: str | None = None
    next: str | None = None
    last: str | None = None


class _Envelope(BaseModel, Generic[T]):
    items: list[T]
    total: int | None = None
    """How many items there are on all pages; None where they are not counted."""
    total_capped: bool = False
    """Whether there are more than `total`, to which counting was limited."""
    has_next: bool
    links: PageLinks | None = None
    """The URLs of other pages, where the endpoint gives them."""


class Page(_Envelope[T], Generic[T]):
    """A numbered page."""

    page: int
    size: int


class LimitOffsetPage(_Envelope[T], Generic[T]):
    """A stretch of a list."""

    limit: int
    offset: int


class CursorPage(_Envelope[T], Generic[T]):
    """A page of a walk, with the cursors of its neighbours."""

    size: int
    next_cursor: str | None = None
    previous_cursor: str | None = None


class Stretch(NamedTuple):
    """The items that a request asks for by their number."""

    kind: type[BaseModel]
    """The page that holds them."""
    offset: int
    size: int
    place: dict[str, int]
    """What was asked for, which the page repeats."""


def stretch_of(params: object) -> Stretch | None:
    """What a numbered page, or a limit and an offset, asks for; None for other params."""
    if isinstance(params, PageParams):
        place = {"page": params.page, "size": params.size}
        return Stretch(Page, (params.page - 1) * params.size, params.size, place)
    if isinstance(params, LimitOffsetParams):
        place = {"limit": params.limit, "offset": params.offset}
        return Stretch(LimitOffsetPage, params.offset, params.limit, place)
    return None


def make_page(
    kind: type[BaseModel], rows: Sequence[Any], into: Any, members: Mapping[str, Any]
) -> Any:
    """Validate each of `rows` as an `into`, or pass it through the function `into`, or keep it."""
    if into is None:
        return kind.model_construct(items=rows, **members)
    if _is_function(into):
        return kind.model_construct(items=[into(row) for row in rows], **members)
    return _page_of(kind, into).model_validate({"items": rows, **members}, from_attributes=True)


def _is_function(into: Any) -> bool:
    # list[int], a NewType and an alias may be callable, too, and are no classes.
    named = ("__origin__", "__supertype__", "__value__")
    return (
        callable(into)
        and not isinstance(into, type)
        and not any(hasattr(into, name) for name in named)
    )


@lru_cache(maxsize=512)
def _page_of(kind: type[BaseModel], item: Any) -> type[BaseModel]:
    return cast("type[BaseModel]", cast("Any", kind)[item])


def add_links(
    page: Any, params: BaseModel, request: Request | None, response: Response | None
) -> None:
    """Put links into the page, or into the `Link` header of `response` (RFC 8288, section 3).

    Raises:
        TypeError: There is a response and no request.
    """
    if request is None:
        if response is not None:
            raise TypeError("For a Link header, give the request too: its URL is what links need")
        return
    links = _links(page, params, request)
    if response is None:
        page.links = links
        return
    targets = [
        f'<{target}>; rel="{"prev" if relation == "previous" else relation}"'
        for relation, target in links.model_dump(exclude_none=True).items()
    ]
    response.headers.append("link", ", ".join(targets))


def _links(page: Any, params: BaseModel, request: Request) -> PageLinks:
    is_empty = not page.items
    if isinstance(page, CursorPage):
        names = query_names(params, "cursor")
        places = {"first": None, "previous": page.previous_cursor, "next": page.next_cursor}
        return PageLinks(
            **{
                relation: _url(request, names, place)
                for relation, place in places.items()
                if place is not None or relation == "first"
            }
        )
    if isinstance(page, Page):
        name, here, step, first, size = "page", page.page, 1, 1, page.size
    else:
        name, here, step, first, size = "offset", page.offset, page.limit, 0, page.limit
    names = query_names(params, name)
    previous, last = max(first, here - step), None
    if page.total is not None and not page.total_capped:
        last = first + max(0, page.total - 1) // size * step
        if is_empty:
            previous = min(previous, last)  # or it would be another empty one
    return PageLinks(
        first=_url(request, names, first),
        previous=_url(request, names, previous) if here > first else None,
        next=_url(request, names, here + step) if page.has_next else None,
        last=_url(request, names, last) if last is not None else None,
    )


def _url(request: Request, names: Sequence[str], place: int | str | None) -> str:
    root: str = request.scope.get("root_path", "").rstrip("/")
    path: str = request.scope["path"]
    if root and path != root and not path.startswith(f"{root}/"):
        path = root + path  # the proxy in front has taken the prefix off
    query = [pair for pair in request.query_params.multi_items() if pair[0] not in names]
    if place is not None:
        query.append((names[0], str(place)))
    # Two slashes in front would make the path's first part a host. Commas and semicolons may stand
    # in a target, but not every client's parser of `Link` knows.
    target = "/" + quote(path.lstrip("/"), safe="/:@!$&'()*+=~")
    return f"{target}?{QueryParams(query)}" if query else target
