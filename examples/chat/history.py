"""The last messages of each room, for those who come later, or again."""

import time
from collections import OrderedDict, deque
from typing import Protocol

from examples.chat.messages import Said, moment, said

KEPT = 50
"""Messages of a room."""

_OVERLAP = 10_000
"""Milliseconds. What two processes broadcast at the same time may reach a client in another order
than that of its ids: "all after the last that I have" would leave out the one that was late."""

_MAX_ROOMS = 100


class HistoryError(Exception):
    """The history cannot be reached."""


class History(Protocol):
    async def add(self, room: str, name: str, text: str, ref: str) -> Said:
        """Keep a message. One whose `ref` is known was kept before.

        Raises:
            HistoryError: It is not known whether it was kept. Add it again, with the same `ref`.
        """
        ...

    async def since(self, room: str, after: str | None) -> list[Said]:
        """What is kept of what came after this one, and some of what came shortly before it.

        Raises:
            HistoryError: It cannot be told.
        """
        ...

    async def close(self) -> None: ...


def earliest(after: str | None) -> int:
    """The millisecond from which on messages are given again."""
    return 0 if after is None else max(moment(after)[0] - _OVERLAP, 0)


class MemoryHistory:
    """In this process. Of too many rooms, that is forgotten in which nobody spoke for longest."""

    def __init__(self) -> None:
        self._rooms: OrderedDict[str, deque[tuple[str, Said]]] = OrderedDict()
        self._last = (0, 0)

    async def add(self, room: str, name: str, text: str, ref: str) -> Said:
        messages = self._rooms.setdefault(room, deque(maxlen=KEPT))
        self._rooms.move_to_end(room)
        if len(self._rooms) > _MAX_ROOMS:
            self._rooms.popitem(last=False)
        for known, message in messages:
            if known == ref:
                return message
        message = said(self._next_id(), room, name, text)
        messages.append((ref, message))
        return message

    async def since(self, room: str, after: str | None) -> list[Said]:
        start = (earliest(after), 0)
        kept = self._rooms.get(room, ())
        return [message for _, message in kept if moment(message.id) >= start]

    async def close(self) -> None:
        self._rooms.clear()

    def _next_id(self) -> str:
        # Rises also when the clock is set back, and when the process is started again.
        milliseconds, number = self._last
        now = time.time_ns() // 1_000_000
        self._last = (now, 0) if now > milliseconds else (milliseconds, number + 1)
        return "{}-{}".format(*self._last)
