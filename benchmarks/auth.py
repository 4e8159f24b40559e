"""Auth: from a bearer token to its user, refreshes on each store, and what logins do to the rest.

No app remembers a token. They do not all check the same: `docs/benchmarks.md` says what each does.
"""

import json
from asyncio import gather
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from os import getloadavg
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks import auth_apps as apps
from benchmarks.db import postgres_engine, postgres_url, sqlite_engine
from benchmarks.harness import Call, Case, Group, Limit, Report, ask, compare, peer
from benchmarks.logins import measure_waits
from fastkit.auth import MemoryTokenStore, TokenStore
from fastkit.auth.redis import RedisTokenStore
from fastkit.auth.sql import SQLTokenStore
from fastkit.db import Database

TITLE = "Auth"
PACKAGES = (
    "fastkit",
    "fastapi",
    "pyjwt",
    "bcrypt",
    "pwdlib",
    "authx",
    "fastapi-users",
    "fastapi-jwt",
    "authlib",
    "uvicorn",
    "sqlalchemy",
    "aiosqlite",
    "asyncpg",
    "redis",
)
AS_THE_TUTORIAL = Limit(1.0, 1 / 1.1)
AS_A_WRONG_PASSWORD = Limit(1.1, 1.0)
# As few as let bcrypt take most of the time.
REFUSED_ROUNDS = 8

ME = Call(path="/me")
TOKEN = Call(path="/auth/token", method="POST")
REFUSED = Call(path="/auth/token", method="POST", status=401)


