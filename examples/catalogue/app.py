"""A catalogue of works of art, in which fastkit's blocks can be seen at work.

    python -m uvicorn examples.catalogue.app:app

Then open http://127.0.0.1:8000/.
"""

import logging
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from examples.catalogue import demo, listing, works
from examples.catalogue.database import db, filled
from examples.catalogue.works import UnknownArtistError
from fastkit import __version__
from fastkit.db import DATABASE_PROBLEMS
from fastkit.errors import Problem, install_exception_handlers
from fastkit.lifespan import combine
from fastkit.request_id import RequestIdFilter, RequestIdMiddleware
from fastkit.timing import TimingMiddleware

_PAGE = Path(__file__).resolve().parent / "page.html"

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


app = FastAPI(title="Catalogue", version=__version__, lifespan=combine(db.lifespan, filled))
install_exception_handlers(app, DATABASE_PROBLEMS, {UnknownArtistError: unknown_artist})
app.add_middleware(TimingMiddleware, server_timing=True, on_finish=demo.records.appendleft)
app.add_middleware(RequestIdMiddleware)  # last, so outermost: whatever the others log has the id
app.include_router(listing.router)  # before /works/{work_id}
app.include_router(works.router)
app.include_router(demo.router)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(_PAGE, headers={"Cache-Control": "no-cache"})
