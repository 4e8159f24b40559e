"""Pages in requests' sessions: what they load, what they trust, and what is refused."""

import gc
from typing import Annotated, Any, TypeVar

import pytest
from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import event, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, subqueryload
from starlette.requests import Request

from fastkit.db import Database, SyncDatabase, _keyset, paginate
from fastkit.filtering import FilterParams, eq, sort_by
from fastkit.pagination import CursorPage, CursorParams, Page, PageParams
from tests.db.models import Item, Part
from tests.db.paginate.models import Artist, Song, Tag
from tests.db.paginate.models import Base as Music
from tests.db.support import client

T = TypeVar("T")


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


class SongOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    tags: list[ItemOut]


class ItemQuery(PageParams, FilterParams):
    name: Annotated[str | None, eq(Item.name)] = None
    sort: Annotated[list[str], sort_by(id=Item.id, name=Item.name)] = ["-name"]  # noqa: RUF012


class ItemCursor(CursorParams, FilterParams):
    sort: Annotated[list[str], sort_by(id=Item.id, name=Item.name)] = ["-name"]  # noqa: RUF012


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["session", "read_session"])
async def test_pages_in_a_requests_session(database: Database[AsyncSession], kind: str) -> None:
    app = FastAPI()
    async with database.begin() as session:
        session.add_all(Item(id=i, name=f"n{i}") for i in range(5))

    @app.get("/items")
    async def items(
        session: Annotated[AsyncSession, getattr(database, kind)],
        query: Annotated[ItemQuery, Query()],
        request: Request,
    ) -> Page[ItemOut]:
        return await paginate(session, select(Item), query, into=ItemOut, request=request)

    @app.get("/walk")
    async def walk(
        session: Annotated[AsyncSession, getattr(database, kind)],
        query: Annotated[ItemCursor, Query()],
        request: Request,
        response: Response,
    ) -> CursorPage[ItemOut]:
        return await paginate(
            session, select(Item), query, into=ItemOut, request=request, response=response
        )

    async with client(app) as http:
        page = (await http.get("/items", params={"size": 2, "page": 2})).json()
        assert [item["id"] for item in page["items"]] == [2, 1]
        assert (page["total"], page["links"]["next"]) == (5, "/items?size=2&page=3")
        found = (await http.get("/items", params={"name": "n3"})).json()
        assert (found["total"], found["items"]) == (1, [{"id": 3, "name": "n3"}])
        first = await http.get("/walk", params={"size": 2})
        link = first.headers["link"].split(", ")[1]
        second = (await http.get(link[1 : link.index(">")])).json()
        assert [item["id"] for item in second["items"]] == [2, 1]
        assert (await http.get("/walk", params={"bogus": 1})).status_code == 422


def test_pages_in_a_sync_session(sync_database: SyncDatabase[Session]) -> None:
    with sync_database.begin() as session:
        session.add_all(Item(id=i, name=f"n{i}") for i in range(3))
        # What the session has not flushed yet is there, too.
        page = paginate(session, select(Item), ItemCursor(size=2))
        assert [item.id for item in page.items] == [2, 1]
        cursor = page.next_cursor
        assert cursor is not None
        after = paginate(session, select(Item), ItemCursor(size=2, cursor=cursor))
        assert [item.id for item in after.items] == [0]


def get(session: Session, kind: type[T], key: int) -> T:
    found = session.get(kind, key)
    assert found is not None
    return found


def song_with_tag(session: Session) -> None:
    session.add_all(
        Song(id=i, name=f"s{i}", tags=[Tag(id=i, name=f"t{i}")], artist=Artist(id=i, name="a"))
        for i in range(4)
    )


@pytest.fixture
def music(sync_database: SyncDatabase[Session]) -> SyncDatabase[Session]:
    tables = [table for name, table in Music.metadata.tables.items() if name != "thing"]
    Music.metadata.create_all(sync_database.engine, tables=tables)
    with sync_database.begin() as session:
        song_with_tag(session)
    return sync_database


def test_an_object_that_the_session_has_does_not_say_where_its_row_is(
    music: SyncDatabase[Session],
) -> None:
    order = [Song.name]
    with music.begin() as session:
        known = get(session, Song, 1)
        # Another transaction, or this statement, moves the row; the object does not hear of it.
        session.execute(
            update(Song).where(Song.id == 1).values(name="s9"),
            execution_options={"synchronize_session": False},
        )
        page = paginate(session, select(Song), CursorParams(size=3), order_by=order)
        assert [song.id for song in page.items] == [0, 2, 3]
        last = paginate(
            session, select(Song), CursorParams(size=3, cursor=page.next_cursor), order_by=order
        )
        assert last.items == [known]
        assert known.name == "s1"
        assert last.previous_cursor is not None
        back = CursorParams(size=9, cursor=last.previous_cursor)
        assert len(paginate(session, select(Song), back, order_by=order).items) == 3


