"""`Database` and `SyncDatabase`: sessions for requests, and for everything else."""

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import partial
from typing import Any, Generic, Self, TypeVar, cast, overload

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, params
from fastapi.routing import APIRoute
from sqlalchemy import URL, Connection, Engine, create_engine, literal, make_url, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import SingletonThreadPool
from starlette.requests import HTTPConnection

from fastkit.db._engine import watch
from fastkit.db._problems import raise_as_sqlalchemys
from fastkit.db._unit import (
    ReadOnlySession,
    UnitSession,
    end_async,
    end_sync,
    is_idle,
    refuse_changes,
    uninterrupted,
)

__all__ = ("Database", "SessionScopeError", "SyncDatabase")

_AS = TypeVar("_AS", bound=AsyncSession)
_S = TypeVar("_S", bound=Session)


class SessionScopeError(RuntimeError):
    """A request's session was asked for where there is no path operation to commit it after."""


class _SessionDependency(params.Depends):
    def __repr__(self) -> str:
        # FastAPI shows this when it is handed Depends(db.session).
        return "a session of fastkit.db, used as Annotated[..., db.session] and not in Depends(),"


class _Sessions(ABC):
    """What `Database` and `SyncDatabase` share: how a request gets its session."""

    _maker: Callable[[], Any]
    _read_maker: Callable[[], Any]

    def __init__(self) -> None:
        self.session: params.Depends = _SessionDependency(self._for_request, scope="function")
        """The request's session, as `Annotated[AsyncSession, db.session]`.

        All of a request's dependencies share it. What it did is committed after the path operation
        has returned and before the response is sent; any exception rolls it back.
        """
        self.read_session: params.Depends = _SessionDependency(self._for_reading, scope="function")
        """A session that only reads: it is rolled back in the end, and refuses to write.

        ORM changes and statements are refused on every database; PostgreSQL refuses SQL text, too.
        """
        self._stand_in: Self | None = None

    async def _for_request(self, connection: HTTPConnection) -> AsyncGenerator[Any]:
        _refuse_outside_path_operation(connection)
        async with self._unit(read_only=False) as session:
            yield session

    async def _for_reading(self, connection: HTTPConnection) -> AsyncGenerator[Any]:
        _refuse_outside_path_operation(connection)
        async with self._unit(read_only=True) as session:
            yield session

    def _make(self, *, read_only: bool) -> Any:
        database = self._stand_in or self
        return database._read_maker() if read_only else database._maker()

    @abstractmethod
    def _unit(self, *, read_only: bool) -> AbstractAsyncContextManager[Any]: ...

    @contextmanager
    def override(self, app: FastAPI, database: Self, /) -> Generator[None]:
        """Let `app`'s requests, and `begin()`, use another database: for tests.

            with db.override(app, Database("sqlite+aiosqlite:///test.db")):
                ...

        FastAPI's `dependency_overrides` do not know `db.session`, which is no function.
        """
        overrides = app.dependency_overrides
        swapped = {
            self._for_request: database._for_request,
            self._for_reading: database._for_reading,
        }
        before = {key: overrides[key] for key in swapped if key in overrides}
        before_stand_in, self._stand_in = self._stand_in, database
        overrides.update(swapped)
        try:
            yield
        finally:
            self._stand_in = before_stand_in
            for key in swapped:
                overrides.pop(key, None)  # a test may have cleared them
            overrides.update(before)


def _refuse_outside_path_operation(connection: HTTPConnection) -> None:
    """Refuse where FastAPI ends a function-scoped dependency only after the response."""
    if connection.scope["type"] == "websocket":
        place = "a WebSocket, which lives longer than a transaction should"
    elif not isinstance(connection.scope.get("route"), APIRoute):
        place = "a route that is no path operation, which would send its response before the commit"
    else:
        return
    raise SessionScopeError(
        f"The session of a request was asked for in {place}: "
        "open one there with async with db.begin() as session (with SyncDatabase, without async)."
    )


