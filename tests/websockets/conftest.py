"""A Redis for each test that needs one of its own."""

from collections.abc import AsyncGenerator

import pytest

from tests.support import StartRedis, redis_answers
from tests.websockets.brokers import OwnRedis, client_of, own_tasks


@pytest.fixture
async def redis(redis_port: int, start_redis: StartRedis) -> AsyncGenerator[OwnRedis]:
    url = f"redis://127.0.0.1:{redis_port}"
    async with client_of(url) as client:
        own = OwnRedis(url, start_redis, client, start_redis())
        await redis_answers(client)
        yield own
    assert own_tasks() == []
