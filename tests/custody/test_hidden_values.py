"""Abuse 36: no sealed value lies where a rotation of data keys does not look."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from sqlalchemy import inspect

from identitymesh.secrets.sealing import MAGIC, read_header
from tests.custody.conftest import Home

IN_BASE64 = base64.b64encode(MAGIC)[:5].decode()  # what each such value begins with; the sixth letter differs


def sealed_values(home: Home) -> Iterator[tuple[str, str, bytes]]:
    """Table, column and value of whatever in the database looks like a sealed value, as bytes or as Base64."""
    database = home.database()
    try:
        with database.read() as connection:
            for table in inspect(connection).get_table_names():
                for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').mappings():
                    for column, value in row.items():
                        content = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                        if MAGIC in content or IN_BASE64.encode() in content:
                            yield table, column, content
    finally:
        database.close()


def test_after_a_rotation_every_sealed_value_anywhere_is_under_the_new_key(home: Home) -> None:
    for number in range(3):
        home.store("secret://hr/reader", f"version {number}")
    home.store("secret://mail/smtp", "mail", "--keyring", "application")
    home.store("secret://old/history", "of a secret that the ledger lost")
    home.sql("DELETE FROM secret_ledger WHERE ref = 'secret://old/history'")
    before = {(keyring, key) for keyring, key in home.sql("SELECT keyring, key_id FROM secret")}

    home.ok("keys", "rotate")

    found = list(sealed_values(home))
    assert {(table, column) for table, column, _ in found} == {("secret", "sealed")}
    assert len(found) == home.sql("SELECT count(*) FROM secret")[0][0] >= 3
    now = {(keyring, key) for keyring, key in home.sql("SELECT keyring, key_id FROM secret")}
    assert now & before == set()
    assert {read_header(value, "any").key_id for _, _, value in found} == {key for _, key in now}


def test_a_value_that_somebody_put_elsewhere_would_be_seen(home: Home) -> None:
    """The search above finds what it looks for: as bytes, and as text in a document."""
    home.store("secret://hr/reader", "hunter2")
    (sealed,) = home.sql("SELECT sealed FROM secret")[0]
    home.sql("UPDATE keyring SET sealed = :copy WHERE name = 'application'", copy=b"before " + bytes(sealed))
    copy = base64.b64encode(bytes(sealed)).decode()
    home.sql("UPDATE secret_ledger SET description = :copy", copy=f"a job: {copy}")
    places = {(table, column) for table, column, _ in sealed_values(home)}
    assert places == {("secret", "sealed"), ("keyring", "sealed"), ("secret_ledger", "description")}
