"""Several lifespans in one app."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

__all__ = ("combine",)

_Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


def combine(*lifespans: _Lifespan) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """One lifespan out of several: started in order, ended in reverse.

        app = FastAPI(lifespan=combine(db.lifespan, own))

    When one fails to start, those before it are ended; when one fails to end, the others are ended
    all the same. What they yield is merged into one state for `request.state`.

    Raises:
        ValueError: Two of them yield the same key (when the app starts).
    """

    @asynccontextmanager
    async def combined(app: Any) -> AsyncGenerator[dict[str, Any]]:
        state: dict[str, Any] = {}
        started: list[AbstractAsyncContextManager[Mapping[str, Any] | None]] = []
        try:
            for lifespan in lifespans:
                context = lifespan(app)
                yielded = await context.__aenter__()
                started.append(context)
                for key, value in (yielded or {}).items():
                    if key in state:
                        raise ValueError(
                            f"Two lifespans yield {key!r}, the second is {lifespan!r}: rename one."
                        )
                    state[key] = value
            yield state
        finally:
            await _end(started)

    return combined


# AsyncExitStack would drop the first exception when a second lifespan fails to end.
async def _end(started: list[AbstractAsyncContextManager[Any]]) -> None:
    if started:
        try:
            # No exception of another one: it would skip what follows a bare `yield`.
            await started.pop().__aexit__(None, None, None)
        finally:
            await _end(started)
