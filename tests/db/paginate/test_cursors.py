"""Cursors of an app: which pages have them, and that a strange one is a 422 and never a 500."""

import json
import os
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, Query
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from fastkit.db import Database, paginate
from fastkit.filtering import FilterParams, ge, sort_by
from fastkit.pagination import CursorPage, CursorParams
from fastkit.pagination._cursor import CursorCodec
from tests.db.paginate.models import Base, Color, Size, Thing
from tests.db.support import client

pytestmark = pytest.mark.anyio

KEYS: dict[str, Any] = {
    "number": 1,
    "rank": 1,
    "name": "a",
    "guid": UUID(int=1),
    "uuid": UUID(int=1),
    "token": str(UUID(int=1)),
    "amount": Decimal("1.5"),
    "double": 1.5,
    "aware": datetime(2024, 5, 1, tzinfo=UTC),
    "naive": datetime(2024, 5, 1),
    "day": date(2024, 5, 1),
    "clock": time(12),
    "zoned": time(12, tzinfo=UTC),
    "flag": True,
    "color": Color.RED,
    "size": Size.SMALL,
    "grade": "low",
}


class ThingQuery(CursorParams, FilterParams):
    least: Annotated[int | None, ge(Thing.rank)] = None
    lang: str = "en"
    sort: Annotated[list[str], sort_by(**{name: getattr(Thing, name) for name in KEYS})] = [  # noqa: RUF012
        "number"
    ]


class OtherQuery(ThingQuery): ...


