"""An app on a `Database`; environment variables say on which one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi.responses import StreamingResponse
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from fastkit.db import Database, after_commit, after_rollback
from tests.db import served
from tests.db.models import Item, Part
from tests.db.support import make_async_engine, terminate

db = Database(make_async_engine(served.URL, **served.POOL))
SessionDep = Annotated[AsyncSession, db.session]
app = served.make_app(db)

both_have_read = asyncio.Barrier(2)


def follow(session: AsyncSession, name: str) -> None:
    after_commit(session, lambda: served.fates.append(f"{name} committed"))
    after_rollback(session, lambda: served.fates.append(f"{name} rolled back"))


@app.get("/items")
async def items(session: SessionDep) -> list[str]:
    return sorted(await session.scalars(select(Item.name)))


@app.post("/items", status_code=201)
async def create(name: str, session: SessionDep) -> dict[str, bool]:
    follow(session, name)
    session.add(Item(name=name))
    return {"saved": True}


@app.post("/orphans", status_code=201)
async def orphan(name: str, session: SessionDep) -> dict[str, bool]:
    """The commit fails, for the foreign key is looked at then."""
    follow(session, name)
    session.add_all([Item(name=name), Part(item_id=999)])
    await session.flush()
    return {"saved": True}


@app.post("/killed", status_code=201)
async def killed(name: str, session: SessionDep) -> dict[str, bool]:
    """The commit fails, for the server's process has gone since the flush."""
    follow(session, name)
    session.add(Item(name=name))
    await session.flush()
    backend = await session.scalar(text("SELECT pg_backend_pid()"))
    await asyncio.to_thread(terminate, db.engine.url, int(backend))
    return {"saved": True}


@app.post("/counted", status_code=201)
async def counted(name: str, session: SessionDep) -> dict[str, bool]:
    """Of two at once, the second to commit fails: each counts what the other adds."""
    follow(session, name)
    await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    count = await session.scalar(select(func.count()).select_from(Item))
    await both_have_read.wait()
    session.add(Item(name=f"{name} {count}"))
    await session.flush()
    await both_have_read.wait()
    return {"saved": True}


@app.post("/renamed", status_code=201)
async def renamed(name: str, session: SessionDep) -> dict[str, bool]:
    """Of two at once, the second to write fails: it has not seen what the first wrote."""
    follow(session, name)
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    item = (await session.scalars(select(Item).where(Item.name.like("old%")))).one()
    await both_have_read.wait()
    item.name = f"old {name}"
    return {"saved": True}


@app.post("/slow", status_code=201)
async def slow(name: str, session: SessionDep) -> dict[str, bool]:
    session.add(Item(name=name))
    await session.flush()
    await asyncio.sleep(served.HOLD)
    return {"saved": True}


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async with db.begin() as session:
            while True:
                yield f"{await session.scalar(select(func.count()).select_from(Item))}\n"
                await asyncio.sleep(0.01)

    return StreamingResponse(lines())
