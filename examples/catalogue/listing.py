"""List works: filtered, sorted and searched, by page, by offset and by cursor."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import contains_eager

from examples.catalogue.database import ReadSessionDep
from examples.catalogue.models import Artist, Work
from examples.catalogue.settings import settings
from examples.catalogue.works import Id, WorkOut, Year
from fastkit.db import paginate
from fastkit.filtering import FilterParams, ge, icontains, in_, is_null, le, search, sort_by
from fastkit.pagination import (
    Capped,
    CursorPage,
    CursorParams,
    LimitOffsetPage,
    LimitOffsetParams,
    Page,
    PageParams,
)

router = APIRouter(prefix="/works", tags=["works"])

# Joined, so that works can be sorted by their artist's name; the objects get theirs from it.
WORKS = select(Work).join(Work.artist).options(contains_eager(Work.artist))

# Without one, cursors are not signed.
SECRET = settings.cursor_secret.get_secret_value() if settings.cursor_secret else None

SORTS = sort_by(
    id=Work.id,
    artist=Artist.name,
    title=Work.title,
    year=Work.year,
    technique=Work.technique,
    support=Work.support,
)
SEARCHED = search(Work.title, Work.technique, icontains(Artist.name, through=Work.artist))


class WorkFilters(FilterParams):
    q: Annotated[str | None, Field(max_length=100), SEARCHED] = None
    artist: Annotated[str | None, icontains(Artist.name, through=Work.artist)] = None
    artist_id: Annotated[list[Id], in_(Work.artist_id)] = []  # noqa: RUF012 -- Pydantic copies it
    technique: Annotated[str | None, icontains(Work.technique)] = None
    support: Annotated[list[str], in_(Work.support)] = []  # noqa: RUF012
    untitled: Annotated[bool | None, is_null(Work.title)] = None
    since: Annotated[Year | None, ge(Work.year)] = None
    until: Annotated[Year | None, le(Work.year)] = None
    sort: Annotated[list[str], SORTS] = ["id"]  # noqa: RUF012


class WorksByPage(PageParams, WorkFilters):
    size: Annotated[int, Field(ge=1, le=100)] = 20


class WorksByOffset(LimitOffsetParams, WorkFilters):
    pass


class WorksByCursor(CursorParams, WorkFilters):
    pass


@router.get("")
async def list_works(
    session: ReadSessionDep,
    query: Annotated[WorksByPage, Query()],
    request: Request,
    response: Response,
) -> Page[WorkOut]:
    """Numbered pages, an exact total, and a `Link` header."""
    return await paginate(session, WORKS, query, into=WorkOut, request=request, response=response)


@router.get("/by-offset")
async def list_works_by_offset(
    session: ReadSessionDep, query: Annotated[WorksByOffset, Query()], request: Request
) -> LimitOffsetPage[WorkOut]:
    """Any stretch, a total up to 1,000, and links in the body."""
    return await paginate(session, WORKS, query, into=WorkOut, total=Capped(1000), request=request)


@router.get("/by-cursor")
async def list_works_by_cursor(
    session: ReadSessionDep,
    query: Annotated[WorksByCursor, Query()],
    request: Request,
    response: Response,
) -> CursorPage[WorkOut]:
    """A walk that no change disturbs, without a total, and a `Link` header."""
    return await paginate(
        session,
        WORKS,
        query,
        into=WorkOut,
        secret=SECRET,
        request=request,
        response=response,
    )
