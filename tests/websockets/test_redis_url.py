"""What is in the URL of a RedisBroker: passwords, options, sockets and TLS."""

import asyncio
import subprocess
import traceback
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("redis", reason="RedisBroker needs redis")

from fastkit.websockets._broker import BrokerError
from fastkit.websockets.redis import RedisBroker
from tests.support import free_port
from tests.websockets.brokers import LONG, Ear, OwnRedis, hears_again, starting
from tests.websockets.certificates import make_certificate
from tests.websockets.wire import until

pytestmark = pytest.mark.anyio

PASSWORD = "s3cret/of:mine"


async def test_a_wrong_password_is_told_of_without_it(
    redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.client.config_set("requirepass", "another")
    url = redis.url.replace("//", f"//:{quote(PASSWORD, safe='')}@")
    broker = RedisBroker(url, timeout=0.3)
    ear = Ear()
    try:
        with pytest.raises(BrokerError, match="invalid username-password pair") as raised:
            await broker.start(ear.on_message, ear.on_state)
        with pytest.raises(BrokerError, match="invalid username-password pair") as refused:
            await broker.publish("a", b"")
        await redis.client.execute_command("CONFIG", "SET", "requirepass", PASSWORD)
        await until(lambda: ear.states == [True])
        await broker.start(ear.on_message, ear.on_state)
        await broker.subscribe(["a"])
        await hears_again(broker, ear)
    finally:
        await broker.close()
    for text in (*map(repr, (raised.value, refused.value)), caplog.text, repr(broker)):
        assert PASSWORD not in text
        assert quote(PASSWORD, safe="") not in text


async def test_no_password_is_told_of(redis: OwnRedis) -> None:
    await redis.client.config_set("requirepass", "another")
    broker = RedisBroker(redis.url, timeout=0.3)
    with pytest.raises(BrokerError, match="Authentication required"):
        await broker.start(Ear().on_message, Ear().on_state)
    await broker.close()


@pytest.mark.parametrize(
    "url",
    ["", "http://127.0.0.1", "redis://:s3cret/of@127.0.0.1", "redis://h?socket_timeout=s3cret"],
)
def test_what_is_no_url_of_a_redis_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="none of redis://HOST") as raised:
        RedisBroker(url)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TypeError, match="no_such"):
        RedisBroker("redis://127.0.0.1?no_such=1")
    with pytest.raises(ValueError, match="above 0"):
        RedisBroker("redis://127.0.0.1", timeout=0)


@pytest.mark.parametrize(
    "options",
    [
        "decode_responses=True&protocol=3&encoding=latin-1",
        "max_connections=1&health_check_interval=1&retry_on_timeout=1",
        "socket_timeout=0.1&client_name=fastkit",
    ],
)
async def test_options_of_the_url_break_nothing(redis: OwnRedis, options: str) -> None:
    broker = RedisBroker(f"{redis.url}/3?{options}", timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["ü"])
        await broker.publish("ü", b"\xff")
        await ear.hears(("ü", b"\xff"))
        await broker.add_members([("ü", "ü")])
        assert await broker.members("ü") == {"ü"}
        await asyncio.sleep(0.3)
        assert ear.states == [True]


async def test_a_unix_socket(redis: OwnRedis, tmp_path: Path) -> None:
    redis.kill()
    path = tmp_path / "s"
    await redis.restart("--unixsocket", str(path))
    broker = RedisBroker(f"unix://{path}")
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await hears_again(broker, ear)
        redis.kill()
        await until(lambda: ear.states == [True, False])
        await redis.restart("--unixsocket", str(path))
        await hears_again(broker, ear)


async def test_over_tls(redis: OwnRedis, tmp_path: Path) -> None:
    redis.kill()
    certificate, key = map(str, make_certificate(tmp_path))
    port = str(free_port())
    options = ["--tls-port", port, "--tls-auth-clients", "no", "--tls-cert-file", certificate]
    options += ["--tls-key-file", key, "--tls-ca-cert-file", certificate]
    process = redis.start("--port", "0", *options)
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
        pytest.skip("this redis-server knows no TLS")
    process.kill()
    process.wait()
    await redis.restart(*options)
    broker = RedisBroker(
        f"rediss://127.0.0.1:{port}?ssl_ca_certs={quote(certificate)}", timeout=LONG
    )
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await hears_again(broker, ear)
        redis.kill()
        await until(lambda: ear.states == [True, False])
        await redis.restart(*options)
        await hears_again(broker, ear)
    stranger = RedisBroker(f"rediss://127.0.0.1:{port}", timeout=0.5)
    with pytest.raises(BrokerError, match="connecting"):
        await stranger.start(Ear().on_message, Ear().on_state)
    await stranger.close()
