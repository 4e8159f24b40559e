"""A client library that knows OAuth2 and nothing of fastkit goes through the life of a token."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from authlib.integrations.base_client import (  # type: ignore[import-untyped]  # it has no types
    OAuthError,
)
from authlib.integrations.httpx_client import (  # type: ignore[import-untyped]  # it has no types
    OAuth2Client,
)

from tests.auth.people import PASSWORD
from tests.support import Server, run_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_server("tests.auth.served:app") as running:
        yield running


def new_client(server: Server, **options: Any) -> Any:
    return OAuth2Client(
        token_endpoint=f"{server.base_url}/auth/token",
        revocation_endpoint=f"{server.base_url}/auth/revoke",
        base_url=server.base_url,
        **options,
    )


def log_in(http: Any, server: Server, **more: Any) -> Any:
    url = f"{server.base_url}/auth/token"
    return http.fetch_token(url, username="alice", password=PASSWORD, **more)


# With a name of its own, as libraries send it: a client is not asked who it is.
CLIENTS: list[dict[str, Any]] = [
    {},
    {"client_id": "app"},
    {"client_id": "app", "client_secret": "x"},
    {
        "client_id": "app",
        "client_secret": "x",
        "token_endpoint_auth_method": "client_secret_post",
    },
]


@pytest.mark.parametrize("options", CLIENTS)
def test_the_life_of_a_token(server: Server, options: dict[str, Any]) -> None:
    with new_client(server, **options) as http:
        token = log_in(http, server)
        assert token["token_type"] == "bearer"
        assert token["scope"] == "items:read items:write"
        assert 800 < token["expires_at"] - time.time() <= 900
        assert http.get("/who").json() == "alice"
        assert http.get("/write").json() == "alice"
        assert http.get("/auth/me").json()["sub"] == "alice"

        first = dict(token)
        refreshed = http.refresh_token(f"{server.base_url}/auth/token")
        assert refreshed["access_token"] != first["access_token"]
        assert refreshed["refresh_token"] != first["refresh_token"]
        assert http.get("/who").json() == "alice"

        answer = http.revoke_token(f"{server.base_url}/auth/revoke", refreshed["refresh_token"])
        assert answer.status_code == 200
        with pytest.raises(OAuthError) as refused:
            http.refresh_token(f"{server.base_url}/auth/token")
        assert refused.value.error == "invalid_grant"


def test_a_client_refreshes_by_itself_when_the_token_has_expired(server: Server) -> None:
    seen: list[Any] = []

    def keep(token: Any, refresh_token: Any = None, access_token: Any = None) -> None:
        seen.append(token)

    with new_client(server, update_token=keep) as http:
        token = log_in(http, server)
        http.token = {**token, "expires_at": int(time.time()) - 1}
        assert http.get("/who").json() == "alice"
        assert len(seen) == 1
        assert seen[0]["refresh_token"] != token["refresh_token"]


def test_a_scope_can_be_narrowed(server: Server) -> None:
    with new_client(server, scope="items:read") as http:
        assert log_in(http, server)["scope"] == "items:read"
        denied = http.get("/write")
        assert denied.status_code == 403
        assert 'error="insufficient_scope"' in denied.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"password": "wrong"}, "invalid_grant"),
        ({"username": "nobody"}, "invalid_grant"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    ],
)
def test_errors_are_understood(server: Server, form: dict[str, str], error: str) -> None:
    given = {"username": "alice", "password": PASSWORD, "grant_type": "password", **form}
    with new_client(server) as http, pytest.raises(OAuthError) as refused:
        http.fetch_token(f"{server.base_url}/auth/token", **given)
    assert refused.value.error == error
    assert refused.value.description


def test_nothing_of_it_is_in_the_servers_log(server: Server) -> None:
    with new_client(server) as http:
        token = log_in(http, server)
        assert httpx.get(f"{server.base_url}/who").status_code == 401
    for secret in (PASSWORD, token["access_token"], token["refresh_token"], "Traceback"):
        assert secret not in server.log
