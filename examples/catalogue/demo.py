"""Routes on which things go wrong, or take their time. The page has a button for each."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import select

from examples.catalogue.database import SessionDep, db
from examples.catalogue.feed import announce_after_commit, announced
from examples.catalogue.models import Artist, Work
from examples.catalogue.settings import settings
from examples.catalogue.users import DEMO_KEY, DEMO_USERS, DemoUser
from fastkit.db import after_rollback
from fastkit.errors import ConflictError, ProblemError, problem_responses
from fastkit.timing import RequestRecord

router = APIRouter(prefix="/demo", tags=["demo"])

# TimingMiddleware puts a record of each finished request here, the newest first.
records: deque[RequestRecord] = deque(maxlen=50)


class TeapotError(ProblemError):
    status = 418
    type = "https://www.rfc-editor.org/rfc/rfc2324#section-2.3.2"
    title = "I'm a teapot"


class SignUp(BaseModel):
    name: str
    email: str
    password: Annotated[SecretStr, Field(min_length=12)]


@router.get("/teapot", responses=problem_responses(TeapotError))
async def teapot() -> None:
    """Raise an error that brings its own type, title and members."""
    raise TeapotError("A catalogue brews no coffee.", brews=["tea"])


@router.get("/crash")
async def crash() -> None:
    """Raise what nobody expected, with something in it that is nobody's business."""
    raise RuntimeError("could not log in to postgresql://admin:hunter2@db.internal")


@router.post("/sign-up", status_code=status.HTTP_204_NO_CONTENT)
async def sign_up(_: SignUp) -> None:
    """Take a password, and do nothing with it."""


@router.get("/slow")
async def slow() -> StreamingResponse:
    """Stream five titles, one every 0.3 s."""

    # The session of a request ends before its response starts, so a stream opens its own: one for
    # each step, because a connection held while a client reads is one that others wait for.
    async def lines() -> AsyncIterator[str]:
        titles = select(Work.title).where(Work.title.is_not(None)).order_by(Work.id).limit(1)
        for number in range(5):
            async with db.begin() as session:
                title = await session.scalar(titles.offset(number))
            yield f"{title}\n"
            await asyncio.sleep(0.3)

    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")


@router.post("/failing-commit", status_code=status.HTTP_201_CREATED)
async def failing_commit(session: SessionDep) -> dict[str, int]:
    """Add a work by nobody: all goes well up to the commit, which comes after this function."""
    work = Work(artist_id=-1, year=2026, technique="Nothing")
    session.add(work)
    await session.flush()
    work_id = work.id
    announce_after_commit(session, f"Work {work_id} was added.")
    after_rollback(session, lambda: announced.append(f"Work {work_id} was taken back."))
    return {"id": work_id}


@router.post(
    "/rollback",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(ConflictError),
)
async def rollback(session: SessionDep) -> None:
    """Add a work, and raise an error after that."""
    artist = (await session.scalars(select(Artist).order_by(Artist.id).limit(1))).one()
    session.add(Work(artist=artist, year=2026, technique="Second thoughts"))
    await session.flush()
    raise ConflictError("On second thoughts, no.")


@router.get("/announced")
async def list_announced() -> list[str]:
    """What was announced, the newest last."""
    return list(announced)


@router.get("/requests")
async def list_requests() -> list[dict[str, Any]]:
    """The last requests as TimingMiddleware recorded them, the newest first."""
    return [asdict(record) for record in records]


class Accounts(BaseModel):
    users: tuple[DemoUser, ...] = DEMO_USERS
    import_key: str = DEMO_KEY


@router.get("/accounts")
async def list_accounts() -> Accounts | None:
    """Who can sign in and import here, with their secrets; null where there is no demo."""
    return Accounts() if settings.demo else None
