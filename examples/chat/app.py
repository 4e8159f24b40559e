"""A chat with names, rooms, and a history, in one process or in many.

    python -m uvicorn examples.chat.app:app

Then open http://127.0.0.1:8000/ twice.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from examples.chat import rooms
from fastkit import __version__
from fastkit.errors import NotFoundError, install_exception_handlers
from fastkit.request_id import RequestIdMiddleware
from fastkit.timing import TimingMiddleware

_PAGE = {path.name: path for path in (Path(__file__).resolve().parent / "page").iterdir()}
# Nothing but what this app serves: what people write is shown as text, and this is the second lock.
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
}

app = FastAPI(title="Chat", version=__version__, lifespan=rooms.lifespan)
install_exception_handlers(app)
app.add_middleware(TimingMiddleware)
app.add_middleware(RequestIdMiddleware)  # last, so outermost
app.include_router(rooms.router)


@app.get("/", include_in_schema=False)
@app.get("/page/{name}", include_in_schema=False)
async def page(name: str = "index.html") -> FileResponse:
    if name not in _PAGE:
        raise NotFoundError("The page has no such file.")
    return FileResponse(_PAGE[name], headers=_PAGE_HEADERS)
