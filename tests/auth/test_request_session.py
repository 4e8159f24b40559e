"""A look-up on the session of the request, and a token store in the same database of one
connection: nothing waits for itself, and no token is given for what is not committed."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import (
    Executable,
    ForeignKey,
    Select,
    String,
    Table,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_object_session
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from fastkit.auth import Auth, AuthEvent, BcryptHasher, auth_router
from fastkit.auth.sql import SQLTokenStore
from fastkit.db import DATABASE_PROBLEMS, Database, SyncDatabase
from fastkit.errors import install_exception_handlers
from tests.auth.people import PASSWORD, SECRET, Free, bearer, hashed
from tests.db.support import checked_out, make_async_engine, make_sync_engine
from tests.support import Postgres

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase): ...


class Person(Base):
    __tablename__ = "people"
    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    hashed_password: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    disabled: Mapped[bool] = mapped_column(default=False)
    friend: Mapped[str | None] = mapped_column(
        ForeignKey("people.name", deferrable=True, initially="DEFERRED")
    )


KINDS = ["sqlite+aiosqlite", "asyncpg", "psycopg", "sync sqlite+pysqlite", "sync psycopg"]

AnyDatabase = Database[AsyncSession] | SyncDatabase[Session]


def lookup_on(database: AnyDatabase, friend: str | None = None) -> Any:
    """A look-up that writes, too: on the session of the request.

    A friend who is not there lets the commit fail, and that alone.
    """

    def async_lookup(session: Annotated[AsyncSession, database.session]) -> Any:
        async def find(name: str) -> Person | None:
            person = await session.get(Person, name)
            if person is not None:
                person.attempts += 1
                await session.flush()
                person.friend = friend
            return person

        return find

    def lookup(session: Annotated[Session, database.session]) -> Any:
        def find(name: str) -> Person | None:
            person = session.get(Person, name)
            if person is not None:
                person.attempts += 1
                session.flush()
                person.friend = friend
            return person

        return find

    return Depends(async_lookup if isinstance(database, Database) else lookup)


def name_of(person: Person) -> str:
    return person.name


class Shop:
    def __init__(self, database: AnyDatabase) -> None:
        self.database = database

    def app(self, *, friend: str | None = None, **options: Any) -> FastAPI:
        database = self.database
        auth: Auth[Person] = Auth(
            secret=SECRET,
            get_user=lookup_on(database),
            subject=name_of,
            get_user_by_subject=lookup_on(database, friend),
            store=SQLTokenStore(database, metadata=Base.metadata),
            hasher=BcryptHasher(rounds=5),
            throttle=Free(),
            **options,
        )
        app = FastAPI()
        install_exception_handlers(app, DATABASE_PROBLEMS)
        app.include_router(auth_router(auth), prefix="/auth")

        @app.get("/mine")
        async def mine(
            person: Annotated[Person, auth.current_user],
            session: Annotated[Any, database.session],
        ) -> bool:
            return person in session

        return app

    async def execute(self, statement: Executable) -> None:
        if isinstance(self.database, Database):
            async with self.database.begin() as session:
                await session.execute(statement)
        else:
            with self.database.begin() as sync_session:
                sync_session.execute(statement)

    async def one(self, query: Select[int]) -> int:
        if isinstance(self.database, Database):
            async with self.database.begin() as session:
                return (await session.scalars(query)).one()
        with self.database.begin() as session:
            return session.scalars(query).one()


@pytest.fixture(params=KINDS)
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: Postgres
) -> AsyncIterator[Shop]:
    sync, _, driver = request.param.rpartition(" ")
    if "sqlite" in driver:
        url = f"{driver}:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue("postgres").url(driver)
    person = Person(name="alice", hashed_password=hashed(PASSWORD))
    if sync:
        engine = make_sync_engine(url)
        sync_database = SyncDatabase(engine)
        shop = Shop(sync_database)
        shop.app()  # for the table of the store
        Base.metadata.create_all(engine)
        with sync_database.begin() as session:
            session.add(person)
        yield shop
        assert checked_out(sync_database) == 0
        engine.dispose()
        return
    async_engine = make_async_engine(url)
    database = Database(async_engine)
    shop = Shop(database)
    shop.app()
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with database.begin() as async_session:
        async_session.add(person)
    yield shop
    assert checked_out(database) == 0
    await async_engine.dispose()


def http_client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}


async def log_in(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.post("/auth/token", data=LOGIN)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def refresh(http: httpx.AsyncClient, token: str, **more: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, **more}
    return await http.post("/auth/token", data=form)


@pytest.mark.parametrize("at_once", [True, False])
async def test_one_connection_is_enough_for_the_whole_life_of_a_login(
    shop: Shop, at_once: bool
) -> None:
    async with http_client(shop.app(revoke_access_at_once=at_once)) as http:
        first = await log_in(http)
        assert (await http.get("/mine", headers=bearer(first))).json() is True
        second = (await refresh(http, first["refresh_token"])).json()
        assert (await http.get("/auth/me", headers=bearer(second))).json()["sub"] == "alice"
        assert (await http.post("/auth/logout", headers=bearer(second))).status_code == 204
        assert (await refresh(http, second["refresh_token"])).status_code == 401
        third = await log_in(http)
        everywhere = await http.post("/auth/logout?all=true", headers=bearer(third))
        assert everywhere.status_code == 204
        fourth = await log_in(http)
        revoked = await http.post("/auth/revoke", data={"token": fourth["refresh_token"]})
        assert revoked.status_code == 200
        assert (await refresh(http, fourth["refresh_token"])).status_code == 401


async def test_many_at_once_share_one_connection(shop: Shop) -> None:
    async with http_client(shop.app(revoke_access_at_once=True)) as http:
        tokens = await log_in(http)
        answers = await asyncio.gather(
            *[http.post("/auth/token", data=LOGIN) for _ in range(5)],
            *[refresh(http, tokens["refresh_token"]) for _ in range(5)],
            *[http.get("/mine", headers=bearer(tokens)) for _ in range(5)],
        )
        assert [answer.status_code for answer in answers] == [200] * 15
        assert len({answer.json()["refresh_token"] for answer in answers[5:10]}) == 1


async def test_what_a_look_up_writes_is_committed_whatever_is_answered(shop: Shop) -> None:
    async with http_client(shop.app()) as http:
        await log_in(http)
        assert await shop.one(select(Person.attempts)) == 1
        answer = await http.post("/auth/token", data={**LOGIN, "password": "wrong"})
        assert answer.status_code == 401
        assert await shop.one(select(Person.attempts)) == 2


async def test_a_new_hash_is_committed_before_there_are_tokens(shop: Shop) -> None:
    def save(person: Person, new_hash: str) -> None:
        person.hashed_password = new_hash

    async with http_client(shop.app(save_password_hash=save)) as http:
        tokens = await log_in(http)
        assert (await http.get("/mine", headers=bearer(tokens))).status_code == 200
        assert (await refresh(http, tokens["refresh_token"])).status_code == 200


class Blocked(BcryptHasher):
    """Verifies when it is told to."""

    def __init__(self) -> None:
        super().__init__(rounds=4)
        self.begun = 0
        self.go = threading.Event()

    def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]:
        self.begun += 1
        assert self.go.wait(60)
        return super().verify_and_update(password, hash)


async def test_who_waits_for_a_thread_holds_no_connection(postgres: Postgres) -> None:
    number, cores = 40, getattr(os, "process_cpu_count", os.cpu_count)() or 1
    engine = make_async_engine(postgres.url("asyncpg"), pool_size=cores + number)
    database = Database(engine)
    hasher, throttle = Blocked(), Free()
    auth: Auth[Person] = Auth(
        secret=SECRET,
        get_user=lookup_on(database),
        subject=name_of,
        get_user_by_subject=lookup_on(database),
        hasher=hasher,
        throttle=throttle,
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with database.begin() as session:
        session.add_all(
            Person(name=f"n{i}", hashed_password=hashed(PASSWORD)) for i in range(cores + number)
        )
    app = FastAPI()
    app.include_router(auth_router(auth), prefix="/auth")
    async with http_client(app) as http:
        names = [f"n{i}" for i in range(cores + number)]
        logins = [
            asyncio.ensure_future(http.post("/auth/token", data={**LOGIN, "username": name}))
            for name in names
        ]
        for _ in range(6000):
            await asyncio.sleep(0.01)
            if hasher.begun == cores and len(throttle.hits) == len(names):
                break
        await asyncio.sleep(0.2)  # in which the others would take connections
        assert checked_out(database) == cores
        hasher.go.set()
        assert {answer.status_code for answer in await asyncio.gather(*logins)} == {200}
    await engine.dispose()


async def test_an_upgrade_does_not_undo_a_change_of_the_password(postgres: Postgres) -> None:
    engine = make_async_engine(postgres.url("asyncpg"))
    database, elsewhere = Database(engine), make_sync_engine(postgres.url("psycopg"))

    class Changing(BcryptHasher):
        """Somebody changes the password while it hashes."""

        def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]:
            with elsewhere.begin() as connection:
                connection.execute(update(Person).values(hashed_password=changed))
            return super().verify_and_update(password, hash)

    async def save(person: Person, new_hash: str) -> None:
        session = async_object_session(person)
        assert session is not None
        unchanged = Person.hashed_password == person.hashed_password
        named = Person.name == person.name
        await session.execute(
            update(Person).where(named, unchanged).values(hashed_password=new_hash)
        )

    def read_only(session: Annotated[AsyncSession, database.session]) -> Any:
        async def find(name: str) -> Person | None:
            return await session.get(Person, name)

        return find

    auth: Auth[Person] = Auth(
        secret=SECRET,
        get_user=Depends(read_only),
        subject=name_of,
        get_user_by_subject=Depends(read_only),
        hasher=Changing(rounds=5),
        save_password_hash=save,
    )
    changed = hashed("another password")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with database.begin() as session:
        session.add(Person(name="alice", hashed_password=hashed(PASSWORD)))
    app = FastAPI()
    app.include_router(auth_router(auth), prefix="/auth")
    async with http_client(app) as http:
        tokens = await log_in(http)  # it was right when it was looked at
        async with database.begin() as session:
            assert (await session.scalars(select(Person.hashed_password))).one() == changed
        assert (await http.get("/auth/me", headers=bearer(tokens))).status_code == 401
        assert (await refresh(http, tokens["refresh_token"])).status_code == 401
    elsewhere.dispose()
    await engine.dispose()


async def test_no_login_begins_where_the_commit_fails(shop: Shop) -> None:
    def save(person: Person, new_hash: str) -> None:
        person.friend = "nobody"  # fails at the commit alone

    async with http_client(shop.app(save_password_hash=save)) as http:
        answer = await http.post("/auth/token", data=LOGIN)
        assert answer.status_code == 409
        assert "access_token" not in answer.text
    assert await shop.one(select(Person.attempts)) == 0
    assert await count_logins(shop) == 0


async def test_no_successor_is_given_where_the_commit_fails(shop: Shop) -> None:
    async with http_client(shop.app()) as http, http_client(shop.app(friend="nobody")) as failing:
        first = await log_in(http)
        answer = await refresh(failing, first["refresh_token"])
        assert answer.status_code == 409
        assert "refresh_token" not in answer.text
        assert await shop.one(select(logins().c.generation)) == 0
        assert (await refresh(http, first["refresh_token"])).status_code == 200


def logins() -> Table:
    return Base.metadata.tables["fastkit_logins"]


async def count_logins(shop: Shop) -> int:
    return await shop.one(select(func.count()).select_from(logins()))


@pytest.mark.parametrize("trouble", ["none", "commit", "disabled", "deleted", "scope"])
async def test_a_stolen_tokens_end_is_kept_whatever_becomes_of_the_request(
    shop: Shop, trouble: str
) -> None:
    events: list[AuthEvent[Person]] = []
    app = shop.app(
        grace=timedelta(0),
        on_event=events.append,
        friend="nobody" if trouble == "commit" else None,
    )
    async with http_client(shop.app()) as usual, http_client(app) as http:
        first = await log_in(usual)
        second = (await refresh(usual, first["refresh_token"])).json()
        if trouble == "disabled":
            await shop.execute(update(Person).values(disabled=True))
        if trouble == "deleted":
            await shop.execute(delete(Person))
        asked = {"scope": "items:write"} if trouble == "scope" else {}
        assert (await refresh(http, first["refresh_token"], **asked)).status_code == 401
        assert await count_logins(shop) == 0
        assert [(event.kind, event.subject) for event in events] == [("reuse", "alice")]
        assert (await refresh(usual, second["refresh_token"])).status_code == 401


async def test_what_ends_the_logins_of_a_user_refuses_the_next_refresh(shop: Shop) -> None:
    async with http_client(shop.app()) as http:

        async def is_refused_after(*statements: Executable) -> bool:
            tokens = await log_in(http)
            for statement in statements:
                await shop.execute(statement)
            return (await refresh(http, tokens["refresh_token"])).status_code == 401

        assert not await is_refused_after()
        assert await is_refused_after(update(Person).values(disabled=True))
        await shop.execute(update(Person).values(disabled=False))
        assert await is_refused_after(update(Person).values(hashed_password=hashed("another")))
        await shop.execute(update(Person).values(hashed_password=hashed(PASSWORD)))
        assert await is_refused_after(delete(logins()))
        assert await is_refused_after(delete(Person))
