import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from identitymesh.errors import (
    AnchorBroken,
    HostKeyMissing,
    HostKeyUnsafe,
    HostKeyWrong,
    KeyringBroken,
    KeyringError,
    KeyringMissing,
    KeyringRolledBack,
    KeyringSubstituted,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.age import NotSealedToUs, new_identity, open_age, recipient_of, seal_document
from identitymesh.secrets.anchors import Anchor, AnchorFile
from identitymesh.secrets.keyring import KEYRINGS, Document, KeyState, Slot, SlotState, check_rules, decode, encode
from identitymesh.secrets.keyrings import check_row, held, open_row
from identitymesh.secrets.protectors import HOST_FILE, RECOVERY, Place, find_protector
from identitymesh.secrets.rows import KeyringRow
from identitymesh.storage.database import Database
from tests.secrets.conftest import ACTOR, Installation, make_installation


def open_keyring(mesh: Installation, name: str = "connectors") -> Document:
    with mesh.rows.read() as view:
        session = mesh.store.session(view)  # the store has them open: see make_installation
    return session.open(name)


def stored(mesh: Installation, name: str = "connectors") -> KeyringRow:
    with mesh.rows.read() as view:
        row = view.keyring(name)
    assert row is not None
    return row


def replace_stored(mesh: Installation, document: Document, generation: int | None = None) -> None:
    mesh.sql(
        "UPDATE keyring SET sealed = :sealed, generation = :generation WHERE name = :name",
        sealed=seal_document(document),
        generation=generation or document.generation,
        name=document.keyring,
    )


def test_a_host_opens_both_keyrings_and_they_share_nothing(mesh: Installation) -> None:
    one, two = (open_keyring(mesh, name) for name in KEYRINGS)
    assert one.installation == two.installation == mesh.result.installation
    assert one.keyset_id != two.keyset_id
    assert one.keyset_secret != two.keyset_secret
    assert one.data_keys[0].secret != two.data_keys[0].secret
    assert one.slots[0].recipient != two.slots[0].recipient
    assert one.slots[1].recipient == two.slots[1].recipient == mesh.result.recovery_recipient
    assert held(mesh.host) == KEYRINGS


def test_the_recovery_key_opens_both_with_nothing_but_age(mesh: Installation) -> None:
    identity = pyrage.x25519.Identity.from_str(mesh.result.recovery_key.reveal_text())
    for name in KEYRINGS:
        document = json.loads(pyrage.decrypt(stored(mesh, name).sealed, [identity]))
        assert document["format"] == "identitymesh-keyring/1"
        assert document["keyring"] == name
        assert document["installation"] == mesh.result.installation
        assert [slot["state"] for slot in document["slots"]] == ["active", "active"]
        assert set(document) == {
            "data_keys",
            "endorsements",
            "format",
            "generation",
            "installation",
            "keyring",
            "keyset",
            "keyset_secret",
            "slots",
        }


def test_a_document_reads_back_as_it_was_written(embedded: Installation) -> None:
    document = open_keyring(embedded)
    assert decode(encode(document), "connectors") == document
    text = encode(document).reveal()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(extra=1),
        lambda fields: fields.pop("keyset"),
        lambda fields: fields.update(format="identitymesh-keyring/2"),
        lambda fields: fields.update(generation="1"),
        lambda fields: fields.update(generation=0),
        lambda fields: fields.update(generation=True),
        lambda fields: fields.update(keyset="00"),
        lambda fields: fields.update(keyset_secret="AA=="),
        lambda fields: fields.update(keyset_secret="!"),
        lambda fields: fields.update(slots=[]),
        lambda fields: fields.update(slots=fields["slots"][:1]),
        lambda fields: fields.update(slots=[fields["slots"][0]] * 2),
        lambda fields: fields["slots"][1].update(state="pending"),
        lambda fields: fields["slots"][1].update(type="host-file"),
        lambda fields: fields["slots"][0].update(more=1),
        lambda fields: fields["data_keys"][0].update(state="prepared"),
        lambda fields: fields["data_keys"][0].update(id=0),
        lambda fields: fields["data_keys"].append(fields["data_keys"][0]),
        lambda fields: fields.update(keyring="other"),
        lambda fields: fields.update(slots=None),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused(
    embedded: Installation, change: Callable[[dict[str, Any]], None]
) -> None:
    fields = json.loads(encode(open_keyring(embedded)).reveal())
    change(fields)
    with pytest.raises(KeyringBroken) as broken:
        decode(Secret(json.dumps(fields)), "connectors")
    assert fields.get("keyset_secret", "x" * 99) not in str(broken.value)


def test_no_keyring_may_lose_its_last_slots(embedded: Installation) -> None:
    document = open_keyring(embedded)
    with pytest.raises(KeyringBroken, match="fewer than two slots"):
        check_rules(replace(document, slots=document.slots[1:]))
    third = Slot("x", HOST_FILE, "", SlotState.ACTIVE, recipient_of(new_identity()), "")
    with pytest.raises(KeyringBroken, match="no recovery slot"):
        seal_document(replace(document, slots=(document.slots[0], third)))
    assert seal_document(replace(document, slots=(*document.slots, third)))


def test_swapped_rows_are_named(mesh: Installation) -> None:
    one, two = (stored(mesh, name).sealed for name in KEYRINGS)
    for name, sealed in zip(KEYRINGS, (two, one), strict=True):
        mesh.sql("UPDATE keyring SET sealed = :sealed WHERE name = :name", sealed=sealed, name=name)
    for name in KEYRINGS:
        with pytest.raises(KeyringSubstituted, match="not sealed to this host's key"):
            open_keyring(mesh, name)
    # The recovery key opens both; there the name inside decides.
    row = stored(mesh)
    with pytest.raises(KeyringSubstituted, match="stands in its place"):
        check_row(row, open_row(row, mesh.result.recovery_key))


def test_swapped_rows_and_swapped_host_keys_are_named(embedded: Installation) -> None:
    test_swapped_rows_are_named(embedded)
    one, two, spare = (embedded.host / name for name in ("connectors.key", "application.key", "spare"))
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    for name in KEYRINGS:
        with pytest.raises(KeyringSubstituted):
            open_keyring(embedded, name)


def forged(mesh: Installation) -> Document:
    """What an attacker can make who reads every public recipient, and the installation id, from the database."""
    known = open_keyring(mesh)
    key = replace(known.data_keys[0], secret=Secret(bytes(32)))
    return replace(known, keyset_id=bytes(16), keyset_secret=Secret(bytes(32)), data_keys=(key,))


def test_a_keyring_that_an_attacker_sealed_to_our_recipients_is_named(mesh: Installation) -> None:
    attackers = forged(mesh)
    known = open_keyring(mesh)
    replace_stored(mesh, attackers)
    with pytest.raises(KeyringSubstituted, match="it is keyset"):
        mesh.put()
    replace_stored(mesh, replace(attackers, keyset_id=known.keyset_id))
    with pytest.raises(KeyringSubstituted, match="not made by whoever made the keyring"):
        mesh.put()
    replace_stored(mesh, replace(attackers, installation="other"))
    with pytest.raises(KeyringSubstituted, match="installation other"):
        mesh.put()
    assert not mesh.store.list()


def test_a_keyring_of_another_installation_is_named(
    embedded: Installation, new_database: Callable[[str], Database], tmp_path: Path
) -> None:
    other = make_installation(new_database("other"), tmp_path / "other")
    embedded.sql("UPDATE keyring SET sealed = :sealed WHERE name = 'connectors'", sealed=stored(other).sealed)
    with pytest.raises(KeyringSubstituted):
        open_keyring(embedded)
    (embedded.host / "connectors.key").unlink()
    (other.host / "connectors.key").rename(embedded.host / "connectors.key")
    with pytest.raises(KeyringSubstituted, match="belongs to installation"):
        open_keyring(embedded)


def test_a_rolled_back_keyring_is_named_and_a_newer_one_is_remembered(mesh: Installation) -> None:
    old = stored(mesh)
    document = open_keyring(mesh)
    replace_stored(mesh, replace(document, generation=5))
    assert open_keyring(mesh).generation == 5
    assert AnchorFile(mesh.host, "connectors").read().generation == 5
    mesh.sql("UPDATE keyring SET sealed = :sealed, generation = 1 WHERE name = 'connectors'", sealed=old.sealed)
    with pytest.raises(KeyringRolledBack, match="generation 1; this host has seen 5"):
        open_keyring(mesh)


def test_an_edited_generation_is_named(mesh: Installation) -> None:
    mesh.sql("UPDATE keyring SET generation = 9")
    with pytest.raises(KeyringBroken, match="row says generation 9"):
        open_keyring(mesh)


def test_a_damaged_keyring_is_named(embedded: Installation) -> None:
    sealed = stored(embedded).sealed
    for damage in (sealed[:-1], sealed[:100], b"", b"junk", sealed[:-5] + b"x" + sealed[-4:]):
        embedded.sql("UPDATE keyring SET sealed = :sealed WHERE name = 'connectors'", sealed=damage)
        with pytest.raises(KeyringError) as error:
            open_keyring(embedded)
        assert isinstance(error.value, KeyringBroken | KeyringSubstituted)
        assert "backup" in error.value.hint


def test_the_slot_list_inside_is_the_truth(mesh: Installation) -> None:
    document = open_keyring(mesh)
    mesh.sql("DELETE FROM keyring_slot")
    assert open_keyring(mesh) == document
    third = Slot("x", HOST_FILE, "", SlotState.ACTIVE, recipient_of(new_identity()), "")
    pending = replace(document.slots[0], state=SlotState.PENDING)
    replace_stored(mesh, replace(document, slots=(pending, document.slots[1], third)))
    with pytest.raises(HostKeyWrong, match="still pending"):
        open_keyring(mesh)
    sealed = pyrage.encrypt(
        encode(replace(document, slots=(document.slots[1], third))).reveal(),
        [pyrage.x25519.Recipient.from_str(document.slots[0].recipient)],
    )
    mesh.sql("UPDATE keyring SET sealed = :sealed WHERE name = 'connectors'", sealed=sealed)
    with pytest.raises(HostKeyWrong, match="not in its slot list"):
        open_keyring(mesh)


def test_a_missing_keyring_says_which_kind_of_missing(embedded: Installation) -> None:
    embedded.sql("DELETE FROM keyring")
    with pytest.raises(KeyringMissing, match="key is there, but") as missing:
        open_keyring(embedded)
    assert "database.url" in missing.value.hint
    (embedded.host / "connectors.key").unlink()
    with pytest.raises(KeyringMissing, match="the database has no such keyring"):
        open_keyring(embedded)


def write_key(path: Path, content: bytes, mode: int = 0o400) -> None:
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)


