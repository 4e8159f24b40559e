"""The endpoints: what the RFCs say of each answer, and that no request is answered with a 5xx."""

import asyncio
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, cast
from urllib.parse import urlencode

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI, Form, HTTPException
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Message

from fastkit.auth import (
    Auth,
    AuthEvent,
    Key,
    LoginLimits,
    MemoryThrottle,
    MemoryTokenStore,
    auth_router,
)
from fastkit.errors import install_exception_handlers
from tests.auth.forging import (
    claims_of,
    der,
    ec_key,
    ed25519_key,
    es256,
    forge,
    header_of,
    hs256,
    pem,
    private_pem,
    rsa_key,
    unsigned,
)
from tests.auth.people import (
    PASSWORD,
    SECRET,
    Clock,
    Directory,
    Free,
    User,
    bearer,
    client,
    hashed,
    log_in,
    make_app,
    make_auth,
    refresh,
)
from tests.errors.support import Exchange, exchange, http_scope, problem, refused_by_schema
from tests.support import Serve

# RFC 9110, section 11.6.1, with the parameters of RFC 6750, section 3, and their characters.
_QUOTED = r'"[\x20\x21\x23-\x5B\x5D-\x7E]*"'
CHALLENGE = re.compile(rf"Bearer realm={_QUOTED}(, (error|error_description|scope)={_QUOTED})*")

FORM = "application/x-www-form-urlencoded"
LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}


def post(http: TestClient, form: dict[str, str], path: str = "token") -> Any:
    return http.post(f"/auth/{path}", data=form)


def check_error(answer: Any, status: int, error: str) -> None:
    """An error as RFC 6749 has it (section 5.2), which nothing keeps."""
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json().keys() == {"error", "error_description"}
    assert re.fullmatch(r"[\x20\x21\x23-\x5B\x5D-\x7E]+", answer.json()["error_description"])
    assert answer.headers["content-type"] == "application/json"
    check_not_stored(answer)
    challenge = answer.headers.get("www-authenticate")
    assert (challenge is not None) == (status == 401)
    assert challenge is None or CHALLENGE.fullmatch(challenge)


def check_not_stored(answer: Any) -> None:
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"


def check_challenge(answer: Any, *, error: str | None) -> None:
    challenge = answer.headers["www-authenticate"]
    assert CHALLENGE.fullmatch(challenge), challenge
    found = re.search(r'error="(.+?)"', challenge)
    assert (found and found[1]) == error


# What is sent, and what is answered


def test_a_password_gives_both_tokens() -> None:
    http = client(make_auth(User("alice", scopes=("b", "a"))))
    answer = post(http, LOGIN)
    assert answer.status_code == 200
    check_not_stored(answer)
    body = answer.json()
    assert body.keys() == {*("access_token", "token_type", "expires_in", "refresh_token", "scope")}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("bearer", 900, "b a")
    assert http.get("/who", headers=bearer(body)).json() == "alice"


def test_multipart_is_a_form_as_well() -> None:
    http = client(make_auth())
    parts = {name: (None, value) for name, value in LOGIN.items()}
    answer = http.post("/auth/token", files=parts)
    assert answer.request.headers["content-type"].startswith("multipart/form-data")
    assert answer.status_code == 200, answer.text


def test_clients_that_introduce_themselves_are_let_through() -> None:
    # Swagger UI sends Basic with an empty name; there are no clients to know here.
    http = client(make_auth())
    form = {**LOGIN, "client_id": "app", "client_secret": "x", "unknown": "ignored", "scope": ""}
    answer = http.post("/auth/token", data=form, auth=("app", "x"))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "Password"}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "invalid_request"),
        ({**LOGIN, "username": ""}, "invalid_request"),
        ({**LOGIN, "password": ""}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({**LOGIN, "scope": 'a "b"'}, "invalid_scope"),
        ({**LOGIN, "scope": "a\\b"}, "invalid_scope"),
        ({**LOGIN, "scope": "ä"}, "invalid_scope"),
        ({**LOGIN, "scope": "a\tb"}, "invalid_scope"),
        ({**LOGIN, "scope": "items:write"}, "invalid_scope"),
        ({**LOGIN, "scope": "a items:write"}, "invalid_scope"),
    ],
)
def test_a_request_that_makes_no_sense_is_a_400(form: dict[str, str], error: str) -> None:
    check_error(post(client(make_auth(User("alice", scopes=("a",)))), form), 400, error)


@pytest.mark.parametrize("name", ["grant_type", "username", "password", "scope", "unknown"])
@pytest.mark.parametrize("multipart", [True, False])
def test_a_parameter_twice_is_a_400(name: str, multipart: bool) -> None:
    # RFC 6749, section 3.2: also those that are not known, and those with nothing in them.
    http = client(make_auth(User("alice", scopes=("a",))))
    form = {**LOGIN, "scope": "a", "unknown": "x"}
    fields = [*form.items(), (name, form[name])]
    if multipart:
        answer = http.post("/auth/token", files=[(key, (None, value)) for key, value in fields])
    else:
        content = urlencode(fields)
        answer = http.post("/auth/token", content=content, headers={"content-type": FORM})
    check_error(answer, 400, "invalid_request")
    empty = http.post(
        "/auth/token",
        content=urlencode([*form.items(), ("x", ""), ("x", "")]),
        headers={"content-type": FORM},
    )
    assert empty.status_code == 200


