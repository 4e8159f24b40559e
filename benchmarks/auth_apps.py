"""The apps that `benchmarks.auth` compares: fastkit's, the FastAPI tutorial's and other libraries'.

They have the same users and the same endpoints. All look a user up in one dict, by an async
function, at each request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Annotated, Any

import bcrypt
import jwt
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Security, params
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher as TheirBcryptHasher
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from fastkit.auth import (
    Auth,
    BcryptHasher,
    MemoryThrottle,
    MemoryTokenStore,
    Throttle,
    TokenStore,
    auth_router,
)

SECRET = token_urlsafe(32)
PASSWORD = "correct horse battery staple"  # noqa: S105  # nobody's
NAMES = [f"user-{number}" for number in range(20)]
DISABLED = "disabled"
WITHOUT_HASH = "without a hash"
LIFETIME = timedelta(minutes=30)
# Of bcrypt: as many as fastkit has unless it is told otherwise, and as few as there may be.
ROUNDS = 12
CHEAP = 4


@dataclass(frozen=True, slots=True)
class User:
    username: str
    hashed_password: str
    disabled: bool = False


class Users:
    """Who all have the same password. Its hash is made of so many rounds, once."""

    def __init__(self, rounds: int) -> None:
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds)).decode()
        self._by_name = {name: User(name, hashed) for name in NAMES}
        self._by_name[DISABLED] = User(DISABLED, hashed, disabled=True)
        self._by_name[WITHOUT_HASH] = User(WITHOUT_HASH, "a hash of no scheme")

    async def find(self, username: str) -> User | None:
        return self._by_name.get(username)


@dataclass(frozen=True, slots=True)
class Bearing:
    """An app that gets a token with each request, whatever else is asked."""

    app: ASGIApp
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authorization = (b"authorization", f"Bearer {self.token}".encode())
        asked = {**scope, "headers": [*scope["headers"], authorization]}
        await self.app(asked, receive, send)


def app_with(current_user: params.Depends, *routers: APIRouter) -> FastAPI:
    """The app whose endpoints are the same whatever says who makes a request."""
    app = FastAPI()

    @app.get("/me")
    async def me(user: Annotated[Any, current_user]) -> dict[str, str]:
        return {"username": user.username}

    @app.get("/async")
    async def in_the_loop() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/sync")
    def in_a_thread() -> dict[str, str]:
        return {"hello": "world"}

    for router in routers:
        app.include_router(router, prefix="/auth")
    return app


def open_app() -> FastAPI:
    """Whoever asks is one of the users."""
    users = Users(CHEAP)

    async def somebody() -> User | None:
        return await users.find(NAMES[0])

    return app_with(Depends(somebody))


class Unthrottled:
    """Lets everybody guess."""

    async def hit(self, account: str, address: str, /) -> float | None:
        return None

    async def clear(self, account: str, address: str, /) -> None: ...


def fastkit_app(
    *,
    store: TokenStore | None = None,
    throttle: Throttle | None = None,
    rounds: int = ROUNDS,
) -> FastAPI:
    auth = Auth(
        secret=SECRET,
        get_user=Users(rounds).find,
        store=MemoryTokenStore() if store is None else store,
        throttle=MemoryThrottle() if throttle is None else throttle,
        hasher=BcryptHasher(rounds=rounds),
    )
    return app_with(auth.current_user, auth_router(auth))


# The tutorial "OAuth2 with Password (and hashing), Bearer with JWT tokens", with bcrypt in place of
# Argon2, so that a password takes the same work everywhere.


class Token(BaseModel):
    access_token: str
    token_type: str


class TokenData(BaseModel):
    username: str


def tutorial_token(username: str) -> str:
    claims = {"sub": username, "exp": datetime.now(UTC) + LIFETIME}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def tutorial_user(users: Users) -> params.Depends:
    scheme = OAuth2PasswordBearer(tokenUrl="auth/token")

    async def of_token(token: Annotated[str, Depends(scheme)]) -> User:
        refusal = HTTPException(
            401, "The token is not valid.", headers={"WWW-Authenticate": "Bearer"}
        )
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            raise refusal from None
        if claims.get("sub") is None:
            raise refusal
        data = TokenData(username=claims["sub"])
        user = await users.find(data.username)
        if user is None:
            raise refusal
        return user

    async def active(user: Annotated[User, Depends(of_token)]) -> User:
        if user.disabled:
            raise HTTPException(400, "The user is disabled.")
        return user

    active_user: params.Depends = Depends(active)
    return active_user


def tutorial_app(*, rounds: int = ROUNDS) -> FastAPI:
    """Its login is `async def`, and so the password is hashed on the event loop."""
    users = Users(rounds)
    verify = _tutorial_verifier(rounds)
    router = APIRouter()

    @router.post("/token")
    async def log_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
        user = await users.find(form.username)
        return _tutorial_answer(user, is_right=verify(form.password, user))

    return app_with(tutorial_user(users), router)


def tutorial_app_in_threads(*, rounds: int = ROUNDS) -> FastAPI:
    """What it is often changed to: the password is hashed where sync endpoints run."""
    users = Users(rounds)
    verify = _tutorial_verifier(rounds)
    router = APIRouter()

    @router.post("/token")
    async def log_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
        user = await users.find(form.username)
        return _tutorial_answer(user, is_right=await run_sync(verify, form.password, user))

    return app_with(tutorial_user(users), router)


def _tutorial_verifier(rounds: int) -> Callable[[str, User | None], bool]:
    hashes = PasswordHash([TheirBcryptHasher(rounds)])
    dummy = hashes.hash("nobody's")

    def verify(password: str, user: User | None) -> bool:
        is_right = hashes.verify(password, dummy if user is None else user.hashed_password)
        return is_right and user is not None

    return verify


def _tutorial_answer(user: User | None, *, is_right: bool) -> Token:
    if user is None or not is_right:
        raise HTTPException(
            401,
            "The username or the password is wrong.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Token(access_token=tutorial_token(user.username), token_type="bearer")  # noqa: S106


# Other libraries, whose defaults decide what is checked.


def authx_app(name: str) -> ASGIApp:
    from authx import AuthX, AuthXConfig

    users = Users(CHEAP)
    theirs: AuthX[User] = AuthX(AuthXConfig(JWT_SECRET_KEY=SECRET))

    async def find(uid: str, **_: Any) -> User | None:
        return await users.find(uid)

    async def active(user: Annotated[User | None, theirs.CURRENT_SUBJECT]) -> User:
        return _checked(user)

    theirs.set_subject_getter(find)
    return Bearing(app_with(Depends(active)), theirs.create_access_token(name))


def fastapi_jwt_app(name: str) -> ASGIApp:
    from fastapi_jwt import JwtAccessBearer, JwtAuthorizationCredentials

    users = Users(CHEAP)
    theirs = JwtAccessBearer(SECRET)

    async def active(
        credentials: Annotated[JwtAuthorizationCredentials, Security(theirs)],
    ) -> User:
        return _checked(await users.find(credentials["username"]))

    token = theirs.create_access_token({"username": name})
    return Bearing(app_with(Depends(active)), token)


def _checked(user: User | None) -> User:
    if user is None or user.disabled:
        raise HTTPException(401, "There is no such user.")
    return user


@dataclass(slots=True)
class Member:
    """A user as fastapi-users wants them."""

    id: str
    email: str
    hashed_password: str
    is_active: bool
    is_superuser: bool = False
    is_verified: bool = True

    @property
    def username(self) -> str:
        return self.id


def fastapi_users_app(name: str) -> ASGIApp:
    from fastapi_users import BaseUserManager, FastAPIUsers
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
    from fastapi_users.db import BaseUserDatabase
    from fastapi_users.jwt import (
        generate_jwt,  # pyright: ignore[reportUnknownVariableType]  # it leaves `dict` bare
    )

    members = {name: Member(name, "", "", is_active=True) for name in NAMES}
    members[DISABLED] = Member(DISABLED, "", "", is_active=False)

    class Members(BaseUserDatabase[Member, str]):
        async def get(self, id: str) -> Member | None:
            return members.get(id)

    class Manager(BaseUserManager[Member, str]):
        def parse_id(self, value: Any) -> str:
            return str(value)

    # Its documentation has functions without `async` here, each of which runs in a thread.
    async def get_manager() -> Manager:
        return manager

    manager = Manager(Members())
    strategy = JWTStrategy[Member, str](SECRET, int(LIFETIME.total_seconds()))

    async def get_strategy() -> JWTStrategy[Member, str]:
        return strategy

    backend = AuthenticationBackend("jwt", BearerTransport("auth/token"), get_strategy)
    theirs = FastAPIUsers[Member, str](get_manager, [backend])
    claims = {"sub": name, "aud": strategy.token_audience}
    token = generate_jwt(claims, SECRET, strategy.lifetime_seconds)
    return Bearing(app_with(Depends(theirs.current_user(active=True))), token)
