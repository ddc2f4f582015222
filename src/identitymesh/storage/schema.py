"""The schema's version: bring a database up to date, take it back, or refuse to work on another one.

Alembic with the engine that the product has opened; the scripts are in ``migrations/versions``.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from identitymesh.errors import SchemaOutdated
from identitymesh.storage.database import Database

_SCRIPTS = Path(__file__).parent / "migrations"


def head() -> str:
    """The version that this program works with."""
    found = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    if found is None:
        raise SchemaOutdated("this program carries no migrations", hint="Install it again; its package is incomplete.")
    return found


def current(database: Database) -> str | None:
    """The version of a database; ``None`` for an empty one."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up, in one transaction: all of it or nothing."""
    with database.write() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down, in one transaction; ``base`` removes everything."""
    with database.write() as connection:
        command.downgrade(_config(connection), revision)


def assert_current(database: Database) -> None:
    """Refuse a database of another version.

    Raises:
        SchemaOutdated: it is older (migrate it), newer (the program is too old), or empty.
    """
    found, wanted = current(database), head()
    if found == wanted:
        return
    if found is None:
        raise SchemaOutdated(
            f"{database.describe()} holds no Identity Mesh tables",
            hint="Run `identitymesh init` in a new folder, or correct database.url.",
        )
    known = {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}
    if found in known:
        raise SchemaOutdated(
            f"{database.describe()} has schema {found}, this program works with {wanted}",
            hint="Back the database up, then run `identitymesh database upgrade`.",
        )
    raise SchemaOutdated(
        f"{database.describe()} has schema {found}, which is newer than this program ({wanted})",
        hint="Install the program version that made it.",
    )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config
