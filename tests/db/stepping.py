"""Do something at a chosen await of a task, or of the tasks that it makes."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any

__all__ = ("Steps", "settle", "stepping")


class Steps:
    """Counts how often any task waits, and calls `at_step` at the chosen time."""

    def __init__(self, chosen: int, at_step: Callable[[], object], *, repeatedly: bool) -> None:
        self.chosen = chosen
        self.at_step = at_step
        self.repeatedly = repeatedly
        self.taken = 0

    @property
    def reached(self) -> bool:
        return self.taken > self.chosen

    def count(self) -> None:
        if self.taken == self.chosen or (self.repeatedly and self.reached):
            self.at_step()
        self.taken += 1


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that counts each future which it yields to the event loop."""

    def __init__(self, work: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self.work = work
        self.steps = steps

    def send(self, value: Any, /) -> Any:
        future = self.work.send(value)
        self.steps.count()
        return future

    def throw(self, *exc: Any) -> Any:
        future = self.work.throw(*exc)
        self.steps.count()
        return future

    def close(self) -> None:
        self.work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.work.__await__()

    def __getattr__(self, name: str) -> Any:
        # anyio looks at `cr_running` and others.
        return getattr(self.work, name)


@contextmanager
def stepping(
    chosen: int, at_step: Callable[[], object], *, repeatedly: bool = False
) -> Generator[Steps]:
    """Watch each task that is made in the block, and call `at_step` at the await number `chosen`.

    With `repeatedly` it is called at every later one, too.
    """
    steps = Steps(chosen, at_step, repeatedly=repeatedly)
    loop = asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Watched(work, steps), loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(make)
    try:
        yield steps
    finally:
        loop.set_task_factory(before)


async def settle(left: set[asyncio.Task[Any]]) -> None:
    """Wait for the tasks in which SQLAlchemy closes connections that were cancelled in use."""
    for task in left:
        if "_terminate_graceful_close" in repr(task):
            # Where the waiting for one is cancelled, too, aiosqlite never tells it that it is done.
            await asyncio.wait([task], timeout=0.05)
            task.cancel()
    if left:
        _, pending = await asyncio.wait(left, timeout=5)
        assert not pending
