"""Where messages go: to this process alone, or to all that share a Redis."""

from examples.chat.history import History, MemoryHistory
from examples.chat.settings import settings
from fastkit.websockets import Broker, MemoryBroker

_PREFIX = "chat:"
"""Begins all keys and channels, so that other apps may use the same Redis."""


def make() -> tuple[Broker, History]:
    if settings.redis_url is None:
        return MemoryBroker(), MemoryHistory()
    from examples.chat.history_redis import RedisHistory
    from fastkit.websockets.redis import RedisBroker

    url = settings.redis_url.get_secret_value()
    return RedisBroker(url, prefix=_PREFIX), RedisHistory(url, prefix=_PREFIX)


broker, history = make()
