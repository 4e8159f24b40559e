"""What tests share: a real server in a process of its own, PostgreSQL, Redis and a browser."""

import asyncio
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, LiteralString, NoReturn, Protocol
from urllib.parse import quote
from uuid import uuid4

import pytest

__all__ = (
    "ROOT",
    "Postgres",
    "RedisServer",
    "Serve",
    "Server",
    "StartRedis",
    "find_chromium",
    "find_postgres",
    "find_redis",
    "free_port",
    "redis_answers",
    "redis_processes",
    "require_services",
    "run_server",
    "temporary_database",
    "unavailable",
)

ROOT = Path(__file__).resolve().parent.parent

# A cold start imports FastAPI and SQLAlchemy on a machine that runs other tests too.
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class Server:
    """A uvicorn process that serves one application on a free port of 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], base_url: str) -> None:
        self._process = process
        self._log = log
        self.base_url = base_url

    @property
    def log(self) -> str:
        """Everything that the process wrote to its standard output and error so far."""
        return _read(self._log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_log(self, text: str, /, *, seconds: float = 10.0) -> str:
        """Wait until the log contains `text`, because a server logs after it has answered."""
        deadline = time.monotonic() + seconds
        while text not in (log := self.log):
            if time.monotonic() > deadline:
                pytest.fail(f"{text!r} is not in the server's log after {seconds} s:\n{log}")
            time.sleep(0.02)
        return log

    def stop(self) -> int:
        """End the process as Ctrl+C does, by force if it does not go, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


class Serve(Protocol):
    """The `serve` fixture: start a server that lasts until the test ends."""

    def __call__(
        self,
        app: str | Path,
        /,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> Server: ...


@contextmanager
def run_server(
    app: str | Path, /, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
) -> Generator[Server]:
    """Serve `app`, which is `"module:attribute"` or the path of a file that defines `app`.

    `env` is added to this process's environment and `args` to uvicorn's command line. The server
    has answered its lifespan's start-up when this yields.
    """
    folder, target = (app.parent, f"{app.stem}:app") if isinstance(app, Path) else (ROOT, app)
    command = [sys.executable, "-m", "uvicorn", target, "--app-dir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", "0", "--no-use-colors", *args]
    with TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_unmeasured(), "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = Server(process, log, "")
        try:
            server.base_url = _wait_until_up(process, log)
            yield server
        finally:
            server.stop()


def _unmeasured() -> dict[str, str]:
    # Coverage would trace the server's imports, which takes longer than the test that asks it.
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}


def _wait_until_up(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        text = _read(log)
        if found := re.search(r"Uvicorn running on (https?://[\d.]+:\d+)", text):
            return found[1]
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode} before it was up:\n{text}")
        if time.monotonic() > deadline:
            pytest.fail(f"the server was not up after {_START_SECONDS} s:\n{text}")
        time.sleep(0.02)


