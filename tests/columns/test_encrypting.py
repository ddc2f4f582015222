"""From plain columns to encrypted ones, on both databases."""

from __future__ import annotations

import pytest

from identitymesh.columns import EncryptedColumn, service
from identitymesh.columns.formats import Format
from identitymesh.columns.keys import create_key
from identitymesh.errors import ColumnsUnfinished, ColumnsUnfit
from identitymesh.redaction import Secret
from tests.columns import decoder
from tests.columns.conftest import SEEDS, Application

WRITTEN = {number: seed for number, seed in SEEDS.items() if seed}


def opened(app: Application) -> dict[int, str]:
    """By the decoder that shares no code with the product."""
    key = app.key_file.read_bytes()
    found = {}
    for number, (encrypted, nonce) in app.cells().items():
        if encrypted is None:
            assert nonce is None
        elif nonce is None:
            found[number] = decoder.sealed(key, encrypted, "users", "totp_secret", [str(number)]).decode()
        else:
            found[number] = decoder.compatible(key, encrypted, nonce)
    return found


@pytest.mark.parametrize("form", ["compatible", "sealed"])
def test_every_value_is_encrypted_and_null_and_empty_stay_absent(app: Application, form: str) -> None:
    app.fill()
    app.settings["format"] = form

    report = app.encrypt()

    assert (report.written, report.verified, report.pending, report.broken, report.refused) == (4, 4, 0, 0, 0)
    assert opened(app) == WRITTEN
    cells = app.cells()
    assert cells[4] == cells[5] == (None, None)
    assert len({nonce for _value, nonce in cells.values()}) == (5 if form == "compatible" else 1)
    plain = dict(app.execute("SELECT id, totp_secret FROM users"))
    assert plain == SEEDS, "plain values stay until they are dropped"


def test_a_second_run_writes_nothing(app: Application) -> None:
    app.fill()
    app.encrypt()
    before = app.cells()

    report = app.encrypt()

    assert (report.written, report.verified) == (0, 4)
    assert app.cells() == before


def test_values_that_another_program_encrypted_are_taken_over(app: Application) -> None:
    app.fill()
    kind = "BLOB" if app.dialect == "sqlite" else "bytea"
    for name in ("totp_secret_encrypted", "totp_secret_nonce"):
        app.execute(f"ALTER TABLE users ADD COLUMN {name} {kind}")
    cells = EncryptedColumn("users.totp_secret", app.key).write(SEEDS[1])
    app.execute("UPDATE users SET totp_secret_encrypted = ?, totp_secret_nonce = ? WHERE id = 1", list(cells.values()))

    report = app.encrypt()

    assert (report.written, report.verified) == (3, 4)
    assert app.cells()[1] == tuple(cells.values())
    assert opened(app) == WRITTEN


def test_plain_values_go_only_when_asked_and_come_back(app: Application) -> None:
    app.fill()
    app.encrypt()
    assert "totp_secret" in app.columns()

    report = app.encrypt(drop_plaintext=True)

    assert report.dropped
    assert report.state == "dropped"
    assert app.columns() == {"id", "name", "totp_secret_encrypted", "totp_secret_nonce"}
    assert opened(app) == WRITTEN
    again = app.encrypt()
    assert (again.state, again.written, again.verified, again.alone) == ("dropped", 0, 4, 4)

    back = app.only(service.decrypt(app.plan))

    assert (back.written, back.verified, back.state) == (4, 4, "decrypted")
    plain = dict(app.execute("SELECT id, totp_secret FROM users"))
    assert {number: seed for number, seed in plain.items() if seed} == WRITTEN
    service.decrypt(app.plan, drop_encrypted=True)
    assert app.columns() == {"id", "name", "totp_secret"}
    assert app.encrypt().written == 4


def test_a_column_that_is_not_null_comes_back_as_it_was(app: Application) -> None:
    app.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, totp_secret TEXT NOT NULL DEFAULT '')")
    app.execute("INSERT INTO users VALUES (1, 'a', 'secret'), (2, 'b', '')")
    app.encrypt(drop_plaintext=True)

    service.decrypt(app.plan)

    assert app.execute("SELECT totp_secret FROM users ORDER BY id") == [("secret",), ("",)]
    app.execute("INSERT INTO users (id, name) VALUES (3, 'c')")
    assert app.execute("SELECT totp_secret FROM users WHERE id = 3") == [("",)]


def test_a_plain_value_that_changes_alone_takes_its_encrypted_one_away(app: Application) -> None:
    app.fill()
    app.encrypt()
    app.execute("UPDATE users SET totp_secret = 'CHANGED' WHERE id = 1")
    app.execute("UPDATE users SET name = 'other', totp_secret = totp_secret WHERE id = 2")

    assert app.cells()[1] == (None, None), "a reader of either column sees the newest value"
    assert app.cells()[2][0] is not None
    assert app.verify().pending == 1
    assert app.encrypt().written == 1
    assert opened(app) == WRITTEN | {1: "CHANGED"}


