"""`SQLTokenStore`: logins in the app's database."""

from collections.abc import Callable
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from fastkit.auth._store import PRUNED_AT_ONCE, Login
from fastkit.db import Database, SyncDatabase
from fastkit.db._unit import uninterrupted

__all__ = ("SQLTokenStore",)

_T = TypeVar("_T")


class SQLTokenStore:
    """Logins in a table of the app's database, SQLite or PostgreSQL.

        store = SQLTokenStore(db, metadata=Base.metadata)

    It has transactions of its own, with which those of requests have nothing to do.

    Args:
        database: Where the table is.
        metadata: The app's, to which the table is added: so its migrations find it.
        table: The table's name.

    Raises:
        ValueError: The metadata has another table of that name.
    """

    def __init__(
        self,
        database: Database[Any] | SyncDatabase[Any],
        /,
        *,
        metadata: MetaData,
        table: str = "fastkit_logins",
    ) -> None:
        self._database = database
        self._table = _add_table(table, metadata)

    async def add(self, login: Login, /) -> None:
        """As `TokenStore` says."""
        table = self._table
        values = {column.name: getattr(login, column.name) for column in table.columns}
        expired = (
            select(table.c.id)
            .where(table.c.expires_at < login.used_at)
            .order_by(table.c.expires_at)
            .limit(PRUNED_AT_ONCE)
            # Others prune as well: whoever comes second has nothing to wait for.
            .with_for_update(skip_locked=True)
        )

        def work(connection: Connection) -> None:
            connection.execute(insert(table).values(values))
            if ids := connection.scalars(expired).all():
                connection.execute(delete(table).where(table.c.id.in_(ids)))

        await self._run(work)

    async def get(self, login_id: str, /) -> Login | None:
        """As `TokenStore` says."""
        query = select(self._table).where(self._table.c.id == login_id)
        row = await self._run(lambda connection: connection.execute(query).mappings().one_or_none())
        if row is None:
            return None
        values: dict[str, Any] = {**row, "scopes": tuple(row["scopes"])}
        return Login(**values)

    async def advance(
        self, login_id: str, generation: int, /, *, stamp: str, used_at: float, expires_at: float
    ) -> bool:
        """As `TokenStore` says."""
        table = self._table
        change = (
            update(table)
            .where(table.c.id == login_id, table.c.generation == generation)
            .values(generation=generation + 1, stamp=stamp, used_at=used_at, expires_at=expires_at)
        )
        return await self._run(lambda connection: connection.execute(change).rowcount) == 1

    async def remove(self, login_id: str, /) -> bool:
        """As `TokenStore` says."""
        removal = delete(self._table).where(self._table.c.id == login_id)
        return await self._run(lambda connection: connection.execute(removal).rowcount) == 1

    async def remove_all(self, subject: str, /) -> int:
        """As `TokenStore` says."""
        removal = delete(self._table).where(self._table.c.subject == subject)
        return await self._run(lambda connection: connection.execute(removal).rowcount)

    async def _run(self, work: Callable[[Connection], _T]) -> _T:
        """The result of `work`, committed."""
        database = self._database
        results: list[_T] = []

        def in_session(session: Session) -> None:
            results.append(work(_connection(session)))

        if isinstance(database, SyncDatabase):

            def in_thread() -> None:
                with database.begin() as session:
                    in_session(session)

            await uninterrupted(run_sync(in_thread))
        else:
            async with database.begin() as session:
                await session.run_sync(in_session)
        return results[0]


def _connection(session: Session) -> Connection:
    bind = session.get_bind()
    if isinstance(bind, Engine) and bind.dialect.name == "postgresql":
        # In an app with a higher level, who loses a race would get an error for it.
        return session.connection(execution_options={"isolation_level": "READ COMMITTED"})
    return session.connection()


def _add_table(name: str, metadata: MetaData) -> Table:
    columns = (
        Column("id", String(32), primary_key=True),
        Column("subject", String, nullable=False, index=True),
        Column("scopes", JSON, nullable=False),
        Column("stamp", String, nullable=False),
        Column("nonce_hash", String(64), nullable=False),
        Column("generation", Integer, nullable=False),
        # Seconds since 1970: the same on each database, and no time zone to get wrong.
        Column("used_at", Double, nullable=False),
        Column("expires_at", Double, nullable=False, index=True),
    )
    # Two stores may share a table: that of an app and that of its tests.
    table = Table(name, metadata, *columns, keep_existing=True)
    if set(table.columns.keys()) != {column.name for column in columns}:
        raise ValueError(
            f"The metadata has a table {table.fullname!r} that is not SQLTokenStore's: "
            "give the store another name for its own with table=."
        )
    return table