def test_an_object_that_changes_when_it_is_loaded_does_not_either(
    music: SyncDatabase[Session],
) -> None:
    def change(song: Song, _: Any) -> None:
        song.name = "zzz"

    event.listen(Song, "load", change)
    try:
        with music.begin() as session:
            page = paginate(session, select(Song), CursorParams(size=2), order_by=[Song.name])
            after = CursorParams(size=2, cursor=page.next_cursor)
            session.expunge_all()
            page = paginate(session, select(Song), after, order_by=[Song.name])
            assert [song.id for song in page.items] == [2, 3]
            session.expunge_all()
    finally:
        event.remove(Song, "load", change)


def test_many_objects_in_the_session(music: SyncDatabase[Session]) -> None:
    with music.begin() as session:
        session.add_all(Artist(id=i, name="a") for i in range(10, 120))
        session.flush()
        kept = session.scalars(select(Artist)).all()
        page = paginate(session, select(Song), CursorParams(size=3))
        assert (len(kept), [song.id for song in page.items]) == (114, [0, 1, 2])


def test_relations_load_as_they_do_without_pages(music: SyncDatabase[Session]) -> None:
    with music.begin() as session:
        params = CursorParams(size=2)
        lazy = paginate(session, select(Song), params, into=SongOut)
        assert [song.tags[0].name for song in lazy.items] == ["t0", "t1"]
        session.expunge_all()
        after = CursorParams(size=2, cursor=lazy.next_cursor)
        eager = select(Song).options(subqueryload(Song.tags))
        page = paginate(session, eager, after, into=SongOut)
        assert [song.tags[0].name for song in page.items] == ["t2", "t3"]


@pytest.mark.anyio
# SQLAlchemy leaves a coroutine behind when it refuses to wait for it.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
async def test_a_lazy_relation_raises_in_an_async_session(
    sqlite: Database[AsyncSession],
) -> None:
    async with sqlite.begin() as session:
        connection = await session.connection()
        tables = [table for name, table in Music.metadata.tables.items() if name != "thing"]
        await connection.run_sync(Music.metadata.create_all, tables=tables)
        await session.run_sync(song_with_tag)
    async with sqlite.begin() as session:
        with pytest.raises((SQLAlchemyError, ValidationError), match="greenlet"):
            await paginate(session, select(Song), PageParams(), into=SongOut)
        with pytest.raises(SQLAlchemyError, match="greenlet"):
            await paginate(session, select(Song), PageParams(), into=lambda song: song.tags)
    gc.collect()


def test_the_truth_about_neighbours(sync_sqlite: SyncDatabase[Session]) -> None:
    def page(cursor: str | None) -> CursorPage[Any]:
        return paginate(session, select(Item), CursorParams(size=2, cursor=cursor))

    def shape(page: CursorPage[Any]) -> Any:
        assert page.has_next is (page.next_cursor is not None)
        return [item.id for item in page.items], page.has_next, page.previous_cursor is not None

    with sync_sqlite.begin() as session:
        assert shape(page(None)) == ([], False, False)
        session.add_all(Item(id=i, name=f"n{i}") for i in range(2))
        assert shape(page(None)) == ([0, 1], False, False)
        session.add_all(Item(id=i, name=f"n{i}") for i in range(2, 5))
        first = page(None)
        assert shape(first) == ([0, 1], True, False)
        second = page(first.next_cursor)
        assert shape(second) == ([2, 3], True, True)
        third = page(second.next_cursor)
        assert shape(third) == ([4], False, True)
        # A page that was walked back to has a next one: that is where one came from.
        assert shape(page(third.previous_cursor)) == ([2, 3], True, True)
        assert shape(page(second.previous_cursor)) == ([0, 1], True, False)
        session.delete(get(session, Item, 4))
        empty = page(second.next_cursor)
        assert shape(empty) == ([], False, True)
        # The row where the last page ended belongs to the page before the empty one.
        again = page(empty.previous_cursor)
        assert shape(again) == ([2, 3], True, True)
        assert shape(page(again.next_cursor)) == ([], False, True)
        for i in (0, 1):
            session.delete(get(session, Item, i))
        before = page(second.previous_cursor)
        assert shape(before) == ([], True, False)
        assert shape(page(before.next_cursor)) == ([2, 3], False, True)


