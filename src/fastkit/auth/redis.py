"""`RedisTokenStore` and `RedisThrottle`: logins and failed ones, in Redis."""

import json
import math
from hashlib import sha256
from itertools import chain
from typing import Any

from fastkit._extras import requires
from fastkit.auth._store import PRUNED_AT_ONCE, Login

with requires("redis", by="fastkit.auth.redis", module="redis", install="redis"):
    from redis.asyncio import Redis, RedisCluster

    from fastkit.auth._redis_throttle import RedisThrottle

__all__ = ("RedisThrottle", "RedisTokenStore")

# KEYS: a login, and a set with the ids of its subject's logins, sorted by when they expire.
# ARGV: the login's id, when it is used, when it expires, and the milliseconds from then to then.
_KEEP = """
redis.call('HSET', KEYS[1], 'used_at', ARGV[2], 'expires_at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
"""
# Then the other fields. Logins expire by themselves, but not their ids in the set. These stay for a
# day more: whoever's clock is ahead must not hide a login from those who want to end it.
_ADD = f"""
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
{_KEEP}
local expired = redis.call(
    'ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2] - 86400, 'LIMIT', 0, {PRUNED_AT_ONCE}
)
if #expired > 0 then
    redis.call('ZREM', KEYS[2], unpack(expired))
end
"""
# Then the generation that is expected, and the new stamp.
_ADVANCE = f"""
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[5] then
    return 0
end
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'stamp', ARGV[6])
{_KEEP}
return 1
"""
# KEYS: the set, and the logins. ARGV: their ids.
_REMOVE = """
local removed = 0
for i, id in ipairs(ARGV) do
    removed = removed + redis.call('DEL', KEYS[i + 1])
    redis.call('ZREM', KEYS[1], id)
end
return removed
"""


class RedisTokenStore:
    """Logins in Redis, where they expire by themselves.

    Let Redis evict nothing (`maxmemory-policy noeviction`): it might forget which logins a subject
    has, and then they cannot be ended together. What a failover loses is as if it had not happened:
    a login that had ended may go on.

    Args:
        redis: A client of yours, with or without `decode_responses`.
        prefix: Begins every key. For a cluster it takes a hash tag, as in `{fastkit:auth}:`, which
            keeps the logins on one node: the scripts have keys of several.
    """

    def __init__(self, redis: Redis | RedisCluster, /, *, prefix: str = "fastkit:auth:") -> None:
        self._redis: Any = redis  # its annotations are not the same in each release
        self._prefix = prefix
        self._adding = redis.register_script(_ADD)
        self._advancing = redis.register_script(_ADVANCE)
        self._removing = redis.register_script(_REMOVE)

    async def add(self, login: Login, /) -> None:
        """As `TokenStore` says."""
        fields = {
            "subject": login.subject,
            "scopes": json.dumps(login.scopes),
            "stamp": login.stamp,
            "nonce_hash": login.nonce_hash,
            "generation": str(login.generation),
        }
        keys = self._keys(login.id, login.subject)
        times = _times(login.used_at, login.expires_at)
        await self._adding(keys, [login.id, *times, *chain.from_iterable(fields.items())])

    async def get(self, login_id: str, /) -> Login | None:
        """As `TokenStore` says."""
        found = await self._redis.hgetall(self._login_key(login_id))
        if not found:
            return None
        fields = {_text(name): _text(value) for name, value in found.items()}
        return Login(
            id=login_id,
            subject=fields["subject"],
            scopes=tuple(json.loads(fields["scopes"])),
            stamp=fields["stamp"],
            nonce_hash=fields["nonce_hash"],
            generation=int(fields["generation"]),
            used_at=float(fields["used_at"]),
            expires_at=float(fields["expires_at"]),
        )

    async def advance(
        self, login_id: str, generation: int, /, *, stamp: str, used_at: float, expires_at: float
    ) -> bool:
        """As `TokenStore` says."""
        subject = await self._subject(login_id)
        if subject is None:
            return False
        times = _times(used_at, expires_at)
        return bool(
            await self._advancing(
                self._keys(login_id, subject), [login_id, *times, generation, stamp]
            )
        )

    async def remove(self, login_id: str, /) -> bool:
        """As `TokenStore` says."""
        subject = await self._subject(login_id)
        if subject is None:
            return False
        return await self._remove([login_id], self._subject_key(subject)) == 1

    async def remove_all(self, subject: str, /) -> int:
        """As `TokenStore` says."""
        key = self._subject_key(subject)
        ids = await self._redis.zrange(key, 0, -1)
        return await self._remove([_text(login_id) for login_id in ids], key) if ids else 0

    async def _remove(self, ids: list[str], subject_key: str) -> int:
        return int(await self._removing([subject_key, *map(self._login_key, ids)], ids))

    async def _subject(self, login_id: str) -> str | None:
        subject = await self._redis.hget(self._login_key(login_id), "subject")
        return None if subject is None else _text(subject)

    def _keys(self, login_id: str, subject: str) -> list[str]:
        return [self._login_key(login_id), self._subject_key(subject)]

    def _login_key(self, login_id: str) -> str:
        return f"{self._prefix}login:{login_id}"

    def _subject_key(self, subject: str) -> str:
        return f"{self._prefix}subject:{sha256(subject.encode()).hexdigest()}"


def _times(used_at: float, expires_at: float) -> tuple[float, float, int]:
    # How long it lives is counted by Redis, whose clock may be another.
    return used_at, expires_at, max(1, math.ceil((expires_at - used_at) * 1000))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
