"""JSON that can always be written: whatever the value, `dump` returns bytes and does not raise."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic_core import to_jsonable_python

__all__ = ("clean", "dump", "plain")

_MAX_DEPTH = 32

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def dump(body: Mapping[str, Any]) -> bytes:
    """`body` as ASCII JSON (RFC 8259): no NaN, no lone surrogates, whatever `body` holds."""
    try:
        text = _encode(body)
    except Exception:
        text = ""
    # A lone surrogate is written as an escape that strict parsers refuse, so a body with any
    # escaped one is cleaned.
    if not text or "\\ud" in text:
        text = _encode(plain(body))
    return text.encode("ascii")


def clean(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which has no UTF-8 form."""
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def plain(value: object) -> Any:
    """`value` out of what JSON has, with a placeholder for each part that has no JSON form."""
    return _plain(value, ())


def _plain(value: object, parents: tuple[int, ...]) -> Any:
    try:
        return _converted(value, parents)
    except Exception:  # whatever a method of its class raised
        return _placeholder(value)


def _converted(value: object, parents: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(str.__str__(value))  # an enum's own says "Color.RED"
    if isinstance(value, int):
        return _plain_int(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if len(parents) == _MAX_DEPTH or id(value) in parents:
        return "..."
    parents = (*parents, id(value))
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {_name(key, parents): _plain(item, parents) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, parents) for item in cast("Iterable[object]", value)]
    return _plain(to_jsonable_python(value, fallback=_placeholder), parents)


def _name(key: object, parents: tuple[int, ...]) -> str:
    name = _plain(key, parents)
    return name if isinstance(name, str) else json.dumps(name)


def _plain_int(value: int) -> int | str:
    try:
        str(value)
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return f"<integer of {value.bit_length()} bits>"
    return value


def _placeholder(value: object) -> str:
    return f"<{type(value).__qualname__}>"
