"""Whatever an HTTPException holds, its answer is one that HTTP and JSON allow."""

from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import h11
import pytest
from fastapi import FastAPI, HTTPException
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException as StarletteHTTPException

from fastkit.errors import install_exception_handlers
from tests.errors.exceptions_app import EXCEPTIONS, Color, HostileMapping, app
from tests.errors.support import Exchange, call, client, problem
from tests.support import Server, run_server

BODILESS = {204, 205, 304}


def answer_to(exc: Exception) -> Exchange:
    failing = FastAPI(openapi_url=None)
    install_exception_handlers(failing)

    @failing.get("/")
    async def fail() -> None:
        raise exc

    return call(failing)


def body_of(exc: Exception) -> dict[str, Any]:
    return problem(answer_to(exc))


def check(answer: Exchange, raised: StarletteHTTPException) -> None:
    """The answer is one that a strict server writes and a strict client reads."""
    h11.Response(status_code=answer.status_code, headers=answer.start["headers"])
    if raised.status_code not in range(200, 600):
        assert isinstance(answer.error, ValueError)
        assert problem(answer, 500)["detail"] == "Internal Server Error"
        return
    assert answer.error is None
    assert answer.status_code == raised.status_code
    if raised.status_code in BODILESS:
        assert answer.content == b""
        assert "content-type" not in answer.headers
    else:
        problem(answer, raised.status_code)


@pytest.mark.parametrize("n", range(len(EXCEPTIONS)))
def test_every_exception_has_a_valid_answer(n: int) -> None:
    check(call(app, f"/raise/{n}".encode()), EXCEPTIONS[n])
    check(call(app, f"/sync/{n}".encode()), EXCEPTIONS[n])


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_server("tests.errors.exceptions_app:app", args=["--http", request.param]) as running:
        yield running


def test_every_exception_is_answered_by_a_server(server: Server) -> None:
    address = urlsplit(server.base_url)
    with closing(HTTPConnection(str(address.hostname), address.port, timeout=30)) as connection:
        for n, raised in enumerate(EXCEPTIONS):
            connection.request("GET", f"/raise/{n}")
            response = connection.getresponse()
            content = response.read()
            valid = raised.status_code in range(200, 600)
            if not valid:
                connection.close()  # as uvicorn does after an exception
            assert response.status == (raised.status_code if valid else 500), raised
            assert (content == b"") == (raised.status_code in BODILESS), raised


text = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
objects = st.sampled_from([object(), HostileMapping(), Color.RED, len])
scalars = (
    st.booleans()
    | st.integers()
    | st.floats()
    | text
    | st.binary(max_size=20)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.timedeltas()
    | objects
)
values = st.recursive(
    st.none() | scalars,
    lambda children: (
        st.lists(children, max_size=4)
        | st.tuples(children, children)
        | st.dictionaries(text | st.integers() | st.none() | st.floats(), children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "title", "status", "detail", "instance", "errors"]), children
        )
    ),
    max_leaves=12,
).filter(lambda detail: detail is not None)  # Starlette 0.50 then wants a status with a name
names = text | st.sampled_from(
    ["Allow", "content-length", "Content-Type", "transfer-encoding", "Content-Encoding", "Vary"]
)


@given(
    status=st.integers(100, 599),
    detail=values,
    headers=st.none() | st.dictionaries(names, text, max_size=4),
    kind=st.sampled_from([HTTPException, StarletteHTTPException]),
)
def test_any_exception_has_a_valid_answer(
    status: int, detail: Any, headers: dict[str, str] | None, kind: Callable[..., Any]
) -> None:
    raised = kind(status, detail, headers)
    check(answer_to(raised), raised)


class Raising:
    """A client of an app that raises what it is given, in one thread for all of them."""

    def __init__(self) -> None:
        self.exc: Exception = RuntimeError()
        app = FastAPI(openapi_url=None)
        install_exception_handlers(app)

        @app.get("/")
        async def fail() -> None:
            raise self.exc

        self.client = client(app)


@pytest.fixture(scope="module")
def raising() -> Iterator[Raising]:
    raising = Raising()
    with raising.client:
        yield raising


# The TestClient cannot read headers of other characters; servers write them as ISO-8859-1.
ascii_or_unsendable = st.text(st.characters(max_codepoint=0x7F) | st.sampled_from("\ud800☃"))


