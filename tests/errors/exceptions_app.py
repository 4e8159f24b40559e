"""An app that raises what it is told to: `/raise/3` raises the fourth of `EXCEPTIONS`."""

import enum
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, SecretStr
from starlette.exceptions import HTTPException as StarletteHTTPException

from fastkit.errors import install_exception_handlers

__all__ = ("EXCEPTIONS", "Color", "HostileMapping", "app")


class Color(str, enum.Enum):  # noqa: UP042  # a StrEnum is written as its value anyway
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(BaseModel):
    x: int
    secret: SecretStr = SecretStr("hidden")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Hostile:
    """As a proxy is whose object is not there."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class HostileMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("no items")

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        yield "key"


def cycle() -> list[Any]:
    around: list[Any] = [1]
    around.append({"again": around})
    return around


def deep() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(10_000):
        nested = {"down": nested}
    return nested


_DETAILS: list[Any] = [
    None,
    "",
    "plain",
    'with "quotes", \\, / and \u2028',
    "\N{GRINNING FACE} and \u00e9",
    "\ud800 alone",
    "\\ud800 written out",
    0,
    -1.5,
    10**5000,
    float("nan"),
    float("-inf"),
    True,
    [],
    [1, float("nan"), "\udfff", None],
    {},
    {"code": 7, "nested": {"a": [float("inf")]}},
    {"detail": "said", "title": "Titled", "type": "https://x.example/y", "instance": "/z"},
    {"detail": ["not a string"], "title": 5, "type": None, "instance": {}, "status": "failed"},
    {1: 2, None: 3, (4, 5): 6, "\ud800": 7, Color.RED: 8},
    {"color": Color.RED, "level": Level.HIGH},
    b"bytes",
    b"\xff\xfe",
    {"a", "b"},
    frozenset(),
    (1, 2),
    datetime(2000, 1, 1),
    Decimal("NaN"),
    UUID(int=1),
    Point(x=1),
    ValueError("hidden"),
    object(),
    Unprintable(),
    Hostile(),
    HostileMapping(),
    [Hostile(), {"a": Unprintable(), "b": HostileMapping()}],
    cycle(),
    deep(),
    lambda: None,
    (n for n in range(3)),
]
_HEADERS: tuple[dict[Any, Any], ...] = (
    {"Allow": "GET, PUT", "WWW-Authenticate": 'Bearer realm="x"', "Retry-After": "120"},
    {"Retry-After": 120, "X-None": None},
    {"X-Split": "a\r\nSet-Cookie: b=c", "X-Nul": "a\0b", "X-Tab": "a\tb", "X-Delete": "\x7f"},
    {"X-Unicode": "\N{SNOWMAN} \u00e9", "X-Lone": "\ud800", "X-Spaces": "  a  ", "X-Empty": ""},
    {"": "a", "X Y": "a", "X:Y": "a", "X\r\nY": "a", "\N{SNOWMAN}": "a", "\u212a": "a", "x\n": "a"},
    {"Content-Length": "1", "content-type": "text/html", "Transfer-Encoding": "chunked"},
    {"CONTENT-ENCODING": "gzip", "content-Length": "99999"},
)

EXCEPTIONS: tuple[StarletteHTTPException, ...] = (
    *(HTTPException(status, detail="said") for status in range(100, 600)),
    *(HTTPException(status, detail="said") for status in (-1, 0, 99, 600, 999, 1000)),
    *(HTTPException(418, detail) for detail in _DETAILS),
    *(StarletteHTTPException(409, detail) for detail in _DETAILS),
    *(HTTPException(204, detail) for detail in _DETAILS),
    *(HTTPException(401, "said", headers) for headers in _HEADERS),
    *(StarletteHTTPException(304, "said", headers) for headers in _HEADERS),
)

app = FastAPI()
install_exception_handlers(app)


@app.get("/raise/{n}")
async def raise_it(n: int) -> None:
    raise EXCEPTIONS[n]


@app.get("/sync/{n}")
def raise_it_in_a_thread(n: int) -> None:
    raise EXCEPTIONS[n]
