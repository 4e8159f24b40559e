"""Random units of work, compared with a model of what they store and of what they call."""

import asyncio
import inspect
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SyncDatabase, after_commit, after_rollback
from tests.db.models import Item
from tests.db.support import (
    checked_out,
    item_names,
    open_database,
    open_sync_database,
    sync_item_names,
)

OPERATIONS = [
    *["add", "savepoint", "savepoint", "release", "undo"] * 2,
    *["flush", "clash", "commit", "rollback", "close"],
]
# The number chooses one of the open savepoints.
steps = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3))
every_unit_of_work = given(
    operations=st.lists(steps, min_size=3, max_size=15), ending=st.sampled_from(["ends", "raises"])
)
thoroughly = settings(max_examples=150, deadline=None)


@dataclass
class Frame:
    """What was done since a transaction or savepoint began, and is not undone."""

    names: list[str] = field(default_factory=list[str])
    registered: list[str] = field(default_factory=list[str])


@dataclass
class Model:
    """The transaction and its open savepoints, from the outermost on."""

    frames: list[Frame] = field(default_factory=lambda: [Frame()])
    stored: list[str] = field(default_factory=list[str])
    fates: dict[str, str] = field(default_factory=dict[str, str])

    def release(self, depth: int) -> None:
        for frame in self.frames[depth:]:
            self.frames[depth - 1].names += frame.names
            self.frames[depth - 1].registered += frame.registered
        del self.frames[depth:]

    def undo(self, depth: int) -> None:
        for frame in self.frames[depth:]:
            self.fates.update(dict.fromkeys(frame.registered, "rolled back"))
        del self.frames[depth:]

    def commit(self) -> None:
        for frame in self.frames:
            self.stored += frame.names
            self.fates.update(dict.fromkeys(frame.registered, "committed"))
        self.frames = [Frame()]

    def rollback(self) -> None:
        self.undo(0)
        self.frames = [Frame()]


class Play:
    """Does the same to a session and to a model."""

    def __init__(self, session: AsyncSession | Session) -> None:
        self.session: Any = session
        self.model = Model()
        self.told: list[tuple[str, str]] = []
        self.savepoints: list[Any] = []
        self.count = 0

    def new(self, kind: str) -> str:
        self.count += 1
        return f"{kind} {self.count:02}"

    def register(self) -> None:
        name = self.new("callback")
        after_commit(self.session, lambda: self.told.append((name, "committed")))
        after_rollback(self.session, lambda: self.told.append((name, "rolled back")))
        self.model.frames[-1].registered.append(name)

    async def do(self, operation: str, depth: int) -> None:
        if operation == "add":
            name = self.new("item")
            self.session.add(Item(name=name))
            self.model.frames[-1].names.append(name)
            self.register()
        elif operation == "savepoint":
            self.savepoints.append(await waited(self.session.begin_nested()))
            self.model.frames.append(Frame())
            await self.do("add", 0)
        elif operation == "clash":
            await self.clash()
        elif operation in {"release", "undo"}:
            if self.savepoints:
                depth %= len(self.savepoints)
                end = self.savepoints[depth]
                await waited(end.commit() if operation == "release" else end.rollback())
                del self.savepoints[depth:]
                getattr(self.model, operation)(depth + 1)
        else:
            await waited(getattr(self.session, operation)())
            if operation != "flush":
                self.savepoints.clear()
                self.model.commit() if operation == "commit" else self.model.rollback()

    async def clash(self) -> None:
        """A flush that fails in a savepoint, which is rolled back for it."""
        await self.do("savepoint", 0)
        name = self.new("clash")
        self.session.add_all([Item(name=name), Item(name=name)])
        with suppress(IntegrityError):
            await waited(self.session.flush())
            raise AssertionError("the names do not clash")
        await self.do("undo", len(self.savepoints) - 1)

    async def play(self, operations: list[tuple[str, int]], ending: str) -> None:
        for operation, depth in operations:
            await self.do(operation, depth)
        if ending == "raises":
            self.model.rollback()
            raise LookupError
        self.model.commit()

    def check(self, stored: list[str]) -> None:
        assert stored == sorted(self.model.stored)
        # Each is told one thing, once, in the order of registration.
        assert self.told == sorted(self.model.fates.items())


async def waited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def play_async(
    database: Database[AsyncSession], operations: list[tuple[str, int]], ending: str
) -> None:
    async with database.begin() as session:
        await session.execute(delete(Item))
    play: Play | None = None
    with suppress(LookupError):
        async with database.begin() as session:
            play = Play(session)
            await play.play(operations, ending)
    assert play is not None
    play.check(await item_names(database))
    assert checked_out(database) == 0


def play_sync(
    database: SyncDatabase[Session], operations: list[tuple[str, int]], ending: str
) -> None:
    with database.begin() as session:
        session.execute(delete(Item))
    play: Play | None = None
    with suppress(LookupError), database.begin() as session:
        play = Play(session)
        asyncio.run(play.play(operations, ending))
    assert play is not None
    play.check(sync_item_names(database))
    assert checked_out(database) == 0


def test_a_unit_of_work_stores_and_calls_what_the_model_does(sqlite_url: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        database = runner.run(stack.enter_async_context(open_database(sqlite_url)))

        @thoroughly
        @every_unit_of_work
        def check(operations: list[tuple[str, int]], ending: str) -> None:
            runner.run(play_async(database, operations, ending))

        try:
            check()
        finally:
            runner.run(stack.aclose())


def test_a_sync_unit_of_work_stores_and_calls_what_the_model_does(sync_sqlite_url: str) -> None:
    with open_sync_database(sync_sqlite_url) as database:

        @thoroughly
        @every_unit_of_work
        def check(operations: list[tuple[str, int]], ending: str) -> None:
            play_sync(database, operations, ending)

        check()
