"""Who is here: each client is told when that changes, also when another process was killed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from examples.chat.messages import Here
from fastkit.websockets import BrokerError, Connection, ConnectionManager

_SOON = 0.1
"""Seconds: when many come and go at once, that is told once."""

_OFTEN = 1.0
"""Seconds until what happens in other processes is noticed. A process that was killed cannot tell
of it, so each looks for itself, and tells its own clients."""


class Presence:
    def __init__(self, manager: ConnectionManager) -> None:
        self._manager = manager
        self._told: dict[Connection, tuple[str, frozenset[str]]] = {}
        self._changed = asyncio.Event()

    def entered(self, connection: Connection, room: str, told: frozenset[str]) -> None:
        """It is in this room, and was told that these are."""
        self._told[connection] = room, told
        self._changed.set()

    def left(self, connection: Connection) -> None:
        self._told.pop(connection, None)
        self._changed.set()

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncGenerator[None]:
        task = asyncio.create_task(self._watch())
        yield
        task.cancel()

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_OFTEN):
                    await self._changed.wait()
            await asyncio.sleep(_SOON)
            self._changed.clear()
            with suppress(BrokerError):  # the next time, then
                for room in {room for room, _ in self._told.values()}:
                    await self._tell(room, await self._manager.presence(room))

    async def _tell(self, room: str, names: frozenset[str]) -> None:
        here = Here(room=room, here=sorted(names))
        for connection, told in list(self._told.items()):
            is_current = self._told.get(connection) is told  # it may have left meanwhile
            if is_current and told[0] == room and told[1] != names:
                self._told[connection] = room, names
                await self._manager.send_personal_message(here, connection)
