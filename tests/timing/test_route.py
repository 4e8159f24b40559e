"""The route label: the full template of the route which answered, on each supported FastAPI."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastapi.routing
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastkit._route import route_template
from fastkit.timing import RequestRecord, TimingMiddleware

# Since 0.137 FastAPI keeps an included router instead of copying its routes, mounts too.
KEEPS_ROUTERS = hasattr(fastapi.routing, "iter_route_contexts")
HAS_FRONTEND = hasattr(FastAPI, "frontend")


def plain(_: Request) -> Response:
    return PlainTextResponse("plain")


async def plain_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("raw")(scope, receive, send)


class Wrapper:
    """An application which does not show what is in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._inner = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._inner(scope, receive, send)


def api_routes(target: FastAPI | APIRouter) -> None:
    @target.get("/items/{item_id:int}")
    def read(item_id: int) -> int:
        return item_id

    @target.post("/items")
    def create() -> None: ...

    @target.get("/files/{path:path}")
    def file(path: str) -> str:
        return path

    @target.get("/crash")
    def crash() -> JSONResponse:
        return JSONResponse("no", 500)

    @target.websocket("/ws/{room}")
    async def room(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.close()

    router = target if isinstance(target, APIRouter) else target.router
    # Starlette's methods do not know of a prefix.
    router.add_route(f"{router.prefix}/plain", plain)
    router.add_route(f"{router.prefix}/plain/{{name}}", plain)
    router.add_websocket_route(f"{router.prefix}/plain-ws/{{name}}", plain_socket)


def fastapi_app(files: Path, **options: Any) -> FastAPI:
    (files / "file.txt").write_text("here")
    leaf = APIRouter(prefix="/leaf")
    api_routes(leaf)
    branch = APIRouter()
    branch.include_router(leaf, prefix="/branch/{branch}")

    inner = FastAPI()
    api_routes(inner)
    included = APIRouter(prefix="/own")
    api_routes(included)
    inner.include_router(included, prefix="/in")

    outer = FastAPI()
    api_routes(outer)
    outer.mount("/{tenant}/inner", inner)

    legacy = Starlette(
        routes=[
            Route("/old/{name}", plain),
            Route("/older/{name}", plain),
            Route("/page/{name}", HTTPEndpoint),
            WebSocketRoute("/old-ws/{name}", plain_socket),
            Mount("/deep", routes=[Route("/{name}", plain)]),
        ]
    )

    app = FastAPI(**options)
    api_routes(app)
    for version in ("/v1", "/v2"):
        app.include_router(leaf, prefix=version)
        app.include_router(branch, prefix=version)
    app.mount("/inner", inner)
    app.mount("/tenants/{tenant}", inner)
    app.mount("/number/{number:int}", inner)
    app.mount("/outer", outer)
    app.mount("/legacy", legacy)
    app.mount("/wrapped", Wrapper(inner))
    app.mount("/hidden", Wrapper(outer))
    app.mount("/raw", raw)
    app.mount("/static", StaticFiles(directory=files))
    with_mount = APIRouter()
    with_mount.mount("/mounted/{name}", inner)
    app.include_router(with_mount, prefix="/with")
    return app


# Method, path, status, template.
Seen = tuple[str, str, int | None, str]

LEAVES: list[Seen] = [
    ("GET", "/items/7", 200, "/items/{item_id}"),
    ("GET", "/items/007", 200, "/items/{item_id}"),
    ("DELETE", "/items/7", 405, "/items/{item_id}"),
    ("POST", "/items", 200, "/items"),
    ("GET", "/items", 405, "/items"),
    ("GET", "/files/a/b/c.txt", 200, "/files/{path}"),
    ("GET", "/crash", 500, "/crash"),
    ("WEBSOCKET", "/ws/a", 101, "/ws/{room}"),
    ("GET", "/plain", 200, "/plain"),
    ("HEAD", "/plain/x", 200, "/plain/{name}"),
    ("POST", "/plain/x", 405, "/plain/{name}"),
    ("WEBSOCKET", "/plain-ws/x", 101, "/plain-ws/{name}"),
]

# Where those routes are: the path in front of them, and its template.
PLACES = [
    ("", ""),
    ("/v1/leaf", "/v1/leaf"),
    ("/v2/leaf", "/v2/leaf"),
    ("/v1/branch/b/leaf", "/v1/branch/{branch}/leaf"),
    ("/v2/branch/b/leaf", "/v2/branch/{branch}/leaf"),
    ("/inner", "/inner"),
    ("/inner/in/own", "/inner/in/own"),
    ("/tenants/acme", "/tenants/{tenant}"),
    ("/tenants/items/in/own", "/tenants/{tenant}/in/own"),
    ("/number/0042", "/number/{number}"),
    ("/outer", "/outer"),
    ("/outer/acme/inner", "/outer/{tenant}/inner"),
    ("/outer/acme/inner/in/own", "/outer/{tenant}/inner/in/own"),
]

MATRIX: list[Seen] = [
    *(
        (method, before + path, status, template + leaf)
        for before, template in PLACES
        for method, path, status, leaf in LEAVES
    ),
    # Starlette's own routes in a FastAPI app, the documentation among them.
    ("GET", "/docs", 200, "/docs"),
    ("GET", "/openapi.json", 200, "/openapi.json"),
    ("GET", "/inner/docs", 200, "/inner/docs"),
    ("GET", "/legacy/old/x", 200, "/legacy/old/{name}"),
    ("GET", "/legacy/older/x", 200, "/legacy/older/{name}"),
    ("GET", "/legacy/page/x", 405, "/legacy/page/{name}"),
    ("GET", "/legacy/deep/x", 200, "/legacy/deep/{name}"),
    ("WEBSOCKET", "/legacy/old-ws/x", 101, "/legacy/old-ws/{name}"),
    # What is behind a mount, and does not tell its template.
    ("GET", "/raw/", 200, "/raw/{path}"),
    ("GET", "/raw/any/thing", 200, "/raw/{path}"),
    ("GET", "/static/file.txt", 200, "/static/{path}"),
    ("GET", "/static/missing.txt", 404, "/static/{path}"),
    ("GET", "/inner/missing", 404, "/inner/{path}"),
    ("GET", "/inner/items/", 307, "/inner/{path}"),
    ("GET", "/tenants/acme/missing", 404, "/tenants/{tenant}/{path}"),
    ("GET", "/outer/acme/inner/missing", 404, "/outer/{tenant}/inner/{path}"),
    ("GET", "/legacy/deep/x/y", 404, "/legacy/deep/{path}"),
    ("WEBSOCKET", "/inner/missing", 403, "/inner/{path}"),
    ("GET", "/wrapped/items/7", 200, "/wrapped/items/{item_id}"),
    ("GET", "/hidden/acme/inner/items/7", 200, "/hidden/{path}/items/{item_id}"),
    # No route at all.
    ("GET", "/missing", 404, "<unmatched>"),
    ("GET", "/v1/missing", 404, "<unmatched>"),
    ("GET", "/v1/leaf/missing/7", 404, "<unmatched>"),
    ("GET", "/static", 307, "<unmatched>"),
    ("GET", "/items/", 307, "<unmatched>"),
    ("GET", "/v1/leaf/items/", 307, "<unmatched>"),
    ("POST", "/missing", 404, "<unmatched>"),
    ("WEBSOCKET", "/missing", 403, "<unmatched>"),
]


def requested(
    app: ASGIApp, records: list[RequestRecord], wanted: Sequence[Seen], **options: Any
) -> list[Seen]:
    client = TestClient(app, raise_server_exceptions=False, follow_redirects=False, **options)
    seen: list[Seen] = []
    for method, path, _, _ in wanted:
        records.clear()
        if method == "WEBSOCKET":
            with suppress(WebSocketDisconnect), client.websocket_connect(path) as session:
                session.receive()
        else:
            client.request(method, path)
        (record,) = records
        assert record.method == method
        seen.append((method, path, record.status, record.route))
    return seen


@pytest.fixture
def records() -> list[RequestRecord]:
    return []


def test_each_route_has_its_full_template(tmp_path: Path, records: list[RequestRecord]) -> None:
    app = fastapi_app(tmp_path)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    assert requested(app, records, MATRIX) == MATRIX


MOUNTED_IN_ROUTER: list[Seen] = [
    ("GET", "/with/mounted/x/items/7", 200, "/with/mounted/{name}/items/{item_id}"),
    ("GET", "/with/mounted/x/in/own/items/7", 200, "/with/mounted/{name}/in/own/items/{item_id}"),
    ("GET", "/with/mounted/x/plain", 200, "/with/mounted/{name}/plain"),
    ("GET", "/with/mounted/x/missing", 404, "/with/mounted/{name}/{path}"),
]


@pytest.mark.skipif(not KEEPS_ROUTERS, reason="this FastAPI drops the mounts of included routers")
def test_a_mount_in_an_included_router_has_its_prefix(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    app = fastapi_app(tmp_path)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    assert requested(app, records, MOUNTED_IN_ROUTER) == MOUNTED_IN_ROUTER


def under(root: str, wanted: Sequence[Seen], *, asked: str = "") -> list[Seen]:
    return [
        (method, asked + path, status, root + route if route.startswith("/") else route)
        for method, path, status, route in wanted
    ]


def test_what_a_mounted_app_hides_is_named_as_far_as_the_framework_tells(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    app = fastapi_app(tmp_path)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    for path, vague, exact in [
        ("/wrapped/plain/x", "/wrapped/{path}", "/wrapped/plain/{name}"),
        ("/hidden/acme/inner/plain/x", "/hidden/{path}", "/hidden/{path}/plain/{name}"),
    ]:
        ((_, _, status, route),) = requested(app, records, [("GET", path, 200, "")])
        assert status == 200
        assert route in {vague, exact}


WORDS = [
    *("", ".", "..", "7", "007", "b", "branch", "docs", "files", "hidden", "in", "inner", "items"),
    *("leaf", "legacy", "missing", "mounted", "number", "old", "outer", "own", "plain", "raw"),
    *("static", "tenants", "v1", "v2", "with", "wrapped"),
]


def test_nothing_that_a_client_chose_is_in_a_label(tmp_path: Path) -> None:
    records: list[RequestRecord] = []
    app = fastapi_app(tmp_path)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    chosen = st.integers(0, 9).map("zz{}".format)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(WORDS), chosen), max_size=7).map("/".join))
    def check(path: str) -> None:
        records.clear()
        client.get(f"/{path.lstrip('/')}")  # two slashes would begin a host
        assert [record.route for record in records if "zz" in record.route] == []
        assert len(records) == 1

    check()


