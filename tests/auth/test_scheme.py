"""What OpenAPI says of where tokens come from: right wherever the router is."""

from typing import Annotated, Any
from urllib.parse import urljoin

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from fastkit.auth import Auth, auth_router
from fastkit.errors import install_exception_handlers
from tests.auth.people import PASSWORD, User, make_auth

LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}


def protect(app: FastAPI | APIRouter, auth: Auth[User], path: str = "/who") -> None:
    @app.get(path)
    async def who(user: Annotated[User, auth.current_user]) -> str:
        return user.username


def document_of(http: TestClient, prefix: str = "") -> dict[str, Any]:
    document: dict[str, Any] = http.get(f"{prefix}/openapi.json").json()
    validate(document)
    return document


def flow_of(document: dict[str, Any], name: str = "fastkit") -> dict[str, Any]:
    scheme = document["components"]["securitySchemes"][name]
    assert scheme["type"] == "oauth2"
    flow: dict[str, Any] = scheme["flows"]["password"]
    assert flow["refreshUrl"] == flow["tokenUrl"]
    return flow


def token_url(document: dict[str, Any], name: str = "fastkit") -> str:
    """Where Swagger UI asks for a token: by the URL of the server that the document names, and
    without one by that of its own page, /docs."""
    (server, *_) = document.get("servers") or [{"url": ""}]
    base, url = str(server["url"]).rstrip("/"), str(flow_of(document, name)["tokenUrl"])
    assert not url.startswith("/")
    return urljoin(f"{base}/", url)


def nested(auth: Auth[User], *prefixes: str) -> FastAPI:
    """An app with the router below all of these prefixes, the innermost first."""
    router = auth_router(auth)
    for prefix in prefixes[:-1]:
        parent = APIRouter()
        parent.include_router(router, prefix=prefix)
        router = parent
    app = FastAPI()
    app.include_router(router, prefix=prefixes[-1])
    return app


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize(
    "prefixes", [("",), ("/auth",), ("/auth", "/v1", "/api"), ("/auth", "", "/api"), ("", "/x-y.z")]
)
def test_the_url_has_all_the_prefixes(
    prefixes: tuple[str, ...], asked_before: bool, first: bool
) -> None:
    auth = make_auth()
    app = FastAPI() if first else nested(auth, *prefixes)
    protect(app, auth)
    if first:
        app.include_router(nested(auth, *prefixes).router)
    http = TestClient(app)
    if asked_before:
        assert http.get("/who").status_code == 401
    url = token_url(document_of(http))
    assert url == "".join(reversed(prefixes)) + "/token"
    assert http.post(url, data=LOGIN).status_code == 200


def test_prefixes_of_routers_themselves_count() -> None:
    auth = make_auth()
    parent, app = APIRouter(prefix="/v1"), FastAPI()
    parent.include_router(auth_router(auth), prefix="/auth")
    protect(parent, auth)
    app.include_router(parent, prefix="/api")
    http = TestClient(app)
    assert token_url(document_of(http)) == "/api/v1/auth/token"
    assert http.post("/api/v1/auth/token", data=LOGIN).status_code == 200


def test_a_mounted_app_has_a_document_of_its_own() -> None:
    auth = make_auth()
    inner = nested(auth, "/auth")
    protect(inner, auth)
    middle, outer = FastAPI(), FastAPI()
    middle.mount("/inner", inner)
    outer.mount("/middle", middle)
    http = TestClient(outer)
    document = document_of(http, "/middle/inner")
    assert document["servers"] == [{"url": "/middle/inner"}]
    assert token_url(document) == "/middle/inner/auth/token"
    assert http.post(token_url(document), data=LOGIN).status_code == 200


@pytest.mark.parametrize("root_path", ["/proxy", "/a/b"])
def test_a_root_path_comes_before(root_path: str) -> None:
    auth = make_auth()
    app = nested(auth, "/auth")
    protect(app, auth)
    http = TestClient(app, root_path=root_path)
    document = document_of(http, root_path)
    assert document["servers"] == [{"url": root_path}]
    url = token_url(document)
    assert url == f"{root_path}/auth/token"
    assert http.post(url, data=LOGIN).status_code == 200


def test_a_root_path_and_a_mount_come_both_before() -> None:
    auth = make_auth()
    inner = nested(auth, "/auth")
    protect(inner, auth)
    outer = FastAPI()
    outer.mount("/inner", inner)
    http = TestClient(outer, root_path="/proxy")
    document = document_of(http, "/proxy/inner")
    assert token_url(document) == "/proxy/inner/auth/token"
    assert http.post(token_url(document), data=LOGIN).status_code == 200


