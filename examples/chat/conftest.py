"""The chat in real servers: one that has all in memory, and two that share a Redis."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support import StartRedis, free_port, redis_processes, run_server


class Chat:
    """The servers of one chat, and their Redis, if they have one. Then a client of `one` and a
    client of `two` are in different processes."""

    def __init__(self, env: dict[str, str], start_redis: StartRedis | None) -> None:
        self._env = env
        self._start_redis = start_redis
        self._redis: subprocess.Popen[bytes] | None = None
        self._servers = ExitStack()
        self._ports = [0, 0] if start_redis else [0]
        self._urls: list[str] = []

    @property
    def one(self) -> str:
        return self._urls[0]

    @property
    def two(self) -> str:
        return self._urls[-1]

    def start(self) -> None:
        """Start the servers, on the ports that they had before."""
        servers = [
            run_server("examples.chat.app:app", env=self._env, args=["--port", str(port)])
            for port in self._ports
        ]
        self._urls = [self._servers.enter_context(server).base_url for server in servers]
        self._ports = [int(url.rpartition(":")[2]) for url in self._urls]

    def stop(self) -> None:
        self._servers.close()

    def start_redis(self) -> None:
        assert self._start_redis is not None
        self._redis = self._start_redis()

    def kill_redis(self) -> None:
        assert self._redis is not None
        self._redis.kill()
        self._redis.wait()


@pytest.fixture(scope="module", params=["memory", "redis"])
def chat(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chat]:
    # Tests are faster than people.
    env = {"CHAT_MESSAGES_PER_SECOND": "10000"}
    with ExitStack() as stack:
        start_redis = None
        if request.param == "redis":
            port = free_port()
            start_redis = stack.enter_context(
                redis_processes(port, tmp_path_factory.mktemp("redis"))
            )
            env["CHAT_REDIS_URL"] = f"redis://127.0.0.1:{port}"
        chat = Chat(env, start_redis)
        if start_redis is not None:
            chat.start_redis()
        stack.callback(chat.stop)
        chat.start()
        yield chat
