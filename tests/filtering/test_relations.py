"""Rows by what is related to them, each row once."""

from collections.abc import Collection, Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Connection, Engine, ForeignKey, func, insert, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    mapped_column,
    relationship,
    with_polymorphic,
)

from fastkit.filtering import (
    FilterParams,
    apply_filters,
    eq,
    icontains,
    in_,
    is_null,
    ne,
    search,
    sort_by,
)
from tests.filtering.models import Artist, Item, Label, Tag, item_tag
from tests.filtering.support import filtered, model_of

NAMES = ["a", "b", None]
names = st.sampled_from(NAMES)
Graph = dict[str, Any]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Items of artists of labels, with tags and with parents among them, as the tables have it."""
    few = range(draw(st.integers(1, 3)))

    def one_of(numbers: range) -> int | None:
        return draw(st.none() | st.sampled_from(numbers))

    items = range(draw(st.integers(1, 6)))
    return {
        "label": [{"id": i, "name": draw(names)} for i in few],
        "artist": [{"id": i, "name": draw(names), "label_id": one_of(few)} for i in few],
        "tag": [{"id": i, "name": draw(names)} for i in few],
        "item": [
            {
                "id": i,
                "name": draw(names),
                "artist_id": one_of(few),
                "parent_id": one_of(range(i)) if i else None,
            }
            for i in items
        ],
        "item_tag": [
            {"item_id": item, "tag_id": tag} for item in items for tag in few if draw(st.booleans())
        ],
    }


def fill(connection: Connection, graph: Graph) -> None:
    for table in (Label, Artist, Tag, Item, item_tag):
        rows = graph[getattr(table, "__tablename__", "item_tag")]
        if rows:
            connection.execute(insert(table), rows)


class Related:
    """What relations lead to, in Python."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def artist(self, item: Any) -> list[Any]:
        return [a for a in self.graph["artist"] if a["id"] == item["artist_id"]]

    def label(self, artist: Any) -> list[Any]:
        return [each for each in self.graph["label"] if each["id"] == artist["label_id"]]

    def parent(self, item: Any) -> list[Any]:
        return [each for each in self.graph["item"] if each["id"] == item["parent_id"]]

    def children(self, item: Any) -> list[Any]:
        return [each for each in self.graph["item"] if each["parent_id"] == item["id"]]

    def items(self, artist: Any) -> list[Any]:
        return [each for each in self.graph["item"] if each["artist_id"] == artist["id"]]

    def tags(self, item: Any) -> list[Any]:
        pairs = self.graph["item_tag"]
        found = {pair["tag_id"] for pair in pairs if pair["item_id"] == item["id"]}
        return [tag for tag in self.graph["tag"] if tag["id"] in found]

    def tagged(self, tag: Any) -> list[Any]:
        return [item for item in self.graph["item"] if tag in self.tags(item)]

    def follow(self, item: Any, steps: tuple[str, ...]) -> Iterator[Any]:
        if not steps:
            yield item
        else:
            for related in getattr(self, steps[0])(item):
                yield from self.follow(related, steps[1:])


PATHS: list[tuple[Any, Any, tuple[str, ...]]] = [
    (Artist.name, Item.artist, ("artist",)),
    (Tag.name, Item.tags, ("tags",)),
    (Label.name, (Item.artist, Artist.label), ("artist", "label")),
    (Item.name, Item.parent, ("parent",)),
    (Item.name, Item.children, ("children",)),
    (Item.name, (Item.parent, Item.parent), ("parent", "parent")),
    (Item.name, (Item.children, Item.children), ("children", "children")),
    (Item.name, (Item.children, Item.parent), ("children", "parent")),
    (Item.name, (Item.artist, Artist.items), ("artist", "items")),
    (Item.name, (Item.tags, Tag.items), ("tags", "tagged")),
    (Tag.name, (Item.parent, Item.tags), ("parent", "tags")),
    (Artist.name, (Item.parent, Item.artist), ("parent", "artist")),
    (Label.name, (Item.parent, Item.artist, Artist.label), ("parent", "artist", "label")),
    (Item.name, (Item.parent, Item.parent, Item.parent), ("parent", "parent", "parent")),
    (Tag.name, (Item.artist, Artist.items, Item.tags), ("artist", "items", "tags")),
]