def _read(log: IO[bytes]) -> str:
    # The child shares this file's offset and writes there: seek() would move it.
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """Where a PostgreSQL database is: a folder as `host` means the socket in it."""

    host: str
    port: int
    user: str
    password: str
    database: str

    def url(self, driver: str | None = None, /) -> str:
        """The database's URL: for SQLAlchemy with a driver, for libpq without one."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        user = quote(self.user, safe="")
        login = f"{user}:{quote(self.password, safe='')}" if self.password else user
        if self.host.startswith("/"):
            folder = quote(self.host, safe="")
            return f"{scheme}://{login}@/{self.database}?host={folder}&port={self.port}"
        return f"{scheme}://{login}@{self.host}:{self.port}/{self.database}"


@cache
def find_postgres() -> Postgres | str:
    """Find the server which tests may make databases on, or say why there is none."""
    try:
        import psycopg
    except ModuleNotFoundError:
        return "psycopg is not installed"
    reasons: list[str] = []
    for candidate in _postgres_candidates():
        try:
            with psycopg.connect(candidate, connect_timeout=5) as connection:
                info = connection.info
                return Postgres(
                    host=info.host,
                    port=info.port,
                    user=info.user,
                    password=info.password,
                    database=info.dbname,
                )
        except psycopg.OperationalError as error:
            reasons.append(f"{candidate}: {str(error).strip()}")
    tried = "\n  ".join(reasons)
    return (
        "no PostgreSQL answers. Start one (Debian: apt-get install postgresql, then pg_ctlcluster"
        f" VERSION main start) or set FASTKIT_TEST_POSTGRES to its URL. Tried:\n  {tried}"
    )


def _postgres_candidates() -> list[str]:
    if chosen := os.environ.get("FASTKIT_TEST_POSTGRES"):
        return [chosen]
    # Without a host libpq takes the local socket, where Debian knows a user by his name.
    hosts = ("127.0.0.1:5432", "")
    roles = ((getpass.getuser(), "test"), ("postgres", "postgres"))
    return [f"postgresql://{user}@{host}/{name}" for host in hosts for user, name in roles]


@contextmanager
def temporary_database(server: Postgres, /) -> Generator[Postgres]:
    """Make an empty database, which is dropped at the end with whoever is still connected to it."""
    from psycopg import connect
    from psycopg.sql import SQL, Identifier

    name = f"fastkit_{uuid4().hex}"

    def run(statement: LiteralString) -> None:
        with connect(server.url(), autocommit=True) as connection:
            connection.execute(SQL(statement).format(Identifier(name)))

    run("CREATE DATABASE {}")
    try:
        yield replace(server, database=name)
    finally:
        run("DROP DATABASE {} WITH (FORCE)")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where a Redis is. Tests share its databases: each deletes the keys that it made."""

    url: str


@cache
def find_redis() -> RedisServer | str:
    """Find the Redis which tests may write to, or say why there is none."""
    try:
        import redis
    except ModuleNotFoundError:
        return "redis is not installed"
    url = os.environ.get("FASTKIT_TEST_REDIS") or "redis://127.0.0.1:6379"
    try:
        # What redis leaves untyped are options that are not used here.
        with redis.Redis.from_url(url, socket_connect_timeout=5) as client:  # pyright: ignore[reportUnknownMemberType]
            client.ping()  # pyright: ignore[reportUnknownMemberType]
    except redis.RedisError as error:
        return (
            "no Redis answers. Start one (Debian: apt-get install redis-server, then redis-server)"
            f" or set FASTKIT_TEST_REDIS to its URL. Tried:\n  {url}: {error}"
        )
    return RedisServer(url)


class StartRedis(Protocol):
    """Starts a Redis, on the same port and in the same folder each time."""

    def __call__(self, *arguments: str) -> subprocess.Popen[bytes]: ...


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


@contextmanager
def redis_processes(port: int, folder: Path) -> Generator[StartRedis]:
    """Start Redis servers that a test may do anything to. They are killed at the end."""
    if shutil.which("redis-server") is None:
        unavailable("no redis-server is found. Install one (Debian: apt-get install redis-server).")
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
            process = subprocess.Popen(
                [*command, "--dir", str(folder), *arguments],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


async def redis_answers(client: Any) -> None:
    """Wait until it does."""
    from redis import RedisError

    async with asyncio.timeout(30):
        while True:
            try:
                await client.ping()
            except RedisError:
                await asyncio.sleep(0.02)
            else:
                return


CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> Path | str:
    """Find a Chromium that Playwright can drive, or say why there is none."""
    if find_spec("playwright") is None:
        return "playwright is not installed: install the dependency group `integration`."
    chosen = os.environ.get("FASTKIT_TEST_CHROMIUM")
    found = next(filter(None, map(shutil.which, [chosen] if chosen else CHROMIUMS)), None)
    if found is None:
        return (
            f"no Chromium is found as {chosen or ', '.join(CHROMIUMS)}. Install one"
            " (Debian: apt-get install chromium) or set FASTKIT_TEST_CHROMIUM to its path."
        )
    return Path(found)


def require_services() -> bool:
    """Whether a test whose service is missing fails instead of being skipped."""
    return os.environ.get("FASTKIT_REQUIRE_SERVICES") == "1"


def unavailable(reason: str, /) -> NoReturn:
    """Skip the test, or fail it where every service is required."""
    if require_services():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
