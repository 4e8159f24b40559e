"""Who may sign in, and who makes a request."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import Depends, FastAPI
from redis import ConnectionError, TimeoutError
from redis.asyncio import Redis
from sqlalchemy import update
from sqlalchemy.ext.asyncio import async_object_session

from examples.catalogue.database import SessionDep, db
from examples.catalogue.models import Base, User
from examples.catalogue.settings import settings
from examples.catalogue.users import hasher
from fastkit.auth import Auth, AuthEvent, MemoryThrottle, Throttle, TokenStore
from fastkit.auth.redis import RedisThrottle, RedisTokenStore
from fastkit.auth.sql import SQLTokenStore
from fastkit.errors import ProblemMap

_logger = logging.getLogger("catalogue.auth")
_PREFIX = "catalogue:"

REDIS_PROBLEMS: ProblemMap = {ConnectionError: 503, TimeoutError: 503}


def user_finder(session: SessionDep) -> Callable[[str], Awaitable[User | None]]:
    """What finds users on the session of the request, which the endpoint has, too."""

    async def find(username: str) -> User | None:
        return await session.get(User, username)

    return find


async def save_password_hash(user: User, new_hash: str) -> None:
    session = async_object_session(user)  # the request's: committed before the answer
    assert session is not None
    unchanged = User.hashed_password == user.hashed_password  # or it would undo a change of it
    named = User.username == user.username
    await session.execute(update(User).where(named, unchanged).values(hashed_password=new_hash))


def log_event(event: AuthEvent[User]) -> None:
    # Without the username: now and then somebody types a password there.
    _logger.info(
        "%s: subject %s, login %s, from %s, %s",
        event.kind,
        event.subject,
        event.login_id,
        event.address,
        event.reason or "ok",
    )


def _connect() -> Redis | None:
    url = settings.redis_url
    if url is None:
        return None
    return Redis.from_url(url.get_secret_value())  # pyright: ignore[reportUnknownMemberType]


_redis = _connect()
_store: TokenStore
_throttle: Throttle
if _redis is None:
    _store, _throttle = SQLTokenStore(db, metadata=Base.metadata), MemoryThrottle()
else:
    _store = RedisTokenStore(_redis, prefix=_PREFIX)
    _throttle = RedisThrottle(_redis, prefix=_PREFIX)

# A Depends() tells a type checker nothing of the user.
auth: Auth[User] = Auth(
    secret=settings.secret.get_secret_value(),
    get_user=Depends(user_finder),
    hasher=hasher,
    save_password_hash=save_password_hash,
    store=_store,
    throttle=_throttle,
    issuer="catalogue",
    access_lifetime=timedelta(seconds=settings.access_seconds),
    revoke_access_at_once=True,
    on_event=log_event,
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Say what is for a demo alone; in the end, leave Redis."""
    if settings.demo:
        _logger.warning(
            "CATALOGUE_DEMO is on: there are users and a key whose secrets everybody can read."
        )
    if "secret" not in settings.model_fields_set:
        _logger.warning(
            "CATALOGUE_SECRET is not set, so one is made up: all logins end with this process, and "
            "no other worker knows them."
        )
    try:
        yield
    finally:
        if _redis is not None:
            await _redis.aclose()
