"""Migrations: up, down, and the same schema as the one defined in code."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from identitymesh.errors import SchemaOutdated
from identitymesh.storage import revisions, schema
from identitymesh.storage.database import Database
from identitymesh.storage.tables import every_table


def test_the_migrated_schema_is_the_defined_one(database: Database) -> None:
    schema.upgrade(database)

    with database.read() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), every_table())

    assert found == []


def test_the_newest_script_is_where_the_chain_of_scripts_ends() -> None:
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))

    assert [revisions.head()] == scripts.get_heads()
    assert all(Path(script.path).name.startswith(f"{script.revision}_") for script in scripts.walk_revisions())


def test_up_and_down_leave_nothing(database: Database) -> None:
    schema.upgrade(database)
    schema.downgrade(database, "base")

    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    schema.upgrade(database)
    schema.assert_current(database)


def test_an_empty_database_is_named_as_such(database: Database) -> None:
    with pytest.raises(SchemaOutdated, match="holds no Identity Mesh tables") as raised:
        schema.assert_current(database)

    assert "identitymesh init" in raised.value.hint


def test_a_newer_schema_is_refused(database: Database) -> None:
    schema.upgrade(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaOutdated, match="newer than this program"):
        schema.assert_current(database)


def test_a_failed_migration_leaves_the_database_as_it_was(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE run (id INTEGER PRIMARY KEY)"))  # in the way of ours

    with pytest.raises(Exception, match=r"refused a statement|DuplicateTable|already exists|run"):
        schema.upgrade(database)

    assert set(inspect(database.engine).get_table_names()) <= {"run", "alembic_version"}