@pytest.mark.parametrize(
    ("column", "through", "steps"), PATHS, ids=[".".join(steps) for *_, steps in PATHS]
)
@given(graph=graphs(), value=st.sampled_from("ab"))
@settings(max_examples=12)
def test_each_row_with_such_a_related_row_once(
    engine: Engine, column: Any, through: Any, steps: tuple[str, ...], graph: Graph, value: str
) -> None:
    related = Related(graph)
    found_by: list[tuple[FilterParams, Collection[str | None]]] = [
        (filtered(str, eq, column, through)(x=value), {value}),
        (filtered(str, ne, column, through)(x=value), {"a", "b"} - {value}),
        (filtered(bool, is_null, column, through)(x=True), {None}),
        (filtered(list[str], in_, column, through)(x=["a", "b"]), {"a", "b"}),
        (filtered(str, icontains, column, through)(x=value.upper()), {value}),
    ]
    with engine.connect() as connection:
        fill(connection, graph)
        for params, wanted in found_by:
            expected = [
                item["id"]
                for item in graph["item"]
                if any(other["name"] in wanted for other in related.follow(item, steps))
            ]
            statement = apply_filters(select(Item.id).order_by(Item.id), params)
            assert list(connection.scalars(statement)) == expected


GRAPH: Graph = {
    "label": [{"id": 1, "name": "Blue Note"}],
    "artist": [
        {"id": 1, "name": "Anna", "label_id": 1},
        {"id": 2, "name": "Otto", "label_id": None},
    ],
    "tag": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
    "item": [
        {"id": 1, "name": "One", "artist_id": 1, "parent_id": None},
        {"id": 2, "name": "Annabel", "artist_id": 2, "parent_id": 1},
        {"id": 3, "name": "Three", "artist_id": None, "parent_id": 1},
    ],
    "item_tag": [{"item_id": i, "tag_id": tag} for i in (1, 2) for tag in (1, 2)],
}


def items(engine: Engine, params: FilterParams, entity: Any = Item) -> list[int]:
    with engine.connect() as connection:
        fill(connection, GRAPH)
        return list(
            connection.scalars(apply_filters(select(entity.id).order_by(entity.id), params))
        )


def test_search_in_columns_and_relations(engine: Engine) -> None:
    model = model_of(
        str,
        search(
            Item.name,
            icontains(Artist.name, through=Item.artist),
            icontains(Tag.name, through=Item.tags),
            icontains(Label.name, through=(Item.artist, Artist.label)),
        ),
    )
    assert items(engine, model(x="ANNA")) == [1, 2]
    assert items(engine, model(x="otto")) == [2]
    assert items(engine, model(x="note")) == [1]
    assert items(engine, model(x="e")) == [1, 2, 3]


def test_several_filters_are_all_to_hold_and_may_hold_for_different_related_rows(
    engine: Engine,
) -> None:
    class Both(FilterParams):
        one: Annotated[str | None, eq(Tag.name, through=Item.tags)] = None
        other: Annotated[str | None, eq(Tag.name, through=Item.tags)] = None
        name: Annotated[str | None, eq(Item.name)] = None

    assert items(engine, Both(one="red", other="blue")) == [1, 2]
    assert items(engine, Both(one="red", other="blue", name="One")) == [1]
    assert items(engine, Both(one="red", other="green")) == []


