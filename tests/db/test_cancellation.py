"""A request that is cancelled, at each of its awaits and in each way.

Afterwards the only connection is in the pool and clean, and the data shares the fate that its
callbacks were told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import anyio
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from fastkit.db import Database, after_commit, after_rollback
from tests.db.models import Item, Part
from tests.db.stepping import settle, stepping
from tests.db.support import checked_out, item_names

pytestmark = pytest.mark.anyio


class Probe:
    """An app, and what the one request to it has seen."""

    def __init__(self, database: Database[AsyncSession]) -> None:
        self.database = database
        self.fates: list[str] = []
        self.status: int | None = None
        self.app = FastAPI()
        app = self.app

        @app.get("/{ending}/{name}")
        async def endpoint(
            ending: str, name: str, session: Annotated[AsyncSession, database.session]
        ) -> None:
            self.follow(session)
            session.add(Item(name=name))
            await session.flush()
            async with session.begin_nested():
                await asyncio.sleep(0)
            if ending == "raises":
                raise LookupError
            if ending == "fails":
                session.add(Part(item_id=999))

    def follow(self, session: AsyncSession) -> None:
        async def tell(fate: str) -> None:
            await asyncio.sleep(0)
            self.fates.append(fate)

        after_commit(session, lambda: tell("committed"))
        after_rollback(session, lambda: tell("rolled back"))

    async def ask(self, app: ASGIApp, path: str) -> None:
        self.fates.clear()
        self.status = None
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await asyncio.get_running_loop().create_future()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]

        scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "server": ("test", 80),
        }
        await app(scope, receive, send)


Work = Callable[[], Awaitable[object]]
Way = Callable[[Work, int], Awaitable[bool]]


async def by_task(work: Work, step: int, *, repeatedly: bool = False) -> bool:
    """Run `work` in a task that is cancelled at `step`; whether it got that far."""

    async def run() -> None:
        await work()

    def cancel() -> None:
        task.cancel()

    with stepping(step, cancel, repeatedly=repeatedly) as steps:
        task = asyncio.create_task(run())
        await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # what the endpoint raises is not looked at here
    return steps.reached


async def by_task_again_and_again(work: Work, step: int) -> bool:
    return await by_task(work, step, repeatedly=True)


async def by_scope(work: Work, step: int) -> bool:
    """The same in an anyio scope, which goes on cancelling at each await."""
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await work()

    with stepping(step, scope.cancel) as steps:
        task = asyncio.create_task(run())
        await asyncio.wait([task])
    task.exception()
    return steps.reached


async def by_timeout(work: Work, step: int) -> bool:
    """The same in an `asyncio.timeout()` that is over at `step`."""
    timeout = asyncio.timeout(60)

    async def run() -> None:
        async with timeout:
            await work()

    def expire() -> None:
        timeout.reschedule(0)

    with stepping(step, expire) as steps:
        task = asyncio.create_task(run())
        await asyncio.wait([task])
    task.exception()
    return steps.reached


WAYS: list[Way] = [by_task, by_task_again_and_again, by_scope, by_timeout]
every_way = pytest.mark.parametrize("way", WAYS)


async def check_at_each_step(
    probe: Probe, way: Way, work: Callable[[str], Work], *, cold: bool = False
) -> set[str]:
    """Cancel `work` in this `way` at each step; every fate that the data had.

    `cold`: it has to connect first.
    """
    seen: set[str] = set()
    stored: list[str] = []
    tasks = asyncio.all_tasks()
    for step in range(200):
        name = f"step {step:03}"
        if cold:
            await probe.database.engine.dispose()
        reached = await way(work(name), step)
        await settle(asyncio.all_tasks() - tasks)
        assert checked_out(probe.database) == 0
        names = await item_names(probe.database)  # on the only connection
        if name in names:
            stored.append(name)
            assert probe.fates == ["committed"]
        else:
            assert probe.fates in ([], ["rolled back"])
            assert probe.status is None or probe.status >= 400
        assert names == stored
        seen.update(probe.fates or ["untold"])
        if not reached:
            assert step > 3
            return seen
    pytest.fail("the work does not end")


@every_way
@pytest.mark.parametrize("ending", ["returns", "raises", "fails"])
@pytest.mark.usefixtures("complaints")
async def test_a_request(database: Database[AsyncSession], way: Way, ending: str) -> None:
    probe = Probe(database)
    seen = await check_at_each_step(
        probe, way, lambda name: lambda: probe.ask(probe.app, f"/{ending}/{name}")
    )
    assert "rolled back" in seen
    assert ("committed" in seen) is (ending == "returns")


@every_way
@pytest.mark.usefixtures("complaints")
async def test_a_request_behind_a_middleware_with_tasks_of_its_own(
    database: Database[AsyncSession], way: Way
) -> None:
    """Starlette's BaseHTTPMiddleware runs the app in an anyio task group."""

    async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    probe = Probe(database)
    app = BaseHTTPMiddleware(probe.app, dispatch)
    seen = await check_at_each_step(
        probe, way, lambda name: lambda: probe.ask(app, f"/returns/{name}")
    )
    assert {"committed", "rolled back"} <= seen


@every_way
@pytest.mark.parametrize("cold", [False, True], ids=["connected", "connecting"])
# Old versions of SQLAlchemy drop a new connection when they are cancelled while they set it up.
@pytest.mark.filterwarnings("ignore:unclosed connection <asyncpg:ResourceWarning")
# So does aiosqlite, of which Python tells from 3.13 on.
@pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning")
@pytest.mark.usefixtures("complaints")
async def test_a_unit_of_work(database: Database[AsyncSession], way: Way, cold: bool) -> None:
    probe = Probe(database)

    def unit(name: str) -> Work:
        probe.fates.clear()

        async def work() -> None:
            async with database.begin() as session:
                probe.follow(session)
                session.add(Item(name=name))
                await session.flush()

        return work

    seen = await check_at_each_step(probe, way, unit, cold=cold)
    assert {"committed", "rolled back"} <= seen


async def test_a_scope_does_not_keep_the_loop_busy_while_it_waits_for_the_end(
    sqlite: Database[AsyncSession],
) -> None:
    """anyio cancels at each await, and so on each turn of the loop where nothing holds it off."""
    scope = anyio.CancelScope()
    told: list[str] = []

    async def slow() -> None:
        scope.cancel()
        await asyncio.sleep(0.2)
        told.append("committed")

    async def work() -> None:
        with scope:
            async with sqlite.begin() as session:
                after_commit(session, slow)

    with stepping(-1, list) as steps:
        await asyncio.create_task(work())
    assert told == ["committed"]
    assert steps.taken < 50
