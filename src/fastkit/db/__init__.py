"""A database session for each request: committed before the response, or rolled back.

db = Database("sqlite+aiosqlite:///shop.db")
SessionDep = Annotated[AsyncSession, db.session]
app = FastAPI(lifespan=db.lifespan)
"""

from typing import TYPE_CHECKING, Any

from fastkit._extras import requires

with requires("SQLAlchemy", by="fastkit.db", module="sqlalchemy", install="sqlalchemy[asyncio]"):
    from fastkit.db._database import Database, SessionScopeError, SyncDatabase
    from fastkit.db._problems import DATABASE_PROBLEMS
    from fastkit.db._unit import ReadOnlyError, SessionEndedError, after_commit, after_rollback

if TYPE_CHECKING:
    from fastkit.db._paginate import paginate
else:

    def __getattr__(name: str) -> Any:
        # Only for who pages: it takes longer to import than all the rest of the block.
        if name == "paginate":
            from fastkit.db._paginate import paginate

            return paginate
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = (
    "DATABASE_PROBLEMS",
    "Database",
    "ReadOnlyError",
    "SessionEndedError",
    "SessionScopeError",
    "SyncDatabase",
    "after_commit",
    "after_rollback",
    "paginate",
)