def test_a_missing_host_key_is_not_made_again(embedded: Installation) -> None:
    path = embedded.host / "connectors.key"
    path.unlink()
    for action in (open_keyring, Installation.put):
        with pytest.raises(HostKeyMissing, match=r"connectors\.key is missing") as missing:
            action(embedded)
        assert "No key is made in its place" in missing.value.hint
    assert not path.exists()


def test_an_unsafe_host_key_is_refused(embedded: Installation, tmp_path: Path) -> None:
    path = embedded.host / "connectors.key"
    good = path.read_bytes()

    def refuses(reason: str) -> None:
        with pytest.raises(HostKeyUnsafe, match=reason) as unsafe:
            open_keyring(embedded)
        assert good[:-1].decode() not in str(unsafe.value) + unsafe.value.hint

    for mode in (0o600, 0o440, 0o404, 0o444, 0o500, 0o000, 0o644, 0o4400):
        path.chmod(mode)
        refuses(f"its mode is {mode:04o}; 0400 is required")
    for content, reason in (
        (b"", "it is empty"),
        (good[:-1], "not one line"),
        (good[:31], "not one line"),
        (good + b"\n", "more than 75 bytes"),
        (good[:-2] + b"\n\n", "not an age X25519 identity"),
        (b"x" * 74 + b"\n", "not an age X25519 identity"),
    ):
        write_key(path, content)
        refuses(reason)
    write_key(path, good)
    os.link(path, tmp_path / "second")
    refuses("2 hard links")
    path.unlink()
    path.symlink_to(tmp_path / "second")
    refuses("symbolic link")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    refuses("symbolic link")
    path.unlink()
    os.mkfifo(path, 0o400)
    refuses("not a regular file")
    path.unlink()
    path.mkdir()
    refuses("not a regular file")
    path.rmdir()
    (tmp_path / "second").rename(path)
    path.chmod(0o400)
    embedded.host.chmod(0o777)
    refuses("may be written by other users")
    embedded.host.chmod(0o700)
    assert open_keyring(embedded).generation == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_host_key_of_another_user_is_refused(embedded: Installation) -> None:
    os.chown(embedded.host / "connectors.key", 12345, -1)
    with pytest.raises(HostKeyUnsafe, match="belongs to user id 12345"):
        open_keyring(embedded)


