"""One unit of work: what a session does from its first statement to its commit or rollback."""

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from anyio import CancelScope
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IllegalStateChangeError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, UOWTransaction

__all__ = (
    "ReadOnlyError",
    "ReadOnlySession",
    "SessionEndedError",
    "UnitSession",
    "after_commit",
    "after_rollback",
    "end_async",
    "end_sync",
    "refuse_changes",
    "uninterrupted",
)

_logger = logging.getLogger("fastkit.db")

_PAUSE = 0.01  # seconds


class SessionEndedError(InvalidRequestError):
    """A session was used after its unit of work had ended."""


class ReadOnlyError(InvalidRequestError):
    """A session of `read_session` was asked to write."""


@dataclass(slots=True, eq=False)
class _Callback:
    """A function that waits for the fate of what the session had done when it was registered."""

    function: Callable[[], object]
    wanted: bool
    transaction: SessionTransaction | None
    committed: bool = False


class UnitSession(Session):
    """The `Session` of one unit of work. It takes no connection once that has ended."""

    ended = False
    callbacks: tuple[_Callback, ...] = ()

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        """The engine or connection for a statement; asked for before every one."""
        self.refuse_if_ended()
        return super().get_bind(*args, **kwargs)

    def connection(self, *args: Any, **kwargs: Any) -> Connection:
        """A connection, which does not ask for a bind when it is given one."""
        self.refuse_if_ended()
        return super().connection(*args, **kwargs)

    def refuse_if_ended(self) -> None:
        """Raise `SessionEndedError` if the unit of work is over."""
        if self.ended:
            raise SessionEndedError(
                f"{self!r} ended with its unit of work: the request's transaction is committed "
                "or rolled back before the response is sent, so streams and background tasks "
                "come too late for it. Open a session of their own there: "
                "async with db.begin() as session (with SyncDatabase, without async)."
            )


@event.listens_for(UnitSession, "before_attach")
@event.listens_for(UnitSession, "before_commit")
def _refuse_if_ended(session: UnitSession, *_: object) -> None:
    session.refuse_if_ended()


class ReadOnlySession(UnitSession):
    """A `UnitSession` that refuses to write."""


def refuse_changes(session: Session) -> None:
    """Raise `ReadOnlyError` if the session is one that only reads and has something to write."""
    if isinstance(session, ReadOnlySession):
        changed = {type(obj).__name__ for obj in (*session.new, *session.dirty, *session.deleted)}
        if changed:
            raise ReadOnlyError(
                f"read_session does not write, and has changes to {', '.join(sorted(changed))}: "
                "use session for a path operation that writes."
            )


@event.listens_for(ReadOnlySession, "before_flush")
def _refuse_flush(session: Session, _: UOWTransaction, __: object) -> None:
    refuse_changes(session)


@event.listens_for(ReadOnlySession, "do_orm_execute")
def _refuse_statement(state: ORMExecuteState) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        raise ReadOnlyError(
            f"read_session does not write, and {type(state.statement).__name__} does: "
            "use session for a path operation that writes."
        )


@event.listens_for(ReadOnlySession, "before_commit")
def _refuse_commit(session: Session) -> None:
    if not session.in_nested_transaction():
        raise ReadOnlyError(
            "read_session does not write, and has nothing to commit: "
            "use rollback() to give its connection back early, or session to write."
        )


@event.listens_for(UnitSession, "after_commit")
def _pass_on_fate(session: UnitSession) -> None:
    if not session.callbacks:
        return
    ending = session.get_nested_transaction() or session.get_transaction()
    # What a savepoint did has, once that is released, the fate of what surrounds it.
    outer = _enclosing(cast("SessionTransaction", ending))
    for callback in session.callbacks:
        if callback.transaction is ending:
            callback.transaction = outer
            callback.committed = outer is None


def _enclosing(transaction: SessionTransaction) -> SessionTransaction | None:
    outer = transaction.parent
    while outer is not None and outer.parent is not None and not outer.nested:
        outer = outer.parent  # that was a flush
    return outer


def after_commit(session: AsyncSession | Session, function: Callable[[], object]) -> None:
    """Call `function` once what `session` has done so far is committed, and never otherwise.

    It is called when the unit of work has ended and its connection is returned, before the response
    is sent: keep it short. What it raises is logged, for the data is safe and the client must be
    told so. In a savepoint it waits for that, too.

    Args:
        session: A session of a `Database` or `SyncDatabase`.
        function: Takes no arguments. With an `AsyncSession` it may be async.

    Raises:
        TypeError: The session is not one of fastkit's, never commits, or cannot await the function.
    """
    _register(session, function, wanted=True)