def test_a_lost_end_among_nulls(music: SyncDatabase[Session]) -> None:
    def page(cursor: str | None) -> CursorPage[Any]:
        params = CursorParams(size=2, cursor=cursor)
        return paginate(session, select(Song), params, order_by=[Song.year.desc()])

    with music.begin() as session:
        second = page(page(None).next_cursor)
        assert [song.id for song in second.items] == [2, 3]
        get(session, Song, 1).year = 1
        get(session, Song, 0).year = 2
        first = page(second.previous_cursor)
        assert (first.items, first.has_next) == ([], True)
        # Its place, where the NULLs began, belongs to the page after the empty one.
        assert [song.id for song in page(first.next_cursor).items] == [2, 3]


def test_a_lost_end_of_an_outer_row(music: SyncDatabase[Session]) -> None:
    statement = select(Song.id, Artist.id).join_from(
        Song, Artist, Song.artist_id == Artist.id, full=True
    )
    with music.begin() as session:
        session.add_all([Song(id=5, name=""), artist := Artist(id=9, name="")])
        first = paginate(session, statement, CursorParams(size=5))
        assert list[Any](first.items[-1]) == [5, None]
        session.delete(artist)
        end = paginate(session, statement, CursorParams(size=5, cursor=first.next_cursor))
        assert end.items == []
        back = paginate(session, statement, CursorParams(size=5, cursor=end.previous_cursor))
        assert back.items == first.items


class Unchecked(PageParams):
    name: Annotated[str | None, eq(Item.name)] = None


def test_arguments_of_no_use_are_refused_in_words(sync_sqlite: SyncDatabase[Session]) -> None:
    with sync_sqlite.begin() as session:
        with pytest.raises(TypeError, match="derive it from FilterParams"):
            paginate(session, select(Item), Unchecked())
        with pytest.raises(TypeError, match="FilterParams says nothing of pages"):
            paginate(session, select(Item), FilterParams())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(ValueError, match="at least 16"):
            paginate(session, select(Item), CursorParams(), secret="short")
        orders: list[Any] = [Item.name, "name", (key for key in (Item.name,))]
        for order in orders:
            with pytest.raises(TypeError, match=r"order_by= takes a list: .* order_by=\[\.\.\.\]"):
                paginate(session, select(Item), ItemQuery(), order_by=order)
        totals: list[Any] = ["all", 1.5, -4]
        for total in totals:
            with pytest.raises(ValueError, match=f"total={total!r} is no way to count"):
                paginate(session, select(Item), PageParams(), total=total)
            with pytest.raises(ValueError, match=f"total={total!r} is no way to count"):
                paginate(session, select(Item), CursorParams(), total=total)
        cursors = paginate(session, select(Item), CursorParams(), secret=b"x" * 16)
        assert cursors.items == []
    with pytest.raises(TypeError, match="not a str"):
        paginate("session", select(Item), PageParams())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_into_is_a_type_a_function_or_nothing(sync_sqlite: SyncDatabase[Session]) -> None:
    with sync_sqlite.begin() as session:
        session.add(item := Item(id=1, name="n"))
        assert paginate(session, select(Item), PageParams()).items == [item]
        out = paginate(session, select(Item), PageParams(), into=ItemOut)
        assert out.items == [ItemOut(id=1, name="n")]
        rows = paginate(session, select(Item.id, Item.name), CursorParams(), into=ItemOut)
        assert rows.items == out.items
        named = paginate(session, select(Item), CursorParams(), into=lambda each: each.name)
        assert named.items == ["n"]
        numbers = paginate(session, select(Item.id), PageParams(), into=int)
        assert numbers.items == [1]


def test_what_is_kept_of_orders_has_a_limit(
    sync_sqlite: SyncDatabase[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[Any, Any] = {}
    monkeypatch.setattr(_keyset, "_keysets", kept)
    monkeypatch.setattr(_keyset, "_MAX_KEYSETS", 2)
    with sync_sqlite.begin() as session:
        for number in range(5):
            order = [Item.id + number]
            assert paginate(session, select(Item), CursorParams(), order_by=order).items == []
            assert len(kept) <= 2
        session.add_all(Part(id=i, item_id=1) for i in range(2))
        session.flush()
        assert len(paginate(session, select(Part), CursorParams()).items) == 2
        session.rollback()


def test_a_link_header_needs_the_request(sync_database: SyncDatabase[Session]) -> None:
    with (
        sync_database.begin() as session,
        pytest.raises(TypeError, match="give the request too"),
    ):
        paginate(session, select(Item), ItemQuery(), response=Response())
