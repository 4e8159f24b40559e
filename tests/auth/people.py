"""Users, the auth that knows them, and an app that asks it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import bcrypt
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fastkit.auth import Auth, BcryptHasher, auth_router
from fastkit.auth._passwords import Passwords

__all__ = (
    "PASSWORD",
    "SECRET",
    "Clock",
    "Directory",
    "Free",
    "User",
    "bearer",
    "client",
    "hashed",
    "log_in",
    "make_app",
    "make_auth",
    "refresh",
    "verify_by",
)

SECRET = "4BHmcGAYOcN2ZnKTX_FGIJBeQzTKp6xuGnPo1qPYj9o"
PASSWORD = "through-the-looking-glass"


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


_HASH = hashed(PASSWORD)


async def verify_by(
    passwords: Passwords, password: str, hash: str | None
) -> tuple[bool, str | None]:
    async with passwords.turn() as verify:
        return await verify(password, hash)


@dataclass
class User:
    username: str
    hashed_password: str | None = field(default=_HASH, repr=False)
    disabled: bool = False
    scopes: tuple[str, ...] = ()


@dataclass
class Clock:
    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now


class Free:
    """A throttle that lets everybody go on, and remembers who came."""

    def __init__(self) -> None:
        self.hits: list[tuple[str, str]] = []
        self.cleared: list[tuple[str, str]] = []

    async def hit(self, account: str, address: str, /) -> float | None:
        self.hits.append((account, address))
        return None

    async def clear(self, account: str, address: str, /) -> None:
        self.cleared.append((account, address))


class Directory:
    """The users there are, and who was asked for."""

    def __init__(self, users: Iterable[User] = ()) -> None:
        self.users = {user.username: user for user in users}
        self.asked: list[str] = []

    async def find(self, username: str) -> User | None:
        self.asked.append(username)
        return self.users.get(username)


def make_auth(*users: User, directory: Directory | None = None, **options: Any) -> Auth[User]:
    found = directory or Directory(users or [User("alice")])
    given: dict[str, Any] = {
        "secret": SECRET,
        "get_user": found.find,
        "hasher": BcryptHasher(rounds=4),
        "throttle": Free(),
        **options,
    }
    auth: Auth[User] = Auth(**given)
    return auth


def make_app(auth: Auth[User], **options: Any) -> FastAPI:
    """An app with the auth's router under /auth, and a way to ask who one is."""
    app = FastAPI(**options)
    app.include_router(auth_router(auth), prefix="/auth")

    @app.get("/who")
    async def who(user: Annotated[User, auth.current_user]) -> str:
        return user.username

    @app.get("/maybe")
    async def maybe(user: Annotated[User | None, auth.optional_user]) -> str | None:
        return None if user is None else user.username

    @app.get("/write")
    async def write(user: Annotated[User, auth.require("items:write")]) -> str:
        return user.username

    return app


def client(auth: Auth[User], **options: Any) -> TestClient:
    return TestClient(make_app(auth), raise_server_exceptions=False, **options)


def log_in(http: TestClient, username: str = "alice", **more: str) -> dict[str, Any]:
    form = {"grant_type": "password", "username": username, "password": PASSWORD, **more}
    answer = http.post("/auth/token", data=form)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refresh(http: TestClient, token: str, **more: str) -> Any:
    form = {"grant_type": "refresh_token", "refresh_token": token, **more}
    return http.post("/auth/token", data=form)


def bearer(tokens: dict[str, Any] | str) -> dict[str, str]:
    token = tokens if isinstance(tokens, str) else tokens["access_token"]
    return {"Authorization": f"Bearer {token}"}
