from collections.abc import Awaitable
from typing import assert_type

from pydantic import BaseModel
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from fastkit.db import paginate
from fastkit.filtering import FilterParams
from fastkit.pagination import (
    CursorPage,
    CursorParams,
    LimitOffsetPage,
    LimitOffsetParams,
    Page,
    PageParams,
)


class Base(DeclarativeBase): ...


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class ItemOut(BaseModel):
    id: int


class ItemQuery(PageParams, FilterParams): ...


def name_of(item: Item) -> str:
    return item.name


async def an_async_session_is_awaited(session: AsyncSession) -> None:
    query = ItemQuery()
    assert_type(await paginate(session, select(Item), query, into=ItemOut), Page[ItemOut])
    assert_type(paginate(session, select(Item), query, into=ItemOut), Awaitable[Page[ItemOut]])
    assert_type(await paginate(session, select(Item), query), Page[Item])
    pairs = select(Item.id, Item.name)
    assert_type(await paginate(session, pairs, query), Page[Row[int, str]])
    assert_type(
        await paginate(session, select(Item), LimitOffsetParams(), into=ItemOut),
        LimitOffsetPage[ItemOut],
    )
    assert_type(await paginate(session, select(Item), LimitOffsetParams()), LimitOffsetPage[Item])
    assert_type(await paginate(session, select(Item), CursorParams()), CursorPage[Item])
    assert_type(await paginate(session, pairs, CursorParams()), CursorPage[Row[int, str]])
    assert_type(
        await paginate(session, select(Item), CursorParams(), into=ItemOut), CursorPage[ItemOut]
    )


def a_session_is_not(session: Session) -> None:
    assert_type(paginate(session, select(Item), PageParams(), into=ItemOut), Page[ItemOut])
    assert_type(paginate(session, select(Item), PageParams()), Page[Item])
    assert_type(paginate(session, select(Item.name), PageParams()), Page[str])
    assert_type(paginate(session, select(Item, Item.id), PageParams()), Page[Row[Item, int]])
    assert_type(paginate(session, select(Item), PageParams(), into=name_of), Page[str])
    assert_type(paginate(session, select(Item), CursorParams(), into=name_of), CursorPage[str])
    assert_type(paginate(session, select(Item), LimitOffsetParams()), LimitOffsetPage[Item])
    pairs = select(Item.id, Item.name)
    assert_type(paginate(session, pairs, LimitOffsetParams()), LimitOffsetPage[Row[int, str]])


def what_says_nothing_of_pages_is_refused(session: Session, filters: FilterParams) -> None:
    paginate(session, select(Item), filters)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    paginate(session, "select 1", PageParams())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    paginate(object(), select(Item), PageParams())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
