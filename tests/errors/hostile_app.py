"""An app that wants everything a body can be asked for, and echoes nothing itself."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import Body, Cookie, FastAPI, Form, Header, Query, UploadFile, WebSocket
from pydantic import (
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    HttpUrl,
    ImportString,
    IPvAnyAddress,
    Json,
    NaiveDatetime,
    SecretStr,
    Tag,
)
from pydantic.types import Base64Bytes, Discriminator
from pydantic_core import PydanticCustomError

from fastkit.errors import install_exception_handlers

__all__ = ("VALID", "app", "echoing_app", "make_app")


class Color(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


def tag_of(value: Any) -> str | None:
    return str(cast("dict[str, Any]", value).get("tag")) if isinstance(value, dict) else None


def is_short(value: str) -> str:
    if len(value) > 3:
        raise ValueError("longer than the app likes")
    return value


def is_lower(value: str) -> str:
    assert value.islower(), "the app wants lower case"
    return value


def is_known(value: str) -> str:
    if not value.isascii():
        raise ValueError(f"the app does not know {value}")
    return value


def is_even(value: int) -> int:
    if value % 2:
        raise PydanticCustomError("odd", "the app wants {wanted}", {"wanted": "even", "got": value})
    return value


class Everything(BaseModel):
    password: SecretStr
    integer: int = 1
    number: float = 1
    money: Decimal = Field(Decimal(1), max_digits=6, decimal_places=2)
    flag: bool = True
    text: str = Field("a", min_length=1, max_length=5, pattern="^[a-z]*$")
    data: bytes = Field(b"a", max_length=5)
    encoded: Base64Bytes = b""
    color: Color = Color.RED
    choice: Literal["a", "b"] = "a"
    uuid: UUID = UUID(int=0)
    url: AnyUrl | None = None
    web: HttpUrl | None = None
    address: IPvAnyAddress | None = None
    zone: ZoneInfo | None = None
    size: ByteSize = ByteSize(1)
    imported: ImportString[Any] = "json"
    moment: datetime = datetime(2000, 1, 1)
    aware: AwareDatetime | None = None
    naive: NaiveDatetime | None = None
    day: date = date(2000, 1, 1)
    hour: time = time(1)
    lasts: timedelta = timedelta(1)
    document: Json[dict[str, int]] = Field(default_factory=dict[str, int])
    anything: Json[Any] = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    tagged: (
        Annotated[Annotated[Cat, Tag("c")] | Annotated[Dog, Tag("d")], Discriminator(tag_of)] | None
    ) = None
    either: int | list[int] | Cat = 1
    by_uuid: dict[UUID, int] = Field(default_factory=dict[UUID, int])
    matrix: list[list[int]] = Field(default_factory=list[list[int]], max_length=2)
    pair: tuple[int, str] = (1, "a")
    unique: set[int] = Field(default_factory=set[int])
    short: Annotated[str, AfterValidator(is_short)] = "a"
    lower: Annotated[str, AfterValidator(is_lower)] = "a"
    known: Annotated[str, AfterValidator(is_known)] = "a"
    even: Annotated[int, AfterValidator(is_even)] = 2


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    count: int
    nested: "Strict | None" = None


VALID = {"password": "correct horse"}


def make_app(*, include_input: bool) -> FastAPI:
    app = FastAPI()
    install_exception_handlers(app, include_input=include_input)

    @app.post("/json")
    async def json(body: Everything) -> None: ...

    @app.post("/two")
    def two(first: Strict, second: Annotated[int, Body()]) -> None: ...

    @app.post("/strict")
    def strict(body: Strict) -> None: ...

    @app.post("/octets")
    async def octets(
        body: Annotated[Strict, Body(media_type="application/octet-stream")],
    ) -> None: ...

    @app.post("/form")
    async def form(
        password: Annotated[str, Form()],
        count: Annotated[int, Form()],
        uuid: Annotated[UUID | None, Form()] = None,
    ) -> None: ...

    @app.post("/upload")
    async def upload(file: UploadFile, count: Annotated[int, Form()]) -> None: ...

    @app.get("/int/{n:int}")
    async def integer(n: int) -> None: ...

    @app.get("/float/{x:float}")
    async def number(x: float) -> None: ...

    @app.get("/uuid/{u:uuid}")
    async def uuid(u: UUID) -> None: ...

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> None: ...

    @app.get("/query")
    async def query(
        n: int,
        when: datetime | None = None,
        choice: Literal["a", "b"] = "a",
        ids: Annotated[list[int] | None, Query()] = None,
        zone: ZoneInfo | None = None,
    ) -> None: ...

    @app.get("/headers")
    async def headers(
        x_count: Annotated[int, Header()], session: Annotated[UUID | None, Cookie()] = None
    ) -> None: ...

    @app.websocket("/ws/{n:int}")
    async def socket(websocket: WebSocket, n: int, zone: ZoneInfo | None = None) -> None:
        await websocket.accept()
        await websocket.close()

    return app


app = make_app(include_input=False)
echoing_app = make_app(include_input=True)
