"""A deep page is read from an index, from where it starts."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Index, event, text
from sqlalchemy import select as select_
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.pagination import CursorParams
from tests.db.paginate.support import Backend, open_backend
from tests.support import Postgres, temporary_database


class Base(DeclarativeBase):
    pass


class Deep(Base):
    __tablename__ = "deep"

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]
    stars: Mapped[int | None]
    name: Mapped[str]
    __table_args__ = (
        Index("by_price", "price", "id"),
        Index("by_stars", "stars", "id"),
        Index("by_both", text("price DESC"), "name", "id"),
    )


@pytest.fixture(scope="module")
def deep(postgres_server: Postgres) -> Iterator[Backend]:
    with temporary_database(postgres_server) as database:
        url = database.url("psycopg")
        with open_backend(url, is_async=False) as backend:
            backend.run(lambda session: Base.metadata.create_all(session.connection()))
            backend.execute(
                "INSERT INTO deep SELECT i, i % 10, CASE WHEN i % 5 > 0 THEN i % 9 END,"
                " 'n' || i % 7 FROM generate_series(1, 50000) i",
                "ANALYZE deep",
            )
            yield backend


@pytest.mark.parametrize(
    ("order", "place"),
    [
        ([Deep.price], {"price": 5}),
        ([Deep.price.desc(), Deep.id.desc()], {"price": 5}),
        ([Deep.stars], {"stars": 5}),
        ([Deep.stars], {"stars": None}),
        ([Deep.stars.desc(), Deep.id.desc()], {"stars": 5}),
        ([Deep.price.desc(), Deep.name], {"price": 5, "name": "n3"}),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_a_deep_page_needs_no_sort_and_no_scan(
    deep: Backend, order: list[Any], place: dict[str, Any], backward: bool
) -> None:
    seen: list[tuple[str, Any]] = []

    def record(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        seen.append((statement, parameters))

    # The same order makes the same cursors, whatever else the select asks for.
    where = [Deep.id.between(20000, 30000)]
    where += [getattr(Deep, name).is_not_distinct_from(value) for name, value in place.items()]
    start = deep.paginate(select_(Deep).where(*where), CursorParams(size=3), order_by=order)
    assert start.next_cursor is not None
    page = deep.paginate(
        select_(Deep), CursorParams(size=20, cursor=start.next_cursor), order_by=order
    )
    cursor = page.previous_cursor if backward else page.next_cursor
    event.listen(deep.sync_engine, "before_cursor_execute", record)
    try:
        found = deep.paginate(select_(Deep), CursorParams(size=20, cursor=cursor), order_by=order)
    finally:
        event.remove(deep.sync_engine, "before_cursor_execute", record)
    assert len(found.items) == 20
    assert seen
    for statement, parameters in seen:
        with deep.sync_engine.connect() as connection:
            plan = "\n".join(
                row[0]
                for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters)
            )
        assert re.search(r"Index (Only )?Scan", plan), plan
        assert not re.search("Seq Scan|Bitmap", plan), plan
        assert not re.search(r"^\s*(->\s+)?Sort ", plan, re.MULTILINE), plan