def test_a_wrong_host_key_is_called_wrong(embedded: Installation) -> None:
    write_key(embedded.host / "connectors.key", new_identity().reveal() + b"\n")
    with pytest.raises(HostKeyWrong, match=r"opens none of its slots \(.*host-file test host"):
        open_keyring(embedded)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text("[" * 5000),
        lambda path: path.write_text(path.read_text().replace("generation", "generations")),
        lambda path: path.write_text(path.read_text().replace('"generation": 1', '"generation": "1"')),
        lambda path: path.write_text(path.read_text().replace('"keyring": "connectors"', '"keyring": "application"')),
        lambda path: path.chmod(0o644),
        lambda path: os.link(path, path.with_name("second")),
    ],
)
def test_a_broken_anchor_releases_nothing(embedded: Installation, damage: Callable[[Path], None]) -> None:
    embedded.put()
    damage(embedded.host / "connectors.anchor")
    with pytest.raises(AnchorBroken, match="cannot be used"):
        embedded.put()


def test_an_anchor_moves_only_upwards(embedded: Installation) -> None:
    file = AnchorFile(embedded.host, "connectors")
    document = open_keyring(embedded)
    for generation, expected in ((2, 2), (1, 2), (7, 7), (5, 7), (7, 7)):
        file.advance(replace(document, generation=generation))
        assert file.read().generation == expected
    with pytest.raises(KeyringSubstituted):
        file.advance(replace(document, generation=8, keyset_secret=Secret(bytes(32))))
    assert file.read() == Anchor.of(replace(document, generation=7))
    assert file.path.stat().st_mode & 0o7777 == 0o600
    assert [path.name for path in embedded.host.iterdir() if path.name.endswith(".new")] == []


