"""Reading the rows of a page."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

from pydantic import BaseModel
from sqlalchemy import Select, func, inspect, select
from sqlalchemy.orm import Session

from fastkit.db._keyset import Keyset, keyset_of
from fastkit.db._statement import Source, inspect_select, one_of, order_columns, own_order
from fastkit.filtering._params import conditions_of, filters_of, order_of
from fastkit.filtering._sort import OrderKey, SortBy
from fastkit.pagination._cursor import Cursor, CursorCodec, check_secret
from fastkit.pagination._pages import CursorPage, stretch_of
from fastkit.pagination._params import CursorParams
from fastkit.pagination._total import Capped, TotalPolicy, check_total

__all__ = ("Fetched", "Plan", "fetch")

# To look whether a session has objects of a class costs more than it saves beyond so many.
_FEW = 100

Place = tuple[Any, ...]


class Plan(NamedTuple):
    """What a page is made of, beside the session and the select."""

    params: Any
    total: TotalPolicy | None
    order_by: Sequence[Any]
    secret: str | bytes | None


class Fetched(NamedTuple):
    """The rows of a page, and the other members of its envelope."""

    kind: type[BaseModel]
    rows: Sequence[Any]
    members: dict[str, Any]


def fetch(session: Session, statement: Any, plan: Plan) -> Fetched:
    """Execute what is needed for the page."""
    params = plan.params
    _check(plan.order_by, plan.total)
    source = inspect_select(statement)
    if filters := filters_of(params):
        source.narrow(filters.values(), conditions_of(params))
    keys = order_of(params) or [OrderKey.of(column) for column in plan.order_by]
    source.check(keys)
    if isinstance(params, CursorParams):
        return _fetch_from_cursor(session, source, keys, plan)
    stretch = stretch_of(params)
    if stretch is None:
        raise TypeError(
            f"{type(params).__name__} says nothing of pages: "
            "derive it from PageParams, LimitOffsetParams or CursorParams"
        )
    kind, offset, size, place = stretch
    policy = "exact" if plan.total is None else plan.total
    rows = _at_offset(session, source, keys, offset, size + (policy != "exact"))
    if policy == "exact":
        ends_here = len(rows) < size and (rows or not offset)
        total = offset + len(rows) if ends_here else _count(session, source)
        has_next = offset + len(rows) < total
        members: dict[str, Any] = {"total": total, "total_capped": False}
    else:
        has_next = len(rows) > size
        members = _total(session, source, policy)
    members |= {"has_next": has_next and bool(rows), "links": None, **place}
    return Fetched(kind, rows[:size], members)


def _check(order_by: object, total: object) -> None:
    if isinstance(order_by, str) or not isinstance(order_by, Sequence):
        raise TypeError(f"order_by= takes a list: put {order_by} into one, as order_by=[...]")
    if total is not None:
        check_total(total)


def _whole_order(source: Source, keys: Sequence[OrderKey]) -> list[OrderKey]:
    """The keys, each column once, and those that make the order certain."""
    whole: dict[int, OrderKey] = {}
    for key in (*keys, *source.tiebreak):
        whole.setdefault(hash(key.column), key)  # a column keeps its hash when it is annotated
    return list(whole.values())


def _at_offset(
    session: Session, source: Source, keys: Sequence[OrderKey], offset: int, limit: int
) -> Sequence[Any]:
    order = _whole_order(source, keys)
    if source.repeats:
        if not keys:
            source.check(own_order(source))
        statement = source.identities(order_columns(source, keys))
        if keys:
            statement = statement.order_by(None)
    else:
        statement = source.select if keys else source.ordered
    statement = statement.order_by(
        *[key.expression(nullable=source.may_be_null(key)) for key in order]
    )
    statement = statement.offset(offset).limit(limit)
    if source.repeats:
        statement = statement.add_columns(*_labelled(keys))
        return _objects(session, source, session.execute(statement).all())
    if not source.entities:
        return (session.scalars(statement) if source.scalar else session.execute(statement)).all()
    if source.scalar:
        if source.attributes_of(keys) is None:
            # DISTINCT lets only what is selected be sorted by.
            statement = statement.add_columns(*_labelled(keys))
        return session.scalars(statement).unique().all()
    if source.lacks_key and source.distinct:
        return session.execute(statement).all()
    # Equal rows are told apart by their number.
    told_by = (
        [func.row_number().over().label("fastkit_key_0")]
        if source.lacks_key
        else _labelled(source.tiebreak)
    )
    return _split(session, statement.add_columns(*told_by), len(told_by))[0]


def _labelled(keys: Sequence[OrderKey]) -> list[Any]:
    return [key.column.label(f"fastkit_key_{number}") for number, key in enumerate(keys)]


def _split(
    session: Session, statement: Select[Any], count: int, parameters: dict[str, Any] | None = None
) -> tuple[list[Any], list[Any]]:
    """The rows without their last columns, and these, which tell one row from another."""
    # Joined eager loading repeats rows. What they have may be of a kind that has no hash.
    result = session.execute(statement, parameters).unique(lambda row: row[-count:]).freeze()
    width = len(statement.column_descriptions)  # keys() lacks an alias that has no name
    rows = result().columns(*range(width - count)).all()
    return list(rows), list(result().columns(*range(width - count, width)).all())


def _objects(session: Session, source: Source, identities: Sequence[Sequence[Any]]) -> list[Any]:
    """The objects with these primary keys, in this order, each with all that is joined to it."""
    if not identities:
        return []
    columns = [key.column for key in source.tiebreak]
    wanted = [tuple(identity[: len(columns)]) for identity in identities]
    values = wanted if len(columns) > 1 else [value for (value,) in wanted]
    found = session.scalars(source.ordered.where(one_of(columns, values))).unique()
    objects = {inspect(each).identity: each for each in found}
    return [objects[identity] for identity in wanted if identity in objects]


def _total(session: Session, source: Source, policy: TotalPolicy) -> dict[str, Any]:
    if isinstance(policy, Capped):
        total = _count(session, source, policy.limit + 1)
        capped = total > policy.limit
        return {"total": min(total, policy.limit), "total_capped": capped}
    if policy == "none":
        return {"total": None, "total_capped": False}
    if policy == "exact":
        return {"total": _count(session, source), "total_capped": False}
    return {"total": policy, "total_capped": False}


def _count(session: Session, source: Source, limit: int | None = None) -> int:
    if limit is None:
        statement = source.count()
    else:
        statement = select(func.count()).select_from(source.rows().limit(limit).subquery())
    return cast("int", session.scalar(statement))


def _fetch_from_cursor(
    session: Session, source: Source, keys: Sequence[OrderKey], plan: Plan
) -> Fetched:
    params: CursorParams = plan.params
    if source.has_order:
        raise ValueError("A cursor cannot see the select's ORDER BY: give it as order_by=")
    if source.lacks_key:
        raise ValueError(
            "A cursor cannot tell equal rows apart, and these have no primary key: "
            "select columns that can be compared, with distinct()"
        )
    if source.windowed:
        raise ValueError(
            "A cursor cannot go on in a select of window functions, which would see only the rows "
            "that are left: make it a subquery, and select from that"
        )
    order = _whole_order(source, keys)
    dialect = session.get_bind(clause=source.select).dialect
    keyset = keyset_of(order, [source.may_be_null(key) for key in order], dialect)
    secret = None if plan.secret is None else check_secret(plan.secret)
    codec = CursorCodec(keyset.adapter, _context(params, keyset), secret)
    cursor = codec.decode(params.cursor, params) if params.cursor else None
    rows, ends, more = _read(session, source, keyset, cursor, params.size)
    following, preceding = _neighbours(ends, cursor, more=more)
    members = _total(session, source, "none" if plan.total is None else plan.total) | {
        "has_next": following is not None,
        "links": None,
        "size": params.size,
        "next_cursor": following and codec.encode(following),
        "previous_cursor": preceding and codec.encode(preceding),
    }
    return Fetched(CursorPage, rows, members)


def _context(params: CursorParams, keyset: Keyset) -> bytes:
    """What a cursor is bound to, beside the secret."""
    cls = type(params)
    filters = {*filters_of(params)}
    # A set's order is another one in each process.
    in_order = {
        name: sorted(cast("Iterable[Any]", value), key=repr)
        for name in filters
        if isinstance(value := params.__dict__[name], set | frozenset)
    }
    if in_order:
        params = params.model_copy(update=in_order)
    # Columns of two nameless aliases look the same: what the client calls them does not.
    asked = params.model_dump_json(include=filters | _sorting(cls), warnings=False)
    return f"{cls.__module__}.{cls.__qualname__}\n{asked}\n{keyset.description}".encode()


@lru_cache(maxsize=256)
def _sorting(cls: type[CursorParams]) -> frozenset[str]:
    """The fields that sort."""
    return frozenset(
        name
        for name, field in cls.model_fields.items()
        if any(isinstance(each, SortBy) for each in field.metadata)
    )


def _read(
    session: Session, source: Source, keyset: Keyset, cursor: Cursor | None, size: int
) -> tuple[list[Any], list[Place], bool]:
    """The rows beyond the cursor, the places of the first and the last, and if there are more."""
    names = _attributes(session, source, keyset)
    rows, places = _walk(session, source, keyset, cursor, size + 1, bare=names is not None)
    more, rows, places = len(rows) > size, rows[:size], places[:size]
    if cursor is not None and cursor.backward:
        rows.reverse()
        places.reverse()
    if names is None:
        ends = [tuple(place[-len(keyset.columns) :]) for place in places[:1] + places[-1:]]
    else:
        found = [_place_of(row, names) for row in rows[:1] + rows[-1:]]
        ends = [place for place in found if place is not None]
        if len(ends) < len(found):
            return _read(session, source, keyset, cursor, size)  # which the session has now
    if source.repeats:
        rows = _objects(session, source, rows)
    return rows, ends, more


def _attributes(session: Session, source: Source, keyset: Keyset) -> list[str] | None:
    """The attributes that have the keys' values, if those of each object are the row's.

    They may differ if the session has an object from before, or if a type changes the values.
    """
    names = source.attributes_of(keyset.orders)
    if names is None or source.entity is None or keyset.raw or session.new:
        return None
    mapper = source.entity.mapper
    if any(each.class_manager.dispatch.load for each in mapper.self_and_descendants):
        return None  # a listener may have changed what was loaded
    known = session.identity_map
    if len(known) > _FEW or any(isinstance(each, mapper.class_) for each in known.values()):
        return None
    return names


def _place_of(row: Any, names: Sequence[str]) -> Place | None:
    loaded = inspect(row).dict
    return tuple([loaded[name] for name in names]) if loaded.keys() >= {*names} else None


def _walk(
    session: Session,
    source: Source,
    keyset: Keyset,
    cursor: Cursor | None,
    limit: int,
    *,
    bare: bool,
) -> tuple[list[Any], list[Any]]:
    """Up to `limit` rows beyond the cursor; and unless they are `bare`, as many that end with keys.

    Where joins repeat the objects, a row is an object's primary key.
    """
    count = len(keyset.columns)
    parts: Sequence[Sequence[Any]] = [()]
    parameters: dict[str, Any] | None = None
    backward = cursor is not None and cursor.backward
    if cursor is not None:
        parts = keyset.segments(cursor.values, backward=backward, inclusive=cursor.inclusive)
        parameters = keyset.parameters(cursor.values)
    statement = source.select
    # A key may be an aggregate, which only groups have. Databases themselves look at other keys
    # before they group.
    narrow = "having" if source.aggregated or source.repeats else "where"
    if source.repeats:
        statement = source.identities(order_columns(source, keyset.orders))
    if not bare:
        statement = statement.add_columns(*keyset.labels)
    statement = statement.order_by(*keyset.ordering(backward=backward))
    rows: list[Any] = []
    places: list[Any] = []
    for conditions in parts:
        narrowed = getattr(statement, narrow)(*conditions).limit(limit - len(rows))
        if bare:
            rows += session.scalars(narrowed, parameters).unique().all()
        elif source.repeats or (source.scalar and not source.entities):
            found = session.execute(narrowed, parameters).all()
            rows += found if source.repeats else [row[0] for row in found]
            places += found
        elif source.scalar:
            found = session.execute(narrowed, parameters).unique(_identity).all()
            rows += [row[0] for row in found]
            places += found
        else:
            some, ends = _split(session, narrowed, count, parameters)
            rows += some
            places += ends
        if len(rows) >= limit:
            break
    return rows, places


def _identity(row: Sequence[Any]) -> int:
    return id(row[0])


def _neighbours(
    ends: Sequence[Place], cursor: Cursor | None, *, more: bool
) -> tuple[Cursor | None, Cursor | None]:
    """The cursors of the next and of the previous page, from the places where this one ends."""
    backward = cursor is not None and cursor.backward
    if ends:
        first, last = ends
        following = Cursor(last) if backward or more else None
        has_previous = more if backward else cursor is not None
        return following, Cursor(first, backward=True) if has_previous else None
    if cursor is None:
        return None, None
    # The rows beyond the cursor are gone: those on its other side are where they were.
    other = Cursor(cursor.values, not backward, not cursor.inclusive)
    return (other, None) if backward else (None, other)