@dataclass(slots=True)
class Client:
    """Logs in with the first request to an app, and refreshes that login with each later one."""

    app: ASGIApp
    username: str
    access_token: str = ""
    refresh_token: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def keep(message: Message) -> None:
            if message["type"] == "http.response.body":
                answer = json.loads(message["body"])
                self.access_token = answer["access_token"]
                self.refresh_token = answer.get("refresh_token", "")
            await send(message)

        await posted(self.app, self._form(), scope, keep)

    def _form(self) -> dict[str, str]:
        if self.refresh_token:
            return {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        return {"grant_type": "password", "username": self.username, "password": apps.PASSWORD}


@dataclass(frozen=True, slots=True)
class Guesser:
    """Tries to log in with each request."""

    app: ASGIApp
    username: str
    password: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = {"grant_type": "password", "username": self.username, "password": self.password}
        await posted(self.app, form, scope, send)


async def posted(app: ASGIApp, form: Mapping[str, str], scope: Scope, send: Send) -> None:
    """Ask `app` with a form in place of what the request has."""
    body = urlencode(form).encode()
    headers = [
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-length", b"%d" % len(body)),
    ]

    async def receive_form() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    await app({**scope, "headers": headers}, receive_form, send)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients who all ask at once. Whoever asks them gets what the first one got."""

    clients: list[Client]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = await gather(*(ask(client, TOKEN) for client in self.clients))
        for message in answers[0]:
            await send(message)


async def logged_in(app: ASGIApp, name: str) -> apps.Bearing:
    """The app, and a token that it gave."""
    client = Client(app, name)
    await ask(client, TOKEN)
    return apps.Bearing(app, client.access_token)


async def bearer_group(report: Report) -> Group:
    name = apps.NAMES[0]
    fastkit = await logged_in(apps.fastkit_app(rounds=apps.CHEAP), name)
    tutorial = await logged_in(apps.tutorial_app(rounds=apps.CHEAP), name)
    return Group(
        "bearer token to user",
        ME,
        [
            Case("the FastAPI tutorial", tutorial),
            Case("fastkit", fastkit, AS_THE_TUTORIAL),
            *peer(report, "authx", lambda: apps.authx_app(name)),
            *peer(report, "fastapi-jwt", lambda: apps.fastapi_jwt_app(name)),
            *peer(report, "fastapi-users", lambda: apps.fastapi_users_app(name)),
            # It is given a token, too, which it does not look at.
            Case("no auth at all", apps.Bearing(apps.open_app(), tutorial.token)),
        ],
    )


def refused_group() -> Group:
    """Logins that are refused: what they take is not to tell why."""
    app = apps.fastkit_app(rounds=REFUSED_ROUNDS, throttle=apps.Unthrottled())
    others = {
        "unknown user": ("nobody", apps.PASSWORD),
        "disabled user, right password": (apps.DISABLED, apps.PASSWORD),
        "disabled user, wrong password": (apps.DISABLED, "a guess"),
        "a hash of no scheme": (apps.WITHOUT_HASH, apps.PASSWORD),
        "a password of 60,000 characters": (apps.NAMES[0], "x" * 60_000),
    }
    return Group(
        "a login that is refused",
        REFUSED,
        [
            Case("wrong password", Guesser(app, apps.NAMES[0], "a guess")),
            *[
                Case(name, Guesser(app, *entered), AS_A_WRONG_PASSWORD)
                for name, entered in others.items()
            ],
        ],
    )


def refresh_groups(stores: Mapping[str, TokenStore]) -> list[Group]:
    """Refreshes of one login, one after the other; and of twenty logins at once."""
    served = {
        name: apps.fastkit_app(store=store, rounds=apps.CHEAP) for name, store in stores.items()
    }
    return [
        Group(
            "a refresh, one by one",
            TOKEN,
            [Case(name, Client(app, apps.NAMES[0])) for name, app in served.items()],
        ),
        Group(
            f"{len(apps.NAMES)} refreshes at once, wall clock",
            TOKEN,
            [
                Case(name, Crowd([Client(app, user) for user in apps.NAMES]))
                for name, app in served.items()
            ],
            clock=perf_counter,
        ),
    ]


@asynccontextmanager
async def open_stores(report: Report, folder: str) -> AsyncGenerator[dict[str, TokenStore]]:
    """A store of each kind. SQLite and PostgreSQL are told not to wait for the disk."""
    async with AsyncExitStack() as stack:
        stores: dict[str, TokenStore] = {"memory": MemoryTokenStore()}
        stores["SQLite (aiosqlite)"] = await stack.enter_async_context(
            sql_store(sqlite_engine(folder))
        )
        url = stack.enter_context(postgres_url(report))
        if url is not None:
            stores["PostgreSQL (asyncpg)"] = await stack.enter_async_context(
                sql_store(postgres_engine(url))
            )
        redis = await stack.enter_async_context(redis_store(report))
        if redis is not None:
            stores["Redis"] = redis
        yield stores


@asynccontextmanager
async def sql_store(engine: AsyncEngine) -> AsyncGenerator[TokenStore]:
    metadata = MetaData()
    store = SQLTokenStore(Database(engine), metadata=metadata)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        yield store
    finally:
        await engine.dispose()


@asynccontextmanager
async def redis_store(report: Report) -> AsyncGenerator[TokenStore | None]:
    """A store whose keys are deleted in the end; None, and a note, where there is no server."""
    from redis.asyncio import Redis

    from tests.support import find_redis

    server = find_redis()
    if isinstance(server, str):
        report.note(f"Redis is left out: {server.splitlines()[0]}")
        yield None
        return
    prefix = f"fastkit:benchmarks:{uuid4().hex}:"
    client: Any = Redis.from_url(server.url)  # pyright: ignore[reportUnknownMemberType]
    try:
        yield RedisTokenStore(client, prefix=prefix)
    finally:
        keys = [key async for key in client.scan_iter(match=f"{prefix}*")]
        if keys:
            await client.delete(*keys)
        await client.aclose()


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    report.tables.append(await compare(await bearer_group(report)))
    report.tables.append(await compare(refused_group()))
    # What else runs makes them longer.
    report.note(f"Load of the machine before people log in: {getloadavg()[0]:.1f}")
    report.tables += await measure_waits()
    with TemporaryDirectory() as folder:
        async with open_stores(report, folder) as stores:
            report.tables += [await compare(group) for group in refresh_groups(stores)]
    return report
