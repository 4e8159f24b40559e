"""The hostile requests: a name, the request, and the statuses that may answer it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tests.errors.hostile_app import Everything
from tests.errors.support import SENTINEL

__all__ = ("BODIES", "URLS", "Request", "json_requests")

_JSON = ((b"content-type", b"application/json"),)
_SECRET = SENTINEL.encode()
_DIGITS = b"9" * 5000


@dataclass(frozen=True)
class Request:
    name: str
    target: bytes
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    method: str = "POST"
    statuses: tuple[int, ...] = (422,)

    def __str__(self) -> str:
        return self.name


def _form(name: str, body: bytes, target: bytes = b"/form", *statuses: int) -> Request:
    headers = ((b"content-type", b"application/x-www-form-urlencoded"),)
    return Request(f"form: {name}", target, body, headers, statuses=statuses or (422,))


def _multipart(name: str, body: bytes, content_type: bytes, *statuses: int) -> Request:
    headers = ((b"content-type", b"multipart/form-data" + content_type),)
    return Request(f"multipart: {name}", b"/upload", body, headers, statuses=statuses or (400, 422))


def _json(name: str, body: bytes, *statuses: int, target: bytes = b"/strict") -> Request:
    return Request(f"json: {name}", target, body, _JSON, statuses=statuses or (422,))


def _as(name: str, content_type: bytes, body: bytes, *statuses: int) -> Request:
    headers = ((b"content-type", content_type),)
    return Request(f"type: {name}", b"/strict", body, headers, statuses=statuses or (400, 422))


_GOOD = b'{"count": "%s"}' % _SECRET
_PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
_END = b"--b--\r\n"

BODIES = (
    _json("nothing", b""),
    _json("white space", b"   ", 422),
    _json("cut off", b'{"count": "%s' % _SECRET),
    _json("not JSON", _SECRET),
    _json("two values", b"{} {}"),
    _json("null", b"null"),
    _json("a string", b'"%s"' % _SECRET),
    _json("a list", b'["%s"]' % _SECRET),
    _json("NaN", b"NaN"),
    _json("Infinity", b'{"count": Infinity, "x": "%s"}' % _SECRET),
    _json("-Infinity", b'{"count": -Infinity}'),
    _json("NaN in what is unknown", b'{"count": 1, "more": [NaN, "%s"]}' % _SECRET),
    _json("a float that is too big", b'{"count": 1e999}'),
    _json("a huge integer", b'{"count": %s}' % _DIGITS, 400, 422),
    _json("a huge integer as a string", b'{"count": "%s"}' % _DIGITS),
    _json("a big integer", b'{"count": %s, "nested": 1}' % _DIGITS[:4000]),
    _json("a lone surrogate", rb'{"count": "\ud800"}'),
    _json("a lone surrogate as a key", rb'{"count": 1, "\udfff": "%s"}' % _SECRET),
    _json("a key that is too long", b'{"count": 1, "%s": "%s"}' % (b"k" * 100_000, _SECRET)),
    _json("NUL", b'{"count": "\\u0000%s"}' % _SECRET),
    _json("a NUL byte", b'{"count": "\0%s"}' % _SECRET),
    _json("a NUL key", b'{"count": 1, "\\u0000": "%s"}' % _SECRET),
    _json("control characters", b'{"count": 1, "\x01\x1b[31m": "%s"}' % _SECRET),
    _json("line breaks as a key", rb'{"count": 1, "\r\nX: y": "%s"}' % _SECRET),
    _json("the same key twice", b'{"count": 1, "count": "%s"}' % _SECRET),
    _json("not UTF-8", b'{"count": "\xff\xfe%s"}' % _SECRET, 400, 422),
    _json("UTF-8 with a mark", b"\xef\xbb\xbf" + _GOOD, 400, 422),
    _json("UTF-16", _GOOD.decode().encode("utf-16"), 400, 422),
    _json("UTF-32", _GOOD.decode().encode("utf-32"), 400, 422),
    _json("UTF-16 cut off", _GOOD.decode().encode("utf-16")[:-1], 400, 422),
    _json("deep", b"[" * 100_000, 400, 422),
    _json("deep and closed", b"[" * 100_000 + b"]" * 100_000, 400, 422),
    _json("deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, 422),
    _json("deep as the model", b'{"nested": {"count": "%s"}}' % _SECRET),
    _json("recursive", b'{"count": 1, "nested": ' * 300 + b"1" + b"}" * 300, 400, 422),
    _json("a hundred errors", b'{"matrix": [%s]}' % b",".join([b'["x"]'] * 1000), target=b"/json"),
    _json("many unknown keys", b"{%s}" % b",".join(b'"k%d": 1' % n for n in range(1000))),
    _json("the whole body in an error", b'{"secret": "%s"}' % _SECRET, target=b"/json"),
    _json("two bodies", b'{"first": {"count": "%s"}}' % _SECRET, target=b"/two"),
    _json("no bodies", b"", target=b"/two"),
    _as("none", b"", _GOOD),
    _as("text", b"text/plain", _GOOD),
    _as("form", b"application/x-www-form-urlencoded", b"count=%s" % _SECRET),
    _as("multipart", b"multipart/form-data; boundary=b", _GOOD),
    _as("XML", b"application/xml", b"<count>%s</count>" % _SECRET),
    _as("image", b"image/png", b"\x89PNG\r\n\x1a\n\xff" + _SECRET),
    _as("octets", b"application/octet-stream", b"\xff\xfe\x00" + _SECRET),
    _as("nonsense", b"\xff;;=/\x01%s" % _SECRET, _GOOD),
    _as("an unknown charset", b"application/json; charset=x-%s" % _SECRET, _GOOD),
    _as("Latin-1", b"application/json; charset=latin-1", b'{"count": "\xe9%s"}' % _SECRET),
    _as("a vendor's JSON", b"application/vnd.api+json", _GOOD),
    _as("two types", b"application/json, text/plain", _GOOD),
    Request("octets: not UTF-8", b"/octets", b"\x80\xff%s" % _SECRET, _JSON, statuses=(400, 422)),
    Request(
        "octets: not UTF-8, as such",
        b"/octets",
        b"\x80\xff%s" % _SECRET,
        ((b"content-type", b"application/octet-stream"),),
    ),
    _form("nothing", b""),
    _form("not a number", b"password=%s&count=%s" % (_SECRET, _SECRET)),
    _form("missing", b"password=%s" % _SECRET),
    _form("a huge integer", b"password=x&count=" + _DIGITS),
    _form("not UTF-8", b"password=%%ff%%fe%s&count=%%80%%ff" % _SECRET),
    _form("raw bytes", b"password=\xff\xfe\0&count=\xff%s" % _SECRET),
    _form("NUL", b"password=%s&count=%%00" % _SECRET),
    _form("bad percent signs", b"password=%%zz%%&count=%%%s" % _SECRET),
    _form("a lone surrogate", b"password=%ed%a0%80&count=%ed%a0%80"),
    _form("no equals signs", b"&&&%s&&" % _SECRET),
    _form("many fields", b"&".join([b"count=%s" % _SECRET] * 3000), b"/form", 400, 422),
    _multipart("no boundary", b"--b\r\n", b""),
    _multipart("an empty boundary", _PART % (b"count", b"", b"1") + _END, b"; boundary="),
    _multipart("another boundary", _PART % (b"count", b"", _SECRET) + _END, b"; boundary=c"),
    _multipart("a boundary that is not ASCII", _PART % (b"count", b"", b"1"), b"; boundary=\xff"),
    _multipart("a boundary that is too long", b"", b"; boundary=" + b"b" * 5000),
    _multipart("nothing", b"", b"; boundary=b"),
    _multipart("only the end", _END, b"; boundary=b"),
    _multipart("cut off", _PART % (b"count", b"", _SECRET), b"; boundary=b"),
    _multipart("cut off in a header", b"--b\r\nContent-Dispos", b"; boundary=b"),
    _multipart("cut off in a value", (_PART % (b"count", b"", _SECRET))[:-4], b"; boundary=b"),
    _multipart("no name", b"--b\r\n\r\n%s\r\n%s" % (_SECRET, _END), b"; boundary=b"),
    _multipart("a bad header", b"--b\r\n%s\r\n\r\n1\r\n%s" % (_SECRET, _END), b"; boundary=b"),
    _multipart("a NUL name", _PART % (b"co\0unt", b"", _SECRET) + _END, b"; boundary=b"),
    _multipart("a name not UTF-8", _PART % (b"\xff\xfe", b"", _SECRET) + _END, b"; boundary=b"),
    _multipart("text as file", _PART % (b"file", b"", _SECRET) + _END, b"; boundary=b"),
    _multipart(
        "a file as number",
        _PART % (b"count", b'; filename="%s"' % _SECRET, _SECRET) + _END,
        b"; boundary=b",
    ),
    _multipart(
        "a charset nobody knows",
        _PART % (b"count", b"", b"\xff" + _SECRET) + _END,
        b"; boundary=b; charset=x\0y",
    ),
    _multipart("a value not UTF-8", _PART % (b"count", b"", b"\xff") + _END, b"; boundary=b"),
    _multipart(
        "many parts", (_PART % (b"count", b"", _SECRET)) * 1500 + _END, b"; boundary=b", 400, 422
    ),
)


def _get(name: str, target: bytes, *statuses: int) -> Request:
    return Request(f"url: {name}", target, method="GET", statuses=statuses or (422,))


def _with(name: str, *headers: tuple[bytes, bytes]) -> Request:
    return Request(f"headers: {name}", b"/headers", b"", headers, "GET")


URLS = (
    _get("no such path", b"/" + _SECRET, 404),
    _get("a path that is not UTF-8", b"/%ff%fe", 404),
    _get("a lone surrogate in the path", b"/items/%ed%a0%80"),
    _get("NUL in the path", b"/items/%00"),
    _get("line breaks in the path", b"/items/%0d%0aX:%20y"),
    _get("an item that is no number", b"/items/" + _SECRET),
    _get("an item that is too big a number", b"/items/" + _DIGITS),
    _get("an integer that is too long", b"/int/" + _DIGITS, 404),
    _get(
        "an integer in other digits", "/int/١٢٣".encode().hex(" ").replace(" ", "%").encode(), 404
    ),
    _get("a float that is too big", b"/float/" + _DIGITS, 200, 404, 422),
    _get("a UUID that is none", b"/uuid/" + _SECRET, 404),
    _get("dots", b"/items/../../etc/passwd", 404),
    _get("a query that is not UTF-8", b"/query?n=%ff%fe"),
    _get("a query with a lone surrogate", b"/query?n=%ed%a0%80&choice=%ed%a0%80"),
    _get("NUL in the query", b"/query?n=%00"),
    _get("bad percent signs", b"/query?n=%zz%&choice=%"),
    _get("no number", b"/query?n=" + _SECRET),
    _get("a number that is too long", b"/query?n=%s&ids=%s" % (_DIGITS, _DIGITS)),
    _get("a zone", b"/query?n=1&zone=" + _SECRET),
    _get("a zone that is a path", b"/query?n=1&zone=../../etc/passwd"),
    _get("a zone that is too long", b"/query?n=1&zone=" + b"a/" * 3000),
    _get("many values", b"/query?" + b"&".join([b"ids=" + _SECRET] * 2000)),
    _get("no date", b"/query?n=1&when=99999-99-99T99:99:99&choice=" + _SECRET),
    Request("url: no such method", b"/items/1", method="DELETE", statuses=(405,)),
    Request("url: a method of its own", b"/items/1", method="SENTINEL-hunter2", statuses=(405,)),
    _with("no number", (b"x-count", _SECRET)),
    _with("a number that is too long", (b"x-count", _DIGITS)),
    _with("not ASCII", (b"x-count", b"\xff\xfe\x80")),
    _with("empty", (b"x-count", b"")),
    _with("twice", (b"x-count", _SECRET), (b"x-count", _SECRET)),
    _with("a cookie", (b"x-count", b"1"), (b"cookie", b"session=" + _SECRET)),
    _with("a bad cookie", (b"x-count", b"1"), (b"cookie", b"session=\xff\xfe;;;=;\t")),
    _with("a host that is none", (b"x-count", _SECRET), (b"host", b"[::1")),
)

_VALUES = (
    f'"{SENTINEL}"',
    f'["{SENTINEL}", {{"{SENTINEL[:0]}": "{SENTINEL}"}}]',
    f'{{"kind": "{SENTINEL}", "tag": "{SENTINEL}"}}',
    f'{{"kind": "dog", "tag": "d", "tricks": ["{SENTINEL}", 1]}}',
    f'{{"{{": "{SENTINEL}"}}',
    f'"http://{SENTINEL}:{SENTINEL}@[bad"',
    f'"3 {SENTINEL}"',
    f'"2000-01-01T00:00:00 {SENTINEL}"',
    f'"{{\\"a\\": \\"{SENTINEL}\\"}}"',
    rf'"\ud800{SENTINEL}"',
    '"\\u0000"',
    '"%"',
    '"2000-01-01T00:00:00+25:00"',
    '"2000-01-01T00:00:00Z"',
    '"\u0661\u0662\u0663"',
    "NaN",
    "-Infinity",
    "1e999",
    "-1",
    "1.5",
    "9" * 25,
    f'"{"9" * 5000}"',
    '"1e1000000"',
    '"NaN"',
    "null",
    "true",
    "[]",
    "{}",
    "[[1], [2], [[3]]]",
    f"{'[' * 200}{']' * 200}",
)


def json_requests() -> Iterator[Request]:
    """Every hostile value in every field of the model that has all kinds of them."""
    for field, value in product(Everything.model_fields, _VALUES):
        if field == "size" and len(value) > 5000:
            continue  # Pydantic 2.12 lets an OverflowError out of ByteSize
        body = (
            f'{{"{field}": {value}}}'
            if field == "password"
            else (f'{{"password": "{SENTINEL}", "{field}": {value}}}')
        )
        yield _json(f"{field}={value[:50]}", body.encode(), 200, 422, target=b"/json")
