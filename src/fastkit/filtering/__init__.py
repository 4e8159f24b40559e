"""Filters and sorting, declared on columns and checked when the class is made.

class ItemQuery(PageParams, FilterParams):
    name: Annotated[str | None, contains(Item.name)] = None
    max_price: Annotated[Decimal | None, le(Item.price)] = None
    sort: Annotated[list[str], sort_by(name=Item.name, price=Item.price)] = ["-price"]
"""

from fastkit._extras import requires

with requires(
    "SQLAlchemy", by="fastkit.filtering", module="sqlalchemy", install="sqlalchemy[asyncio]"
):
    from fastkit.filtering._filters import (
        between,
        contains,
        endswith,
        eq,
        ge,
        gt,
        icontains,
        iendswith,
        in_,
        is_null,
        istartswith,
        le,
        lt,
        ne,
        not_in,
        search,
        startswith,
    )
    from fastkit.filtering._params import FilterParams, apply_filters, apply_sort
    from fastkit.filtering._sort import sort_by

__all__ = (
    "FilterParams",
    "apply_filters",
    "apply_sort",
    "between",
    "contains",
    "endswith",
    "eq",
    "ge",
    "gt",
    "icontains",
    "iendswith",
    "in_",
    "is_null",
    "istartswith",
    "le",
    "lt",
    "ne",
    "not_in",
    "search",
    "sort_by",
    "startswith",
)