def test_no_login_begins_where_the_users_scopes_are_malformed() -> None:
    store = MemoryTokenStore()
    http = client(make_auth(User("alice", scopes=('a"b',)), store=store))
    assert http.post("/auth/token", data=LOGIN).status_code == 500  # the app's mistake
    assert asyncio.run(store.remove_all("alice")) == 0


def test_a_dependency_of_the_apps_may_read_the_form() -> None:
    def captcha(solution: Annotated[str, Form()]) -> None:
        if solution != "7":
            raise HTTPException(403)

    app = FastAPI()
    app.include_router(auth_router(make_auth()), dependencies=[Depends(captcha)])
    http = TestClient(app)
    assert http.post("/token", data={**LOGIN, "solution": "7"}).status_code == 200
    assert http.post("/token", data={**LOGIN, "solution": "8"}).status_code == 403
    twice = {**LOGIN, "solution": "7", "username": ["alice", "bob"]}
    assert http.post("/token", data=twice).json()["error"] == "invalid_request"


@pytest.mark.parametrize("multipart", [True, False])
@pytest.mark.parametrize(("more", "status"), [(29, 200), (30, 400)])
def test_a_form_has_32_parameters_at_most(multipart: bool, more: int, status: int) -> None:
    form = {**LOGIN, **{f"x{number}": "1" for number in range(more)}}
    http = client(make_auth())
    if multipart:
        files = {name: (None, value) for name, value in form.items()}
        answer = http.post("/auth/token", files=files)
    else:
        answer = http.post("/auth/token", data=form)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b"grant_type=password"),
        ("application/json", json.dumps(LOGIN).encode()),
        ("text/plain", b"grant_type=password"),
        (FORM, b"\xff\xfe=\x00&=&&;%zz"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--",
        ),
        (
            "multipart/form-data; boundary=x; charset=undefined",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nb\r\n--x--',
        ),
        (FORM, b"&".join(b"%d=%d" % (n, n) for n in range(40))),
    ],
)
def test_a_body_that_is_no_form_is_a_400(content_type: str | None, body: bytes) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    http = client(make_auth())
    for path in ("token", "revoke"):
        check_error(
            http.post(f"/auth/{path}", content=body, headers=headers), 400, "invalid_request"
        )


@pytest.mark.parametrize("size", [65_537, 1_000_000, 5_000_000])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_long_body_is_not_read_to_its_end(size: int, chunked: bool) -> None:
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        assert taken < 65_537 + 10_000
        part = b"x" * min(10_000, size - taken)
        taken += len(part)
        return {"type": "http.request", "body": part, "more_body": taken < size}

    headers = [(b"content-type", FORM.encode())]
    if not chunked:
        headers.append((b"content-length", str(size).encode()))
    asked = Exchange()

    async def send(message: Message) -> None:
        asked.sent.append(message)

    app = make_app(make_auth())
    scope = http_scope("POST", b"/auth/token", headers=headers)
    anyio.run(app, scope, receive, send)
    assert asked.status_code == 400
    assert json.loads(asked.content)["error"] == "invalid_request"


def test_a_server_answers_a_long_body_and_goes_on(serve: Serve) -> None:
    server = serve("tests.auth.served:app")
    form = {**LOGIN, "password": "x" * 1_000_000}
    with httpx.Client(base_url=server.base_url) as http:
        for _ in range(3):
            answer = http.post("/auth/token", data=form)
            check_error(answer, 400, "invalid_request")
        assert http.post("/auth/token", data=LOGIN).status_code == 200
    assert "Traceback" not in server.log


