"""What a client is told when the database refuses or fails."""

from types import TracebackType

from sqlalchemy.exc import DBAPIError, IntegrityError, TimeoutError

from fastkit.errors import Problem, ProblemMap

__all__ = ("DATABASE_PROBLEMS", "came_while_connecting")

_RETRY = {"Retry-After": "1"}

_CONFLICT = Problem(409, detail="The request conflicts with what is stored.")
_UNAVAILABLE = Problem(503, detail="The database is not available right now.", headers=_RETRY)
_BUSY = Problem(503, detail="The database is too busy for this request right now.", headers=_RETRY)

# SQLSTATE codes and their classes (PostgreSQL's manual, appendix A).
_UNAVAILABLE_STATES = ("08", "57P01", "57P02", "57P03")  # connections, and a server going or coming
_BUSY_STATES = ("40001", "40P01", "53", "55P03")  # serialization, deadlock, resources, locks

_SQLITE_BUSY = frozenset({5, 6})  # SQLITE_BUSY and SQLITE_LOCKED, in the low byte of a code


def _driver_problem(exc: DBAPIError) -> Problem | None:
    state = str(getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None) or "")
    if (
        exc.connection_invalidated
        or state.startswith(_UNAVAILABLE_STATES)
        or came_while_connecting(exc)
    ):
        return _UNAVAILABLE
    sqlite_code: int = getattr(exc.orig, "sqlite_errorcode", 0)
    if state.startswith(_BUSY_STATES) or sqlite_code & 0xFF in _SQLITE_BUSY:
        return _BUSY
    return None


def came_while_connecting(exc: BaseException) -> bool:
    """Whether the connection pool was at work, which no type or attribute of the error tells."""
    frame: TracebackType | None = exc.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__") == "sqlalchemy.pool.base":
            return True
        frame = frame.tb_next
    return False


DATABASE_PROBLEMS: ProblemMap = {
    IntegrityError: lambda _: _CONFLICT,
    DBAPIError: _driver_problem,
    TimeoutError: lambda _: _BUSY,
}
"""For `install_exception_handlers`: what the database's errors are to a client.

A violated constraint is a 409. A lost or refused connection, a full pool, a serialization failure,
a deadlock and a lock that could not be had are a 503 with `Retry-After`. Anything else stays
unhandled. Neither SQL nor parameters are shown.
"""
