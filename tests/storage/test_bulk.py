"""Many rows at once, in databases of either kind."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, select

from identitymesh.errors import RowConflict
from identitymesh.storage.bulk import insert_rows
from identitymesh.storage.database import Database

THINGS = Table("thing", MetaData(), Column("key", Text, primary_key=True), Column("size", Integer))
NAMES = ("key", "size")
Rows = list[tuple[str, int | None]]


@pytest.fixture
def things(database: Database) -> Database:
    with database.write() as connection:
        THINGS.create(connection)
    return database


def rows_of(count: int) -> Rows:
    return [(f"k{number:04} '), ('", number or None) for number in range(count)]


def stored(database: Database) -> Rows:
    with database.read() as connection:
        return [(row.key, row.size) for row in connection.execute(select(THINGS).order_by(THINGS.c.key))]


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 500, 1001])
def test_however_many_rows_are_stored_each_once(things: Database, count: int) -> None:
    with things.write() as connection:
        insert_rows(connection, THINGS, NAMES, rows_of(count))

    assert stored(things) == rows_of(count)


@pytest.mark.parametrize("second", [7, 300])
def test_a_row_that_is_there_refuses_all_and_is_not_quoted(things: Database, second: int) -> None:
    rows = rows_of(301)
    rows[second] = rows[3]

    with pytest.raises(RowConflict) as raised, things.write() as connection:
        insert_rows(connection, THINGS, NAMES, rows)

    assert "k0003" not in str(raised.value)
    assert stored(things) == []