@pytest.fixture
async def things(async_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    db = Database(async_url)
    app = FastAPI()

    @app.get("/things")
    async def things(
        session: Annotated[AsyncSession, db.session], query: Annotated[ThingQuery, Query()]
    ) -> CursorPage[Any]:
        return await paginate(session, select(Thing), query, into=lambda thing: thing.shelf)

    @app.get("/others")
    async def others(
        session: Annotated[AsyncSession, db.read_session], query: Annotated[OtherQuery, Query()]
    ) -> CursorPage[Any]:
        return await paginate(session, select(Thing), query, into=lambda thing: thing.shelf)

    @app.get("/signed/{secret}")
    async def signed(
        session: Annotated[AsyncSession, db.session],
        secret: str,
        query: Annotated[ThingQuery, Query()],
    ) -> CursorPage[Any]:
        return await paginate(
            session, select(Thing), query, into=lambda thing: thing.shelf, secret=secret * 16
        )

    tables: Any = [Base.metadata.tables["thing"]]
    async with db.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql(
                "CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2')"
            )
        await connection.run_sync(Base.metadata.create_all, tables=tables)
        row = {"label": "", "code": "c", **KEYS}
        await connection.execute(insert(Thing), [{**row, "shelf": i} for i in range(5)])
    async with client(app) as http:
        yield http
    await db.engine.dispose()


async def get(things: httpx.AsyncClient, path: str, **params: Any) -> Any:
    response = await things.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_walk_of_an_app(things: httpx.AsyncClient) -> None:
    page = await get(things, "/things", size=2)
    assert (page["items"], page["has_next"], page["previous_cursor"]) == ([0, 1], True, None)
    second = await get(things, "/things", size=2, cursor=page["next_cursor"])
    assert (second["items"], second["has_next"]) == ([2, 3], True)
    third = await get(things, "/things", size=2, cursor=second["next_cursor"])
    assert (third["items"], third["has_next"], third["next_cursor"]) == ([4], False, None)
    back = await get(things, "/things", size=2, cursor=third["previous_cursor"])
    assert (back["items"], back["has_next"]) == ([2, 3], True)
    first = await get(things, "/things", size=2, cursor=back["previous_cursor"])
    assert (first["items"], first["has_next"], first["previous_cursor"]) == ([0, 1], True, None)


async def test_a_cursor_of_another_list_is_refused(things: httpx.AsyncClient) -> None:
    cursor = (await get(things, "/things", size=1))["next_cursor"]
    signed = (await get(things, "/signed/a", size=1))["next_cursor"]
    assert (await get(things, "/signed/a", cursor=signed))["items"] == [1, 2, 3, 4]
    for path, params in [
        ("/things", {"sort": "-number", "cursor": cursor}),
        ("/things", {"sort": "rank", "cursor": cursor}),
        ("/things", {"least": 0, "cursor": cursor}),
        ("/others", {"cursor": cursor}),
        ("/signed/a", {"cursor": cursor}),
        ("/signed/b", {"cursor": signed}),
        ("/things", {"cursor": signed}),
        ("/things", {"cursor": cursor[:-1]}),
        ("/things", {"cursor": cursor + "A"}),
        ("/things", {"cursor": "x" * 60_000}),
        ("/things", {"cursor": "\x00é"}),
    ]:
        response = await things.get(path, params=params)
        assert response.status_code == 422, (path, params)
        assert response.json()["detail"][0]["loc"] == ["query", "cursor"]


async def test_a_cursor_is_not_bound_to_what_filters_nothing(things: httpx.AsyncClient) -> None:
    cursor = (await get(things, "/things", size=1, lang="eo"))["next_cursor"]
    assert (await get(things, "/things", cursor=cursor, lang="io"))["items"] == [1, 2, 3, 4]
    # An empty filter is none.
    assert (await get(things, "/things", cursor=cursor, least=""))["items"] == [1, 2, 3, 4]


# What is no value of any column, and per column what it cannot hold or what is of another type.
STRANGE: list[Any] = [
    {},
    [],
    [1],
    "\ud800",
    2**63,
    -(2**63) - 1,
    "huge",
    "12",
    "x",
    "a\x00b",
    True,
    1.5,
    0,
    "NaN",
    "sNaN",
    "-NaN123",
    "Infinity",
    "1e99999",
    "1e-99999",
    "1e999999999",
    None,
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2024-05-01T00:00:00",
    "2024-05-01T00:00:00Z",
    "2024-05-01",
    "12:00:00",
    "12:00:00+05:30",
    "12:00+23:59",
    "RED",
    "red",
    "PURPLE",
    "b",
    "é",
    str(UUID(int=3)),
    "0" * 32,
    "1" * 30_000,
]


@pytest.mark.parametrize("name", KEYS)
async def test_values_that_no_row_has_are_never_a_500(
    things: httpx.AsyncClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CursorCodec,
        "_digest",
        lambda *_: bytes(16),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    )
    made = (await get(things, "/things", size=1, sort=name))["next_cursor"]
    body = urlsafe_b64decode(made + "=" * (-len(made) % 4))[18:]
    honest = json.loads(body)
    accepted: list[Any] = []
    for flags in (0, 3) if name == "number" else (0,):
        for position in range(len(honest) if name == "number" else 1):
            for strange in STRANGE:
                values = [*honest]
                values[position] = strange
                text = json.dumps(values).replace('"huge"', "9" * 5000)
                raw = bytes(16) + bytes((1, flags)) + text.encode()
                cursor = urlsafe_b64encode(raw).rstrip(b"=").decode()
                params = {"cursor": cursor, "sort": name}
                response = await things.get("/things", params=params)
                assert response.status_code in (200, 422), (values, response.text)
                if response.status_code == 200 and position == 0:
                    accepted.append(strange)
    assert len(accepted) < len(STRANGE)
    if not isinstance(honest[0], str):
        assert "x" not in accepted
    else:
        assert (1.5 in accepted) is (name == "amount")
        assert {} not in accepted
        assert name != "token" or "x" not in accepted


SETS = """
from typing import Annotated
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from fastkit.db import paginate
from fastkit.filtering import FilterParams, in_
from fastkit.pagination import CursorParams
from tests.db.models import Base, Item

class Query(CursorParams, FilterParams):
    name: Annotated[set[str], in_(Item.name)]

engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(Item(name=name) for name in "abcdef")
    print(paginate(session, select(Item), Query(name=set("fedcba"), size=2)).next_cursor)
engine.dispose()
"""


def test_a_cursor_is_the_same_in_each_worker_whatever_the_order_of_a_set_is_there() -> None:
    cursors = [
        subprocess.run(
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert cursors[0].strip() not in ("", "None")
    assert {*cursors} == {cursors[0]}