def after_rollback(session: AsyncSession | Session, function: Callable[[], object]) -> None:
    """Call `function` if what `session` has done so far is rolled back, whatever the reason.

    As `after_commit` otherwise. When the connection breaks during the commit, nobody knows whether
    the data is there; that counts as rolled back.
    """
    _register(session, function, wanted=False)


def _register(
    session: AsyncSession | Session, function: Callable[[], object], *, wanted: bool
) -> None:
    unit = session.sync_session if isinstance(session, AsyncSession) else session
    if not isinstance(unit, UnitSession) or isinstance(unit, ReadOnlySession):
        raise TypeError(
            f"{session!r} is no session that fastkit commits: use one of db.session or db.begin()."
        )
    if unit.ended:
        raise SessionEndedError(f"{session!r} has ended: nothing of it can be committed any more.")
    if unit is session and inspect.iscoroutinefunction(function):
        raise _no_event_loop(function, session)
    if not unit.in_transaction():
        unit.begin()
    transaction = unit.get_nested_transaction() or unit.get_transaction()
    callback = _Callback(function, wanted, transaction)
    unit.callbacks = (*unit.callbacks, callback)


def _no_event_loop(function: object, session: object) -> TypeError:
    return TypeError(
        f"{function!r} is async, and {session!r} has no event loop to await it: "
        "pass a plain function, or use Database."
    )


def _due(unit: UnitSession) -> list[Callable[[], object]]:
    """The functions to call now that the unit has ended; what was not committed is rolled back."""
    return [
        callback.function for callback in unit.callbacks if callback.wanted is callback.committed
    ]


def is_idle(session: Session) -> bool:
    """Whether the session can be ended at once: it has no connection, and nothing waits for it."""
    return not (session.in_transaction() or _unit(session).callbacks)


def _unit(session: Session) -> UnitSession:
    assert isinstance(session, UnitSession)  # noqa: S101 -- a database makes no other
    return session


async def end_async(session: AsyncSession, *, commit: bool) -> None:
    """Commit or roll `session` back, give its connection back, and call what waited for that."""
    unit = _unit(session.sync_session)
    if is_idle(unit):
        if len(unit.identity_map):  # after a commit or rollback of the app's own
            unit.close()
    else:
        await uninterrupted(_end_async(session, unit, commit=commit))
    unit.ended = True


async def _end_async(session: AsyncSession, unit: UnitSession, *, commit: bool) -> None:
    released = False
    try:
        if commit and unit.in_transaction():
            released = await session.run_sync(_commit_and_release)
    finally:
        unit.ended = True
        # No event to wait for: what still uses the session may be in a thread.
        while not (released or await session.run_sync(_release)):  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE)
        for function in _due(unit):
            with _failure_logged(function):
                result = function()
                if inspect.isawaitable(result):
                    await result


def end_sync(session: Session, *, commit: bool) -> None:
    """Commit or roll `session` back, give its connection back, and call what waited for that."""
    unit = _unit(session)
    try:
        if commit and unit.in_transaction():
            unit.commit()
    finally:
        unit.ended = True
        while not _release(unit):
            time.sleep(_PAUSE)
        for function in _due(unit):
            with _failure_logged(function):
                result = function()
                if inspect.iscoroutine(result):
                    result.close()
                    raise _no_event_loop(function, session)


def _commit_and_release(session: Session) -> bool:
    # Together, for each method of a session that is awaited takes a greenlet of its own.
    session.commit()
    _unit(session).ended = True
    return _release(session)


def _release(session: Session) -> bool:
    """Roll back what is not committed and give the connection back; False: not yet possible."""
    try:
        try:
            # Also after a failed commit: SQLite keeps that transaction open in the connection.
            session.rollback()
        finally:
            session.close()
    except IllegalStateChangeError:
        # A task or thread that the path operation has left behind is at work in the session.
        return False
    except (Exception, asyncio.CancelledError) as exc:
        _logger.warning("rollback failed, its connection is reset or discarded: %s", exc)
    return True


@contextmanager
def _failure_logged(function: Callable[[], object]) -> Generator[None]:
    try:
        yield
    except (Exception, asyncio.CancelledError) as exc:
        exc.__context__ = None  # a failed commit, whose text has SQL and parameters
        _logger.error(
            "%r raised after the unit of work had ended; the others go on", function, exc_info=exc
        )


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Wait until `work` is done, cancelled meanwhile or not, and be cancelled after it.

    A commit that is cancelled half-way leaves nobody knowing whether the data is there, and a
    rollback that is cancelled leaves its connection out of the pool. An anyio scope cancels again
    at every await, which the shield holds off; `Task.cancel()` gets through a shield, so the work
    is in a task of its own.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is None:
        task.result()
    else:
        if not task.cancelled() and (failure := task.exception()) is not None:
            # Not its text, which has SQL and parameters.
            _logger.error("the end of a cancelled unit of work failed: %s", type(failure).__name__)
        raise cancelled
