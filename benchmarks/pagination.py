"""Pages: fastkit's beside hand-written ones and other libraries', on 100,000 rows.

Within a group the apps have one engine, one way to get a session and one item model, and they give
the same items. A page is 50 of them, with six fields each.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, FastAPI, Query, params
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import (
    URL,
    Engine,
    Index,
    Select,
    String,
    create_engine,
    func,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.db import postgres_url
from benchmarks.harness import Call, Case, Group, Limit, Report, Table, ask, compare, peer
from fastkit.db import paginate
from fastkit.pagination import CursorPage, CursorParams, Page, PageParams

TITLE = "Pages"
PACKAGES = (
    "fastkit",
    "fastapi",
    "pydantic",
    "sqlalchemy",
    "aiosqlite",
    "asyncpg",
    "fastapi-pagination",
    "sqlakeyset",
    "fastcrud",
)
# Times, as the shares of hand-written speed that must hold and are the goal: 0.90 and 0.97 with a
# total, 0.88 and 0.95 by cursor.
WITH_TOTAL = Limit(1 / 0.90, 1 / 0.97)
BY_CURSOR = Limit(1 / 0.88, 1 / 0.95)
FLAT = Limit(1.3, 1.0)

ROWS = 100_000
SIZE = 50
DEEP = 1000
CALL = Call(path="/items")

T = TypeVar("T")


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    price: Mapped[int]
    stock: Mapped[int]
    colour: Mapped[str] = mapped_column(String(20))
    active: Mapped[bool]


Index("item_by_price", Item.price, Item.id)

# In both databases' SQL.
FILL = """
INSERT INTO item (id, name, price, stock, colour, active)
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {rows})
SELECT n, 'item ' || n, (n * 7919) % 1000, n % 7, 'colour ' || (n % 12), n % 2 = 0 FROM number
"""


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    price: int
    stock: int
    colour: str
    active: bool


class WrittenPage(BaseModel, Generic[T]):
    items: list[T]
    total: int
    page: int
    size: int


class WrittenCursorPage(BaseModel, Generic[T]):
    items: list[T]
    total: int | None
    total_capped: bool
    has_next: bool
    links: None
    size: int
    next_cursor: str | None
    previous_cursor: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """An app that is always asked for the same path and query, whatever the call says."""

    app: ASGIApp
    query: str
    path: str = CALL.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, query = self.path, self.query.encode()
        asked = {**scope, "path": path, "raw_path": path.encode(), "query_string": query}
        await self.app(asked, receive, send)


# What a careful developer writes by hand.


def all_items() -> Select[Item]:
    return select(Item).order_by(Item.id)


def encode_place(item: Item, *, backward: bool) -> str:
    return urlsafe_b64encode(json.dumps([backward, item.price, item.id]).encode()).decode()


def written_walk(cursor: str | None, size: int) -> tuple[Select[Item], bool]:
    backward, *place = json.loads(urlsafe_b64decode(cursor)) if cursor else [False]
    keys = tuple_(Item.price, Item.id)
    if backward:
        statement = select(Item).order_by(Item.price, Item.id)
    else:
        statement = select(Item).order_by(Item.price.desc(), Item.id.desc())
    if place:
        statement = statement.where(keys > tuple_(*place) if backward else keys < tuple_(*place))
    return statement.limit(size + 1), backward


def written_cursor_page(
    found: Sequence[Item], cursor: str | None, size: int, *, backward: bool
) -> WrittenCursorPage[ItemOut]:
    more, items = len(found) > size, list(found[:size])
    if backward:
        items.reverse()
    has_next = bool(items) and (backward or more)
    has_previous = bool(items) and (more if backward else cursor is not None)
    return WrittenCursorPage[ItemOut].model_validate(
        {
            "items": items,
            "total": None,
            "total_capped": False,
            "has_next": has_next,
            "links": None,
            "size": size,
            "next_cursor": encode_place(items[-1], backward=False) if has_next else None,
            "previous_cursor": encode_place(items[0], backward=True) if has_previous else None,
        }
    )


Number = Annotated[int, Query(ge=1, le=2**31 - 1)]
Size = Annotated[int, Query(ge=1, le=ROWS)]


def written_app(session_dependency: params.Depends) -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    async def by_page(
        session: Annotated[AsyncSession, session_dependency], page: Number = 1, size: Size = SIZE
    ) -> WrittenPage[ItemOut]:
        found = await session.scalars(all_items().limit(size).offset((page - 1) * size))
        items = found.all()
        total = await session.scalar(select(func.count()).select_from(Item))
        return WrittenPage[ItemOut].model_validate(
            {"items": items, "total": total, "page": page, "size": size}
        )

    @app.get("/walk")
    async def by_cursor(
        session: Annotated[AsyncSession, session_dependency],
        cursor: str | None = None,
        size: Size = SIZE,
    ) -> WrittenCursorPage[ItemOut]:
        statement, backward = written_walk(cursor, size)
        found = (await session.scalars(statement)).all()
        return written_cursor_page(found, cursor, size, backward=backward)

    return app


def written_sync_app(session_dependency: params.Depends) -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    def by_page(
        session: Annotated[Session, session_dependency], page: Number = 1, size: Size = SIZE
    ) -> WrittenPage[ItemOut]:
        items = session.scalars(all_items().limit(size).offset((page - 1) * size)).all()
        total = session.scalar(select(func.count()).select_from(Item))
        return WrittenPage[ItemOut].model_validate(
            {"items": items, "total": total, "page": page, "size": size}
        )

    @app.get("/walk")
    def by_cursor(
        session: Annotated[Session, session_dependency],
        cursor: str | None = None,
        size: Size = SIZE,
    ) -> WrittenCursorPage[ItemOut]:
        statement, backward = written_walk(cursor, size)
        found = session.scalars(statement).all()
        return written_cursor_page(found, cursor, size, backward=backward)

    return app


class ManyPageParams(PageParams):
    size: Annotated[int, Field(ge=1, le=ROWS)] = SIZE


class ManyCursorParams(CursorParams):
    size: Annotated[int, Field(ge=1, le=ROWS)] = SIZE


DESCENDING = (Item.price.desc(), Item.id.desc())


def fastkit_app(session_dependency: params.Depends) -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    async def by_page(
        session: Annotated[AsyncSession, session_dependency],
        query: Annotated[ManyPageParams, Query()],
    ) -> Page[ItemOut]:
        return await paginate(session, all_items(), query, into=ItemOut)

    @app.get("/walk")
    async def by_cursor(
        session: Annotated[AsyncSession, session_dependency],
        query: Annotated[ManyCursorParams, Query()],
    ) -> CursorPage[ItemOut]:
        return await paginate(session, select(Item), query, into=ItemOut, order_by=DESCENDING)

    return app


def fastkit_sync_app(session_dependency: params.Depends) -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    def by_page(
        session: Annotated[Session, session_dependency],
        query: Annotated[ManyPageParams, Query()],
    ) -> Page[ItemOut]:
        return paginate(session, all_items(), query, into=ItemOut)

    @app.get("/walk")
    def by_cursor(
        session: Annotated[Session, session_dependency],
        query: Annotated[ManyCursorParams, Query()],
    ) -> CursorPage[ItemOut]:
        return paginate(session, select(Item), query, into=ItemOut, order_by=DESCENDING)

    return app


def fastapi_pagination_app(session_dependency: params.Depends, *, is_async: bool) -> FastAPI:
    from fastapi_pagination import Page as TheirPage
    from fastapi_pagination import add_pagination
    from fastapi_pagination.cursor import CursorPage as TheirCursorPage
    from fastapi_pagination.customization import (
        CustomizedPage,
        UseIncludeTotal,
        UseParamsFields,
    )

    theirs: Any = import_module("fastapi_pagination.ext.sqlalchemy")
    many = UseParamsFields(size=Query(SIZE, ge=1, le=ROWS))
    pages: dict[str, Any] = {
        "/items": CustomizedPage[TheirPage, many],
        "/walk": CustomizedPage[TheirCursorPage, many],
        "/walk-without-total": CustomizedPage[TheirCursorPage, many, UseIncludeTotal(False)],
    }
    app = FastAPI()

    def add(path: str, page: Any) -> None:
        statement = all_items() if path == "/items" else select(Item).order_by(*DESCENDING)
        if is_async:

            @app.get(path, response_model=page[ItemOut])
            async def _(session: Annotated[AsyncSession, session_dependency]) -> Any:
                return await theirs.apaginate(session, statement)

        else:

            @app.get(path, response_model=page[ItemOut])
            def _(session: Annotated[Session, session_dependency]) -> Any:
                return theirs.paginate(session, statement)

    for path, page in pages.items():
        add(path, page)
    add_pagination(app)
    return app


def fastcrud_app(get_session: Callable[..., Any]) -> FastAPI:
    theirs: Any = import_module("fastcrud")
    app = FastAPI()
    router = theirs.crud_router(
        session=get_session,
        model=Item,
        create_schema=ItemOut,
        update_schema=ItemOut,
        select_schema=ItemOut,
        path="/items",
        included_methods=["read_multi"],
    )
    app.include_router(router)
    return app


@dataclass(frozen=True, slots=True)
class Apps:
    """The apps of one driver."""

    written: FastAPI
    fastkit: FastAPI
    fastapi_pagination: Sequence[Case]
    fastcrud: Sequence[Case]


def async_apps(report: Report, engine: AsyncEngine) -> Apps:
    make_session = async_sessionmaker(engine)

    async def get_session() -> AsyncGenerator[AsyncSession]:
        async with make_session() as session:
            yield session

    session: params.Depends = Depends(get_session)
    return Apps(
        written_app(session),
        fastkit_app(session),
        peer(report, "fastapi-pagination", lambda: fastapi_pagination_app(session, is_async=True)),
        peer(report, "fastcrud", lambda: fastcrud_app(get_session)),
    )


def sync_apps(report: Report, engine: Engine) -> Apps:
    make_session = sessionmaker(engine)

    def get_session() -> Generator[Session]:
        with make_session() as session:
            yield session

    session: params.Depends = Depends(get_session)
    return Apps(
        written_sync_app(session),
        fastkit_sync_app(session),
        peer(report, "fastapi-pagination", lambda: fastapi_pagination_app(session, is_async=False)),
        (),  # it is for async sessions alone
    )


async def answer(app: ASGIApp, path: str, query: str) -> Any:
    """What the app answers, which must be a 200."""
    start, *rest = await ask(Asked(app, query, path), CALL)
    body = b"".join(message["body"] for message in rest)
    if start["status"] != 200:
        raise RuntimeError(f"{path}?{query} is answered with {start['status']}: {body!r}")
    return json.loads(body)


async def cursor_of(app: ASGIApp, path: str, page: int) -> str:
    """The query of that page of a walk, found by one page that is as long as all before it."""
    if page == 1:
        return ""
    found = await answer(app, path, f"size={(page - 1) * SIZE}")
    cursor = found.get("next_cursor") or found["next_page"]
    return f"cursor={cursor}"


def page_group(driver: str, apps: Apps, page: int) -> Group:
    query = f"page={page}&size={SIZE}"
    return Group(
        f"{driver}: page {page:,} and total",
        CALL,
        [
            Case("hand-written limit/offset + count", Asked(apps.written, query)),
            Case("fastkit", Asked(apps.fastkit, query), WITH_TOTAL),
            *[Case(each.name, Asked(each.app, query)) for each in apps.fastapi_pagination],
            *[
                Case(each.name, Asked(each.app, f"page={page}&itemsPerPage={SIZE}"))
                for each in apps.fastcrud
            ],
        ],
    )


async def walk_group(driver: str, apps: Apps, page: int) -> Group:
    async def case(
        name: str, app: ASGIApp, path: str = "/walk", limit: Limit | None = None
    ) -> Case:
        return Case(name, Asked(app, await cursor_of(app, path, page), path), limit)

    cases = [
        await case("hand-written keyset", apps.written),
        await case("fastkit", apps.fastkit, limit=BY_CURSOR),
    ]
    for each in apps.fastapi_pagination:
        cases.append(await case(f"{each.name}, no total", each.app, "/walk-without-total"))
        cases.append(await case(f"{each.name}, as it is", each.app))
    return Group(f"{driver}: page {page:,} by cursor", CALL, cases)


async def depth_group(driver: str, apps: Apps, page: int) -> Group:
    app, path = apps.fastkit, "/walk"
    deep = await cursor_of(app, path, page)
    return Group(
        f"{driver}: by cursor, how deep",
        CALL,
        [
            Case("fastkit, page 1", Asked(app, "", path)),
            Case(f"fastkit, page {page:,}", Asked(app, deep, path), FLAT),
        ],
    )


async def groups(driver: str, apps: Apps, deep: int = DEEP) -> list[Group]:
    return [
        page_group(driver, apps, 1),
        page_group(driver, apps, deep),
        await walk_group(driver, apps, 1),
        await walk_group(driver, apps, deep),
        await depth_group(driver, apps, deep),
    ]


@asynccontextmanager
async def prepared(engine: AsyncEngine, rows: int = ROWS) -> AsyncGenerator[AsyncEngine]:
    """The engine, with its table filled."""
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(text(FILL.format(rows=rows)))
        async with engine.connect() as connection:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            vacuum = "VACUUM ANALYZE item" if engine.name == "postgresql" else "ANALYZE"
            await connection.execute(text(vacuum))
        yield engine
    finally:
        await engine.dispose()


def sqlite_url(folder: str, *, driver: str) -> URL:
    return URL.create(driver, database=f"{folder}/bench.db")


async def measured(groups: Sequence[Group]) -> list[Table]:
    return [await compare(group) for group in groups]


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    with TemporaryDirectory() as folder:
        url = sqlite_url(folder, driver="sqlite+aiosqlite")
        async with prepared(create_async_engine(url)) as engine:
            driver = engine.url.drivername
            report.tables += await measured(await groups(driver, async_apps(report, engine)))
        with ExitStack() as stack:
            sync_engine = create_engine(sqlite_url(folder, driver="sqlite"))
            stack.callback(sync_engine.dispose)
            apps = sync_apps(report, sync_engine)
            report.tables += await measured(await groups("sqlite, sync", apps))
    with postgres_url(report) as found:
        if found is not None:
            async with prepared(create_async_engine(found)) as engine:
                driver = engine.url.drivername
                report.tables += await measured(await groups(driver, async_apps(report, engine)))
    return report
