"""Keys in a header: for machines, on routes, routers and whole apps."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate
from starlette.testclient import WebSocketDenialResponse

from fastkit.auth import api_key, hash_api_key
from fastkit.errors import install_exception_handlers
from tests.errors.support import call, problem

IMPORTER = "AHN-YuNcoOBLBSVzUDns0SDsS-RPw332ZgeVs8r7uLQ"
CRON = "7XRf8Mzo1ukmWSMoQAGwM-x13Ufs8ycGHwDntRchENc"
KEYS = {"importer": hash_api_key(IMPORTER), "cron": hash_api_key(CRON)}


def make_app(keys: Any = KEYS, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    async def who(name: Annotated[str, api_key(keys, **options)]) -> str:
        return name

    return app


async def find_async(hashed: str) -> str | None:
    return find(hashed)


def find(hashed: str) -> str | None:
    return next((name for name, one in KEYS.items() if one == hashed), None)


@pytest.mark.parametrize("keys", [KEYS, find, find_async])
def test_a_key_is_let_in_by_its_name(keys: Any) -> None:
    http = TestClient(make_app(keys))
    for name, key in (("importer", IMPORTER), ("cron", CRON)):
        assert http.get("/who", headers={"X-API-Key": key}).json() == name


@pytest.mark.parametrize("keys", [KEYS, find, find_async])
@pytest.mark.parametrize(
    "key",
    [None, "", " ", IMPORTER[1:], IMPORTER + "x", KEYS["cron"], f"{CRON}, {CRON}", "x" * 9000],
)
def test_no_other_key_is_let_in(keys: Any, key: str | None) -> None:
    headers = {} if key is None else {"X-API-Key": key}
    answer = TestClient(make_app(keys)).get("/who", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'ApiKey header="X-API-Key"'
    assert answer.json() == {"detail": "A valid API key is needed."}


APP = make_app()


@given(st.binary())
def test_no_header_is_a_5xx(value: bytes) -> None:
    answer = call(APP, b"/who", headers=[(b"x-api-key", value)])
    assert answer.error is None
    assert answer.status_code == 401


def test_a_query_parameter_or_another_header_is_no_key() -> None:
    http = TestClient(make_app())
    assert http.get("/who", params={"X-API-Key": IMPORTER}).status_code == 401
    assert http.get("/who", headers={"Authorization": IMPORTER}).status_code == 401


def test_a_header_may_have_another_name() -> None:
    http = TestClient(make_app(header="X-Shop-Key"))
    assert http.get("/who", headers={"x-shop-key": IMPORTER}).json() == "importer"
    answer = http.get("/who", headers={"X-API-Key": IMPORTER})
    assert answer.headers["www-authenticate"] == 'ApiKey header="X-Shop-Key"'


@pytest.mark.parametrize("place", ["app", "router", "include", "route"])
def test_it_guards_routes_routers_and_apps(place: str) -> None:
    machines = [api_key(KEYS)]
    app = FastAPI(dependencies=machines if place == "app" else [])
    router = APIRouter(dependencies=machines if place == "router" else [])

    @router.get("/guarded", dependencies=machines if place == "route" else [])
    async def guarded() -> str:
        return "in"

    app.include_router(router, dependencies=machines if place == "include" else [])
    http = TestClient(app)
    assert http.get("/guarded").status_code == 401
    assert http.get("/guarded", headers={"X-API-Key": CRON}).json() == "in"


def test_it_guards_the_websockets_of_an_app() -> None:
    app = FastAPI(dependencies=[api_key(KEYS)])

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("in")

    http = TestClient(app)
    with http.websocket_connect("/ws", headers={"X-API-Key": CRON}) as websocket:
        assert websocket.receive_text() == "in"
    for headers in ({}, {"X-API-Key": "guess"}):
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            http.websocket_connect("/ws", headers=headers),
        ):
            pass
        assert denied.value.status_code == 401


@pytest.mark.parametrize("nobody", [False, ""])
def test_a_look_up_that_says_no_in_its_own_way_lets_nobody_in(nobody: Any) -> None:
    def find_nobody(hashed: str) -> Any:
        return nobody

    http = TestClient(make_app(find_nobody))
    assert http.get("/who", headers={"X-API-Key": CRON}).status_code == 401


def test_openapi_shows_the_header() -> None:
    app = make_app()

    @app.get("/other", dependencies=[api_key({"x": hash_api_key("x" * 20)}, header="X.Other")])
    async def other() -> None: ...

    document = app.openapi()
    validate(document)
    assert document["components"]["securitySchemes"] == {
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "X.Other": {"type": "apiKey", "in": "header", "name": "X.Other"},
    }
    assert document["paths"]["/who"]["get"]["security"] == [{"X-API-Key": []}]


def test_a_refusal_is_a_problem_where_the_app_says_so() -> None:
    app = make_app()
    install_exception_handlers(app)
    assert problem(TestClient(app).get("/who"), 401)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"importer": IMPORTER}, "'importer'"),
        ({"importer": "0f" * 32}, "'importer'"),
        ({"importer": ""}, "'importer'"),
        ({"importer": KEYS["importer"].upper()}, "'importer'"),
        ({"a": KEYS["cron"], "b": KEYS["cron"]}, "same"),
        ({}, "no API keys"),
    ],
)
def test_a_mapping_that_cannot_be_right_is_refused(keys: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        api_key(keys)
    for key in keys.values():
        assert not key or key not in str(refused.value)


@pytest.mark.parametrize("header", ["", "X API Key", "X-Key:", "X-Schlüssel", "a\r\nb"])
def test_a_header_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="header="):
        api_key(KEYS, header=header)


@pytest.mark.parametrize("keys", [IMPORTER, [IMPORTER], None])
def test_what_is_no_mapping_is_refused(keys: Any) -> None:
    with pytest.raises(TypeError, match="mapping") as refused:
        api_key(keys)
    assert IMPORTER not in str(refused.value)


@pytest.mark.parametrize("strange", ["\n", " ", "\0", "\x7f", "é", "\ud800"])
def test_a_key_that_no_header_can_carry_is_not_hashed(strange: str) -> None:
    with pytest.raises(ValueError, match="does not arrive in a header") as refused:
        hash_api_key(IMPORTER + strange)
    assert IMPORTER not in str(refused.value)


def test_of_two_keys_neither_counts() -> None:
    http = TestClient(APP)
    for other in (IMPORTER, CRON, "x"):
        pairs = [("X-API-Key", IMPORTER), ("X-API-Key", other)]
        assert http.get("/who", headers=pairs).status_code == 401


@pytest.mark.parametrize("key", ["", "hunter2", "x" * 19])
def test_a_key_that_can_be_guessed_is_not_hashed(key: str) -> None:
    with pytest.raises(ValueError, match=r"token_urlsafe") as refused:
        hash_api_key(key)
    assert not key or key not in str(refused.value)


def test_a_look_up_that_raises_is_the_apps_error() -> None:
    def fail(hashed: str) -> str | None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        TestClient(make_app(fail)).get("/who", headers={"X-API-Key": CRON})


def test_later_changes_to_a_mapping_change_nothing() -> None:
    keys = dict(KEYS)
    http = TestClient(make_app(keys))
    keys.clear()
    assert http.get("/who", headers={"X-API-Key": CRON}).json() == "cron"


def test_it_is_not_put_in_depends() -> None:
    assert "fastkit.auth" in repr(api_key(KEYS))
    assert IMPORTER not in repr(api_key(KEYS))
