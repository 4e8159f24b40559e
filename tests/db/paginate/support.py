"""A page of a select on each kind of session and driver, and whole walks."""

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from fastkit.db import paginate
from fastkit.pagination import CursorPage, CursorParams, Page, PageParams
from tests.db.paginate.models import Base, keyless

__all__ = ("DRIVERS", "Backend", "all_pages", "open_backend", "walk", "walk_back")

DRIVERS = ("sqlite", "sqlite+aiosqlite", "psycopg", "postgresql+asyncpg", "psycopg+async")

T = TypeVar("T")
_paginate: Any = paginate


class Backend:
    """A database with empty tables, behind one kind of session."""

    def __init__(self, engine: Engine | AsyncEngine, runner: asyncio.Runner | None) -> None:
        self.engine = engine
        self.sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._runner = runner

    def run(self, function: Callable[[Session], T]) -> T:
        """Let `function` do something with a session, and commit it."""
        if self._runner is None:
            with Session(self.engine) as session:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                result = function(session)
                session.commit()
                return result

        async def work() -> T:
            async with AsyncSession(self.engine, expire_on_commit=False) as session:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                result = await session.run_sync(function)
                await session.commit()
                return result

        return self._runner.run(work())

    def paginate(self, statement: Any, params: Any, **options: Any) -> Any:
        """The page, from a session of its own."""
        if self._runner is None:
            with Session(self.engine) as session:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                page: Any = _paginate(session, statement, params, **options)
                return page

        async def work() -> Any:
            async with AsyncSession(self.engine) as session:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                page: Any = await _paginate(session, statement, params, **options)
                return page

        return self._runner.run(work())

    def execute(self, *statements: Any) -> None:
        def work(session: Session) -> None:
            for statement in statements:
                session.execute(text(statement) if isinstance(statement, str) else statement)

        self.run(work)

    def add(self, *objects: Any) -> None:
        self.run(lambda session: session.add_all(objects))

    @contextmanager
    def statements(self) -> Generator[list[str]]:
        """The SELECTs that are executed meanwhile."""
        seen: list[str] = []

        def record(_: Any, __: Any, statement: str, *___: Any) -> None:
            if statement.lstrip().startswith("SELECT"):
                seen.append(statement)

        event.listen(self.sync_engine, "before_cursor_execute", record)
        try:
            yield seen
        finally:
            event.remove(self.sync_engine, "before_cursor_execute", record)


@contextmanager
def open_backend(url: str, *, is_async: bool) -> Generator[Backend]:
    """A database with empty tables."""
    with asyncio.Runner() as runner:
        if is_async:
            backend = Backend(create_async_engine(url), runner)
        else:
            backend = Backend(create_engine(url), None)

        def create(session: Session) -> None:
            if not backend.is_sqlite:
                session.execute(
                    text(
                        "CREATE COLLATION ignoring_case (provider = icu,"
                        " locale = 'und-u-ks-level2', deterministic = false)"
                    )
                )
            Base.metadata.create_all(session.connection())
            keyless.create(session.connection())

        backend.run(create)
        try:
            yield backend
        finally:
            if isinstance(backend.engine, AsyncEngine):
                runner.run(backend.engine.dispose())
            else:
                backend.engine.dispose()


def pages_of(backend: Backend, statement: Any, size: int, **options: Any) -> Iterator[Any]:
    page: CursorPage[Any] = backend.paginate(statement, CursorParams(size=size), **options)
    yield page
    visited: set[str] = set()
    while page.next_cursor is not None:
        assert page.next_cursor not in visited, "the walk goes round"
        visited.add(page.next_cursor)
        params = CursorParams(size=size, cursor=page.next_cursor)
        page = backend.paginate(statement, params, **options)
        yield page


def walk(backend: Backend, statement: Any, size: int, **options: Any) -> list[CursorPage[Any]]:
    """All pages, from the first to the last."""
    return list(pages_of(backend, statement, size, **options))


def walk_back(
    backend: Backend, statement: Any, page: CursorPage[Any], size: int, **options: Any
) -> list[CursorPage[Any]]:
    """The pages before `page`, the nearest first."""
    pages: list[CursorPage[Any]] = []
    visited: set[str] = set()
    while page.previous_cursor is not None:
        assert page.previous_cursor not in visited, "the walk goes round"
        visited.add(page.previous_cursor)
        params = CursorParams(size=size, cursor=page.previous_cursor)
        page = backend.paginate(statement, params, **options)
        pages.append(page)
    return pages


def all_pages(backend: Backend, statement: Any, size: int, **options: Any) -> list[Page[Any]]:
    """All numbered pages, and the empty one after them."""
    pages: list[Page[Any]] = []
    while not pages or pages[-1].has_next:
        params = PageParams(page=len(pages) + 1, size=size)
        pages.append(backend.paginate(statement, params, **options))
    return pages


def items(pages: Sequence[Any]) -> list[Any]:
    return [item for page in pages for item in page.items]