@pytest.mark.parametrize("install", [True, False])
def test_a_client_that_leaves_before_the_end_of_its_form_is_no_error(install: bool) -> None:
    app = make_app(make_auth())
    if install:
        install_exception_handlers(app)
    received: list[Message] = [
        {"type": "http.request", "body": b"grant_type=", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = http_scope("POST", b"/auth/token", headers=[(b"content-type", FORM.encode())])
    asked = anyio.run(Exchange(received).run, app, scope)
    assert not isinstance(asked.error, ClientDisconnect)
    assert asked.error is None


def test_only_post_gives_tokens() -> None:
    http = client(make_auth())
    for method in ("GET", "PUT", "DELETE"):
        answer = http.request(method, "/auth/token", params=LOGIN)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    # Not in the URL either (RFC 6749, section 2.3.1).
    check_error(http.post("/auth/token", params=LOGIN), 400, "invalid_request")


# Passwords


@pytest.mark.parametrize(
    "username",
    ["bob", "ALICE", "alice ", "alice\0", "a" * 1001, "\u202ealice", "' OR 1=1 --", "\udcff"],
)
def test_another_name_is_nobodys(username: str) -> None:
    directory = Directory([User("alice")])
    http = client(make_auth(directory=directory))
    content = _urlencoded({**LOGIN, "username": username})
    answer = http.post("/auth/token", content=content, headers={"content-type": FORM})
    check_error(answer, 401, "invalid_grant")


def _urlencoded(form: dict[str, str]) -> bytes:
    parts: list[bytes] = []
    for name, value in form.items():
        raw = value.encode(errors="surrogatepass")
        parts.append(name.encode() + b"=" + b"".join(b"%%%02x" % byte for byte in raw))
    return b"&".join(parts)


# A codec that makes lone surrogates of what is sent: multipart may name one.
SURROGATE = (
    b'--x\r\nContent-Disposition: form-data; name="grant_type"\r\n\r\npassword\r\n'
    b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n\\ud800\r\n'
    b'--x\r\nContent-Disposition: form-data; name="password"\r\n\r\n\\ud800\r\n--x--\r\n'
)


@pytest.mark.parametrize("kind", ["surrogate", "nul", "long"])
def test_a_name_that_nobody_can_have_is_not_looked_for(kind: str) -> None:
    directory, events = Directory([User("alice")]), list[AuthEvent[User]]()
    throttle = Free()
    http = client(make_auth(directory=directory, on_event=events.append, throttle=throttle))
    if kind == "surrogate":
        content, content_type = (
            SURROGATE,
            "multipart/form-data; boundary=x; charset=unicode_escape",
        )
    else:
        name = {"nul": "a\0b", "long": "a" * 1001}[kind]
        content, content_type = _urlencoded({**LOGIN, "username": name}), FORM
    answer = http.post("/auth/token", content=content, headers={"content-type": content_type})
    check_error(answer, 401, "invalid_grant")
    assert directory.asked == []
    assert throttle.hits == [("", "testclient")]
    assert [(event.kind, event.username, event.reason) for event in events] == [
        ("login_failed", None, "unknown user")
    ]


@pytest.mark.parametrize(
    "password",
    [
        "wrong",
        PASSWORD + "x",
        PASSWORD[:-1],
        "\0",
        PASSWORD + "\0",
        "x" * 73,
        "é" * 60,
        "x" * 60_000,
    ],
)
def test_another_password_is_wrong(password: str) -> None:
    http = client(make_auth())
    check_error(
        http.post(
            "/auth/token",
            content=_urlencoded({**LOGIN, "password": password[:20_000]}),
            headers={"content-type": FORM},
        ),
        401,
        "invalid_grant",
    )


def test_a_name_or_password_of_any_script_is_good() -> None:
    password = "пароль 密码 🔑 +&=%"
    user = User("Ünïcode 用户+&=%", hashed(password))
    http = client(make_auth(user))
    assert log_in(http, user.username, password=password)["access_token"]
    parts = {**LOGIN, "username": user.username, "password": password}
    answer = http.post("/auth/token", files={key: (None, value) for key, value in parts.items()})
    assert answer.status_code == 200


def test_too_many_attempts_are_a_429_that_says_how_long() -> None:
    http = client(make_auth(throttle=MemoryThrottle()))
    wrong = {**LOGIN, "password": "wrong"}
    for _ in range(5):
        check_error(post(http, wrong), 401, "invalid_grant")
    for form in (wrong, LOGIN):
        answer = post(http, form)
        check_error(answer, 429, "temporarily_unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 600
    assert log_in(client(make_auth(User("bob"))), "bob")


def test_no_header_gives_a_guesser_another_address() -> None:
    http = client(make_auth(throttle=MemoryThrottle()))
    wrong = {**LOGIN, "password": "wrong"}
    statuses: list[int] = []
    for number in range(6):
        address = f"192.0.2.{number}"
        headers = {
            "X-Forwarded-For": address,
            "X-Real-IP": address,
            "Forwarded": f"for={address}",
        }
        statuses.append(http.post("/auth/token", data=wrong, headers=headers).status_code)
    assert statuses == [401] * 5 + [429]


class Stuck:
    """A hasher that does not come to an end before it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def hash(self, password: str, /) -> str:
        return "x"

    def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]:
        self.may_end.wait(30)
        return True, None


@pytest.mark.anyio
async def test_too_many_logins_at_once_are_a_503_that_says_how_long() -> None:
    hasher, events = Stuck(), list[AuthEvent[User]]()
    app = make_app(make_auth(hasher=hasher, on_event=events.append))
    body = _urlencoded(LOGIN)
    headers = [(b"content-type", FORM.encode())]

    async def ask() -> Exchange:
        return await exchange(app, b"/auth/token", method="POST", headers=headers, body=body)

    waiting = [asyncio.create_task(ask()) for _ in range(300)]
    refused, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    hasher.may_end.set()
    await asyncio.wait(waiting)
    for answer in (task.result() for task in refused):
        assert answer.status_code == 503
        assert json.loads(answer.content)["error"] == "temporarily_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        check_not_stored(answer)
    statuses = Counter(task.result().status_code for task in waiting)
    assert statuses.keys() == {200, 503}
    assert statuses[200] >= 100
    failed = [event.reason for event in events if event.kind == "login_failed"]
    assert failed == ["busy"] * statuses[503]


def test_a_right_password_takes_the_attempt_back() -> None:
    throttle = Free()
    http = client(make_auth(throttle=throttle))
    check_error(post(http, {**LOGIN, "password": "wrong"}), 401, "invalid_grant")
    assert throttle.cleared == []
    log_in(http)
    assert throttle.hits == [("alice", "testclient")] * 2
    assert throttle.cleared == [("alice", "testclient")]


def test_a_right_password_that_asks_for_too_much_is_no_attempt() -> None:
    limits = LoginLimits(account_at_address=(2, 600), address=(3, 600), account=(3, 600))
    http = client(make_auth(throttle=MemoryThrottle(limits=limits)))
    for _ in range(5):
        check_error(post(http, {**LOGIN, "scope": "all"}), 400, "invalid_scope")
    log_in(http)


def test_asking_for_too_much_gives_a_guesser_no_attempts_at_others() -> None:
    limits = LoginLimits(account_at_address=(5, 600), address=(4, 600), account=(5, 600))
    users = [User("alice"), User("mallory"), User("gone", disabled=True)]
    http = client(make_auth(*users, throttle=MemoryThrottle(limits=limits)))
    own = {**LOGIN, "username": "mallory", "scope": "all"}
    for guess in (*["alice"] * 2, *["gone"] * 2):
        form = {**LOGIN, "username": guess, "scope": "all"}
        # Who is disabled has the same answer with the right password: it counts as a wrong one.
        wrong = form if guess == "gone" else {**form, "password": "wrong"}
        check_error(post(http, own), 400, "invalid_scope")
        check_error(post(http, wrong), 401, "invalid_grant")
    check_error(post(http, own), 429, "temporarily_unavailable")


# Scopes


def test_a_login_may_ask_for_less_than_there_is() -> None:
    http = client(make_auth(User("alice", scopes=("a", "b", "items:write"))))
    tokens = log_in(http, scope="b  a b")
    assert tokens["scope"] == "b a"
    denied = http.get("/write", headers=bearer(tokens))
    assert denied.status_code == 403
    check_challenge(denied, error="insufficient_scope")
    assert 'scope="items:write"' in denied.headers["www-authenticate"]
    assert http.get("/write", headers=bearer(log_in(http))).status_code == 200


def test_a_refresh_can_only_narrow() -> None:
    http = client(make_auth(User("alice", scopes=("a", "b", "items:write"))))
    tokens = log_in(http, scope="a b")
    check_error(refresh(http, tokens["refresh_token"], scope="a c"), 400, "invalid_scope")
    check_error(refresh(http, tokens["refresh_token"], scope="items:write"), 400, "invalid_scope")
    narrowed = refresh(http, tokens["refresh_token"], scope="a").json()
    assert narrowed["scope"] == "a"
    assert http.get("/auth/me", headers=bearer(narrowed)).json()["scopes"] == ["a"]
    # Section 6: the scope of the new refresh token is that of the old one.
    assert refresh(http, narrowed["refresh_token"]).json()["scope"] == "a b"


def test_what_a_user_may_no_longer_do_no_token_is_good_for() -> None:
    directory = Directory([User("alice", scopes=("a", "items:write"))])
    http = client(make_auth(directory=directory))
    tokens = log_in(http)
    assert http.get("/write", headers=bearer(tokens)).status_code == 200
    directory.users["alice"] = User("alice", scopes=("a", "admin"))
    assert http.get("/write", headers=bearer(tokens)).status_code == 403
    assert http.get("/auth/me", headers=bearer(tokens)).json()["scopes"] == ["a"]
    assert refresh(http, tokens["refresh_token"]).json()["scope"] == "a"


# Refresh, revocation, logout


def test_a_refresh_gives_a_new_pair() -> None:
    clock = Clock()
    http = client(make_auth(clock=clock))
    first = log_in(http)
    clock.now += 100
    answer = refresh(http, first["refresh_token"])
    assert answer.status_code == 200
    check_not_stored(answer)
    second = answer.json()
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert http.get("/who", headers=bearer(second)).json() == "alice"
    # In the grace, the same again, for a second tab.
    assert refresh(http, first["refresh_token"]).json()["refresh_token"] == second["refresh_token"]


def test_a_replayed_token_ends_the_login() -> None:
    clock = Clock()
    http = client(make_auth(clock=clock))
    first = log_in(http)
    second = refresh(http, first["refresh_token"]).json()
    clock.now += 11
    check_error(refresh(http, first["refresh_token"]), 401, "invalid_grant")
    check_error(refresh(http, second["refresh_token"]), 401, "invalid_grant")


def test_a_thief_who_refreshes_first_is_found_out_by_the_victim() -> None:
    clock = Clock()
    http = client(make_auth(clock=clock))
    stolen = log_in(http)["refresh_token"]
    thief = refresh(http, stolen).json()["refresh_token"]
    clock.now += 3600
    thief = refresh(http, thief).json()["refresh_token"]
    check_error(refresh(http, stolen), 401, "invalid_grant")
    check_error(refresh(http, thief), 401, "invalid_grant")


def test_a_login_that_ends_while_it_is_refreshed_has_ended() -> None:
    store, events = MemoryTokenStore(), list[AuthEvent[User]]()

    async def find_and_end(username: str) -> User:
        await store.remove_all("alice")  # by another request, in that moment
        return User("alice")

    http = client(make_auth(get_user=find_and_end, store=store, on_event=events.append))
    tokens = log_in(http)
    check_error(refresh(http, tokens["refresh_token"]), 401, "invalid_grant")
    assert [event.kind for event in events] == ["login"]


@pytest.mark.parametrize("token", ["", "x", "A" * 92, "é" * 92, "\udcff", "a.b.c", "x" * 60_000])
def test_a_forged_refresh_token_is_a_4xx(token: str) -> None:
    http = client(make_auth())
    form = {"grant_type": "refresh_token", "refresh_token": token}
    answer = http.post(
        "/auth/token", content=_urlencoded(form)[:60_000], headers={"content-type": FORM}
    )
    if token:
        check_error(answer, 401, "invalid_grant")
    else:
        check_error(answer, 400, "invalid_request")


def test_no_token_is_good_in_place_of_the_other() -> None:
    http = client(make_auth())
    tokens = log_in(http)
    check_error(refresh(http, tokens["access_token"]), 401, "invalid_grant")
    wrong = http.get("/who", headers=bearer(tokens["refresh_token"]))
    assert wrong.status_code == 401
    check_challenge(wrong, error="invalid_token")


def test_tokens_expire() -> None:
    clock = Clock()
    auth = make_auth(
        clock=clock,
        access_lifetime=timedelta(minutes=1),
        refresh_lifetime=timedelta(hours=1),
    )
    http = client(auth)
    tokens = log_in(http)
    assert tokens["expires_in"] == 60
    clock.now += 62
    assert http.get("/who", headers=bearer(tokens)).status_code == 401
    clock.now += 3600
    check_error(refresh(http, tokens["refresh_token"]), 401, "invalid_grant")


@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
def test_revocation_ends_the_login_of_either_token(kind: str) -> None:
    # RFC 7009, sections 2.1 and 2.2.
    http = client(make_auth())
    tokens, other = log_in(http), log_in(http)
    for hint in ({"token_type_hint": "refresh_token"}, {"token_type_hint": "nonsense"}, {}):
        answer = post(http, {"token": tokens[kind], **hint}, "revoke")
        assert (answer.status_code, answer.content) == (200, b"")
        check_not_stored(answer)
        check_error(refresh(http, tokens["refresh_token"]), 401, "invalid_grant")
    assert refresh(http, other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("token", ["x", "a.b.c", "A" * 92])
def test_revocation_of_what_is_no_token_is_a_200(token: str) -> None:
    assert post(client(make_auth()), {"token": token}, "revoke").status_code == 200


def test_revocation_without_a_token_is_a_400() -> None:
    http = client(make_auth())
    check_error(post(http, {"token_type_hint": "access_token"}, "revoke"), 400, "invalid_request")


def test_logout_ends_this_login_alone() -> None:
    http = client(make_auth())
    tokens, other = log_in(http), log_in(http)
    answer = http.post("/auth/logout", headers=bearer(tokens))
    assert (answer.status_code, answer.content) == (204, b"")
    check_error(refresh(http, tokens["refresh_token"]), 401, "invalid_grant")
    assert refresh(http, other["refresh_token"]).status_code == 200
    # Until it expires: 15 minutes at most.
    assert http.get("/who", headers=bearer(tokens)).status_code == 200
    assert http.post("/auth/logout", headers=bearer(tokens)).status_code == 204


def test_logout_of_all_ends_all_of_the_users() -> None:
    http = client(make_auth(User("alice"), User("bob")))
    mine, others = [log_in(http) for _ in range(3)], log_in(http, "bob")
    assert http.post("/auth/logout?all=true", headers=bearer(mine[1])).status_code == 204
    for tokens in mine:
        check_error(refresh(http, tokens["refresh_token"]), 401, "invalid_grant")
    assert refresh(http, others["refresh_token"]).status_code == 200


def test_logout_ends_access_at_once_where_each_request_asks() -> None:
    http = client(make_auth(revoke_access_at_once=True))
    tokens, other = log_in(http), log_in(http)
    assert http.get("/who", headers=bearer(tokens)).status_code == 200
    http.post("/auth/logout", headers=bearer(tokens))
    gone = http.get("/who", headers=bearer(tokens))
    assert gone.status_code == 401
    check_challenge(gone, error="invalid_token")
    assert http.get("/who", headers=bearer(other)).status_code == 200
    assert http.post("/auth/logout", headers=bearer(tokens)).status_code == 401


def test_access_ends_with_the_login_where_each_request_asks() -> None:
    clock = Clock()
    auth = make_auth(clock=clock, refresh_lifetime=timedelta(minutes=1), revoke_access_at_once=True)
    http = client(auth)
    tokens = log_in(http)
    clock.now += 61
    assert http.get("/who", headers=bearer(tokens)).status_code == 401


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout?all=true"])
def test_nobody_logs_out(path: str) -> None:
    answer = client(make_auth()).post(path)
    assert answer.status_code == 401
    check_challenge(answer, error=None)


# The bearer token


@pytest.mark.parametrize(
    ("header", "who", "maybe"),
    [
        (None, 401, 200),
        ("", 401, 200),
        ("Basic YWxpY2U6eA==", 401, 200),
        ("Bearer", 401, 401),
        ("Bearer ", 401, 401),
        ("bearer {}", 200, 200),
        ("BEARER  {} ", 200, 200),
        ("Bearer {}x", 401, 401),
        ("Bearer\t{}", 401, 200),
        ("Token {}", 401, 200),
        ("{}", 401, 200),
        ("Bearer {}, Bearer {}", 401, 401),
        ("Bearer {} {}", 401, 401),
    ],
)
def test_the_authorization_header(header: str | None, who: int, maybe: int) -> None:
    http = client(make_auth())
    token = log_in(http)["access_token"]
    headers = {} if header is None else {"Authorization": header.replace("{}", token)}
    asked, optional = http.get("/who", headers=headers), http.get("/maybe", headers=headers)
    assert (asked.status_code, optional.status_code) == (who, maybe)
    if who == 401:
        check_challenge(asked, error=None if maybe == 200 else "invalid_token")
        assert asked.json() == {
            "detail": "Not authenticated." if maybe == 200 else "The access token is not valid."
        }
    if maybe == 200:
        assert optional.json() == ("alice" if who == 200 else None)


def forgeries(token: str, pair: Key) -> dict[str, str]:
    """Of a token by SECRET's key; `pair` is another key of the same auth."""
    public = pem(ec_key().public_key())
    good, kid = hs256(SECRET), header_of(token)["kid"]
    expired = claims_of(token)["exp"] - 10_000
    return {
        "alg none": forge(token, unsigned, alg="none"),
        "HS512": forge(token, hs256(SECRET, "sha512"), alg="HS512"),
        "a public PEM as the secret": forge(token, hs256(public), kid=pair.kid),
        "a public DER as the secret": forge(token, hs256(der(ec_key().public_key())), kid=pair.kid),
        "a public JWK as the secret": forge(
            token, hs256(json.dumps(pair.public_jwk)), kid=pair.kid
        ),
        "another kid's key": forge(token, es256(ec_key()), alg="ES256", kid=kid),
        "an unknown kid": forge(token, good, kid="unknown"),
        "jku": forge(token, good, jku="https://evil.example/jwks.json"),
        "crit": forge(token, good, crit=["exp"]),
        "another purpose": forge(token, good, typ="JWT"),
        **{f"no {claim}": forge(token, good, without=[claim]) for claim in claims_of(token)},
        "a list of audiences": forge(token, good, claims={"aud": ["fastkit"]}),
        "a part of the audience": forge(token, good, claims={"aud": "fast"}),
        "another issuer": forge(token, good, claims={"iss": "fastkit2"}),
        "expired": forge(token, good, claims={"exp": expired}),
        "another password": forge(token, good, claims={"stp": "0" * 32}),
        "another user": forge(token, good, claims={"sub": "bob"}),
    }


def test_a_forgery_is_a_401_with_a_challenge() -> None:
    pair = Key.from_pem(private_pem(ec_key()))
    http = client(make_auth(secret=None, keys=[Key(SECRET), pair]))
    token = log_in(http)["access_token"]
    assert http.get("/who", headers=bearer(forge(token, hs256(SECRET)))).status_code == 200
    for forged in forgeries(token, pair).values():
        answer = http.get("/who", headers=bearer(forged))
        assert answer.status_code == 401
        check_challenge(answer, error="invalid_token")


def test_the_log_says_why_a_token_was_refused_and_the_answer_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    http = client(make_auth())
    token = log_in(http)["access_token"]
    with caplog.at_level(logging.DEBUG, "fastkit.auth"):
        answer = http.get("/who", headers=bearer(token[:-2] + "xx"))
    assert "signature" in caplog.text
    assert "signature" not in answer.text + answer.headers["WWW-Authenticate"]
    assert token[:-2] not in caplog.text


def test_two_authorization_headers_are_none() -> None:
    http = client(make_auth())
    token = log_in(http)["access_token"]
    for other in (f"Bearer {token}", "Basic x"):
        answer = http.get(
            "/maybe", headers=[("Authorization", f"Bearer {token}"), ("Authorization", other)]
        )
        assert answer.status_code == 401


SHARED = make_auth(User("alice", scopes=("items:write",)))
APP = make_app(SHARED)
TOKEN = log_in(TestClient(APP))["access_token"]


def check_no_5xx(app: FastAPI, **asked: Any) -> Exchange:
    async def run() -> Exchange:
        return await exchange(app, **asked)

    answer = anyio.run(run)
    assert answer.error is None
    assert answer.status_code < 500
    return answer


@example(b"Bearer " + TOKEN.encode() + b"\xff")
@example(b"Bearer \x00\r\nX: y")
@example(b"Bearer a.b.c")
@example(b"Bearer " + b"." * 70_000)
@given(st.one_of(st.binary(), st.binary().map(lambda tail: b"Bearer " + tail)))
@settings(max_examples=200)
def test_no_authorization_header_is_a_5xx(value: bytes) -> None:
    for path in (b"/who", b"/maybe", b"/write", b"/auth/me"):
        answer = check_no_5xx(APP, target=path, headers=[(b"authorization", value)])
        if path != b"/maybe":
            assert answer.status_code == 401
            assert CHALLENGE.fullmatch(answer.headers["www-authenticate"])


@given(st.data())
@settings(max_examples=200)
def test_no_changed_token_is_good(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(TOKEN) - 1))
    character = data.draw(st.characters(max_codepoint=255).filter(lambda c: c != TOKEN[at]))
    changed = (TOKEN[:at] + character + TOKEN[at + 1 :]).encode("latin-1")
    answer = check_no_5xx(APP, target=b"/who", headers=[(b"authorization", b"Bearer " + changed)])
    if changed.strip(b" ") != TOKEN.encode():
        assert answer.status_code == 401
        check_challenge(answer, error="invalid_token")


names = st.sampled_from(["grant_type", "username", "password", "refresh_token", "scope", "token"])
values = st.one_of(
    st.sampled_from(["password", "refresh_token", "alice", PASSWORD, "items:write", "", "\0"]),
    st.text(st.characters(codec=None), max_size=40),
)
charsets = st.sampled_from(
    ["utf-8", "utf-7", "utf-16", "unicode_escape", "raw_unicode_escape", "idna", "zlib", "", "x"]
)


@given(st.lists(st.tuples(names, values), max_size=6), st.booleans(), charsets)
@settings(max_examples=300)
def test_no_form_is_a_5xx(fields: list[tuple[str, str]], multipart: bool, charset: str) -> None:
    raw = [(name.encode(), value.encode(errors="surrogatepass")) for name, value in fields]
    if multipart:
        content_type = f"multipart/form-data; boundary=x; charset={charset}"
        parts = [
            b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair for pair in raw
        ]
        body = b"".join([*parts, b"--x--\r\n"])
    else:
        content_type = f"{FORM}; charset={charset}"
        quoted = [(name, b"".join(b"%%%02x" % byte for byte in value)) for name, value in raw]
        body = b"&".join(b"%s=%s" % pair for pair in quoted)
    check_form(content_type.encode(), body)


@given(
    st.sampled_from([FORM.encode(), b"multipart/form-data; boundary=x", b"multipart/form-data"]),
    st.binary(max_size=300),
)
@settings(max_examples=300)
def test_no_body_is_a_5xx(content_type: bytes, body: bytes) -> None:
    check_form(content_type, body)


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_no_content_type_is_a_5xx(content_type: bytes) -> None:
    for head in (b"", FORM.encode(), b"multipart/form-data; boundary="):
        check_form(head + content_type, b"--x\r\n\r\n--x--")


def check_form(content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type)]
    for path in (b"/auth/token", b"/auth/revoke"):
        answer = check_no_5xx(APP, method="POST", target=path, headers=headers, body=body)
        assert answer.status_code in (200, 400, 401)
        check_not_stored(answer)
        if answer.status_code != 200:
            assert json.loads(answer.content).keys() == {"error", "error_description"}


def test_what_is_sent_is_in_no_header() -> None:
    sentinel = "SENTINEL-hunter2"
    http = client(make_auth())
    answers: list[Any] = [
        http.get("/who", headers={"Authorization": f"Bearer {sentinel}"}),
        post(http, {"grant_type": sentinel}),
        post(http, {**LOGIN, "username": sentinel, "password": sentinel}),
        post(http, {**LOGIN, "scope": sentinel}),
        post(http, {sentinel: "x", "grant_type": "refresh_token", "refresh_token": sentinel}),
    ]
    for answer in answers:
        assert answer.is_client_error
        assert sentinel not in str(answer.headers) + answer.text


# /me and the keys


class Shown(BaseModel):
    username: str
    disabled: bool


def test_me_is_what_a_model_shows() -> None:
    auth = make_auth(User("alice", scopes=("a",)))
    app = FastAPI()
    app.include_router(auth_router(auth, user_model=Shown), prefix="/auth")
    http = TestClient(app)
    tokens = log_in(http)
    assert http.get("/auth/me", headers=bearer(tokens)).json() == {
        "username": "alice",
        "disabled": False,
    }
    schema = app.openapi()["paths"]["/auth/me"]["get"]["responses"]["200"]["content"]
    assert schema["application/json"]["schema"] == {"$ref": "#/components/schemas/Shown"}


def test_me_without_a_model_shows_nothing_of_the_user() -> None:
    http = client(make_auth(User("alice", scopes=("b", "a"))))
    answer = http.get("/auth/me", headers=bearer(log_in(http)))
    assert answer.json() == {"sub": "alice", "scopes": ["a", "b"]}
    check_challenge(http.get("/auth/me"), error=None)


def test_the_public_keys_are_shown_where_there_are_any() -> None:
    assert client(make_auth()).get("/auth/jwks.json").status_code == 404
    auth = make_auth(secret=None, keys=[Key.from_pem(private_pem(rsa_key())), Key(SECRET)])
    http = client(auth)
    jwks = http.get("/auth/jwks.json").json()
    (key,) = jwks["keys"]
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    assert not {"d", "p", "q", "k"} & key.keys()
    assert http.get("/who", headers=bearer(log_in(http))).json() == "alice"


def test_keys_are_changed_while_tokens_live() -> None:
    old, new = Key("a-very-old-random-secret-0gdBJVySxP1"), Key(SECRET)
    store = MemoryTokenStore()

    def deployed(*keys: Key) -> TestClient:
        return client(make_auth(secret=None, keys=keys, store=store))

    steps = [deployed(*keys) for keys in ((old,), (old, new), (new, old), (new,))]
    logins = [log_in(http) for http in steps]
    assert [header_of(login["access_token"])["kid"] for login in logins] == [
        *[old.kid] * 2,
        *[new.kid] * 2,
    ]
    # While one step replaces another, each takes the tokens of both.
    for one, other in pairwise(range(3)):
        for http in (steps[one], steps[other]):
            for login in (logins[one], logins[other]):
                assert http.get("/who", headers=bearer(login)).status_code == 200
    # Without the first step, the processes that know the old key alone would refuse the new ones'.
    assert steps[0].get("/who", headers=bearer(logins[2])).status_code == 401
    # The last step ends what is still of the old key, and a login that was refreshed is not.
    renewed = refresh(steps[2], logins[0]["refresh_token"]).json()
    assert steps[3].get("/who", headers=bearer(logins[0])).status_code == 401
    assert steps[3].get("/who", headers=bearer(renewed)).status_code == 200
    assert refresh(steps[3], renewed["refresh_token"]).status_code == 200
    check_error(refresh(steps[3], logins[1]["refresh_token"]), 401, "invalid_grant")


def test_others_know_the_next_key_before_it_signs() -> None:
    old, new = Key.from_pem(private_pem(ed25519_key())), Key.from_pem(private_pem(ec_key()))
    http = client(make_auth(secret=None, keys=[old, new]))
    listed = [key["kid"] for key in http.get("/auth/jwks.json").json()["keys"]]
    assert listed == [old.kid, new.kid]
    assert header_of(log_in(http)["access_token"])["kid"] == old.kid


# OpenAPI is what is sent


@pytest.mark.parametrize("install", [True, False])
def test_openapi_tells_of_each_answer(install: bool) -> None:
    app = make_app(make_auth(User("alice", scopes=("items:write",)), throttle=MemoryThrottle()))
    if install:
        install_exception_handlers(app)
    http = TestClient(app)
    document = http.get("/openapi.json").json()
    validate(document)
    assert document["paths"].keys() == {
        *("/auth/token", "/auth/revoke", "/auth/logout", "/auth/me", "/who", "/maybe", "/write")
    }
    assert document["paths"]["/auth/token"].keys() == {"post"}
    tokens = log_in(http)
    answers: list[tuple[str, str, Callable[[], Any]]] = [
        ("/auth/token", "post", lambda: post(http, LOGIN)),
        ("/auth/token", "post", lambda: post(http, {})),
        *[("/auth/token", "post", lambda: post(http, {**LOGIN, "password": "x"}))] * 7,
        ("/auth/revoke", "post", lambda: post(http, {}, "revoke")),
        ("/auth/me", "get", lambda: http.get("/auth/me", headers=bearer(tokens))),
        *[
            (path, method, lambda path=path, method=method: http.request(method, path))
            for path, method in {
                "/auth/me": "get",
                "/auth/logout": "post",
                "/who": "get",
                "/write": "get",
            }.items()
            if install
        ],
        (
            "/auth/logout",
            "post",
            lambda: http.post("/auth/logout?all=what", headers=bearer(tokens)),
        ),
    ]
    statuses: set[int] = set()
    for path, method, ask in answers:
        answer = ask()
        statuses.add(answer.status_code)
        assert refused_by_schema(document, answer, path=path, method=method) == [], answer.text
    assert statuses == {200, 400, 401, 422, 429}
    for path, sent in (
        ("/auth/logout", http.post("/auth/logout", headers=bearer(tokens))),
        ("/auth/revoke", post(http, {"token": "x"}, "revoke")),
    ):
        declared = document["paths"][path]["post"]["responses"][str(sent.status_code)]
        assert sent.content == b""
        assert "content" not in declared


def test_errors_of_dependencies_are_problems_where_the_app_says_so() -> None:
    app = make_app(make_auth())
    install_exception_handlers(app)
    http = TestClient(app)
    unknown = http.get("/who")
    assert problem(unknown, 401)["detail"] == "Not authenticated."
    check_challenge(unknown, error=None)
    denied = http.get("/write", headers=bearer(log_in(http)))
    assert problem(denied, 403)
    check_challenge(denied, error="insufficient_scope")


# What is refused when it is made


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "secret"),
    ({"secret": SECRET, "keys": [Key(SECRET)]}, "secret"),
    ({"keys": []}, "no keys"),
    ({"secret": "short"}, "32"),
    ({"secret": b""}, "32"),
    ({"secret": "a" * 64}, "repeats"),
    ({"secret": "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"}, "example"),
    ({"secret": SECRET, "access_lifetime": timedelta(0)}, "access_lifetime"),
    ({"secret": SECRET, "access_lifetime": timedelta(seconds=-1)}, "access_lifetime"),
    ({"secret": SECRET, "refresh_lifetime": timedelta(0)}, "refresh_lifetime"),
    ({"secret": SECRET, "grace": timedelta(seconds=-1)}, "grace"),
    ({"secret": SECRET, "issuer": ""}, "issuer"),
    ({"secret": SECRET, "issuer": 'a"b'}, "issuer"),
    ({"secret": SECRET, "issuer": "a\nb"}, "issuer"),
    ({"secret": SECRET, "audience": "ä"}, "audience"),
    ({"secret": SECRET, "subject": str}, "get_user_by_subject"),
    ({"secret": SECRET, "get_user_by_subject": Directory().find}, "subject="),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_what_cannot_be_right_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        Auth(get_user=Directory().find, **options)
    said = str(refused.value)
    assert "\n" not in said
    assert len(said) < 300
    for secret in (options.get("secret"), SECRET):
        assert not secret or str(secret) not in said or len(secret) < 6


