"""What applications import: light, typed, and without an empty string for an absent secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from identitymesh import columns
from identitymesh.columns.keys import create_key
from identitymesh.errors import ColumnBroken, ColumnValueMissing, ColumnValueRefused
from identitymesh.redaction import Secret
from tests.columns import decoder


@pytest.fixture
def key(tmp_path: Path) -> columns.ColumnKey:
    return create_key(tmp_path / "app.key")


def row(cells: dict[str, bytes | None], **more: Any) -> dict[str, Any]:
    return {"id": 7, **cells, **more}


@pytest.mark.parametrize("form", ["compatible", "sealed"])
def test_what_is_written_is_read(key: columns.ColumnKey, form: str) -> None:
    totp = columns.EncryptedColumn("users.totp_secret", key, form=form)
    for value in ("JBSW", "ü" * 100, Secret("x")):
        cells = totp.write(value, row=7)
        assert set(cells) == {"totp_secret_encrypted", "totp_secret_nonce"}
        assert totp.read(row(cells)) == (value if isinstance(value, Secret) else Secret(value))
    assert totp.write("same", row=7) != totp.write("same", row=7)


def test_absent_is_none_or_an_error_and_never_empty(key: columns.ColumnKey) -> None:
    totp = columns.EncryptedColumn("users.totp_secret", key)
    for plain in ({}, {"totp_secret": None}, {"totp_secret": ""}):
        nothing = row(totp.write(None), **plain)
        assert totp.read(nothing) is None
        with pytest.raises(ColumnValueMissing, match="row 7 is not set"):
            totp.require(nothing)
    for empty in ("", b"", Secret("")):
        with pytest.raises(ColumnValueRefused, match="empty"):
            totp.write(empty)


def test_while_plain_values_are_there_either_is_read(key: columns.ColumnKey) -> None:
    totp = columns.EncryptedColumn("users.totp_secret", key)
    assert totp.read(row(totp.write(None), totp_secret="PLAIN")) == Secret("PLAIN")
    assert totp.read(row(totp.write("NEW"), totp_secret="OLD")) == Secret("NEW")


def test_a_column_that_was_not_selected_is_an_error(key: columns.ColumnKey) -> None:
    totp = columns.EncryptedColumn("users.totp_secret", key)
    with pytest.raises(LookupError, match="totp_secret_encrypted"):
        totp.read({"id": 7})
    with pytest.raises(LookupError, match="totp_secret_nonce"):
        totp.read(SimpleNamespace(id=7, totp_secret_encrypted=b"x"))
    with pytest.raises(ValueError, match="table"):
        columns.EncryptedColumn("totp_secret", key)


def test_a_sealed_value_belongs_to_its_row(key: columns.ColumnKey) -> None:
    totp = columns.EncryptedColumn("users.totp_secret", key, form="sealed")
    cells = totp.write("seed", row=7)
    with pytest.raises(ColumnBroken, match="row 8"):
        totp.read({**row(cells), "id": 8})
    moved = {"id": 7, "other_encrypted": cells["totp_secret_encrypted"], "other_nonce": None}
    with pytest.raises(ColumnBroken):
        columns.EncryptedColumn("users.other", key).read(moved)
    with pytest.raises(ColumnValueRefused, match="no row was named"):
        totp.write("seed")
    for wrong in (1.5, b"7", True, None):
        with pytest.raises(ColumnValueRefused):
            totp.write("seed", row=(wrong,))
    both = columns.EncryptedColumn("users.totp_secret", key, form="sealed", primary_key=("realm", "id"))
    number = UUID(int=7)
    cells = both.write("seed", row=("a", number))
    assert both.read({**cells, "realm": "a", "id": number}) == Secret("seed")
    value = cells["totp_secret_encrypted"] or b""
    raw = key.path.read_bytes()
    assert decoder.sealed(raw, value, "users", "totp_secret", ["a", str(number)]) == b"seed"


def test_during_a_rotation_both_keys_are_read(key: columns.ColumnKey, tmp_path: Path) -> None:
    new = create_key(tmp_path / "new.key")
    old = columns.EncryptedColumn("users.totp_secret", key)
    both = columns.EncryptedColumn("users.totp_secret", new, previous=key)
    assert both.read(row(old.write("seed"))) == Secret("seed")
    assert columns.EncryptedColumn("users.totp_secret", new).read(row(both.write("seed"))) == Secret("seed")
    with pytest.raises(ColumnBroken):
        old.read(row(both.write("seed")))


def test_with_sqlalchemy_core_and_orm(key: columns.ColumnKey) -> None:
    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        totp_secret_encrypted: Mapped[bytes | None] = mapped_column(columns.EncryptedBytes)
        totp_secret_nonce: Mapped[bytes | None] = mapped_column(columns.EncryptedBytes)

    totp = columns.EncryptedColumn("users.totp_secret", key)
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(User(id=7, **totp.write("seed")))
        session.commit()
        assert totp.require(session.get(User, 7)) == Secret("seed")
        assert totp.require(session.execute(select(User.__table__)).one()) == Secret("seed")
    engine.dispose()


@pytest.mark.parametrize("wrong", ["plain text", b"", "", 7])
def test_the_type_takes_nothing_but_encrypted_bytes(wrong: Any) -> None:
    table = Table("t", MetaData(), Column("id", Integer), Column("e", columns.EncryptedBytes))
    engine = create_engine("sqlite://")
    table.metadata.create_all(engine)
    with (
        engine.begin() as connection,
        pytest.raises((ColumnValueRefused, StatementError), match="takes bytes that were encrypted") as raised,
    ):
        connection.execute(table.insert(), {"id": 1, "e": wrong})
    if wrong:
        assert str(wrong) not in str(raised.value).split("[parameters")[0]
    engine.dispose()


def test_the_import_is_light_and_typed() -> None:
    program = (
        "import sys; from identitymesh import columns; columns.load_key; columns.EncryptedColumn; "
        "print(sorted({'pydantic', 'yaml', 'typer', 'alembic', 'psycopg', 'sqlalchemy', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert (Path(columns.__file__).parents[1] / "py.typed").is_file()
    for name in columns.__all__:
        assert getattr(columns, name).__doc__ or name == "ColumnKey"
    with pytest.raises(AttributeError, match="nothing"):
        _ = columns.nothing