def test_servers_of_the_apps_own_are_gone_by() -> None:
    auth = make_auth()
    app = FastAPI(servers=[{"url": "https://api.example.com/shop"}])
    app.include_router(auth_router(auth), prefix="/auth")
    protect(app, auth)
    assert token_url(document_of(TestClient(app))) == "https://api.example.com/shop/auth/token"


def test_a_router_at_two_places_is_shown_at_one_of_them() -> None:
    auth = make_auth()
    app = FastAPI()
    for prefix in ("/v1", "/v2"):
        app.include_router(auth_router(auth), prefix=prefix)
    http = TestClient(app)
    document = document_of(http)
    assert {"/v1/token", "/v2/token"} <= document["paths"].keys()
    assert http.post(token_url(document), data=LOGIN).status_code == 200


def test_two_auths_of_one_app_do_not_meet() -> None:
    users, staff = make_auth(), make_auth(User("boss"), audience="https://staff.example.com/")
    app = FastAPI()
    app.include_router(auth_router(users), prefix="/auth")
    app.include_router(auth_router(staff), prefix="/staff/auth")
    protect(app, users)
    protect(app, staff, "/staff/who")

    @app.get("/both", dependencies=[staff.require("b")])
    async def both(user: Annotated[User, users.require("a")]) -> str:
        return user.username

    http = TestClient(app)
    document = document_of(http)
    assert document["components"]["securitySchemes"].keys() == {
        "fastkit",
        "https-staff.example.com",
    }
    assert token_url(document) == "/auth/token"
    assert token_url(document, "https-staff.example.com") == "/staff/auth/token"
    assert flow_of(document)["scopes"] == {"a": ""}
    assert flow_of(document, "https-staff.example.com")["scopes"] == {"b": ""}
    paths = document["paths"]
    assert paths["/who"]["get"]["security"] == [{"fastkit": []}]
    assert paths["/staff/who"]["get"]["security"] == [{"https-staff.example.com": []}]
    assert sorted(map(str, paths["/both"]["get"]["security"])) == [
        "{'fastkit': ['a']}",
        "{'https-staff.example.com': ['b']}",
    ]
    token = http.post("/auth/token", data=LOGIN).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert http.get("/who", headers=headers).status_code == 200
    # The same secret, and another audience.
    assert http.get("/staff/who", headers=headers).status_code == 401


def test_scopes_are_listed_as_they_are_asked_for() -> None:
    auth = make_auth()
    app = nested(auth, "/auth")

    async def reader(user: Annotated[User, auth.require("items:read")]) -> User:
        return user

    @app.get("/items", dependencies=[auth.require("items:write", "items:list")])
    async def items(user: Annotated[User, Depends(reader)]) -> None: ...

    @app.get("/maybe")
    async def maybe(user: Annotated[User | None, auth.optional_user]) -> None: ...

    document = document_of(TestClient(app))
    listed = {"items:read", "items:write", "items:list"}
    assert flow_of(document)["scopes"].keys() == listed
    assert set(document["paths"]["/items"]["get"]["security"][0]["fastkit"]) == listed
    assert document["paths"]["/maybe"]["get"]["security"] == [{"fastkit": []}]
    assert "security" not in document["paths"]["/auth/token"]["post"]


def test_an_app_names_its_operations_as_it_likes() -> None:
    auth = make_auth()
    app = FastAPI(generate_unique_id_function=lambda route: f"own-{route.name}")
    app.include_router(auth_router(auth), prefix="/auth")
    document = document_of(TestClient(app))
    assert {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    } == {"own-token", "own-revoke", "own-logout", "own-me"}
    assert token_url(document) == "/auth/token"


def test_a_document_with_problems_is_right_too() -> None:
    auth = make_auth()
    app = nested(auth, "/auth")
    install_exception_handlers(app)
    protect(app, auth)
    document = document_of(TestClient(app))
    assert token_url(document) == "/auth/token"
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_router_without_an_app_has_a_url_all_the_same() -> None:
    auth = make_auth()
    app = FastAPI()
    protect(app, auth)
    assert flow_of(document_of(TestClient(app)))["tokenUrl"] == "token"


@pytest.mark.parametrize(
    ("audience", "name"),
    [("shop", "shop"), ("https://a.example/x y", "https-a.example-x-y"), ("(*)", "auth")],
)
def test_the_name_is_one_that_openapi_allows(audience: str, name: str) -> None:
    auth = make_auth(audience=audience)
    app = nested(auth, "/auth")
    document = document_of(TestClient(app))
    assert document["components"]["securitySchemes"].keys() == {name}
