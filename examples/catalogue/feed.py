"""What was announced: changes, once they are committed. One process's memory is enough to show."""

from collections import deque

from sqlalchemy.ext.asyncio import AsyncSession

from fastkit.db import after_commit

announced: deque[str] = deque(maxlen=20)


def announce_after_commit(session: AsyncSession, message: str) -> None:
    """Announce `message` when what `session` did is in the database, and never if it is not."""
    after_commit(session, lambda: announced.append(message))
