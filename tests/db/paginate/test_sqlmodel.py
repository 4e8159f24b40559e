"""SQLModel's classes, selects and sessions."""

from typing import Any

import pytest
from sqlalchemy import create_engine

from fastkit import db
from fastkit.pagination import CursorParams, PageParams

sqlmodel: Any = pytest.importorskip("sqlmodel")
paginate: Any = db.paginate  # whose types are tested elsewhere


class Hero(sqlmodel.SQLModel, table=True):  # type: ignore[call-arg, misc, unused-ignore]  # pyright: ignore
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    name: str


class HeroOut(sqlmodel.SQLModel):  # type: ignore[misc, unused-ignore]
    name: str


def test_pages_of_sqlmodel() -> None:
    engine = create_engine("sqlite://")
    Hero.metadata.create_all(engine, tables=[Hero.__table__])
    with sqlmodel.Session(engine) as session:
        session.add_all([Hero(name=f"h{i}") for i in range(5)])
        session.commit()
        statement = sqlmodel.select(Hero).where(Hero.name != "h0")
        page: Any = paginate(session, statement, PageParams(size=3), into=HeroOut)
        assert page.items == [HeroOut(name=f"h{i}") for i in (1, 2, 3)]
        assert page.total == 4
        order = [sqlmodel.col(Hero.name).desc()]
        first: Any = paginate(session, statement, CursorParams(size=3), order_by=order)
        after = CursorParams(size=3, cursor=first.next_cursor)
        second: Any = paginate(session, statement, after, order_by=order)
        assert [hero.name for hero in (*first.items, *second.items)] == ["h4", "h3", "h2", "h1"]
        names: Any = paginate(session, sqlmodel.select(Hero.name), PageParams(size=2))
        assert names.items == ["h0", "h1"]
    engine.dispose()