def test_the_root_of_the_server_is_in_front(tmp_path: Path, records: list[RequestRecord]) -> None:
    app = fastapi_app(tmp_path)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    # As uvicorn has it: the path begins with the root.
    wanted = under("/api", MATRIX, asked="/api")
    assert requested(app, records, wanted, root_path="/api") == wanted


def test_the_root_of_the_application_is_in_front(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    app = fastapi_app(tmp_path)
    app.root_path = "/api/"
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    # A proxy took the root away; below mounts Starlette finds nothing then.
    wanted = under("/api", [case for case in MATRIX if "/items" in case[1] and case[2] == 200][:5])
    assert requested(app, records, wanted) == wanted


def test_a_middleware_inside_a_mounted_app_gives_the_same_labels(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    app = fastapi_app(tmp_path)
    inner = FastAPI()
    api_routes(inner)
    inner.add_middleware(TimingMiddleware, on_finish=records.append)
    app.mount("/x/{tenant}", inner)
    wanted: list[Seen] = [
        ("GET", "/x/acme/items/7", 200, "/x/{tenant}/items/{item_id}"),
        ("GET", "/x/acme/plain/y", 200, "/x/{tenant}/plain/{name}"),
        ("GET", "/x/acme/missing", 404, "/x/{tenant}/{path}"),
    ]
    assert requested(app, records, wanted) == wanted


def test_bare_starlette_has_the_same_labels(records: list[RequestRecord]) -> None:
    def on_host(host: str) -> BaseRoute:
        return Host(host, app=Router([Route("/{name}", plain), Mount("/in", routes=[ITEM])]))

    ITEM = Route("/items/{item_id:int}", plain, methods=["GET"])
    app = Starlette(
        routes=[
            on_host("{customer}.example.org"),
            ITEM,
            Route("/same/{name}", plain),
            WebSocketRoute("/ws/{room}", plain_socket),
            Mount("/a/{tenant}", routes=[ITEM, Mount("/b/{other}", routes=[ITEM])]),
            Mount("/raw", raw),
        ],
        middleware=[Middleware(TimingMiddleware, on_finish=records.append)],
    )
    wanted: list[Seen] = [
        ("GET", "/items/7", 200, "/items/{item_id}"),
        ("PUT", "/a/acme/items/7", 405, "/a/{tenant}/items/{item_id}"),
        ("GET", "/same/7", 200, "/same/{name}"),
        ("GET", "/a/acme/items/7", 200, "/a/{tenant}/items/{item_id}"),
        ("GET", "/a/acme/b/c/items/7", 200, "/a/{tenant}/b/{other}/items/{item_id}"),
        ("GET", "/a/acme/b/c/d", 404, "/a/{tenant}/b/{other}/{path}"),
        ("GET", "/raw/x", 200, "/raw/{path}"),
        ("WEBSOCKET", "/ws/a", 101, "/ws/{room}"),
        ("GET", "/items/7/", 307, "<unmatched>"),
        ("GET", "/missing", 404, "<unmatched>"),
        ("WEBSOCKET", "/missing", 403, "<unmatched>"),
    ]
    assert requested(app, records, wanted) == wanted
    wanted = [
        ("GET", "/x", 200, "/{name}"),
        ("GET", "/in/items/7", 200, "/in/items/{item_id}"),
        ("GET", "/in/missing", 404, "/in/{path}"),
        ("GET", "/x/missing", 404, "<unmatched>"),
    ]
    assert requested(app, records, wanted, base_url="http://a.example.org") == wanted


def test_a_mount_at_the_root_adds_nothing_to_its_routes(records: list[RequestRecord]) -> None:
    app = Starlette(
        routes=[Mount("", routes=[Route("/a/{name}", plain)])],
        middleware=[Middleware(TimingMiddleware, on_finish=records.append)],
    )
    wanted: list[Seen] = [
        ("GET", "/a/x", 200, "/a/{name}"),
        ("GET", "/c", 404, "/{path}"),
    ]
    assert requested(app, records, wanted) == wanted


def test_a_mount_at_the_root_is_not_what_its_routes_are_named_after(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    app = fastapi_app(tmp_path)
    app.mount("/", StaticFiles(directory=tmp_path, html=True))
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    wanted: list[Seen] = [
        ("GET", "/file.txt", 200, "/{path}"),
        ("GET", "/missing.txt", 404, "/{path}"),
        ("GET", "/plain/x", 200, "/plain/{name}"),
        ("GET", "/v1/leaf/plain/x", 200, "/v1/leaf/plain/{name}"),
        ("GET", "/tenants/acme/in/own/plain/x", 200, "/tenants/{tenant}/in/own/plain/{name}"),
    ]
    assert requested(app, records, wanted) == wanted


def test_the_application_may_be_a_router_or_one_route(records: list[RequestRecord]) -> None:
    wanted = [("GET", "/items/7", 200, "/items/{name}")]
    router = Router([Route("/items/{name}", plain)])
    app = TimingMiddleware(router, on_finish=records.append)
    assert requested(app, records, wanted) == wanted
    inside = Middleware(TimingMiddleware, on_finish=records.append)
    app_with_route = Starlette(routes=[Route("/items/{name}", plain, middleware=[inside])])
    assert requested(app_with_route, records, wanted) == wanted


def test_an_application_without_routes_is_unmatched(records: list[RequestRecord]) -> None:
    wanted = [("GET", "/any", 200, "<unmatched>")]
    assert requested(TimingMiddleware(raw, on_finish=records.append), records, wanted) == wanted


def test_http_middleware_in_between_does_not_hide_the_route(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    app = fastapi_app(tmp_path)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    wanted = [case for case in MATRIX if case[1].startswith("/v2/branch")]
    assert wanted
    assert requested(app, records, wanted) == wanted


def test_a_middleware_which_hands_on_a_copy_of_the_scope_hides_the_route(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    inner = fastapi_app(tmp_path)

    async def copying(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(dict(scope), receive, send)

    wanted = [("GET", "/items/7", 200, "<unmatched>")]
    assert requested(TimingMiddleware(copying, on_finish=records.append), records, wanted) == wanted


def endpoint() -> None: ...


ROUTE = Route("/items/{name}", endpoint)
MOUNT = Mount("/m", routes=[ROUTE])


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({}, "<unmatched>"),
        ({"endpoint": None}, "<unmatched>"),
        ({"endpoint": endpoint}, "<unmatched>"),
        ({"endpoint": endpoint, "route": ROUTE}, "/items/{name}"),
        ({"endpoint": endpoint, "route": ROUTE, "fastapi": None}, "/items/{name}"),
        ({"endpoint": endpoint, "route": ROUTE, "fastapi": {}}, "/items/{name}"),
        (
            {
                "endpoint": endpoint,
                "route": ROUTE,
                "fastapi": {"effective_route_context": object()},
            },
            "/items/{name}",
        ),
        # Left over from a mount or a router further out: it is not this endpoint's.
        ({"endpoint": plain, "route": ROUTE}, "<unmatched>"),
        ({"endpoint": plain, "router": object()}, "<unmatched>"),
        ({"endpoint": plain, "router": Router([Route("/plain", plain)])}, "<unmatched>"),
        ({"endpoint": plain, "router": Router([Route("/", plain)])}, "/"),
        ({"endpoint": SimpleNamespace(), "route": SimpleNamespace(endpoint=None)}, "<unmatched>"),
        # A root which is not the beginning of the mounted one.
        (
            {"endpoint": endpoint, "route": ROUTE, "app_root_path": "/a", "root_path": "/b"},
            "/a/items/{name}",
        ),
        (
            {"endpoint": endpoint, "route": ROUTE, "app_root_path": "/a", "root_path": "/other"},
            "/a/items/{name}",
        ),
        # A mount which cannot be found, and a route below one.
        (
            {"endpoint": plain, "app_root_path": "", "root_path": "/m", "router": Router([MOUNT])},
            "/m/{path}",
        ),
        (
            {"endpoint": endpoint, "route": ROUTE, "app_root_path": "", "root_path": "/7"},
            "/{path}/items/{name}",
        ),
    ],
)
def test_what_a_framework_does_not_leave_behind_makes_the_label_vaguer_only(
    left: dict[str, Any], expected: str
) -> None:
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "root_path": "",
        "headers": [],
        **left,
    }
    assert route_template(scope) == expected


@pytest.mark.skipif(not HAS_FRONTEND, reason="this FastAPI has no app.frontend()")
def test_a_frontend_is_named_after_its_path(tmp_path: Path, records: list[RequestRecord]) -> None:
    (tmp_path / "index.html").write_text("<p>here</p>")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("a")
    router = APIRouter(prefix="/router")
    router.frontend("/site", directory=tmp_path)
    inner = FastAPI()
    inner.frontend("/", directory=tmp_path)
    app = FastAPI()
    api_routes(app)
    app.include_router(router, prefix="/in")
    app.frontend("/", directory=tmp_path)
    app.frontend("/admin", directory=tmp_path)
    app.mount("/tenants/{tenant}", inner)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    wanted: list[Seen] = [
        ("GET", "/", 200, "/{path}"),
        ("GET", "/deep/a.txt", 200, "/{path}"),
        ("GET", "/missing.txt", 404, "/{path}"),
        ("POST", "/deep/a.txt", 405, "/{path}"),
        ("GET", "/admin/deep/a.txt", 200, "/admin/{path}"),
        ("GET", "/admin", 307, "/admin/{path}"),
        ("GET", "/in/router/site/deep/a.txt", 200, "/in/router/site/{path}"),
        ("GET", "/tenants/acme/deep/a.txt", 200, "/tenants/{tenant}/{path}"),
        ("GET", "/items/7", 200, "/items/{item_id}"),
    ]
    assert requested(app, records, wanted) == wanted
    wanted = under("/api", wanted, asked="/api")
    assert requested(app, records, wanted, root_path="/api") == wanted


@pytest.mark.skipif(not HAS_FRONTEND, reason="this FastAPI has no app.frontend()")
def test_a_frontend_whose_path_begins_like_the_root(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    (tmp_path / "a.txt").write_text("a")
    app = FastAPI()
    app.frontend("/apiary", directory=tmp_path)
    app.root_path = "/api"
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    wanted = [("GET", "/apiary/a.txt", 200, "/api/apiary/{path}")]
    assert requested(app, records, wanted) == wanted


def test_labels_are_those_of_fastapis_own_telemetry(
    tmp_path: Path, records: list[RequestRecord]
) -> None:
    pytest.importorskip("fastapi.telemetry", reason="this FastAPI has no telemetry of its own")
    from opentelemetry import trace

    routes: list[object] = []

    class Span(trace.NonRecordingSpan):
        def set_attributes(self, attributes: Mapping[str, object]) -> None:
            # Once, at the end, with all of them.
            routes.append(attributes.get("http.route", "<unmatched>"))

    class Tracer(trace.NoOpTracer):
        def start_span(self, *_: Any, **__: Any) -> Span:
            return Span(trace.INVALID_SPAN_CONTEXT)

    class Provider(trace.TracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> Tracer:
            return Tracer()

    app = fastapi_app(tmp_path, telemetry={"tracer_provider": Provider(), "metrics": False})
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    # Where the two differ: it names a redirect after the route that it leads to, it does not see
    # into a Starlette app, and ours does not see mounts in an app that hides its routes.
    apart = ("/legacy", "/hidden")
    wanted = [case for case in MATRIX if case[2] != 307 and not case[1].startswith(apart)]
    assert requested(app, records, wanted) == wanted
    ours = [route for *_, route in wanted]
    assert list(zip(ours, routes, strict=True)) == [(route, route) for route in ours]