class Database(_Sessions, Generic[_AS]):
    """A database that is used through `AsyncSession`.

        db = Database("sqlite+aiosqlite:///shop.db")
        SessionDep = Annotated[AsyncSession, db.session]
        app = FastAPI(lifespan=db.lifespan)

    No connection is taken before the first statement.

    Args:
        bind: A URL, or an engine or sessionmaker that you made. With a URL or an engine the
            sessions do not expire objects on commit.

    Raises:
        TypeError: `bind`, or the sessionmaker's, is something else, such as an `Engine`.
        ValueError: The URL is none, the sessionmaker has no `bind`, or the engine's isolation level
            is `AUTOCOMMIT`.
    """

    @overload
    def __init__(self: "Database[AsyncSession]", bind: str | URL | AsyncEngine, /) -> None: ...
    @overload
    def __init__(self, bind: async_sessionmaker[_AS], /) -> None: ...
    def __init__(self, bind: str | URL | AsyncEngine | async_sessionmaker[Any], /) -> None:
        super().__init__()
        if isinstance(bind, str | URL):
            bind = create_async_engine(_parsed(bind))
        if isinstance(bind, AsyncEngine):
            bind = async_sessionmaker(bind, expire_on_commit=False)
        options = _options(bind, async_sessionmaker, AsyncEngine, AsyncConnection)
        connectable: AsyncEngine | AsyncConnection = options["bind"]
        self._engine = connectable if isinstance(connectable, AsyncEngine) else connectable.engine
        watch(self._engine.sync_engine)
        base = options.pop("sync_session_class", None) or bind.class_.sync_session_class
        kind = cast("type[_AS]", bind.class_)
        self._maker = async_sessionmaker(
            class_=kind, **options, sync_session_class=_derived(UnitSession, base)
        )
        self._read_maker = async_sessionmaker(
            class_=kind, **_reading(options), sync_session_class=_derived(ReadOnlySession, base)
        )

    @property
    def engine(self) -> AsyncEngine:
        """The engine under the sessions."""
        return (self._stand_in or self)._engine

    def begin(self) -> AbstractAsyncContextManager[_AS]:
        """A unit of work outside a request's: in streams, jobs, and for each WebSocket message.

            async with db.begin() as session:
                ...

        Committed when the block ends, rolled back when it raises.
        """
        return self._unit(read_only=False)

    @asynccontextmanager
    async def _unit(self, *, read_only: bool) -> AsyncGenerator[_AS]:
        session: _AS = self._make(read_only=read_only)
        try:
            try:
                yield session
                refuse_changes(session.sync_session)
            except BaseException:
                await end_async(session, commit=False)
                raise
            await end_async(session, commit=not read_only)
        except Exception as exc:
            raise_as_sqlalchemys(exc)
            raise

    async def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            SQLAlchemyError: It gives none.
        """
        async with self._unit(read_only=True) as session:
            await session.execute(select(literal(1)))

    @asynccontextmanager
    async def lifespan(self, _: object = None, /) -> AsyncGenerator[None]:
        """The app's lifespan: in the end, the pool's connections are closed."""
        try:
            yield
        finally:
            await uninterrupted(self._engine.dispose())


class SyncDatabase(_Sessions, Generic[_S]):
    """A database that is used through `Session`, by path operations without `async`.

        db = SyncDatabase("postgresql+psycopg://localhost/shop")
        SessionDep = Annotated[Session, db.session]
        app = FastAPI(lifespan=db.lifespan)

    As `Database` otherwise. The commit runs in a thread that no path operation can hold up.

    Args:
        bind: A URL, or an engine or sessionmaker that you made.

    Raises:
        TypeError: `bind`, or the sessionmaker's, is something else, such as an `AsyncEngine`.
        ValueError: The URL is none or its driver is async, the sessionmaker has no `bind`, the
            engine's isolation level is `AUTOCOMMIT`, or each thread would have a database of its
            own (SQLite in memory).
    """

    @overload
    def __init__(self: "SyncDatabase[Session]", bind: str | URL | Engine, /) -> None: ...
    @overload
    def __init__(self, bind: sessionmaker[_S], /) -> None: ...
    def __init__(self, bind: str | URL | Engine | sessionmaker[Any], /) -> None:
        super().__init__()
        if isinstance(bind, str | URL):
            bind = create_engine(_parsed(bind))
        if isinstance(bind, Engine):
            bind = sessionmaker(bind, expire_on_commit=False)
        options = _options(bind, sessionmaker, Engine, Connection)
        self._engine: Engine = options["bind"].engine
        _refuse_engine_without_threads(self._engine)
        watch(self._engine)
        kind: type[_S] = _derived(UnitSession, bind.class_)
        self._maker = sessionmaker(class_=kind, **options)
        kind = _derived(ReadOnlySession, bind.class_)
        self._read_maker = sessionmaker(class_=kind, **_reading(options))

    @property
    def engine(self) -> Engine:
        """The engine under the sessions."""
        return (self._stand_in or self)._engine

    def begin(self) -> AbstractContextManager[_S]:
        """A unit of work outside a request's: in streams and jobs.

            with db.begin() as session:
                ...

        Committed when the block ends, rolled back when it raises.
        """
        return self._block(read_only=False)

    @contextmanager
    def _block(self, *, read_only: bool) -> Generator[_S]:
        session: _S = self._make(read_only=read_only)
        try:
            try:
                yield session
            except BaseException:
                end_sync(session, commit=False)
                raise
            end_sync(session, commit=not read_only)
        except Exception as exc:
            raise_as_sqlalchemys(exc)
            raise

    @asynccontextmanager
    async def _unit(self, *, read_only: bool) -> AsyncGenerator[_S]:
        session: _S = self._make(read_only=read_only)
        try:
            try:
                yield session
                refuse_changes(session)
            except BaseException:
                await _end_in_thread(session, commit=False)
                raise
            await _end_in_thread(session, commit=not read_only)
        except Exception as exc:
            raise_as_sqlalchemys(exc)
            raise

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            SQLAlchemyError: It gives none.
        """
        with self._block(read_only=True) as session:
            session.execute(select(literal(1)))

    @asynccontextmanager
    async def lifespan(self, _: object = None, /) -> AsyncGenerator[None]:
        """The app's lifespan: in the end, the pool's connections are closed."""
        try:
            yield
        finally:
            await uninterrupted(run_sync(self._engine.dispose))


