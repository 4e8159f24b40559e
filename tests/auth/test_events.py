"""What happens is told to the app, and what the app does with it changes nothing."""

import asyncio
from typing import Any

import anyio
import pytest

from fastkit.auth import AuthEvent, MemoryThrottle
from fastkit.auth._events import tell
from tests.auth.people import (
    PASSWORD,
    Clock,
    Directory,
    User,
    bearer,
    client,
    log_in,
    make_auth,
    refresh,
)

Told = list[AuthEvent[User]]


def summary(events: Told) -> list[tuple[str, str | None, str | None, str | None]]:
    return [(event.kind, event.username, event.subject, event.reason) for event in events]


def tried(http: Any, username: str = "alice", password: str = "x") -> int:  # noqa: S107
    form = {"grant_type": "password", "username": username, "password": password}
    status: int = http.post("/auth/token", data=form).status_code
    return status


def test_the_life_of_a_login_is_told() -> None:
    events, clock = Told(), Clock()
    alice = User("alice")
    http = client(make_auth(alice, on_event=events.append, clock=clock))
    first = log_in(http)
    second = refresh(http, first["refresh_token"]).json()
    clock.now += 60
    refresh(http, first["refresh_token"])
    third = log_in(http)
    http.post("/auth/logout", headers=bearer(third))
    fourth = log_in(http)
    http.post("/auth/logout?all=true", headers=bearer(fourth))
    assert summary(events) == [
        ("login", "alice", "alice", None),
        ("refresh", None, "alice", None),
        ("reuse", None, "alice", None),
        ("login", "alice", "alice", None),
        ("logout", None, "alice", None),
        ("login", "alice", "alice", None),
        ("logout", None, "alice", None),
    ]
    assert {event.address for event in events} == {"testclient"}
    assert all(event.user is alice for event in events if event.kind != "reuse")
    one, two, three, four, five, six, seven = (event.login_id for event in events)
    assert one == two == three
    assert four == five
    assert seven is None
    assert len({one, four, six}) == 3
    assert second


def test_what_fails_is_told_with_the_reason() -> None:
    events = Told()
    users = [User("alice"), User("gone", disabled=True)]
    http = client(make_auth(*users, on_event=events.append, throttle=MemoryThrottle()))
    assert tried(http) == 401
    assert tried(http, "bob") == 401
    assert tried(http, "gone", PASSWORD) == 401
    assert tried(http, "gone") == 401
    # The password was right: whoever tries stolen ones in this way is heard of, too.
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, "scope": "all"}
    assert http.post("/auth/token", data=form).status_code == 400
    for _ in range(6):
        tried(http)
    assert summary(events[:5]) == [
        ("login_failed", "alice", "alice", "wrong password"),
        ("login_failed", "bob", None, "unknown user"),
        ("login_failed", "gone", "gone", "disabled"),
        ("login_failed", "gone", "gone", "wrong password"),
        ("login_failed", "alice", "alice", "invalid scope"),
    ]
    assert summary(events[-1:]) == [("login_failed", "alice", None, "throttled")]


@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
def test_a_revocation_is_told_once(kind: str) -> None:
    events = Told()
    http = client(make_auth(on_event=events.append))
    tokens = log_in(http)
    for token in (tokens[kind], tokens[kind], "unknown"):
        http.post("/auth/revoke", data={"token": token})
    assert summary(events[1:]) == [("revoke", None, "alice", None)]
    assert events[1].login_id == events[0].login_id
    assert events[1].address == "testclient"


def test_what_the_app_does_itself_has_no_address() -> None:
    events = Told()
    auth = make_auth(on_event=events.append)
    anyio.run(auth.revoke_all, User("alice"))
    assert summary(events) == [("revoke", None, "alice", None)]
    assert (events[0].address, events[0].login_id) == (None, None)


def test_a_callback_may_be_async() -> None:
    events = Told()

    async def note(event: AuthEvent[User]) -> None:
        await asyncio.sleep(0)
        events.append(event)

    http = client(make_auth(on_event=note))
    log_in(http)
    assert summary(events) == [("login", "alice", "alice", None)]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_callback_that_raises_changes_nothing(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: AuthEvent[User]) -> None:
        raise LookupError(event.kind)

    async def fail_async(event: AuthEvent[User]) -> None:
        raise LookupError(event.kind)

    http = client(make_auth(on_event=fail_async if is_async else fail))
    tokens = log_in(http)
    assert refresh(http, tokens["refresh_token"]).status_code == 200
    assert tried(http) == 401
    assert http.post("/auth/logout", headers=bearer(tokens)).status_code == 204
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 4
    assert "LookupError: login_failed" in caplog.text
    for secret in (PASSWORD, tokens["access_token"], tokens["refresh_token"], "$2b$"):
        assert secret not in caplog.text


def test_a_callback_whose_task_was_cancelled_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def await_cancelled(event: AuthEvent[User]) -> None:
        other = asyncio.ensure_future(asyncio.sleep(60))
        other.cancel()
        await other

    http = client(make_auth(on_event=await_cancelled))
    tokens = log_in(http)
    assert refresh(http, tokens["refresh_token"]).status_code == 200
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2


@pytest.mark.anyio
async def test_a_request_that_is_cancelled_in_its_callback_ends() -> None:
    async def cancel_request(event: AuthEvent[User]) -> None:
        request = asyncio.current_task()
        assert request is not None
        request.cancel()
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(
            tell(cancel_request, AuthEvent(kind="logout", user=User("alice")))
        )


def test_no_secret_is_told() -> None:
    events, clock = Told(), Clock()
    directory = Directory([User("alice")])
    http = client(make_auth(directory=directory, on_event=events.append, clock=clock))
    tokens = log_in(http)
    again = refresh(http, tokens["refresh_token"]).json()
    clock.now += 60
    refresh(http, tokens["refresh_token"])
    tried(http, password="SENTINEL-hunter2")
    http.post("/auth/logout", headers=bearer(again))
    shown = repr(events)
    assert len(events) == 5
    for secret in (
        *(PASSWORD, "SENTINEL-hunter2", tokens["refresh_token"], tokens["access_token"]),
        *(again["refresh_token"], again["access_token"], "$2b$"),
    ):
        assert secret not in shown