@given(
    status=st.integers(200, 599),
    detail=values,
    headers=st.dictionaries(names, ascii_or_unsendable, max_size=4),
)
def test_any_exception_is_read_by_a_client(
    raising: Raising, status: int, detail: Any, headers: dict[str, str]
) -> None:
    raising.exc = HTTPException(status, detail, headers)
    answer = raising.client.get("/", follow_redirects=False)
    assert answer.status_code == status
    if status not in BODILESS:
        problem(answer, status)


def test_a_string_is_the_detail() -> None:
    assert body_of(HTTPException(404, "no such item")) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no such item",
    }


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (400, "Bad Request"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (418, "I'm a Teapot"),
        (422, "Unprocessable Content"),
        (499, "Client Error"),
        (599, "Server Error"),
        (299, "Error"),
    ],
)
def test_without_a_detail_the_status_is_named_as_its_rfc_does(status: int, title: str) -> None:
    body = body_of(HTTPException(status, ""))
    assert (body["title"], body["detail"]) == (title, title)


def test_a_dict_is_the_members() -> None:
    body = body_of(HTTPException(409, {"detail": "sold out", "left": 0, "color": Color.RED}))
    assert body == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "sold out",
        "left": 0,
        "color": "red",
    }


def test_a_dict_may_have_the_members_of_the_rfc_where_they_are_strings() -> None:
    members = {"type": "https://x.example/y", "title": "T", "detail": "D", "instance": "/i"}
    assert body_of(HTTPException(409, members)) == {**members, "status": 409}
    wrong: dict[str, Any] = {
        "type": 1,
        "title": None,
        "detail": ["x"],
        "instance": {},
        "status": 200,
        "more": 1,
    }
    assert body_of(HTTPException(409, wrong)) == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "Conflict",
        "more": 1,
    }


def test_a_list_is_sent_as_errors() -> None:
    body = body_of(HTTPException(422, [{"loc": ["body"], "msg": "taken"}]))
    assert body["errors"] == [{"loc": ["body"], "msg": "taken"}]
    assert body["detail"] == "Unprocessable Content"


@pytest.mark.parametrize(("detail", "sent"), [(0, "0"), (False, "False"), (b"abc", "abc")])
def test_any_other_detail_is_a_string(detail: Any, sent: str) -> None:
    assert body_of(HTTPException(400, detail))["detail"] == sent


def test_an_object_is_named_by_its_class_and_not_described() -> None:
    assert body_of(HTTPException(400, ValueError("hidden")))["detail"] == "<ValueError>"


def test_headers_are_kept() -> None:
    headers = {"WWW-Authenticate": 'Bearer realm="x"', "Retry-After": "120", "Allow": "GET"}
    answer = answer_to(HTTPException(401, headers=headers))
    for name, value in headers.items():
        assert answer.headers[name] == value
    for status in (204, 304):
        answer = answer_to(HTTPException(status, headers={"ETag": '"1"'}))
        assert answer.headers["etag"] == '"1"'


def test_a_header_cannot_split_the_response_or_describe_another_body() -> None:
    headers: dict[str, Any] = {
        "X-Split": "a\r\nSet-Cookie: b=c",
        "X-Unicode": " \N{SNOWMAN}\u00e9 ",
        "Bad Name": "x",
        "Retry-After": 5,
        "Content-Length": "1",
        "Content-Type": "text/html",
        "Content-Encoding": "gzip",
        "Transfer-Encoding": "chunked",
    }
    answer = answer_to(HTTPException(400, headers=headers))
    problem(answer, 400)
    assert sorted(answer.headers.items()) == [
        ("content-length", str(len(answer.content))),
        ("content-type", "application/problem+json"),
        ("retry-after", "5"),
        ("x-split", "a  Set-Cookie: b=c"),
        ("x-unicode", "?\u00e9"),
    ]


def test_the_router_answers_with_problems() -> None:
    routed = FastAPI()
    install_exception_handlers(routed)

    @routed.put("/items/{item_id}")
    async def put(item_id: int) -> None: ...

    assert problem(call(routed, b"/nowhere"), 404)["detail"] == "Not Found"
    answer = call(routed, b"/items/1", method="DELETE")
    assert problem(answer, 405)["title"] == "Method Not Allowed"
    assert answer.headers["allow"] == "PUT"


def test_a_slash_too_many_still_redirects() -> None:
    assert call(app, b"/raise/1/").status_code == 307


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
def test_any_method_is_answered(method: str) -> None:
    problem(call(app, b"/raise/1", method=method), 405)
