"""Pages with links, for any server: behind a proxy, mounted, at paths that mean harm."""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from pydantic import Field

from fastkit.pagination import (
    CursorPage,
    CursorParams,
    LimitOffsetPage,
    LimitOffsetParams,
    Page,
    PageParams,
    paginate_sequence,
)
from fastkit.pagination._pages import add_links

__all__ = ("Aliased", "AliasedCursor", "app", "walk")

TOTAL = 100


class Aliased(PageParams):
    page: Annotated[int, Field(ge=1, le=1000, alias="page[number]")] = 1
    size: Annotated[int, Field(ge=1, le=100, alias="page[size]")] = 10


class AliasedCursor(CursorParams):
    cursor: Annotated[str | None, Field(alias="page[after]")] = None


def walk(params: CursorParams) -> CursorPage[int]:
    """A page between two others."""
    return CursorPage[int](
        items=[1], has_next=True, size=params.size, next_cursor="b-_c", previous_cursor="a"
    )


def make() -> FastAPI:
    app = FastAPI()

    @app.get("/pages")
    async def pages(request: Request, params: Annotated[PageParams, Query()]) -> Page[int]:
        return paginate_sequence(range(TOTAL), params, request=request)

    @app.get("/aliased")
    async def aliased(request: Request, params: Annotated[Aliased, Query()]) -> Page[int]:
        return paginate_sequence(range(TOTAL), params, request=request)

    @app.get("/stretches")
    async def stretches(
        request: Request, params: Annotated[LimitOffsetParams, Query()]
    ) -> LimitOffsetPage[int]:
        return paginate_sequence(range(TOTAL), params, request=request)

    @app.get("/walk")
    async def walked(request: Request, params: Annotated[CursorParams, Query()]) -> CursorPage[int]:
        page = walk(params)
        add_links(page, params, request, None)
        return page

    @app.get("/walk-aliased")
    async def walked_aliased(
        request: Request, params: Annotated[AliasedCursor, Query()]
    ) -> CursorPage[int]:
        page = walk(params)
        add_links(page, params, request, None)
        return page

    @app.get("/header")
    async def header(
        request: Request, response: Response, params: Annotated[PageParams, Query()]
    ) -> Page[int]:
        response.headers["Link"] = '</style.css>; rel="preload"'
        return paginate_sequence(range(TOTAL), params, request=request, response=response)

    @app.get("/of/{path:path}")
    async def anywhere(
        request: Request,
        response: Response,
        path: str,
        params: Annotated[PageParams, Query()],
    ) -> Page[int]:
        paginate_sequence(range(TOTAL), params, request=request, response=response)
        return paginate_sequence(range(TOTAL), params, request=request)

    return app


app = make()
app.mount("/sub", make())


@app.get("/{path:path}")
async def anything(
    request: Request, response: Response, path: str, params: Annotated[PageParams, Query()]
) -> Page[int]:
    paginate_sequence(range(TOTAL), params, request=request, response=response)
    return paginate_sequence(range(TOTAL), params, request=request)