def test_an_aliased_class(engine: Engine) -> None:
    other = aliased(Item)
    assert items(engine, model_of(str, eq(other.name))(x="One"), other) == [1]
    through = model_of(str, eq(Artist.name, through=other.artist))(x="Otto")
    assert items(engine, through, other) == [2]
    related = aliased(Artist)
    typed = model_of(str, eq(related.name, through=Item.artist.of_type(related)))(x="Otto")
    assert items(engine, typed) == [2]


class Zoo(DeclarativeBase):
    pass


class Animal(Zoo):
    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    mother_id: Mapped[int | None] = mapped_column(ForeignKey("animal.id"))
    mother: Mapped["Animal | None"] = relationship(back_populates="young", remote_side=[id])
    young: Mapped[list["Animal"]] = relationship(back_populates="mother")
    keepers: Mapped[list["Keeper"]] = relationship(back_populates="pet")
    mane: Mapped[str | None] = mapped_column()


class Lion(Animal):
    __mapper_args__ = {"polymorphic_identity": "lion"}  # noqa: RUF012

    @hybrid_property
    def trimmed(self) -> str:
        return self.mane or ""

    @trimmed.inplace.expression
    @classmethod
    def _trimmed(cls) -> ColumnElement[str]:
        return func.coalesce(cls.mane, "")


class Bird(Animal):
    __tablename__ = "bird"

    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    span: Mapped[int]
    friend_id: Mapped[int | None] = mapped_column(ForeignKey("animal.id"))
    friend: Mapped[Animal | None] = relationship(foreign_keys=[friend_id])
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_identity": "bird",
        "inherit_condition": id == Animal.id,
    }

    @hybrid_property
    def width(self) -> int:
        return self.span * 2


class Keeper(Zoo):
    __tablename__ = "keeper"

    id: Mapped[int] = mapped_column(primary_key=True)
    pet_id: Mapped[int] = mapped_column(ForeignKey("animal.id"))
    pet: Mapped[Animal] = relationship(back_populates="keepers")


ANIMALS: list[dict[str, Any]] = [
    {"id": 1, "kind": "animal", "mother_id": None, "mane": "long"},
    {"id": 2, "kind": "lion", "mother_id": 1, "mane": "long"},
    {"id": 3, "kind": "bird", "mother_id": 1, "mane": None},
    {"id": 4, "kind": "animal", "mother_id": 2, "mane": None},
    {"id": 5, "kind": "bird", "mother_id": 3, "mane": None},
    {"id": 6, "kind": "animal", "mother_id": 5, "mane": None},
]
BIRDS: list[dict[str, Any]] = [
    {"id": 3, "span": 9, "friend_id": 2},
    {"id": 5, "span": 1, "friend_id": 3},
]
KEEPERS = [{"id": 1, "pet_id": 2}, {"id": 2, "pet_id": 1}, {"id": 3, "pet_id": 3}]
a_bird = aliased(Bird, flat=True)
either = with_polymorphic(Animal, [Bird], flat=True)


