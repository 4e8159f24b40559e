"""What the two apps that real servers run in these tests have in common."""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from fastkit.db import DATABASE_PROBLEMS, Database, SyncDatabase
from fastkit.errors import install_exception_handlers
from tests.db.support import checked_out

__all__ = ("HOLD", "POOL", "URL", "State", "fates", "make_app")

URL = os.environ["DATABASE_URL"]
POOL: dict[str, Any] = {
    "pool_size": int(os.environ.get("POOL_SIZE", "2")),
    "pool_timeout": float(os.environ.get("POOL_TIMEOUT", "5")),
}
# Seconds for which /slow keeps its connection.
HOLD = float(os.environ.get("HOLD", "0.05"))

fates: list[str] = []


class State(BaseModel):
    """What cannot be seen from outside the process."""

    checked_out: int
    fates: list[str]


def make_app(db: Database[Any] | SyncDatabase[Any]) -> FastAPI:
    app = FastAPI(lifespan=db.lifespan)
    if os.environ.get("PROBLEMS") != "0":
        install_exception_handlers(app, DATABASE_PROBLEMS)

    @app.get("/state")
    async def state() -> State:
        return State(checked_out=checked_out(db), fates=fates)

    return app
