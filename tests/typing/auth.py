from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, assert_type

from fastapi import APIRouter, Depends, FastAPI, WebSocket, params
from pydantic import BaseModel

from fastkit.auth import (
    Auth,
    AuthEvent,
    BcryptHasher,
    Key,
    MemoryThrottle,
    MemoryTokenStore,
    NewPassword,
    PasswordHasher,
    Throttle,
    TokenStore,
    api_key,
    auth_router,
    hash_api_key,
)

SECRET = "4BHmcGAYOcN2ZnKTX_FGIJBeQzTKp6xuGnPo1qPYj9o"


@dataclass
class User:
    id: int
    username: str
    roles: list[str]


class Machine: ...


class UserOut(BaseModel):
    username: str


class NewUser(BaseModel):
    password: NewPassword


def find(username: str) -> User | None: ...


async def find_async(username: str) -> User | None: ...


async def find_always(username: str) -> User:
    raise NotImplementedError


class Finder:
    async def __call__(self, username: str) -> User | None: ...

    def by_id(self, subject: str, *, deleted: bool = False) -> User | None: ...


def lookup() -> Callable[[str], User | None]:
    return find


def note(event: AuthEvent[User]) -> None:
    assert_type(event.user, User | None)
    assert_type(event.subject, str | None)


async def note_async(event: AuthEvent[User]) -> None: ...


def note_machine(event: AuthEvent[Machine]) -> None: ...


def the_user_follows_from_get_user() -> None:
    assert_type(Auth(secret=SECRET, get_user=find), Auth[User])
    assert_type(Auth(secret=SECRET, get_user=find_async), Auth[User])
    assert_type(Auth(secret=SECRET, get_user=find_always), Auth[User])
    assert_type(Auth(secret=SECRET, get_user=Finder()), Auth[User])
    assert_type(Auth(secret=SECRET, get_user={"a": User(1, "a", [])}.get), Auth[User])


def a_dependency_says_nothing_of_its_user() -> None:
    auth: Auth[User] = Auth(secret=SECRET, get_user=Depends(lookup))
    assert_type(auth, Auth[User])
    assert_type(Auth[User](secret=SECRET, get_user=params.Depends(lookup)), Auth[User])


def callbacks_know_the_user() -> None:
    auth = Auth(
        keys=[Key(SECRET)],
        get_user=find_async,
        get_user_by_subject=find_async,
        subject=lambda user: str(user.id),
        hashed_password=lambda user: user.username,
        disabled=lambda user: user.id == 0,
        scopes=lambda user: user.roles,
        save_password_hash=lambda user, new_hash: setattr(user, "hash", new_hash),
        hasher=BcryptHasher(rounds=13),
        store=MemoryTokenStore(max_logins=7),
        throttle=MemoryThrottle(),
        issuer="https://api.example.com",
        audience="shop",
        access_lifetime=timedelta(minutes=5),
        on_event=note,
    )
    assert_type(auth, Auth[User])
    assert_type(
        Auth(
            secret=SECRET,
            get_user=find_async,
            get_user_by_subject=Finder().by_id,
            subject=lambda user: str(user.id),
            on_event=note_async,
        ),
        Auth[User],
    )


def the_two_look_ups_may_be_of_two_kinds() -> None:
    by_subject = (find, find_async, Finder())
    for find_by_subject in by_subject:
        assert_type(
            Auth(
                secret=SECRET,
                get_user=find,
                get_user_by_subject=find_by_subject,
                subject=lambda user: user.username,
            ),
            Auth[User],
        )
    assert_type(
        Auth(
            secret=SECRET,
            get_user=find_async,
            get_user_by_subject=params.Depends(lookup),
            subject=lambda user: user.username,
        ),
        Auth[User],
    )


def what_is_handed_out_fits_into_an_app(auth: Auth[User], app: FastAPI) -> None:
    assert_type(auth.current_user, params.Depends)
    assert_type(auth.optional_user, params.Depends)
    assert_type(auth.require("items:write"), params.Depends)
    assert_type(auth.websocket_user(origins=["https://app.example.com"]), params.Depends)
    assert_type(auth_router(auth, user_model=UserOut), APIRouter)
    app.include_router(auth_router(auth), dependencies=[auth.require("a")])
    machines = api_key({"importer": hash_api_key("x" * 32)})
    assert_type(machines, params.Depends)
    api_key(lambda hashed: None, header="X-Key")

    @app.get("/")
    async def root(
        user: Annotated[User, auth.current_user], machine: Annotated[str, machines]
    ) -> str:
        return user.username


async def its_methods_know_the_user(auth: Auth[User], app: FastAPI) -> None:
    with auth.override(app, User(1, "a", [])):
        assert_type(await auth.revoke_all(User(1, "a", [])), int)
    assert_type(await auth.hash_password("x"), str)


async def a_newer_token_gives_the_user(auth: Auth[User], websocket: WebSocket) -> None:
    assert_type(await auth.renew_websocket(websocket, "token"), User)


def protocols_are_met() -> tuple[TokenStore, Throttle, PasswordHasher]:
    return MemoryTokenStore(), MemoryThrottle(), BcryptHasher()


def what_does_not_fit_is_found(auth: Auth[User], app: FastAPI) -> None:
    Auth(secret=SECRET, get_user=find_async, on_event=note_machine)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Auth(secret=7, get_user=find)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Auth(secret=SECRET, get_user=find, misspelt=7)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Auth(secret=SECRET, get_user=find, access_lifetime=900)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    auth.override(app, Machine())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    api_key(["plain"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
