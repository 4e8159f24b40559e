"""`RedisThrottle`: attempts to log in, counted for all processes."""

from redis.asyncio import Redis, RedisCluster

from fastkit.auth._throttle import LoginLimits, counter_keys

__all__ = ("RedisThrottle",)

# The rules of MemoryThrottle, by the clock of Redis and in microseconds.
# KEYS: both, the address, the account. ARGV, of each: its interval, and how long all take.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function keep(key, due)
    redis.call('SET', key, string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
end
"""
_HIT = f"""{_NOW}
local wait, due = 0, {{}}
for i, key in ipairs(KEYS) do
    local interval, most = ARGV[2 * i - 1], ARGV[2 * i]
    due[i] = math.max(now, tonumber(redis.call('GET', key) or now)) + interval
    wait = math.max(wait, due[i] - now - most)
end
if wait == 0 then
    for i, key in ipairs(KEYS) do keep(key, due[i]) end
end
return wait
"""
_CLEAR = f"""{_NOW}
redis.call('DEL', KEYS[1])
for i = 2, 3 do
    local due = tonumber(redis.call('GET', KEYS[i]) or now) - ARGV[2 * i - 1]
    if due > now then keep(KEYS[i], due) else redis.call('DEL', KEYS[i]) end
end
"""


class RedisThrottle:
    """Counts in Redis, for all processes, where counts expire by themselves.

    A Redis that does not answer raises its own error: nobody logs in without being counted.

    Args:
        redis: A client of yours, with or without `decode_responses`.
        limits: How many failed logins are too many; `LoginLimits()` unless they are given.
        prefix: Begins every key. For a cluster it takes a hash tag, as in `{fastkit:auth}:`.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        /,
        *,
        limits: LoginLimits | None = None,
        prefix: str = "fastkit:auth:",
    ) -> None:
        self._paces = [part for pace in (limits or LoginLimits()).paces() for part in pace]
        self._prefix = prefix
        self._hit = redis.register_script(_HIT)
        self._clear = redis.register_script(_CLEAR)

    async def hit(self, account: str, address: str, /) -> float | None:
        """As `Throttle` says."""
        wait = await self._hit(self._keys(account, address), self._paces)
        return int(wait) / 1e6 if wait else None

    async def clear(self, account: str, address: str, /) -> None:
        """As `Throttle` says."""
        await self._clear(self._keys(account, address), self._paces)

    def _keys(self, account: str, address: str) -> list[str]:
        return [f"{self._prefix}throttle:{each.hex()}" for each in counter_keys(account, address)]