def test_what_is_typed_as_recovery_key_is_checked_and_not_repeated(tmp_path: Path) -> None:
    identity = new_identity()
    typed = Secret(b"  " + identity.reveal() + b"\n")
    assert find_protector(RECOVERY, Place(tmp_path, "connectors", typed)).identity() == identity
    for wrong in (b"", b"hunter2", identity.reveal()[:-1], identity.reveal() * 2, b"\xff\xfe"):
        with pytest.raises(KeyringError, match="not a recovery key") as refused:
            find_protector(RECOVERY, Place(tmp_path, "connectors", Secret(wrong))).identity()
        assert "hunter2" not in str(refused.value)


def test_an_unknown_slot_type_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyringBroken, match="unknown slot type 'null'"):
        find_protector("null", Place(tmp_path, "connectors"))


def test_another_identity_opens_nothing(embedded: Installation) -> None:
    with pytest.raises(NotSealedToUs):
        open_age(stored(embedded).sealed, new_identity(), "connectors")


def test_a_keyring_is_replaced_by_compare_and_set(mesh: Installation) -> None:
    document = open_keyring(mesh)
    row = stored(mesh)
    with mesh.rows.read() as view:
        slots = view.slots("connectors")
    newer = replace(row, generation=2, sealed=seal_document(replace(document, generation=2)))
    with mesh.rows.write() as transaction:
        assert transaction.replace_keyring(newer, slots, expected_generation=1)
        assert not transaction.replace_keyring(newer, slots, expected_generation=1)
    assert open_keyring(mesh).generation == 2
    with mesh.rows.write() as transaction:
        assert not transaction.hold_keyring("connectors", 1)
        assert transaction.hold_keyring("connectors", 2)


def test_a_value_is_sealed_with_what_is_primary_and_opens_with_what_is_retiring(mesh: Installation) -> None:
    ref = mesh.put()
    document = open_keyring(mesh)
    old = replace(document.data_keys[0], state=KeyState.RETIRING)
    new = replace(document.data_keys[0], id=2, secret=Secret(bytes(32)))
    replace_stored(mesh, replace(document, generation=2, data_keys=(old, new)))
    other = mesh.put("secret://other")
    assert [row.key_id for row in mesh.sql("SELECT key_id FROM secret ORDER BY ref")] == [1, 2]
    for one in (ref, other):
        assert mesh.store.reveal(one, actor=ACTOR) == Secret("hunter2")
