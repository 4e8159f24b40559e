"""Pages of a select."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db._fetch import Fetched, Plan, fetch
from fastkit.pagination._pages import add_links, make_page

if TYPE_CHECKING:
    from sqlalchemy import Row, Select, SQLColumnExpression
    from starlette.requests import Request
    from starlette.responses import Response

    from fastkit.pagination._pages import CursorPage, LimitOffsetPage, Page
    from fastkit.pagination._params import CursorParams, LimitOffsetParams, PageParams
    from fastkit.pagination._total import TotalPolicy

__all__ = ("paginate",)

T = TypeVar("T")
T2 = TypeVar("T2")
Out = TypeVar("Out")
Ts = TypeVarTuple("Ts")


@overload
def paginate(
    session: AsyncSession,
    select: Select[*Ts],
    params: PageParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[Page[Out]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[T],
    params: PageParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[Page[T]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[T, T2, *Ts],
    params: PageParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[Page[Row[T, T2, *Ts]]]: ...
@overload
def paginate(
    session: Session,
    select: Select[*Ts],
    params: PageParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Page[Out]: ...
@overload
def paginate(
    session: Session,
    select: Select[T],
    params: PageParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Page[T]: ...
@overload
def paginate(
    session: Session,
    select: Select[T, T2, *Ts],
    params: PageParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Page[Row[T, T2, *Ts]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[*Ts],
    params: LimitOffsetParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[LimitOffsetPage[Out]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[T],
    params: LimitOffsetParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[LimitOffsetPage[T]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[T, T2, *Ts],
    params: LimitOffsetParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[LimitOffsetPage[Row[T, T2, *Ts]]]: ...
@overload
def paginate(
    session: Session,
    select: Select[*Ts],
    params: LimitOffsetParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> LimitOffsetPage[Out]: ...
@overload
def paginate(
    session: Session,
    select: Select[T],
    params: LimitOffsetParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> LimitOffsetPage[T]: ...
@overload
def paginate(
    session: Session,
    select: Select[T, T2, *Ts],
    params: LimitOffsetParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> LimitOffsetPage[Row[T, T2, *Ts]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[*Ts],
    params: CursorParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[CursorPage[Out]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[T],
    params: CursorParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[CursorPage[T]]: ...
@overload
def paginate(
    session: AsyncSession,
    select: Select[T, T2, *Ts],
    params: CursorParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Awaitable[CursorPage[Row[T, T2, *Ts]]]: ...
@overload
def paginate(
    session: Session,
    select: Select[*Ts],
    params: CursorParams,
    *,
    into: type[Out] | Callable[[Any], Out],
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> CursorPage[Out]: ...
@overload
def paginate(
    session: Session,
    select: Select[T],
    params: CursorParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> CursorPage[T]: ...
@overload
def paginate(
    session: Session,
    select: Select[T, T2, *Ts],
    params: CursorParams,
    *,
    into: None = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> CursorPage[Row[T, T2, *Ts]]: ...
def paginate(
    session: Any,
    select: Any,
    params: Any,
    *,
    into: Any = None,
    total: TotalPolicy | None = None,
    order_by: Sequence[SQLColumnExpression[Any]] = (),
    secret: str | bytes | None = None,
    request: Request | None = None,
    response: Response | None = None,
) -> Any:
    """The page of `select` that `params` ask for; awaited with an AsyncSession.

    Filters and sorting of `params` are applied. The primary key is added to the order, so that no
    row is on two pages or on none.

    Args:
        session: Where to execute it.
        select: A `select(...)` of a mapped class, of columns, or of a table.
        params: What the request asks for: a model made of PageParams, LimitOffsetParams or
            CursorParams, and maybe FilterParams.
        into: Validate each item as this type, or pass each row through this function. Without it,
            items are what the select gives: objects, values of its one column, or rows.
        total: What to count. Without it, pages of PageParams and LimitOffsetParams have an exact
            total, those of CursorParams have none.
        order_by: The order where the request does not say any: instead of the select's own, which
            cursors cannot use.
        secret: Signs cursors, 16 bytes or more: a client cannot make one for a place of its choice.
        request: Put links to the other pages into the page.
        response: Put them into the `Link` header of this response instead (RFC 8288).

    Raises:
        RequestValidationError: The request's cursor is not one of this list (a 422).
        TypeError: An argument, or the type of a column to sort by, is of no use here.
        ValueError: The select, or the secret, is of no use here.
    """
    plan = Plan(params, total, order_by, secret)

    def finish(fetched: Fetched) -> Any:
        page = make_page(fetched.kind, fetched.rows, into, fetched.members)
        add_links(page, params, request, response)
        return page

    if isinstance(session, AsyncSession):
        return _paginate_async(session, select, plan, finish)
    if isinstance(session, Session):
        return finish(fetch(session, select, plan))
    raise TypeError(f"paginate takes a Session or an AsyncSession, not a {type(session).__name__}")


async def _paginate_async(
    session: AsyncSession, select: Any, plan: Plan, finish: Callable[[Fetched], Any]
) -> Any:
    # In one run, for each method of a session that is awaited takes a greenlet of its own. Items
    # are validated after it, where a relation that was not loaded is an error, as it should be.
    return finish(await session.run_sync(fetch, select, plan))
