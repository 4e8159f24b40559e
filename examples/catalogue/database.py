"""The database: which one, its sessions, and its first content."""

import csv
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from sqlalchemy import event, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from examples.catalogue.models import Artist, Base, Work
from examples.catalogue.settings import settings
from examples.catalogue.users import seed_users
from fastkit.db import Database

_HERE = Path(__file__).resolve().parent

db = Database(settings.database_url)

SessionDep = Annotated[AsyncSession, db.session]
ReadSessionDep = Annotated[AsyncSession, db.read_session]


if db.engine.dialect.name == "sqlite":

    @event.listens_for(db.engine.sync_engine, "connect")
    def check_foreign_keys(connection: Any, _: object) -> None:
        """SQLite does not look at foreign keys unless each connection asks for it."""
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()


# Of several workers that start at once, one fills the database and the others wait for it.
_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(4284)"}


@asynccontextmanager
async def filled(_: FastAPI) -> AsyncGenerator[None]:
    """A lifespan that makes the tables, and fills them when there are no works and no users."""
    async with db.begin() as session:
        await session.execute(text(_LOCK[db.engine.dialect.name]))
        connection = await session.connection()
        await connection.run_sync(Base.metadata.create_all)
        if await session.scalar(select(Work.id).limit(1)) is None:
            await _fill(session)
        await seed_users(session)
    yield


async def _fill(session: AsyncSession) -> None:
    with (_HERE / "data" / "works.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = set(await session.scalars(select(Artist.name)))
    new = sorted({row["artist"] for row in rows} - known)
    if new:
        await session.execute(insert(Artist), [{"name": name} for name in new])
    artists = {artist.name: artist.id for artist in await session.scalars(select(Artist))}
    await session.execute(
        insert(Work),
        [
            {
                "tate_id": int(row["tate_id"]),
                "artist_id": artists[row["artist"]],
                "title": row["title"] or None,
                "year": int(row["year"]),
                "technique": row["technique"],
                "support": row["support"] or None,
            }
            for row in rows
        ],
    )
