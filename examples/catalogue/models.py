"""The tables."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Artist(Base):
    __tablename__ = "artists"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)


class Work(Base):
    __tablename__ = "works"
    # Without it, SQLite gives the number of a deleted work to the next one.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 -- SQLAlchemy reads a plain dict

    id: Mapped[int] = mapped_column(primary_key=True)
    tate_id: Mapped[int | None] = mapped_column(unique=True)
    # Deferred: the database looks whether there is such an artist only at the commit.
    artist_id: Mapped[int] = mapped_column(
        ForeignKey("artists.id", deferrable=True, initially="DEFERRED"), index=True
    )
    title: Mapped[str | None] = mapped_column(String(500))
    year: Mapped[int] = mapped_column(index=True)
    technique: Mapped[str] = mapped_column(String(200))
    support: Mapped[str | None] = mapped_column(String(200))

    artist: Mapped[Artist] = relationship(lazy="joined", innerjoin=True)


class User(Base):
    """Who may sign in, with the attributes that `Auth` reads unless it is told others."""

    __tablename__ = "users"

    username: Mapped[str] = mapped_column(String(50), primary_key=True)
    hashed_password: Mapped[str] = mapped_column(String(200))
    disabled: Mapped[bool]
    scopes: Mapped[str] = mapped_column(String(200))
