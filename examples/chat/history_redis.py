"""The last messages of each room in Redis, for all processes: a stream for each room."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from examples.chat.history import KEPT, HistoryError, earliest
from examples.chat.messages import Said, said

_SECONDS = 5
"""How long Redis may take."""

_ROOM_SECONDS = 7 * 24 * 3600
"""How long a room is kept in which nobody speaks."""

_REF_SECONDS = 24 * 3600
"""How long a message may be sent again without being said twice."""

# Redis makes the ids of a stream of its own clock, so that they rise for all processes together.
_ADD = """
local known = redis.call('GET', KEYS[2])
if known then return known end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'name', ARGV[2], 'text', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], id, 'EX', ARGV[5])
return id
"""


class RedisHistory:
    def __init__(self, url: str, *, prefix: str) -> None:
        # A connection of before Redis was started again is only found to be none when it is used.
        again: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 1),
            "retry_on_error": [ConnectionError],
        }
        self._redis: Any = Redis.from_url(url, decode_responses=True, **again)  # pyright: ignore[reportUnknownMemberType]
        self._prefix = f"{prefix}history:"

    async def add(self, room: str, name: str, text: str, ref: str) -> Said:
        keys = [f"{self._prefix}room:{room}", f"{self._prefix}ref:{ref}"]
        async with _bounded():
            values = [KEPT, name, text, _ROOM_SECONDS, _REF_SECONDS]
            message_id = await self._redis.eval(_ADD, len(keys), *keys, *values)
        return said(message_id, room, name, text)

    async def since(self, room: str, after: str | None) -> list[Said]:
        async with _bounded():
            found = await self._redis.xrange(f"{self._prefix}room:{room}", earliest(after), "+")
        return [said(message_id, room, **fields) for message_id, fields in found]

    async def close(self) -> None:
        await self._redis.aclose()


@asynccontextmanager
async def _bounded() -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(_SECONDS):
            yield
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        raise HistoryError(f"Redis has no history now: {error}") from error
