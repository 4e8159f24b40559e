from contextlib import AbstractAsyncContextManager
from typing import assert_type

from fastapi import params
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from fastkit.db import Database, SyncDatabase, after_commit


class OwnAsyncSession(AsyncSession): ...


class OwnSession(Session): ...


def a_url_or_an_engine_gives_sqlalchemys_own_sessions(engine: AsyncEngine) -> None:
    assert_type(Database("sqlite+aiosqlite://"), Database[AsyncSession])
    assert_type(Database(engine), Database[AsyncSession])
    assert_type(SyncDatabase("sqlite://"), SyncDatabase[Session])


def a_sessionmaker_gives_the_sessions_it_makes(
    make_async: async_sessionmaker[OwnAsyncSession], make: sessionmaker[OwnSession]
) -> None:
    assert_type(Database(make_async).begin(), AbstractAsyncContextManager[OwnAsyncSession])
    sync = SyncDatabase(make)
    assert_type(sync, SyncDatabase[OwnSession])
    with sync.begin() as session:
        assert_type(session, OwnSession)


def a_session_is_a_ready_dependency(database: Database[AsyncSession]) -> None:
    assert_type(database.session, params.Depends)
    assert_type(database.read_session, params.Depends)


def neither_kind_takes_what_the_other_is_made_of(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    SyncDatabase(engine)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    after_commit(session, "not a function")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
