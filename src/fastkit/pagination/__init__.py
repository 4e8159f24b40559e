"""Pages: what a request asks for, and what an endpoint gives back.

@app.get("/numbers")
async def numbers(params: Annotated[PageParams, Query()]) -> Page[int]:
    return paginate_sequence(range(1000), params)

`fastkit.db.paginate` does the same with a select.
"""

from fastkit.pagination._pages import (
    CursorPage,
    LimitOffsetPage,
    Page,
    PageLinks,
)
from fastkit.pagination._params import CursorParams, LimitOffsetParams, PageParams
from fastkit.pagination._sequence import paginate_sequence
from fastkit.pagination._total import Capped, TotalPolicy

__all__ = (
    "Capped",
    "CursorPage",
    "CursorParams",
    "LimitOffsetPage",
    "LimitOffsetParams",
    "Page",
    "PageLinks",
    "PageParams",
    "TotalPolicy",
    "paginate_sequence",
)
