"""Fixtures for every test."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import (
    Postgres,
    RedisServer,
    Serve,
    Server,
    StartRedis,
    find_postgres,
    find_redis,
    free_port,
    redis_processes,
    run_server,
    temporary_database,
    unavailable,
)

# How long an example takes says how busy the machine is. The rest is as Hypothesis has it, which
# differs where it sees that it runs in CI.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Keep the collector out of what is imported by now.

    All tests together import so much that to look through it takes longer than many a test.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start real servers: `serve("tests.db.app:app", env={"DATABASE_URL": url}).base_url`."""
    with ExitStack() as servers:

        def start(
            app: str | Path, /, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
        ) -> Server:
            return servers.enter_context(run_server(app, env=env, args=args))

        yield start


@pytest.fixture(scope="session")
def postgres_server() -> Postgres:
    """The PostgreSQL server of this machine; without one the test is skipped."""
    found = find_postgres()
    if isinstance(found, str):
        unavailable(found)
    return found


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """An empty PostgreSQL database that is this test's alone."""
    with temporary_database(postgres_server) as database:
        yield database


@pytest.fixture(scope="session")
def redis_server() -> RedisServer:
    """The Redis of this machine; without one the test is skipped."""
    found = find_redis()
    if isinstance(found, str):
        unavailable(found)
    return found


@pytest.fixture
def redis_port() -> int:
    """Where `start_redis` starts one."""
    return free_port()


@pytest.fixture
def start_redis(redis_port: int, tmp_path: Path) -> Iterator[StartRedis]:
    """Start a Redis that is this test's own, to be killed and started again."""
    with redis_processes(redis_port, tmp_path) as start:
        yield start