@pytest.mark.parametrize(
    ("column", "through", "value", "expected"),
    [
        (Bird.span, Animal.mother, 9, [5]),
        (Bird.span, Animal.young, 9, [1]),
        (Bird.span, Animal.mother.of_type(Bird), 9, [5]),
        (Bird.span, (Animal.mother, Animal.mother), 9, [6]),
        (Bird.span, (Animal.mother, Animal.young), 1, [5]),
        (Bird.id, (Animal.mother, Animal.mother), 3, [6]),
        # What any animal has is asked of any.
        (Animal.mane, Animal.mother, "long", [2, 3, 4]),
        (Animal.mane, (Animal.mother, Bird.friend), "long", [5]),
        (Animal.mane, (Animal.mother, Animal.mother, Bird.friend), "long", [6]),
        (Bird.span, (Animal.mother, Bird.friend.of_type(Bird)), 9, [6]),
        (Bird.span, (Animal.mother, Bird.friend, Animal.young), 1, [6]),
        (Bird.width, Animal.mother, 18, [5]),
        (Lion.mane, Keeper.pet, "long", [1]),
        (Lion.trimmed, Keeper.pet, "long", [1]),
        (Lion.trimmed, (Animal.keepers, Keeper.pet), "long", [2]),
        (Animal.mane, Keeper.pet.of_type(Lion), "long", [1]),
        (Animal.mane, Keeper.pet, "long", [1, 2]),
        (Animal.__table__.c.mane, Animal.mother, "long", [2, 3, 4]),
        (a_bird.span, Animal.mother.of_type(a_bird), 9, [5]),
        (either.Bird.span, Animal.mother.of_type(either), 9, [5]),
    ],
)
def test_a_column_that_only_a_subclass_of_the_related_class_has(
    engine: Engine, column: Any, through: Any, value: Any, expected: list[int]
) -> None:
    params = model_of(type(value), eq(column, through=through))(x=value)
    with engine.connect() as connection:
        Zoo.metadata.create_all(connection)
        for name, rows in {"animal": ANIMALS, "bird": BIRDS, "keeper": KEEPERS}.items():
            connection.execute(insert(Zoo.metadata.tables[name]), rows)
        path: list[Any] = [*through] if isinstance(through, tuple) else [through]
        start = path[0].class_.id
        statement = apply_filters(select(start).order_by(start), params)
        assert list(connection.scalars(statement)) == expected


def test_a_column_of_the_related_table(engine: Engine) -> None:
    column = Artist.__table__.c.name
    assert items(engine, model_of(str, eq(column, through=Item.artist))(x="Otto")) == [2]


@pytest.mark.parametrize(
    ("column", "through", "words"),
    [
        (Label.name, Item.artist, "through=Item.artist leads to Artist, which Label.name is no"),
        (Label.name, (Item.tags, Artist.label), "Item.tags leads to Tag, which Artist.label is no"),
        (a_bird.span, Animal.mother, r"Animal.mother leads to Animal, which .*Bird.*\.span is no"),
        (a_bird.span, Animal.mother.of_type(Bird), r"leads to Bird, which .*Bird.*\.span is no"),
        (Bird.span, Animal.mother.of_type(a_bird), "which Bird.span is no"),
        (Bird.span, Animal.mother.of_type(Lion), "leads to Lion, which Bird.span is no"),
        (Lion.mane, Animal.mother, "cannot be asked of Lion alone: name the table's column"),
        (Lion.trimmed, (Keeper.pet, Animal.young), "cannot be asked of Lion alone"),
        (Animal.mane, Animal.mother.of_type(Lion), "Animal.mane cannot be asked of Lion alone"),
        (Animal.id, (Animal.mother, a_bird.friend), r"which .*Bird.*\.friend is no"),
    ],
)
def test_relations_that_do_not_lead_to_the_column(column: Any, through: Any, words: str) -> None:
    params = model_of(bool, is_null(column, through=through))(x=True)
    with pytest.raises(TypeError, match=words):
        apply_filters(select(Item), params)


def test_a_relation_to_a_model_that_is_imported_later() -> None:
    class Own(DeclarativeBase):
        pass

    class Singer(Own):
        __tablename__ = "singer"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        firm_id: Mapped[int] = mapped_column(ForeignKey("firm.id"))
        firm: Mapped["Firm"] = relationship()

    class Song(Own):
        __tablename__ = "song"
        id: Mapped[int] = mapped_column(primary_key=True)
        singer_id: Mapped[int] = mapped_column(ForeignKey("singer.id"))
        singer: Mapped[Singer] = relationship()

    class Query(FilterParams):
        singer: Annotated[str | None, eq(Singer.name, through=Song.singer)] = None
        sort: Annotated[list[str], sort_by(id=Song.id)] = ["id"]  # noqa: RUF012

    assert Query(singer="x").sort == ["id"]

    class Firm(Own):
        __tablename__ = "firm"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert "EXISTS (SELECT 1" in str(apply_filters(select(Song.id), Query(singer="x")))
