"""Alembic finds the table of `SQLTokenStore` in the app's metadata, and makes it as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    insert,
    inspect,
    select,
)

from fastkit.auth._store import TokenStore
from fastkit.auth.sql import SQLTokenStore
from fastkit.db import SyncDatabase
from tests.auth.stores import make_login
from tests.support import Postgres

pytestmark = pytest.mark.anyio

# As the page about migrations in Alembic's tutorial has it.
ENV = """
from alembic import context

configuration = context.config.attributes
with configuration["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=configuration["metadata"])
    with context.begin_transaction():
        context.run_migrations()
"""
TEMPLATE = '''
"""${message}"""
from alembic import op
import sqlalchemy as sa
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
def upgrade():
    ${upgrades}
def downgrade():
    ${downgrades}
'''


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.url("psycopg")
    engine = create_engine(url)
    yield engine
    engine.dispose()


NAMING = {"ix": "%(table_name)s_%(column_0_N_name)s_index", "pk": "%(table_name)s_key"}


@pytest.mark.parametrize("naming", [None, NAMING], ids=["unnamed", "named"])
async def test_autogenerate_finds_and_makes_the_table(
    engine: Engine, tmp_path: Path, naming: dict[str, str] | None
) -> None:
    metadata = MetaData(naming_convention=naming)
    things = Table("things", metadata, Column("id", Integer, primary_key=True))
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(ENV)
    (scripts / "script.py.mako").write_text(TEMPLATE)
    config = Config(attributes={"engine": engine, "metadata": metadata})
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")

    # An app without logins, and with something in its database.
    command.revision(config, autogenerate=True)
    command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(insert(things).values(id=7))

    store: TokenStore = SQLTokenStore(SyncDatabase(engine), metadata=metadata)
    script = command.revision(config, autogenerate=True)
    assert isinstance(script, Script)
    assert "things" not in Path(script.path).read_text()  # noqa: ASYNC240
    command.upgrade(config, "head")
    assert inspect(engine).has_table("fastkit_logins")
    assert len(inspect(engine).get_indexes("fastkit_logins")) == 2
    login = make_login()
    await store.add(login)
    assert await store.get(login.id) == login

    command.check(config)  # raises if there is anything left to do
    command.downgrade(config, "-1")
    assert inspect(engine).get_table_names() == ["alembic_version", "things"]
    with engine.connect() as connection:
        assert connection.scalars(select(things.c.id)).all() == [7]
