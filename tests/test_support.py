"""The helpers that the other tests stand on."""

from pathlib import Path

import httpx
import pytest

from tests.support import Postgres, Serve, unavailable

APP = """
import os, sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        print("down", flush=True)
        return
    print("asked", scope["path"], flush=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": os.environ["GREETING"].encode()})
"""


def test_serve_runs_the_app_with_its_environment_and_captures_its_log(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "greeter.py").write_text(APP)
    server = serve(tmp_path / "greeter.py", env={"GREETING": "hello"})
    assert httpx.get(f"{server.base_url}/there").text == "hello"
    server.wait_for_log("asked /there")
    assert server.stop() == 0
    assert "down" in server.log
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.base_url)


def test_serve_runs_several_servers_at_once(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(APP)
    servers = [serve(tmp_path / "greeter.py", env={"GREETING": name}) for name in ("one", "two")]
    assert [httpx.get(server.base_url).text for server in servers] == ["one", "two"]


def test_an_app_that_does_not_start_fails_the_test_with_its_log(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such thing')")
    with pytest.raises(pytest.fail.Exception, match="no such thing"):
        serve(tmp_path / "broken.py")


def test_each_database_is_new_and_reachable(postgres: Postgres, postgres_server: Postgres) -> None:
    import psycopg

    assert postgres.database != postgres_server.database
    with psycopg.connect(postgres.url()) as connection:
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(tables).fetchone() == (0,)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.7", "postgresql+psycopg://o%27hara:p%40ss@10.0.0.7:5433/shop"),
        ("/run/pg", "postgresql+psycopg://o%27hara:p%40ss@/shop?host=%2Frun%2Fpg&port=5433"),
    ],
)
def test_database_urls_are_quoted_and_know_sockets(host: str, expected: str) -> None:
    place = Postgres(host=host, port=5433, user="o'hara", password="p@ss", database="shop")
    assert place.url("psycopg") == expected


def test_a_missing_service_skips_unless_services_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FASTKIT_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no broker"):
        unavailable("no broker")
    monkeypatch.setenv("FASTKIT_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="no broker"):
        unavailable("no broker")