def test_an_encrypted_value_that_is_newer_is_kept(app: Application) -> None:
    app.fill()
    app.encrypt()
    cells = EncryptedColumn("users.totp_secret", app.key).write("NEWER")
    app.execute("UPDATE users SET totp_secret_encrypted = ?, totp_secret_nonce = ? WHERE id = 1", list(cells.values()))

    report = app.encrypt(drop_plaintext=True)

    assert (report.newer, report.written) == (1, 0)
    assert opened(app) == WRITTEN | {1: "NEWER"}


def test_clearing_plain_values_by_hand_loses_nothing(app: Application) -> None:
    app.fill()
    app.encrypt()
    app.execute("UPDATE users SET totp_secret = NULL")

    report = app.encrypt(drop_plaintext=True)

    assert (report.verified, report.alone) == (4, 4)
    assert opened(app) == WRITTEN


def test_rotation_while_values_are_written_under_either_key(app: Application) -> None:
    app.fill()
    app.encrypt(drop_plaintext=True)
    old = app.key
    new_file = app.folder / "new.key"
    new = create_key(new_file)

    outcome = service.rotate_key(app.plan, new_file)

    assert app.only(outcome).written == 4
    cells = app.cells()
    rotated = EncryptedColumn("users.totp_secret", new)
    for number, seed in WRITTEN.items():
        row = {"id": number, "totp_secret_encrypted": cells[number][0], "totp_secret_nonce": cells[number][1]}
        assert rotated.read(row) == Secret(seed)
    both = EncryptedColumn("users.totp_secret", new, previous=old)
    assert both.read(EncryptedColumn("users.totp_secret", old).write("OLD") | {"id": 1}) == Secret("OLD")
    app.settings["key"] = str(new_file)
    assert app.verify().verified == 4
    assert service.status(app.plan)[0] == new.id


@pytest.mark.parametrize("dropped", [False, True])
def test_upgrade_binds_values_to_their_rows(app: Application, dropped: bool) -> None:
    app.fill()
    app.encrypt(drop_plaintext=dropped)

    report = app.only(service.upgrade(app.plan))

    assert (report.written, report.verified) == (4, 4)
    assert all(nonce is None for _value, nonce in app.cells().values())
    assert opened(app) == WRITTEN
    with pytest.raises(ColumnsUnfit, match="format sealed") as raised:
        app.encrypt()
    assert "format: sealed" in raised.value.hint
    app.settings["format"] = "sealed"
    assert app.encrypt().verified == 4
    first, second = (app.cells()[number][0] for number in (1, 2))
    for number, value in ((1, second), (2, first)):
        app.execute("UPDATE users SET totp_secret_encrypted = ? WHERE id = ?", (value, number))
    moved = app.verify()
    assert (moved.broken, moved.verified) == (2, 2), "a sealed value does not open in another row"


def test_a_plan_that_wants_sealed_says_upgrade(app: Application) -> None:
    app.fill()
    app.encrypt()
    app.settings["format"] = Format.SEALED
    with pytest.raises(ColumnsUnfit) as raised:
        app.encrypt()
    assert "columns upgrade" in raised.value.hint


def test_status_counts_without_a_key_before_anything_is_encrypted(app: Application) -> None:
    app.fill()
    app.key_file.unlink()

    key_id, problem, (place,) = service.status(app.plan)

    assert (key_id, place.state, place.rows, place.plain, place.pending) == ("", "not begun", 6, 4, 4)
    assert "no key file" in problem


def test_broken_values_are_mended_from_plain_ones_when_asked(app: Application) -> None:
    app.fill()
    app.encrypt()
    app.execute("UPDATE users SET totp_secret_encrypted = ? WHERE id = 2", (b"\x00" * 32,))
    assert app.encrypt().broken == 1
    with pytest.raises(ColumnsUnfinished, match="do not open"):
        app.encrypt(drop_plaintext=True)
    assert "totp_secret" in app.columns()

    assert app.encrypt(replace_broken=True).broken == 0
    assert app.verify().verified == 4
    assert opened(app) == WRITTEN


class TestComposite:
    def test_keys_of_several_columns(self, app: Application) -> None:
        app.execute("CREATE TABLE users (realm TEXT, id INTEGER, totp_secret TEXT, PRIMARY KEY (realm, id))")
        rows = [("a", 1), ("a", 2), ("b", 1), ('q"u,o', 1)]
        for realm, number in rows:
            app.execute("INSERT INTO users VALUES (?, ?, ?)", (realm, number, f"{realm}-{number}"))
        app.settings["format"] = "sealed"

        assert app.encrypt(drop_plaintext=True).verified == 4

        found = app.execute("SELECT realm, id, totp_secret_encrypted FROM users")
        key = app.key_file.read_bytes()
        for realm, number, value in found:
            assert (
                decoder.sealed(key, value, "users", "totp_secret", [realm, str(number)]) == f"{realm}-{number}".encode()
            )
