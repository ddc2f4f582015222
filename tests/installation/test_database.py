"""The database of an older program: refused, upgraded, and as it was."""

from __future__ import annotations

from identitymesh.storage import revisions, schema
from identitymesh.storage.database import open_database
from tests.installation.place import Place


def test_an_older_database_is_upgraded_by_the_command_that_the_error_names(place: Place) -> None:
    place.set_up()
    place.hire("e1")
    assert place("run").code == 0
    database = open_database(f"sqlite:///{place.folder / 'identitymesh.db'}")
    schema.downgrade(database, "0001")
    database.close()

    refused = place("run", "--json")
    looked = place("database", "status", "--json")
    upgraded = place("database", "upgrade", "--json")
    again = place("database", "upgrade")

    assert refused.code == 8
    assert "identitymesh database upgrade" in refused.error["hint"]
    assert looked.json["before"] == "0001"
    assert (upgraded.code, upgraded.json["wanted"]) == (0, revisions.head())
    assert "already" in again.out
    place.hire("e2")
    assert place("run").code == 0
    assert set(place.accounts()) == {"e1", "e2"}


def test_a_newer_database_is_not_touched(place: Place) -> None:
    import sqlite3

    place("init")
    with sqlite3.connect(place.folder / "identitymesh.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    answer = place("database", "upgrade", "--json")

    assert answer.code == 8
    assert "newer than this program" in answer.error["message"]
