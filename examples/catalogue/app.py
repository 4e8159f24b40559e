"""A catalogue of works of art, in which fastkit's blocks can be seen at work.

    python -m uvicorn examples.catalogue.app:app

Then open http://127.0.0.1:8000/.
"""

import logging
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from examples.catalogue import demo, listing, works
from examples.catalogue.auth import REDIS_PROBLEMS, auth
from examples.catalogue.auth import lifespan as auth_lifespan
from examples.catalogue.database import db, filled
from examples.catalogue.imports import import_router
from examples.catalogue.settings import settings
from examples.catalogue.users import DEMO_KEY
from examples.catalogue.works import UnknownArtistError
from fastkit import __version__
from fastkit.auth import auth_router, hash_api_key
from fastkit.db import DATABASE_PROBLEMS
from fastkit.errors import NotFoundError, Problem, install_exception_handlers
from fastkit.lifespan import combine
from fastkit.request_id import RequestIdFilter, RequestIdMiddleware
from fastkit.timing import TimingMiddleware

_PAGE = {path.name: path for path in (Path(__file__).resolve().parent / "page").iterdir()}
# Nothing but what this app serves: who could slip a script in would have the tokens.
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
}

# Each line of the log tells which request it is about.
_log = logging.StreamHandler()
_log.addFilter(RequestIdFilter())
logging.basicConfig(
    level=logging.INFO,
    format="%(levelname)s:     [%(request_id)s] %(name)s: %(message)s",
    handlers=[_log],
)


def unknown_artist(exc: UnknownArtistError) -> Problem:
    return Problem(409, detail="There is no such artist.", extensions={"artist_id": exc.artist_id})


app = FastAPI(
    title="Catalogue",
    version=__version__,
    lifespan=combine(db.lifespan, filled, auth_lifespan),
)
install_exception_handlers(
    app, DATABASE_PROBLEMS, REDIS_PROBLEMS, {UnknownArtistError: unknown_artist}
)
app.add_middleware(TimingMiddleware, server_timing=True, on_finish=demo.records.appendleft)
app.add_middleware(RequestIdMiddleware)  # last, so outermost: whatever the others log has the id
app.include_router(auth_router(auth), prefix="/auth", tags=["auth"])
app.include_router(listing.router)  # before /works/{work_id}
app.include_router(works.router)
app.include_router(works.edits)
app.include_router(demo.router)

import_keys = settings.import_keys | ({"demo": hash_api_key(DEMO_KEY)} if settings.demo else {})
if import_keys:
    app.include_router(import_router(import_keys))


@app.get("/", include_in_schema=False)
@app.get("/page/{name}", include_in_schema=False)
async def page(name: str = "index.html") -> FileResponse:
    if name not in _PAGE:
        raise NotFoundError("The page has no such file.")
    return FileResponse(_PAGE[name], headers=_PAGE_HEADERS)