async def _end_in_thread(session: Session, *, commit: bool) -> None:
    if is_idle(session):
        end_sync(session, commit=commit)
        return
    # A limiter of its own: in the common one, path operations that wait for a connection would
    # keep out the very commits that give connections back. The pool's size is limit enough.
    await uninterrupted(
        run_sync(partial(end_sync, session, commit=commit), limiter=CapacityLimiter(math.inf))
    )


def _parsed(url: str | URL) -> URL:
    with suppress(ArgumentError, ValueError):
        return make_url(url)
    # Neither the value nor SQLAlchemy's error is shown: there is a password in it.
    raise ValueError(
        "The string given to Database is not a database URL: "
        "write it as dialect+driver://user:password@host:port/database."
    )


def _options(
    maker: Any, kind: type[Any], engine: type[Any], connection: type[Any]
) -> dict[str, Any]:
    """What a sessionmaker was made with, or an error that says what it should be."""
    other = "SyncDatabase" if kind is async_sessionmaker else "Database"
    remedy = (
        f"pass a URL (str or sqlalchemy.URL), {engine.__name__} or {kind.__name__}; "
        f"for engines of the other kind there is {other}."
    )
    if not isinstance(maker, kind):
        # Not its value: the settings and URLs of other libraries show their passwords.
        raise TypeError(f"A {type(maker).__name__} is nothing to make sessions from: {remedy}")
    options: dict[str, Any] = dict(maker.kw)
    bind = options.get("bind")
    if bind is None:
        raise ValueError(f"{maker!r} has no bind: make it with an {engine.__name__}.")
    if not isinstance(bind, engine | connection):
        raise TypeError(f"{maker!r} has a bind of type {type(bind).__name__}: {remedy}")
    return options


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    bind = options["bind"]
    if isinstance(bind, Engine | AsyncEngine):
        return {**options, "bind": bind.execution_options(postgresql_readonly=True)}
    return options  # a connection, as in tests, may be in a transaction already


def _derived(unit: type[UnitSession], base: type[Session]) -> type[Any]:
    """`unit` with the ways of the app's own session class."""
    return unit if base is Session else type(base.__name__, (unit, base), {})


def _refuse_engine_without_threads(engine: Engine) -> None:
    if engine.dialect.is_async:
        raise ValueError(
            f"{engine!r} has an async driver: use Database, or a driver without async."
        )
    if isinstance(engine.pool, SingletonThreadPool):
        raise ValueError(
            f"{engine!r} gives each thread an empty database of its own: use a file, or make the "
            'engine with poolclass=StaticPool and connect_args={"check_same_thread": False}.'
        )
