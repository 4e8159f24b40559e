"""What clients are told while the database or Redis is down: of both, these are real ones."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import ConnectionError, TimeoutError
from redis.asyncio import Redis
from sqlalchemy import MetaData
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocketDisconnect

from fastkit.auth import MemoryTokenStore
from fastkit.auth.redis import RedisThrottle, RedisTokenStore
from fastkit.auth.sql import SQLTokenStore
from fastkit.db import DATABASE_PROBLEMS, Database
from fastkit.errors import install_exception_handlers
from tests.auth.people import PASSWORD, bearer, log_in, make_app, make_auth
from tests.auth.test_websocket import make_socket_app
from tests.errors.support import problem

# Nothing listens there.
REDIS = "redis://127.0.0.1:1"
POSTGRES = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"

LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}
SQL, REDIS_STORE, REDIS_THROTTLE = "sql", "redis", "redis throttle"


def down(kind: str) -> dict[str, Any]:
    if kind == SQL:
        return {"store": SQLTokenStore(Database(POSTGRES), metadata=MetaData())}
    redis = Redis.from_url(REDIS)  # pyright: ignore[reportUnknownMemberType]
    if kind == REDIS_STORE:
        return {"store": RedisTokenStore(redis)}
    return {"throttle": RedisThrottle(redis)}


def with_problems(app: FastAPI) -> FastAPI:
    install_exception_handlers(app, DATABASE_PROBLEMS, {ConnectionError: 503, TimeoutError: 503})
    return app


def tokens_from_before() -> dict[str, Any]:
    return log_in(TestClient(make_app(make_auth(store=MemoryTokenStore()))))


@pytest.mark.parametrize("kind", [SQL, REDIS_STORE, REDIS_THROTTLE])
def test_whatever_needs_it_is_a_503_where_the_app_says_so(kind: str) -> None:
    tokens = tokens_from_before()
    auth = make_auth(revoke_access_at_once=True, **down(kind))
    http = TestClient(with_problems(make_app(auth)), raise_server_exceptions=False)
    assert problem(http.post("/auth/token", data=LOGIN), 503)
    if kind == REDIS_THROTTLE:
        return
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert problem(http.post("/auth/token", data=form), 503)
    assert problem(http.post("/auth/revoke", data={"token": tokens["refresh_token"]}), 503)
    assert problem(http.post("/auth/revoke", data={"token": tokens["access_token"]}), 503)
    assert problem(http.post("/auth/logout", headers=bearer(tokens)), 503)
    assert problem(http.get("/who", headers=bearer(tokens)), 503)


@pytest.mark.parametrize("kind", [SQL, REDIS_STORE])
def test_what_does_not_need_it_goes_on(kind: str) -> None:
    tokens = tokens_from_before()
    http = TestClient(with_problems(make_app(make_auth(**down(kind)))))
    assert http.get("/who", headers=bearer(tokens)).json() == "alice"
    assert http.get("/who", headers=bearer("forged")).status_code == 401
    wrong = http.post("/auth/token", data={**LOGIN, "password": "wrong"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_grant")
    assert http.post("/auth/revoke", data={"token": "unknown"}).status_code == 200


@pytest.mark.parametrize("kind", [SQL, REDIS_STORE, REDIS_THROTTLE])
def test_it_is_an_error_of_the_app_that_says_nothing(kind: str) -> None:
    http = TestClient(make_app(make_auth(**down(kind))))
    with pytest.raises((ConnectionError, SQLAlchemyError)) as caught:
        http.post("/auth/token", data=LOGIN)
    assert PASSWORD not in str(caught.value)


def opened(kind: str, **options: Any) -> Any:
    """How a WebSocket ends whose opening asks the store."""
    app = make_socket_app(make_auth(revoke_access_at_once=True, **down(kind)), **options)
    http = TestClient(with_problems(app), raise_server_exceptions=False)
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        http.websocket_connect("/ws", headers=bearer(tokens_from_before())) as websocket,
    ):
        websocket.receive_text()
    return closed.value


@pytest.mark.parametrize("kind", [SQL, REDIS_STORE])
def test_a_websocket_is_a_503_before_it_is_accepted_and_closed_after(kind: str) -> None:
    assert opened(kind).status_code == 503
    assert opened(kind, first_message=True).code == 1011