MISTYPED: list[tuple[dict[str, Any], str]] = [
    ({"get_user": "alice"}, "get_user="),
    ({"get_user": None}, "get_user="),
    ({"disabled": False}, "disabled="),
    ({"scopes": ["a"]}, "scopes="),
    ({"hashed_password": "hash"}, "hashed_password="),
    ({"save_password_hash": 7}, "save_password_hash="),
    ({"access_lifetime": 900}, "access_lifetime="),
    ({"grace": 1.5}, "grace="),
    ({"secret": 7}, "secret"),
    ({"secret": None, "keys": [SECRET]}, "Key(secret)"),
]


@pytest.mark.parametrize(("options", "words"), MISTYPED)
def test_what_is_of_another_type_is_refused(options: dict[str, Any], words: str) -> None:
    given_options: dict[str, Any] = {"secret": SECRET, "get_user": Directory().find, **options}
    with pytest.raises(TypeError, match=re.escape(words)) as refused:
        Auth(**given_options)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("scopes", [(), ("a b",), ('a"',), ("",), ("ä",), ("a\n",)])
def test_scopes_that_no_token_holds_are_refused(scopes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="scope"):
        make_auth().require(*scopes)


def test_the_secret_is_in_no_repr() -> None:
    auth = make_auth()
    shown = repr([auth, vars(auth), auth.current_user, auth.require("a")])
    assert SECRET not in shown


def test_a_ready_dependency_is_not_put_in_depends() -> None:
    app, given = FastAPI(), cast("Any", make_auth().current_user)
    with pytest.raises((AssertionError, TypeError), match=r"fastkit\.auth"):

        @app.get("/")
        async def root(
            user: Annotated[User, Depends(given)],
        ) -> None: ...
