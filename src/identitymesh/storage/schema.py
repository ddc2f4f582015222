"""The schema's version: bring a database up to date, take it back, or refuse to work on another one.

Alembic with the engine that the product has opened; the scripts are in ``migrations/versions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table

from identitymesh.errors import SchemaOutdated
from identitymesh.storage.database import Database
from identitymesh.storage.revisions import SCRIPTS, head, known

if TYPE_CHECKING:
    from alembic.config import Config

_VERSION = table("alembic_version", column("version_num"))  # Alembic's own


def current(database: Database) -> str | None:
    """The version of a database; ``None`` for an empty one."""
    with database.read() as connection:
        if not inspect(connection).has_table(_VERSION.name):
            return None
        return connection.scalar(select(_VERSION.c.version_num))


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up, in one transaction: all of it or nothing."""
    from alembic import command

    with database.write() as connection:
        command.upgrade(_config(connection), revision)


def rebuild(connection: Connection, revision: str) -> None:
    """Remove every table of the product and make those of a version, in the caller's transaction."""
    from alembic import command

    command.downgrade(_config(connection), "base")
    command.upgrade(_config(connection), revision)


def upgrade_within(connection: Connection) -> None:
    """Migrate up in the caller's transaction."""
    from alembic import command

    command.upgrade(_config(connection), "head")


def is_known(revision: str) -> bool:
    """Whether this program has the migrations of a version."""
    return revision in known()


def downgrade(database: Database, revision: str) -> None:
    """Migrate down, in one transaction; ``base`` removes everything."""
    from alembic import command

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
    if found in known():
        raise SchemaOutdated(
            f"{database.describe()} has schema {found}, this program works with {wanted}",
            hint="Back the database up, then run `identitymesh database upgrade`.",
        )
    raise SchemaOutdated(
        f"{database.describe()} has schema {found}, which is newer than this program ({wanted})",
        hint="Install the program version that made it.",
    )


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    return config
