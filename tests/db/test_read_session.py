"""`read_session` reads, and writes nothing."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, ReadOnlyError, SyncDatabase, after_commit, after_rollback
from tests.db.models import Item
from tests.db.support import checked_out, item_names, request, sync_item_names

pytestmark = pytest.mark.anyio

TABLE = Item.metadata.tables["item"]
Work = Callable[[AsyncSession], Awaitable[object]]


async def read(database: Database[AsyncSession], work: Work) -> int:
    """Do `work` in a path operation with a read session; its status, or the exception raised."""
    app = FastAPI()

    @app.get("/")
    async def endpoint(session: Annotated[AsyncSession, database.read_session]) -> None:
        await work(session)

    return await request(app, "GET", "/")


async def stock(database: Database[AsyncSession]) -> None:
    async with database.begin() as session:
        session.add(Item(name="lamp"))


async def lamp(session: AsyncSession) -> Item:
    return (await session.scalars(select(Item).where(Item.name == "lamp"))).one()


async def add(session: AsyncSession) -> None:
    session.add(Item(name="chair"))


async def add_and_flush(session: AsyncSession) -> None:
    session.add(Item(name="chair"))
    await session.flush()


async def add_and_query(session: AsyncSession) -> None:
    session.add(Item(name="chair"))
    await session.scalars(select(Item))


async def merge(session: AsyncSession) -> None:
    await session.merge(Item(id=77, name="chair"))


async def change(session: AsyncSession) -> None:
    (await lamp(session)).name = "chair"


async def remove(session: AsyncSession) -> None:
    await session.delete(await lamp(session))


async def orm_insert(session: AsyncSession) -> None:
    await session.execute(insert(Item), [{"name": "chair"}])


async def orm_insert_returning(session: AsyncSession) -> None:
    await session.scalars(insert(Item).returning(Item), [{"name": "chair"}])


async def orm_update(session: AsyncSession) -> None:
    await session.execute(update(Item).values(name="chair"))


async def orm_delete(session: AsyncSession) -> None:
    await session.execute(delete(Item))


async def core_insert(session: AsyncSession) -> None:
    await session.execute(insert(TABLE).values(name="chair"))


async def core_update(session: AsyncSession) -> None:
    await session.execute(update(TABLE).values(name="chair"))


async def core_delete(session: AsyncSession) -> None:
    await session.execute(delete(TABLE))


REFUSED: list[Work] = [
    add,
    add_and_flush,
    add_and_query,
    merge,
    change,
    remove,
    orm_insert,
    orm_insert_returning,
    orm_update,
    orm_delete,
    core_insert,
    core_update,
    core_delete,
]


@pytest.mark.parametrize("work", REFUSED)
async def test_what_writes_is_refused(database: Database[AsyncSession], work: Work) -> None:
    await stock(database)
    with pytest.raises(ReadOnlyError, match=r"read_session does not write, and .*: use session"):
        await read(database, work)
    assert checked_out(database) == 0
    assert await item_names(database) == ["lamp"]


async def test_reading_is_what_it_is_for(database: Database[AsyncSession]) -> None:
    await stock(database)
    found: list[str] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin_nested():
            found.append((await lamp(session)).name)

    assert await read(database, work) == 200
    assert found == ["lamp"]
    assert checked_out(database) == 0


async def sql_text(session: AsyncSession) -> None:
    await session.execute(text("INSERT INTO item (name) VALUES ('chair')"))


async def on_the_connection(session: AsyncSession) -> None:
    await (await session.connection()).execute(insert(TABLE).values(name="chair"))


async def in_bulk(session: AsyncSession) -> None:
    await session.run_sync(lambda sync: sync.bulk_save_objects([Item(name="chair")]))


@pytest.mark.parametrize("work", [sql_text, on_the_connection, in_bulk])
@pytest.mark.parametrize("again", [False, True], ids=["at first", "after a rollback"])
async def test_what_goes_past_the_session_is_refused_by_postgresql_and_lost_on_sqlite(
    database: Database[AsyncSession], work: Work, again: bool
) -> None:
    async def maybe_again(session: AsyncSession) -> None:
        if again:
            await session.scalars(select(Item))
            await session.rollback()
        await work(session)

    if database.engine.dialect.name == "postgresql":
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await read(database, maybe_again)
    else:
        assert await read(database, maybe_again) == 200
    assert checked_out(database) == 0
    assert await item_names(database) == []


async def test_a_commit_by_hand_is_refused(database: Database[AsyncSession]) -> None:
    async def work(session: AsyncSession) -> None:
        if database.engine.dialect.name == "sqlite":
            await sql_text(session)
        else:
            await session.scalars(select(Item))
        await session.commit()

    with pytest.raises(ReadOnlyError, match=r"nothing to commit: use rollback\(\)"):
        await read(database, work)
    assert checked_out(database) == 0
    assert await item_names(database) == []


async def test_the_connection_can_write_again_afterwards(
    database: Database[AsyncSession],
) -> None:
    async def work(session: AsyncSession) -> None:
        await session.scalars(select(Item))

    for name in ("one", "two"):
        assert await read(database, work) == 200
        async with database.begin() as session:  # on the only connection
            session.add(Item(name=name))
    assert await item_names(database) == ["one", "two"]


async def test_nothing_waits_for_the_commit_of_a_session_that_has_none(
    sqlite: Database[AsyncSession],
) -> None:
    for register in (after_commit, after_rollback):

        async def work(session: AsyncSession, register: Callable[..., None] = register) -> None:
            register(session, list)

        with pytest.raises(TypeError, match="is no session that fastkit commits"):
            await read(sqlite, work)


# SyncDatabase.


SyncWork = Callable[[Session], object]


async def sync_read(database: SyncDatabase[Session], work: SyncWork) -> int:
    app = FastAPI()

    @app.get("/")
    def endpoint(session: Annotated[Session, database.read_session]) -> None:
        work(session)

    return await request(app, "GET", "/")


def sync_change(session: Session) -> None:
    session.scalars(select(Item)).one().name = "chair"


SYNC_WRITES: list[SyncWork] = [
    lambda session: session.add(Item(name="chair")),
    lambda session: session.execute(insert(Item), [{"name": "chair"}]),
    lambda session: session.execute(update(TABLE).values(name="chair")),
    lambda session: session.execute(delete(TABLE)),
    sync_change,
    lambda session: session.commit(),
]


@pytest.mark.parametrize(
    "work",
    SYNC_WRITES,
    ids=["add", "insert", "update", "delete", "change", "commit"],
)
async def test_what_writes_is_refused_by_a_sync_database(
    sync_database: SyncDatabase[Session], work: SyncWork
) -> None:
    with sync_database.begin() as session:
        session.add(Item(name="lamp"))
    with pytest.raises(ReadOnlyError, match="read_session does not write, and"):
        await sync_read(sync_database, work)
    assert checked_out(sync_database) == 0
    assert sync_item_names(sync_database) == ["lamp"]


async def test_sql_text_is_refused_by_postgresql_and_lost_on_sqlite_in_a_sync_database(
    sync_database: SyncDatabase[Session],
) -> None:
    def work(session: Session) -> None:
        session.execute(text("INSERT INTO item (name) VALUES ('chair')"))

    if sync_database.engine.dialect.name == "postgresql":
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await sync_read(sync_database, work)
    else:
        assert await sync_read(sync_database, work) == 200
    assert checked_out(sync_database) == 0
    assert sync_item_names(sync_database) == []
    with sync_database.begin() as session:
        session.add(Item(name="lamp"))
    assert sync_item_names(sync_database) == ["lamp"]
