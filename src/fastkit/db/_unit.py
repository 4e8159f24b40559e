"""One unit of work: what a session does from its first statement to its commit or rollback."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from anyio import CancelScope
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InvalidRequestError
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


class SessionEndedError(InvalidRequestError):
    """A session was used after its unit of work had ended."""


class ReadOnlyError(InvalidRequestError):
    """A session of `read_session` was asked to write."""


@dataclass(slots=True, eq=False)
class _Callback:
    """A function that waits for the fate of what the session had done when it was registered."""

    function: Callable[[], object]
    wanted: bool
    savepoint: SessionTransaction | None
    committed: bool | None = None


class UnitSession(Session):
    """The `Session` of one unit of work. It takes no connection once that has ended."""

    ended = False
    callbacks: tuple[_Callback, ...] = ()

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        """The engine or connection for a statement; asked for before every one."""
        if self.ended:
            raise SessionEndedError(
                f"{self!r} ended with its unit of work: the request's transaction is committed "
                "or rolled back before the response is sent, so streams and background tasks "
                "come too late for it. Open a session of their own there: "
                "async with db.begin() as session (with SyncDatabase, without async)."
            )
        return super().get_bind(*args, **kwargs)


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


# A savepoint has a fate of its own, which becomes that of what surrounds it when it is released.


@event.listens_for(UnitSession, "after_commit")
def _mark_committed(session: UnitSession) -> None:
    if not session.callbacks:
        return
    ending = session.get_nested_transaction()
    for callback in session.callbacks:
        if callback.committed is None:
            if ending is None:
                callback.committed = True
            elif callback.savepoint is ending:
                callback.savepoint = _enclosing_savepoint(ending)


@event.listens_for(UnitSession, "after_soft_rollback")
def _mark_rolled_back(session: UnitSession, ended: SessionTransaction) -> None:
    for callback in session.callbacks:
        if callback.committed is None and (ended.parent is None or callback.savepoint is ended):
            callback.committed = False


def _enclosing_savepoint(savepoint: SessionTransaction) -> SessionTransaction | None:
    parent = savepoint.parent
    while parent is not None and not parent.nested:
        parent = parent.parent
    return parent


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
        raise TypeError(
            f"{function!r} is async, and {session!r} has no event loop to await it: "
            "pass a plain function, or use Database."
        )
    if not unit.in_transaction():
        unit.begin()
    callback = _Callback(function, wanted, unit.get_nested_transaction())
    unit.callbacks = (*unit.callbacks, callback)


def _due(unit: UnitSession) -> list[Callable[[], object]]:
    """The functions to call now that the unit has ended; a fate nobody saw is a rollback."""
    return [
        callback.function
        for callback in unit.callbacks
        if callback.wanted is bool(callback.committed)
    ]


async def end_async(session: AsyncSession, *, commit: bool) -> None:
    """Commit or roll `session` back, give its connection back, and call what waited for that."""
    unit = session.sync_session
    assert isinstance(unit, UnitSession)  # noqa: S101 -- Database makes no other
    if unit.in_transaction() or unit.callbacks:
        await uninterrupted(_end_async(session, unit, commit=commit))
    unit.ended = True


async def _end_async(session: AsyncSession, unit: UnitSession, *, commit: bool) -> None:
    try:
        if commit:
            await session.commit()
    finally:
        unit.ended = True
        # Also after a failed commit: SQLite keeps that transaction open in the connection.
        try:
            await session.rollback()
        except Exception:
            _logger.warning("rollback failed: its connection is discarded", exc_info=True)
            await session.invalidate()
        await session.close()
        for function in _due(unit):
            try:
                result = function()
                if inspect.isawaitable(result):
                    await result
            except Exception:
                _log_failed(function)


def end_sync(session: Session, *, commit: bool) -> None:
    """Commit or roll `session` back, give its connection back, and call what waited for that."""
    assert isinstance(session, UnitSession)  # noqa: S101 -- SyncDatabase makes no other
    try:
        if commit:
            session.commit()
    finally:
        session.ended = True
        try:
            session.rollback()
        except Exception:
            _logger.warning("rollback failed: its connection is discarded", exc_info=True)
            session.invalidate()
        session.close()
        for function in _due(session):
            try:
                function()
            except Exception:
                _log_failed(function)


def _log_failed(function: Callable[[], object]) -> None:
    _logger.exception("%r raised after the unit of work had ended; the others go on", function)


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
            _logger.error("the end of a cancelled unit of work failed", exc_info=failure)
        raise cancelled
