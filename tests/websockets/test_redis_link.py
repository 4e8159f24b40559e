"""What a connection to Redis is when it is lost."""

import asyncio

import pytest

pytest.importorskip("redis", reason="RedisBroker needs redis")

from fastkit.websockets._redis_link import Link, LostError, connector
from tests.support import free_port

pytestmark = pytest.mark.anyio


async def test_a_lost_connection_stays_lost_and_says_why() -> None:
    reasons: list[str] = []
    connect = connector(f"redis://127.0.0.1:{free_port()}", 5.0)
    link = Link(connect(), timeout=5.0, on_lost=reasons.append)
    with pytest.raises(LostError, match="connecting") as waiting:
        await link.call((b"PING",))
    await asyncio.wait([link.task])
    assert link.is_lost
    with pytest.raises(LostError, match="connecting") as after:
        await link.call((b"PING",))
    link.post((b"PING",))
    await link.close()
    assert reasons == [str(waiting.value)] == [str(after.value)]
