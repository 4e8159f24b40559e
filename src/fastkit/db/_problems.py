"""What a client is told when the database refuses or fails."""

import logging
from types import TracebackType

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)

from fastkit.errors import Problem, ProblemMap

__all__ = ("DATABASE_PROBLEMS", "raise_as_sqlalchemys")

_logger = logging.getLogger("fastkit.db")

_RETRY = {"Retry-After": "1"}

_VALUE = Problem(400, detail="The request has a value that the database cannot hold or read.")
_CONFLICT = Problem(409, detail="The request conflicts with what is stored.")
_UNAVAILABLE = Problem(503, detail="The database is not available right now.", headers=_RETRY)
_BUSY = Problem(503, detail="The database is too busy for this request right now.", headers=_RETRY)

# SQLSTATE codes and their classes (PostgreSQL's manual, appendix A).
_UNAVAILABLE_STATES = ("08", "57P01", "57P02", "57P03")  # connections, and a server going or coming
_BUSY_STATES = ("40001", "40P01", "53", "55P03")  # serialization, deadlock, resources, locks

# Of class 22, what is about a value's length, range, form or characters. Others, such as a division
# by zero, are as likely a mistake in the statement.
_VALUE_STATES = ("22001", "22003", "22007", "22008", "22021", "22026", "22P02", "22P05")
_REFUSED_BY_ASYNCPG = "22000"

_SQLITE_BUSY = frozenset({5, 6})  # SQLITE_BUSY and SQLITE_LOCKED, in the low byte of a code


def _driver_problem(exc: DBAPIError) -> Problem | None:
    state = str(getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None) or "")
    if (
        exc.connection_invalidated
        or state.startswith(_UNAVAILABLE_STATES)
        or _came_while_connecting(exc)
    ):
        return _logged(_UNAVAILABLE, exc, state)
    sqlite_code: int = getattr(exc.orig, "sqlite_errorcode", 0)
    if state.startswith(_BUSY_STATES) or sqlite_code & 0xFF in _SQLITE_BUSY:
        return _logged(_BUSY, exc, state)
    if _is_about_a_value(exc, state):
        return _logged(_VALUE, exc, state)
    return None


def _is_about_a_value(exc: DBAPIError, state: str) -> bool:
    if state == _REFUSED_BY_ASYNCPG:
        # A TypeError or AttributeError is under it where the app passed a wrong type.
        return isinstance(_chain(exc)[-1], OverflowError | ValueError)
    return state in _VALUE_STATES or (not state and isinstance(exc, DataError))


def _pool_problem(exc: TimeoutError) -> Problem:
    return _logged(_BUSY, exc)


def _overflow_problem(exc: OverflowError) -> Problem | None:
    """SQLAlchemy lets out what Python's sqlite3 raises for an integer of more than 64 bits."""
    return _logged(_VALUE, exc) if _came_through(exc, "sqlalchemy.engine.default") else None


def _logged(problem: Problem, exc: Exception, state: str = "") -> Problem:
    """`problem`, and a line for whoever runs the app. Not the text, which has SQL and values."""
    chain = _chain(exc)
    kinds = [f"{type(error).__module__}.{type(error).__qualname__}" for error in chain]
    code = state or getattr(chain[-1], "sqlite_errorname", "none")
    _logger.warning("answered %d: %s, code %s", problem.status, " from ".join(kinds), code)
    return problem


def _chain(exc: BaseException) -> list[BaseException]:
    return [exc, *(_chain(exc.__cause__) if exc.__cause__ else ())]


def _came_while_connecting(exc: BaseException) -> bool:
    """Whether the connection pool was at work, which no type or attribute of the error tells."""
    return _came_through(exc, "sqlalchemy.pool.base")


def _came_through(exc: BaseException, module: str) -> bool:
    frame: TracebackType | None = exc.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__") == module:
            return True
        frame = frame.tb_next
    return False


def raise_as_sqlalchemys(exc: Exception) -> None:
    """Raise `OperationalError` if `exc` is what SQLAlchemy lets out while it connects: errors of
    asyncpg, of the operating system or of an engine's `creator`.
    """
    if not isinstance(exc, SQLAlchemyError) and _came_while_connecting(exc):
        error = OperationalError(None, None, exc)
        raise error.with_traceback(exc.__traceback__) from exc


DATABASE_PROBLEMS: ProblemMap = {
    IntegrityError: lambda _: _CONFLICT,
    DBAPIError: _driver_problem,
    TimeoutError: _pool_problem,
    OverflowError: _overflow_problem,
}
"""For `install_exception_handlers`: what the database's errors are to a client.

A violated constraint is a 409. A value that is out of range, too long or of the wrong form for the
database is a 400. A lost or refused connection, a full pool, a serialization failure, a deadlock
and a lock that could not be had are a 503 with `Retry-After`. Anything else stays unhandled.
Neither SQL nor values are shown; for each 400 and 503, the log has a line that says what it was.
"""
