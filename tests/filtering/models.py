"""Rows with a column of each kind, and rows that lead to others in each way."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
)
from sqlalchemy import Enum as SQLEnum
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

__all__ = ("Artist", "Base", "Item", "Kind", "Label", "Rank", "Row", "Shade", "Shout", "Tag")


class Base(DeclarativeBase):
    pass


class Kind(Enum):
    SMALL = "s"
    LARGE = "l"


class Shade(str, Enum):  # noqa: UP042 - as many write it
    DARK = "dark"
    LIGHT = "light"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Shout(TypeDecorator[str]):
    """Stored in upper case."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None else value.upper()


class Stamp(TypeDecorator[datetime]):
    """Stored in UTC, without saying so."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None else value.astimezone(UTC).replace(tzinfo=None)


class Row(Base):
    __tablename__ = "row"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(Text)
    short: Mapped[str | None] = mapped_column(String(5))
    shout: Mapped[str | None] = mapped_column(Shout)
    small: Mapped[int | None] = mapped_column(SmallInteger)
    number: Mapped[int | None] = mapped_column(Integer)
    big: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    plain: Mapped[float | None] = mapped_column(Numeric(10, 2, asdecimal=False))
    ratio: Mapped[float | None] = mapped_column(Float)
    real: Mapped[float | None] = mapped_column(REAL)
    single: Mapped[float | None] = mapped_column(Float(24))
    flag: Mapped[bool | None]
    uid: Mapped[UUID | None]
    code: Mapped[str | None] = mapped_column(Uuid(as_uuid=False))
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[datetime | None]
    stamp: Mapped[datetime | None] = mapped_column(Stamp)
    day: Mapped[date | None]
    clock: Mapped[time | None]
    zoned: Mapped[time | None] = mapped_column(Time(timezone=True))
    kind: Mapped[Kind | None]
    word: Mapped[str | None] = mapped_column(SQLEnum("on", "off", name="word"))
    loose: Mapped[str | None] = mapped_column(SQLEnum("on", "off", name="loose", native_enum=False))
    shade: Mapped[str | None] = mapped_column(String(20))


item_tag = Table(
    "item_tag",
    Base.metadata,
    Column("item_id", Integer, ForeignKey("item.id"), primary_key=True),
    Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True),
)


class Label(Base):
    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    artists: Mapped[list["Artist"]] = relationship(back_populates="label")


class Artist(Base):
    __tablename__ = "artist"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    label_id: Mapped[int | None] = mapped_column(ForeignKey("label.id"))
    label: Mapped[Label | None] = relationship(back_populates="artists")
    items: Mapped[list["Item"]] = relationship(back_populates="artist")


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    items: Mapped[list["Item"]] = relationship(secondary=item_tag, back_populates="tags")


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    artist_id: Mapped[int | None] = mapped_column(ForeignKey("artist.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))
    artist: Mapped[Artist | None] = relationship(back_populates="items")
    tags: Mapped[list[Tag]] = relationship(secondary=item_tag, back_populates="items")
    parent: Mapped["Item | None"] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[list["Item"]] = relationship(back_populates="parent")
