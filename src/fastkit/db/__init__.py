"""A database session for each request: committed before the response, or rolled back.

db = Database("sqlite+aiosqlite:///shop.db")
SessionDep = Annotated[AsyncSession, db.session]
app = FastAPI(lifespan=db.lifespan)
"""

from fastkit._extras import requires

with requires("SQLAlchemy", by="fastkit.db", module="sqlalchemy", install="sqlalchemy[asyncio]"):
    from fastkit.db._database import Database, SessionScopeError, SyncDatabase
    from fastkit.db._problems import DATABASE_PROBLEMS
    from fastkit.db._unit import ReadOnlyError, SessionEndedError, after_commit, after_rollback

__all__ = (
    "DATABASE_PROBLEMS",
    "Database",
    "ReadOnlyError",
    "SessionEndedError",
    "SessionScopeError",
    "SyncDatabase",
    "after_commit",
    "after_rollback",
)
