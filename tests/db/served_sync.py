"""An app on a `SyncDatabase`; environment variables say on which one."""

import threading
import time
from typing import Annotated

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from fastkit.db import SyncDatabase, after_commit, after_rollback
from tests.db import served
from tests.db.models import Item, Part
from tests.db.support import make_sync_engine, terminate

db = SyncDatabase(make_sync_engine(served.URL, **served.POOL))
SessionDep = Annotated[Session, db.session]
app = served.make_app(db)

both_have_read = threading.Barrier(2, timeout=10)


def follow(session: Session, name: str) -> None:
    after_commit(session, lambda: served.fates.append(f"{name} committed"))
    after_rollback(session, lambda: served.fates.append(f"{name} rolled back"))


@app.get("/items")
def items(session: SessionDep) -> list[str]:
    return sorted(session.scalars(select(Item.name)))


@app.post("/items", status_code=201)
def create(name: str, session: SessionDep) -> dict[str, bool]:
    follow(session, name)
    session.add(Item(name=name))
    return {"saved": True}


@app.post("/orphans", status_code=201)
def orphan(name: str, session: SessionDep) -> dict[str, bool]:
    follow(session, name)
    session.add_all([Item(name=name), Part(item_id=999)])
    session.flush()
    return {"saved": True}


@app.post("/killed", status_code=201)
def killed(name: str, session: SessionDep) -> dict[str, bool]:
    follow(session, name)
    session.add(Item(name=name))
    session.flush()
    terminate(db.engine.url, session.scalars(text("SELECT pg_backend_pid()")).one())
    return {"saved": True}


@app.post("/counted", status_code=201)
def counted(name: str, session: SessionDep) -> dict[str, bool]:
    follow(session, name)
    session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    count = session.scalar(select(func.count()).select_from(Item))
    both_have_read.wait()
    session.add(Item(name=f"{name} {count}"))
    session.flush()
    both_have_read.wait()
    return {"saved": True}


@app.post("/renamed", status_code=201)
def renamed(name: str, session: SessionDep) -> dict[str, bool]:
    follow(session, name)
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    item = session.scalars(select(Item).where(Item.name.like("old%"))).one()
    both_have_read.wait()
    item.name = f"old {name}"
    return {"saved": True}


# FastAPI serializes a response model in the threads that path operations run in, too.
@app.post("/slow", status_code=201, response_model=None)
def slow(name: str, session: SessionDep) -> dict[str, bool]:
    session.add(Item(name=name))
    session.flush()
    time.sleep(served.HOLD)
    return {"saved": True}
