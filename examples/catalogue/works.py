"""Read works; create, update and delete them, with the scope `works:write`."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, with_config
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from examples.catalogue.auth import auth
from examples.catalogue.database import ReadSessionDep, SessionDep
from examples.catalogue.feed import announce_after_commit
from examples.catalogue.models import Artist, Work
from fastkit.errors import (
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    problem_responses,
)

router = APIRouter(prefix="/works", tags=["works"])
edits = APIRouter(
    prefix="/works",
    tags=["works"],
    dependencies=[auth.require("works:write")],
    responses=problem_responses(UnauthorizedError, ForbiddenError),
)

# What the columns can hold: PostgreSQL's integer, and its text, which has no NUL character.
Id = Annotated[int, Field(ge=1, le=2_147_483_647)]
Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]*$"),
]
Title = Annotated[Line, StringConstraints(max_length=500)]
Year = Annotated[int, Field(ge=1, le=9999)]

WorkId = Annotated[Id, Path()]


class UnknownArtistError(Exception):
    """A work was to be by an artist who is not in the catalogue."""

    def __init__(self, artist_id: int) -> None:
        super().__init__(f"there is no artist {artist_id}")
        self.artist_id = artist_id


class ArtistOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


class WorkOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    tate_id: int | None
    artist: ArtistOut
    title: str | None
    year: int
    technique: str
    support: str | None


class WorkFields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    artist_id: Id
    title: Title | None = None
    year: Year
    technique: Line
    support: Line | None = None


class WorkIn(WorkFields):
    tate_id: Id | None = None


@with_config(ConfigDict(extra="forbid"))
class WorkChanges(TypedDict, total=False):
    """What a PATCH may hold. In a TypedDict a key that was not sent is not there, so that it is
    never taken for a null, and a null is refused where the column has none."""

    artist_id: Id
    title: Title | None
    year: Year
    technique: Line
    support: Line | None
    tate_id: Id | None


@router.get("/{work_id}", responses=problem_responses(NotFoundError))
async def read_work(work_id: WorkId, session: ReadSessionDep) -> WorkOut:
    return WorkOut.model_validate(await _work(session, work_id))


@edits.post("", status_code=status.HTTP_201_CREATED)
async def create_work(
    work_in: WorkIn, session: SessionDep, request: Request, response: Response
) -> WorkOut:
    artist = await _artist(session, work_in.artist_id)
    work = Work(**work_in.model_dump(exclude={"artist_id"}), artist=artist)
    session.add(work)
    await session.flush()  # gives the work its id; the commit comes after this function
    announce_after_commit(session, f"Work {work.id} was added.")
    response.headers["Location"] = str(request.url_for("read_work", work_id=work.id))
    return WorkOut.model_validate(work)


@edits.patch("/{work_id}", responses=problem_responses(NotFoundError))
async def update_work(
    work_id: WorkId, changes: Annotated[WorkChanges, Body()], session: SessionDep
) -> WorkOut:
    work = await _work(session, work_id)
    if "artist_id" in changes:
        work.artist = await _artist(session, changes["artist_id"])
    for name, value in changes.items():
        setattr(work, name, value)
    announce_after_commit(session, f"Work {work_id} was changed.")
    return WorkOut.model_validate(work)


@edits.delete(
    "/{work_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(NotFoundError),
)
async def delete_work(work_id: WorkId, session: SessionDep) -> None:
    await session.delete(await _work(session, work_id))
    announce_after_commit(session, f"Work {work_id} was deleted.")


async def _work(session: AsyncSession, work_id: int) -> Work:
    work = await session.get(Work, work_id)
    if work is None:
        raise NotFoundError("No such work.")
    return work


async def _artist(session: AsyncSession, artist_id: int) -> Artist:
    artist = await session.get(Artist, artist_id)
    if artist is None:
        raise UnknownArtistError(artist_id)
    return artist
