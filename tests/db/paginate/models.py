"""Tables with a column of each type that rows can be sorted by."""

from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    JSON,
    REAL,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Time,
    TypeDecorator,
    Uuid,
    func,
    select,
)
from sqlalchemy import Enum as SQLEnum
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    deferred,
    mapped_column,
    relationship,
)
from sqlalchemy.types import TypeEngine

__all__ = (
    "Artist",
    "Base",
    "Book",
    "Color",
    "Disc",
    "Note",
    "Poem",
    "Record",
    "Size",
    "Song",
    "Tag",
    "Thing",
    "Track",
    "Work",
    "keyless",
    "song_tag",
)


class Base(DeclarativeBase):
    pass


class Color(Enum):
    RED = 3
    GREEN = 1
    BLUE = 2


class Size(Enum):
    LARGE = "b"
    SMALL = "a"


class Reversed(TypeDecorator[str]):
    """Text that is stored backwards, and so sorted by its end."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and value[::-1]

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return value and value[::-1]


class Guid(TypeDecorator[UUID]):
    """PostgreSQL's type there, and text elsewhere."""

    impl = CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        native = postgresql.UUID() if dialect.name == "postgresql" else CHAR(32)
        return dialect.type_descriptor(native)

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else value.hex

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        return value if value is None or isinstance(value, UUID) else UUID(value)


def _values(enum: type[Enum]) -> list[str]:
    return [member.value for member in enum]


class Thing(Base):
    __tablename__ = "thing"

    shelf: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    rank: Mapped[int] = mapped_column(BigInteger)
    label: Mapped[str]
    number: Mapped[int | None]
    name: Mapped[str | None]
    folded: Mapped[str | None] = mapped_column(
        String(collation="NOCASE").with_variant(String(collation="ignoring_case"), "postgresql")
    )
    spoken: Mapped[str | None] = mapped_column(
        String().with_variant(String(collation="en-x-icu"), "postgresql")
    )
    padded: Mapped[str | None] = mapped_column(CHAR(5))
    reversed: Mapped[str | None] = mapped_column(Reversed)
    guid: Mapped[UUID | None] = mapped_column(Guid)
    uuid: Mapped[UUID | None] = mapped_column(Uuid)
    token: Mapped[str | None] = mapped_column(Uuid(as_uuid=False))
    amount: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    exact: Mapped[float | None] = mapped_column(Numeric(30, 20, asdecimal=False))
    rounded: Mapped[Decimal | None] = mapped_column(Double(asdecimal=True))
    real: Mapped[float | None] = mapped_column(REAL)
    double: Mapped[float | None] = mapped_column(Double)
    aware: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    naive: Mapped[datetime | None]
    day: Mapped[date | None]
    clock: Mapped[time | None]
    zoned: Mapped[time | None] = mapped_column(Time(timezone=True))
    flag: Mapped[bool | None]
    color: Mapped[Color | None]
    size: Mapped[Size | None] = mapped_column(
        SQLEnum(Size, values_callable=_values, native_enum=False, length=9)
    )
    grade: Mapped[str | None] = mapped_column(SQLEnum("low", "high", name="grade"))
    late: Mapped[int | None] = deferred(mapped_column(Integer))


class Artist(Base):
    __tablename__ = "artist"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    born: Mapped[int | None]
    songs: Mapped[list["Song"]] = relationship(back_populates="artist")


song_tag = Table(
    "song_tag",
    Base.metadata,
    Column("song_id", Integer, ForeignKey("song.id"), primary_key=True),
    Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Song(Base):
    __tablename__ = "song"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    year: Mapped[int | None]
    artist_id: Mapped[int | None] = mapped_column(ForeignKey("artist.id"))
    cover_of_id: Mapped[int | None] = mapped_column(ForeignKey("song.id"))
    artist: Mapped[Artist | None] = relationship(back_populates="songs")
    cover_of: Mapped["Song | None"] = relationship(remote_side=id)
    tags: Mapped[list[Tag]] = relationship(secondary=song_tag, order_by=Tag.id)
    records: Mapped[list["Record"]] = relationship(back_populates="song")


class Record(Base):
    """One of the many that a song is on, with a composite primary key."""

    __tablename__ = "record"

    song_id: Mapped[int] = mapped_column(ForeignKey("song.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    data: Mapped[Any] = mapped_column(JSON)
    song: Mapped[Song] = relationship(back_populates="records")


Song.record_count = column_property(
    select(func.count(Record.number))
    .where(Record.song_id == Song.id)
    .correlate_except(Record)
    .scalar_subquery()
)


class Work(Base):
    __tablename__ = "work"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "work"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    notes: Mapped[list["Note"]] = relationship()


class Book(Work):
    __tablename__ = "book"
    __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("work.id"), primary_key=True)
    pages: Mapped[int | None]


class Poem(Work):
    """Shares the table of all works."""

    __mapper_args__ = {"polymorphic_identity": "poem"}  # noqa: RUF012

    verses: Mapped[int | None]


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    work_id: Mapped[int] = mapped_column(ForeignKey("work.id"))


class Disc(Base):
    """Loads its tracks at once."""

    __tablename__ = "disc"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    tracks: Mapped[list["Track"]] = relationship(lazy="joined")


class Track(Base):
    __tablename__ = "track"

    id: Mapped[int] = mapped_column(primary_key=True)
    disc_id: Mapped[int] = mapped_column(ForeignKey("disc.id"))


keyless = Table("keyless", MetaData(), Column("name", String), Column("number", Integer))
