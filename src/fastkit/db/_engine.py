"""What an engine must be watched for, so that a commit which returns has committed."""

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidRequestError

__all__ = ("watch",)

_FAILED = "fastkit.failed"

_AUTOCOMMIT = (
    "{!r} has the isolation level AUTOCOMMIT, in which nothing can be rolled back: make the engine "
    "without it. What needs it can use engine.execution_options(isolation_level='AUTOCOMMIT')."
)


def watch(engine: Engine) -> None:
    """Listen to `engine`; to do it twice changes nothing.

    Raises:
        ValueError: Its isolation level is `AUTOCOMMIT`.
    """
    level: str | None = engine.get_execution_options().get("isolation_level")
    if level is not None and level.upper() == "AUTOCOMMIT":
        raise ValueError(_AUTOCOMMIT.format(engine))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "savepoint", _begin_on_sqlite)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "handle_error", _note_failure)
        event.listen(engine, "begin", _forget_failure)
        event.listen(engine, "rollback_savepoint", _forget_failure_of_savepoint)
        event.listen(engine, "commit", _refuse_failed)
        if level is None:
            # The argument of create_engine() can be seen in the connections alone.
            event.listen(engine, "connect", _refuse_autocommit)


def _begin_on_sqlite(connection: Connection, _: str) -> None:
    """Python's sqlite3 begins no transaction for a savepoint: releasing the first would commit."""
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN")


def _refuse_autocommit(connection: Any, _: object) -> None:
    if getattr(connection, "autocommit", False):
        connection.close()
        raise InvalidRequestError(_AUTOCOMMIT.format(connection))


def _note_failure(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is None or connection.invalidated:
        return
    if getattr(context.original_exception, "sqlstate", None):
        connection.info[_FAILED] = True
    elif context.statement is None:
        # A BEGIN, COMMIT or ROLLBACK that the server did not answer: asyncpg does so where another
        # task is at work in the connection. Whoever got it next would be in that transaction.
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def _forget_failure(connection: Connection) -> None:
    connection.info.pop(_FAILED, None)


def _forget_failure_of_savepoint(connection: Connection, _: str, __: object) -> None:
    _forget_failure(connection)


def _refuse_failed(connection: Connection) -> None:
    """PostgreSQL answers COMMIT with a silent ROLLBACK once a statement has failed."""
    if connection.info.pop(_FAILED, False):
        raise InvalidRequestError(
            "The transaction cannot be committed: a statement in it failed, and the exception was "
            "caught. Let it out, or put the statement in a savepoint: "
            "async with session.begin_nested() (with SyncDatabase, without async)."
        )
