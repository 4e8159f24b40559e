"""Text that contains, starts or ends with other text, alike on each database.

SQLite's LIKE ignores the case of ASCII letters and heeds that of others, so GLOB is used there,
with each letter of a pattern that ignores case written as a class of its variants.
"""

from typing import Any

from sqlalchemy import Boolean, Dialect, String, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

__all__ = ("matches",)

# Letters that become these in lower case, beside the one that these become in upper case.
_MORE = {
    "k": "\u212a",
    "å": "\u212b",
    "ω": "\u2126",
    "θ": "\u03f4",
    "ß": "\u1e9e",
    "i": "\u0130",
}


class _Pattern(TypeDecorator[str]):
    """Sends a text as the pattern that finds it."""

    impl = String
    cache_ok = True

    def __init__(self, before: bool, after: bool, ignore_case: bool) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.ignore_case = ignore_case

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if dialect.name == "sqlite":
            escape, wildcard = (_glob_ignoring_case if self.ignore_case else _glob), "*"
        else:
            escape, wildcard = _like, "%"
        inner = "".join(map(escape, value or ""))
        return wildcard * self.before + inner + wildcard * self.after


def _like(character: str) -> str:
    return f"/{character}" if character in "/%_" else character


def _glob(character: str) -> str:
    return f"[{character}]" if character in "*?[" else character


def _lower(character: str) -> str:
    # One letter for one letter, as databases do it; to Python it is the i and a dot above.
    return "i" if character == "\u0130" else character.lower()


def _glob_ignoring_case(character: str) -> str:
    lower = _lower(character)
    variants = {lower, lower.upper(), lower.title(), _MORE.get(lower, lower)}
    same = sorted(v for v in variants if len(v) == 1 and _lower(v) == lower)
    return f"[{''.join(same)}]" if len(same) > 1 else _glob(character)


class _Matches(FunctionElement[bool]):
    type = Boolean()
    name = "matches"
    inherit_cache = True


class _MatchesIgnoringCase(FunctionElement[bool]):
    type = Boolean()
    name = "matches_ignoring_case"
    inherit_cache = True


def _sides(element: FunctionElement[bool], compiler: SQLCompiler, **kw: Any) -> tuple[str, str]:
    text, pattern = (compiler.process(clause, **kw) for clause in element.clauses)
    return text, pattern


@compiles(_Matches)
def _compile_like(element: _Matches, compiler: SQLCompiler, **kw: Any) -> str:
    text, pattern = _sides(element, compiler, **kw)
    return f"({text} LIKE {pattern} ESCAPE '/')"


@compiles(_MatchesIgnoringCase)
def _compile_lower(element: _MatchesIgnoringCase, compiler: SQLCompiler, **kw: Any) -> str:
    text, pattern = _sides(element, compiler, **kw)
    return f"(lower({text}) LIKE lower({pattern}) ESCAPE '/')"


@compiles(_MatchesIgnoringCase, "postgresql")
def _compile_ilike(element: _MatchesIgnoringCase, compiler: SQLCompiler, **kw: Any) -> str:
    text, pattern = _sides(element, compiler, **kw)
    return f"({text} ILIKE {pattern} ESCAPE '/')"


@compiles(_Matches, "sqlite")
@compiles(_MatchesIgnoringCase, "sqlite")
def _compile_glob(element: FunctionElement[bool], compiler: SQLCompiler, **kw: Any) -> str:
    text, pattern = _sides(element, compiler, **kw)
    return f"({text} GLOB {pattern})"


def matches(
    column: ColumnElement[Any], text: str, *, before: bool, after: bool, ignore_case: bool
) -> ColumnElement[bool]:
    """Whether the column has `text`, with anything before or after it where these are set."""
    type_ = _Pattern(before, after, ignore_case)
    pattern = bindparam(None, text, type_=type_, unique=True)
    return (_MatchesIgnoringCase if ignore_case else _Matches)(column, pattern)
