"""What does not go together is an error when the class is made, and the error names the field."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Optional, Union, cast
from uuid import UUID

import pytest
from pydantic import AwareDatetime, Field, NaiveDatetime, PastDate, PositiveInt
from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    TypeDecorator,
    func,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    column_property,
    mapped_column,
    relationship,
)
from typing_extensions import TypeAliasType

from fastkit.filtering import (
    FilterParams,
    apply_filters,
    apply_sort,
    between,
    contains,
    eq,
    ge,
    icontains,
    in_,
    is_null,
    lt,
    not_in,
    search,
    sort_by,
)
from tests.filtering.models import Artist, Item, Kind, Row, Shade
from tests.filtering.support import model_of


class Base(DeclarativeBase):
    pass


class Wrapped(TypeDecorator[str]):
    impl = String
    cache_ok = True


class Twice(TypeDecorator[str]):
    impl = Wrapped
    cache_ok = True


class Opaque(TypeDecorator[Any]):
    impl = JSON
    cache_ok = True


class Lasting(TypeDecorator[timedelta]):
    impl = Interval
    cache_ok = True


class Thing(Base):
    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    length: Mapped[int] = column_property(func.length(name, type_=Integer))
    data: Mapped[Any] = mapped_column(JSON)
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    words: Mapped[list[str]] = mapped_column(ARRAY(String))
    wrapped: Mapped[str] = mapped_column(Wrapped)
    twice: Mapped[str] = mapped_column(Twice)
    opaque: Mapped[Any] = mapped_column(Opaque)
    interval: Mapped[timedelta] = mapped_column(Interval)
    lasting: Mapped[timedelta] = mapped_column(Lasting)
    other_id: Mapped[int] = mapped_column(ForeignKey("thing.id"))
    other: Mapped["Thing"] = relationship(remote_side=[id])
    other_name: AssociationProxy[str] = association_proxy("other", "name")

    @hybrid_property
    def upper(self) -> str:
        return self.name.upper()

    @upper.inplace.expression
    @classmethod
    def _upper(cls) -> ColumnElement[str]:
        return func.upper(cls.name, type_=String)


CORE = Table(
    "core", MetaData(), Column("id", Integer), Column("name", String), Column("flag", Boolean)
)
# As they would come from code that no type checker sees.
NOT_A_COLUMN: Any = "name"
A_CLASS: Any = Item
A_PROXY: Any = Thing.other_name
Name = NewType("Name", str)
Alias = TypeAliasType("Alias", str)


class Own(str, Enum):  # noqa: UP042 - as many write it
    A = "a"


WRONG: list[tuple[Any, Any, str]] = [
    # No column.
    (str, eq(Item.artist), "Item.artist is a relation: name a column of it"),
    (str, eq(NOT_A_COLUMN), "'name' is not a column"),
    (str, eq(A_CLASS), "is not a column"),
    (str, eq(A_PROXY), "is not a column: name one as Item.name"),
    (list[str], sort_by(x=A_PROXY), "is not a column"),
    (str, search(Item.name, Item.tags), "Item.tags is a relation"),
    (str, eq(Artist.name, through=Item.name), "through= is for relations, and Item.name is none"),
    (str, eq(Artist.name, through=NOT_A_COLUMN), "through= is for relations, and name is none"),
    (str, eq(Artist.name, through=(Item.artist, Artist.name)), "Artist.name is none"),
    # An operator that does not fit the column.
    (str, contains(Row.number), "contains is for text, and Row.number is Integer"),
    (str, icontains(Row.kind), "icontains is for text"),
    (str, contains(Row.uid), "contains is for text"),
    (str, search(Row.text, Row.number), "icontains is for text"),
    (str, contains(CORE.c.id), "contains is for text, and core.id is Integer"),
    (bool, lt(Row.flag), "lt needs an order, and Row.flag is Boolean"),
    (bool, ge(CORE.c.flag), "ge needs an order, and core.flag is Boolean"),
    (Kind, lt(Row.kind), "lt needs an order"),
    (str, lt(Row.word), "lt needs an order"),
    (tuple[bool, bool], between(Row.flag), "between needs an order"),
    (str, eq(Thing.data), "eq does not work on Thing.data, which is JSON"),
    (bytes, eq(Thing.blob), "eq does not work on Thing.blob, which is LargeBinary"),
    (list[str], in_(Thing.words), "in_ does not work on Thing.words, which is ARRAY"),
    (str, contains(Thing.words), "contains does not work on Thing.words"),
    (str, eq(Thing.opaque), "eq does not work on Thing.opaque"),
    (timedelta, eq(Thing.interval), "eq does not work on Thing.interval, which is Interval"),
    (datetime, eq(Thing.interval), "eq does not work on Thing.interval"),
    (timedelta, lt(Thing.lasting), "lt does not work on Thing.lasting"),
    (str, eq(func.whatever(Item.id)), "eq does not work on whatever"),
    # A field that does not fit the column.
    (str, eq(Row.number), "whose values are int, and the field is str"),
    (int, eq(Row.text), "whose values are str, and the field is int"),
    (bool, eq(Row.number), "whose values are int, and the field is bool"),
    (int, eq(Row.flag), "whose values are bool, and the field is int"),
    (date, eq(Row.local), "whose values are datetime, and the field is date"),
    (datetime, eq(Row.day), "whose values are date, and the field is datetime"),
    (PastDate, eq(Row.local), "whose values are datetime, and the field is PastDate"),
    (str, eq(Row.uid), "whose values are UUID, and the field is str"),
    (str, eq(Row.kind), "whose values are Kind, and the field is str"),
    (Shade, eq(Row.kind), "whose values are Kind, and the field is Shade"),
    (Kind, eq(Row.text), "whose values are str, and the field is Kind"),
    (Literal[1], eq(Row.text), "whose values are str, and the field is typing.Literal"),
    (Literal[True], eq(Row.number), "whose values are int"),
    (int | str, eq(Row.number), "whose values are int, and the field is int | str"),
    (Any, eq(Row.number), "whose values are int, and the field is .*Any"),
    (str, eq(Thing.length), "whose values are int"),
    (int, eq(Thing.upper), "whose values are str"),
    (int, eq(aliased(Thing).name), "whose values are str"),
    (list[int], in_(Row.text), r"whose values are str, and the field is list\[int\]"),
    (tuple[int, str], between(Row.number), "whose values are int"),
    # One value, several, or two.
    (list[str], eq(Row.text), r"eq takes one value, and the field is list\[str\]: use in_"),
    (list, eq(Row.text), "eq takes one value, and the field is list: use in_"),
    (set[str], contains(Row.text), "contains takes one value"),
    (str, in_(Row.text), r"in_ takes a list, and the field is str: make it list\[...\]"),
    (str, not_in(Row.text), "not_in takes a list"),
    (list, in_(Row.text), "in_ takes a list, and the field is list"),
    (tuple[str, str], in_(Row.text), "in_ takes a list"),
    (tuple[int, int, int], between(Row.number), "between takes two values, and the field is tuple"),
    (tuple[int, ...], between(Row.number), "between takes two values"),
    (list[int], between(Row.number), r"make it tuple\[..., ...\]"),
    (str, is_null(Row.text), "is_null takes a bool, and the field is str"),
    # Sorting.
    (list[str], sort_by(artist=Item.artist), "Item.artist is a relation"),
    (list[str], sort_by(data=Thing.data), "data=Thing.data cannot be sorted by: it is JSON"),
    (list[str], sort_by(data=Thing.opaque), "cannot be sorted by"),
    (list[str], sort_by(data=Thing.interval), "cannot be sorted by: it is Interval"),
    (list[str], sort_by(x=func.whatever(Item.id)), "cannot be sorted by: it is NullType"),
    (list[str], sort_by(x=NOT_A_COLUMN), "'name' is not a column"),
    (list[int], sort_by(id=Item.id), r"sort_by takes list\[str\] or str, and the field is .*list"),
    (set[str], sort_by(id=Item.id), "sort_by takes"),
    (int, sort_by(id=Item.id), "sort_by takes"),
]


@pytest.mark.parametrize(("type_", "metadata", "words"), WRONG)
@pytest.mark.parametrize("optional", [False, True])
def test_wrong(type_: Any, metadata: Any, words: str, optional: bool) -> None:
    with pytest.raises(TypeError, match=rf"^Params\.x: .*{words}"):
        model_of(Optional[type_] if optional else type_, metadata)  # noqa: UP045


@pytest.mark.parametrize(
    ("type_", "metadata"),
    [
        (str, eq(Thing.upper)),
        (str, contains(Thing.upper)),
        (str, contains(CORE.c.name)),
        (str, icontains(aliased(Thing).name)),
        (int, lt(Thing.length)),
        (int, lt(func.length(Thing.name, type_=Integer))),
        (str, eq(func.lower(Thing.name, type_=String))),
        (str, contains(Thing.data["x"].as_string())),
        (str, contains(Thing.wrapped)),
        (str, contains(Thing.twice)),
        (Kind, eq(Thing.wrapped)),
        (str, lt(Thing.twice)),
        (bool, is_null(Thing.data)),
        (Name, eq(Row.text)),
        (Alias, eq(Row.text)),
        (Own, eq(Row.text)),
        (Literal["a", "b"], eq(Row.text)),
        (Literal[Kind.SMALL], eq(Row.kind)),
        (AwareDatetime, eq(Row.at)),
        (NaiveDatetime, eq(Row.local)),
        (PastDate, eq(Row.day)),
        (PositiveInt, eq(Row.number)),
        (Annotated[int, Field(ge=1)], eq(Row.number)),
        (Decimal, eq(Row.number)),
        (int, eq(Row.price)),
        (time, eq(Row.clock)),
        (UUID, eq(Row.uid)),
        (frozenset[Kind], in_(Row.kind)),
        (list[Annotated[int, Field(ge=1)]], in_(Row.number)),
        (tuple[PositiveInt, PositiveInt], between(Row.number)),
        (list[str], sort_by(upper=Thing.upper, wrapped=Thing.twice, length=Thing.length)),
        (str, sort_by(name=CORE.c.name, alias=aliased(Thing).name)),
    ],
)
def test_right(type_: Any, metadata: Any) -> None:
    for annotation in (type_, Optional[type_], Union[None, type_]):  # noqa: UP007, UP045
        assert "x" in model_of(annotation, metadata).model_fields


def test_an_attribute_that_is_not_there_is_pythons_own_error() -> None:
    with pytest.raises(AttributeError, match="nmae"):
        eq(Item.nmae)  # type: ignore[attr-defined]  # pyright: ignore


def test_nothing_to_search_in() -> None:
    with pytest.raises(TypeError, match="name one at least"):
        search()


def test_a_filter_of_a_part_of_the_annotation() -> None:
    with pytest.raises(TypeError, match=r"Inside\.name: .* put all of the type"):

        class Inside(FilterParams):  # pyright: ignore[reportUnusedClass]
            name: Annotated[str, eq(Item.name)] | None = None

    with pytest.raises(TypeError, match=r"Deeper\.names: .* inside of Annotated"):

        class Deeper(FilterParams):  # pyright: ignore[reportUnusedClass]
            names: list[Annotated[str, eq(Item.name)]] = []  # noqa: RUF012


def test_two_filters_in_one_field() -> None:
    with pytest.raises(TypeError, match=r"Both\.name: a field has one filter"):

        class Both(FilterParams):  # pyright: ignore[reportUnusedClass]
            name: Annotated[str | None, eq(Item.name), contains(Item.name)] = None


def test_a_class_with_a_name_that_is_not_known_yet_is_checked_when_it_is() -> None:
    class Query(FilterParams):
        name: "Annotated[Later | None, contains(Item.id)]" = None  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore

    later = {"Later": str, "Annotated": Annotated, "contains": contains, "Item": Item}
    Query.model_rebuild(_types_namespace=later)
    with pytest.raises(TypeError, match=r"Query\.name: contains is for text"):
        Query(name="a")


def test_sqlmodel() -> None:
    sqlmodel: Any = pytest.importorskip("sqlmodel")

    class Villain(sqlmodel.SQLModel, table=True):  # type: ignore[call-arg, misc]  # pyright: ignore
        id: int | None = sqlmodel.Field(default=None, primary_key=True)
        name: str
        born: date | None = None

    class Query(FilterParams):
        name: Annotated[str | None, contains(sqlmodel.col(Villain.name))] = None
        bare: Annotated[date | None, ge(cast(Any, Villain.born))] = None
        sort: Annotated[list[str], sort_by(born=sqlmodel.col(Villain.born))] = ["-born"]  # noqa: RUF012

    statement: Select[Any] = sqlmodel.select(Villain.id)
    params = Query.model_validate({"name": "x", "bare": "2024-01-01"})
    sql = str(
        apply_sort(apply_filters(statement, params), params).compile(dialect=sqlite.dialect())
    )
    assert "villain.name GLOB ?" in sql
    assert "villain.born >= ?" in sql
    assert sql.endswith("ORDER BY villain.born DESC NULLS FIRST")
    with pytest.raises(TypeError, match=r"Params\.x: contains is for text, and Villain.born"):
        model_of(str, contains(sqlmodel.col(Villain.born)))
