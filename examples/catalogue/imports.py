"""Import works: for machines, which have a key and no password."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Body, status
from pydantic import BaseModel
from sqlalchemy import select

from examples.catalogue.database import SessionDep
from examples.catalogue.feed import announce_after_commit
from examples.catalogue.models import Work
from examples.catalogue.works import Id, WorkFields
from fastkit.auth import api_key
from fastkit.errors import UnauthorizedError, problem_responses


class ImportedWork(WorkFields):
    tate_id: Id  # by which it is known when it comes again


class Imported(BaseModel):
    machine: str
    added: int
    known: int


def import_router(keys: Mapping[str, str]) -> APIRouter:
    """The endpoint for who has one of `keys`: names, each with the hash of a key."""
    machines = api_key(keys)
    router = APIRouter(prefix="/imports", tags=["imports"])

    @router.post(
        "", status_code=status.HTTP_201_CREATED, responses=problem_responses(UnauthorizedError)
    )
    async def import_works(
        works: Annotated[list[ImportedWork], Body(min_length=1, max_length=1000)],
        machine: Annotated[str, machines],
        session: SessionDep,
    ) -> Imported:
        """Add those that are not there yet, all of them or none."""
        by_number = {work.tate_id: work for work in works}
        query = select(Work.tate_id).where(Work.tate_id.in_(by_number))
        known = set(await session.scalars(query))
        new = [work for number, work in by_number.items() if number not in known]
        session.add_all(Work(**work.model_dump()) for work in new)
        if new:
            announce_after_commit(session, f"{machine} imported {len(new)} of {len(works)} works.")
        return Imported(machine=machine, added=len(new), known=len(works) - len(new))

    return router
