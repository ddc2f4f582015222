"""The list of abuses by number, and where each is tried. What follows the table are those that fit nowhere else.

Numbers are those of the project's list of abuse cases. Not here: 29, 56 to 62 and 65 (vaults), 44, 47 and 50 (an API),
14's HPKE and 22's and 23's shares and Argon2, which the product does not use.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from sqlalchemy import event, insert, text

from identitymesh.errors import KeyringError, MeshError, StorageError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import NotSealedToUs, open_age
from identitymesh.secrets.custody.rotation import rotate
from identitymesh.secrets.custody.station import Station
from identitymesh.storage.custody import SqlCustodyRows
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.tables.secrets import keyring_rotation
from tests.house_rules.repository import ROOT
from tests.secrets.conftest import ACTOR, Installation

ABUSES: dict[int, tuple[str, ...]] = {
    1: ("secrets/test_sealing::test_every_flipped_bit_is_noticed",),
    2: ("secrets/test_sealing::test_every_truncation_and_appended_bytes_are_noticed",),
    3: ("secrets/test_sealing::test_every_truncation_and_appended_bytes_are_noticed",),
    4: ("secrets/test_store::test_a_moved_or_edited_row_does_not_open",),
    5: ("secrets/test_store::test_a_moved_or_edited_row_does_not_open",),
    6: ("secrets/test_store::test_a_row_of_another_installation_does_not_open",),
    7: (
        "secrets/test_sealing::test_a_value_does_not_open_in_another_place",
        "secrets/test_memory::test_what_changed_is_noticed_by_a_store_that_has_it_open",
    ),
    8: ("secrets/test_sealing::test_unknown_version_suite_and_flags_are_refused",),
    9: (
        "secrets/test_sealing::test_a_header_that_names_another_key_does_not_help",
        "secrets/test_memory::test_what_changed_is_noticed_by_a_store_that_has_it_open",
    ),
    10: ("secrets/test_sealing::test_a_value_does_not_open_with_another_key",),
    11: ("secrets/test_sealing::test_fields_cannot_be_confused",),
    12: ("secrets/test_sealing::test_sizes_that_may_be_sealed",),
    13: ("secrets/test_sealing::test_no_two_sealings_are_alike_even_after_a_fork",),
    14: (
        "secrets/test_wycheproof::test_hkdf",
        "secrets/test_wycheproof::test_aes_gcm",
        "secrets/test_sealing::test_an_independent_decoder_opens_what_the_product_wrote",
    ),
    15: (
        "secrets/test_keyrings::test_an_edited_generation_is_named",
        "secrets/test_keyrings::test_the_slot_list_inside_is_the_truth",
    ),
    16: ("secrets/test_abuse::test_16_a_forged_rotation_in_progress_seals_nothing_under_a_key_of_the_forger",),
    17: ("secrets/test_keyrings::test_a_keyring_that_an_attacker_sealed_to_our_recipients_is_named",),
    18: ("secrets/test_keyrings::test_a_rolled_back_keyring_is_named_and_a_newer_one_is_remembered",),
    19: ("secrets/test_keyrings::test_the_slot_list_inside_is_the_truth",),
    20: (
        "secrets/test_custody::test_the_last_of_each_kind_stays",
        "secrets/test_custody::test_fewer_than_two_slots_are_never_left",
    ),
    21: (
        "secrets/test_custody::test_a_slot_is_pending_until_a_fresh_process_opened_it",
        "secrets/test_kills::test_a_command_that_was_killed_goes_on",
    ),
    22: (
        "secrets/test_keyrings::test_what_is_typed_as_recovery_key_is_checked_and_not_repeated",
        "secrets/test_custody::test_a_join_that_is_refused_changes_nothing",
    ),
    23: ("secrets/test_protectors::test_a_row_cannot_ask_for_years_of_work",),
    24: ("secrets/test_abuse::test_24_a_point_of_low_order_or_a_wrong_length_opens_nothing",),
    25: (
        "secrets/test_keyrings::test_an_unsafe_host_key_is_refused",
        "secrets/test_keyrings::test_a_missing_host_key_is_not_made_again",
        "secrets/test_keyrings::test_a_host_key_of_another_user_is_refused",
    ),
    26: (
        "secrets/test_protectors::test_a_null_key_is_refused",
        "secrets/test_protectors::test_a_fresh_process_does_not_open_it_elsewhere",
    ),
    27: (
        "secrets/test_protectors::test_a_chip_that_does_not_answer_is_named",
        "secrets/test_protectors::test_elsewhere_it_is_refused_in_words",
    ),
    28: (
        "secrets/test_protectors::test_the_scope_is_recorded_and_used_exactly",
        "secrets/test_protectors::test_every_tampering_is_refused",
    ),
    30: ("secrets/test_custody::test_an_evicted_host_reads_nothing_that_is_stored_later",),
    31: (
        "secrets/test_kills::test_a_command_that_was_killed_goes_on",
        "custody/test_backup::test_killed_at_every_sampled_step_the_same_command_carries_on",
        "custody/test_rotation::test_killed_at_every_sampled_step_nothing_is_lost",
        "secrets/test_setup::test_killed_at_any_moment_init_leaves_nothing_or_everything",
    ),
    32: ("secrets/test_custody::test_a_writer_that_slept_through_the_promotion_seals_again",),
    33: (
        "secrets/test_custody::test_the_second_of_two_says_who_rotates",
        "secrets/test_custody::test_who_was_taken_over_changes_nothing_any_more",
    ),
    34: ("secrets/test_custody::test_a_new_value_wins_over_its_reseal",),
    35: ("secrets/test_custody::test_a_value_that_does_not_open_keeps_the_old_key_and_is_named",),
    36: (
        "custody/test_hidden_values::test_after_a_rotation_every_sealed_value_anywhere_is_under_the_new_key",
        "custody/test_hidden_values::test_a_value_that_somebody_put_elsewhere_would_be_seen",
    ),
    37: (
        "secrets/test_abuse::test_37_a_database_that_does_not_take_it_keeps_what_it_had",
        "secrets/test_abuse::test_37_a_clock_that_jumps_back_loses_nothing",
    ),
    38: (
        "custody/test_rotation::test_the_old_value_is_destroyed_when_its_time_has_come",
        "secrets/test_custody::test_a_value_that_does_not_open_keeps_the_old_key_and_is_named",
    ),
    39: (
        "storage/test_schema::test_a_newer_schema_is_refused",
        "secrets/test_keyrings::test_a_document_that_breaks_a_rule_is_refused",
    ),
    40: (
        "secrets/test_custody::test_a_writer_that_slept_through_the_promotion_seals_again",
        "secrets/test_custody::test_other_hosts_follow_two_removals_that_they_slept_through",
    ),
    41: (
        "cli/test_secret_commands::test_a_value_on_the_command_line_is_refused_and_not_repeated",
        "secrets/test_setup::test_the_child_that_opens_keyrings_learns_nothing_from_arguments_or_environment",
        "custody/test_canaries::test_no_value_shows_whatever_is_done",
    ),
    42: ("custody/test_canaries::test_no_value_shows_whatever_is_done",),
    43: (
        "secrets/test_secret::test_text_forms_are_a_fixed_mark",
        "secrets/test_secret::test_it_does_not_leave_by_other_doors",
    ),
    45: ("secrets/test_store::test_what_is_empty_or_too_large_is_refused_and_a_mask_may_be_a_password",),
    46: ("secrets/test_store::test_what_is_empty_or_too_large_is_refused_and_a_mask_may_be_a_password",),
    48: ("cli/test_secret_commands::test_not_into_a_pipe",),
    49: ("secrets/test_store::test_nothing_is_released_when_it_cannot_be_recorded",),
    51: ("secrets/test_references::test_nothing_else_is_taken_and_nothing_is_normalised",),
    52: ("secrets/test_references::test_a_setting_is_the_whole_field_and_errors_repeat_none_of_it",),
    53: ("definition/test_reading::test_a_reference_with_something_around_it",),
    54: (
        "custody/test_ledger::test_a_connector_that_moved_to_another_host_is_refused_until_its_audience_is_allowed",
        "secrets/test_store::test_an_audience_edited_in_the_database_is_noticed",
    ),
    55: (
        "secrets/test_setup::test_an_unknown_provider_stops_init_before_anything_is_made",
        "settings/test_settings::test_what_is_wrong_is_named_with_its_place",
    ),
    63: (
        "custody/test_bundle::test_what_is_odd_is_refused_whole",
        "custody/test_bundle::test_a_damaged_file_is_refused",
    ),
    64: ("custody/test_runbooks::test_disaster_recovery",),
    66: ("custody/test_backup::test_a_backup_from_before_the_last_rotation_opens_with_the_recovery_key_of_then",),
    67: ("custody/test_backup::test_the_file_alone_opens_nothing",),
}
ELSEWHERE = {29, 44, 47, 50, *range(56, 63), 65}


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_each_abuse_that_applies_has_a_test() -> None:
    assert ABUSES.keys() | ELSEWHERE == set(range(1, 68))
    missing = [
        f"{number}: {test}"
        for number, tests in ABUSES.items()
        for test in tests
        if test.partition("::")[2] not in functions(test.partition("::")[0])
    ]
    assert missing == []


def test_16_a_forged_rotation_in_progress_seals_nothing_under_a_key_of_the_forger(mesh: Installation) -> None:
    ref = mesh.put()
    station = Station(SqlCustodyRows(mesh.database), mesh.host, ACTOR, "here")
    keyring = mesh.sql("SELECT generation, sealed FROM keyring WHERE name = 'connectors'")
    row = {
        "keyring": "connectors", "state": "reseal", "reason": "asked", "subject": "", "new_key": 99,
        "started": station.clock(), "holder": "nobody", "fence": 1, "until": station.clock(),
    }  # fmt: skip
    with mesh.database.write() as connection:
        connection.execute(insert(keyring_rotation), row)
    before = mesh.sql("SELECT key_id, sealed FROM secret")
    with pytest.raises(MeshError) as refused:
        rotate(station, "connectors")
    assert "connectors" in str(refused.value)
    assert mesh.sql("SELECT key_id, sealed FROM secret") == before
    assert mesh.sql("SELECT generation, sealed FROM keyring WHERE name = 'connectors'") == keyring
    assert mesh.store.reveal(ref, actor=ACTOR)


def full_disk(database: Database) -> Callable[[], None]:
    """No page more than there are. Of SQLite, whose files are ours."""
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def fill(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    return _on(database, "checkout", fill)


def read_only(database: Database) -> Callable[[], None]:
    """As on a standby, or on a disk that was mounted read-only."""
    if database.dialect == "sqlite":
        return _on(database, "checkout", lambda connection, *_: connection.execute("PRAGMA query_only = ON"))
    return _on(database, "begin", lambda connection: connection.exec_driver_sql("SET TRANSACTION READ ONLY"))


def lost_at_commit(database: Database) -> Callable[[], None]:
    """The server ends the connection when everything is sent but the COMMIT. Of PostgreSQL, which has a network."""
    other = open_database(str(database.engine.url), password=database_password(database))

    def cut(connection: Any) -> None:
        if connection.get_execution_options().get("identitymesh_write"):
            number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with other.write() as second:
                second.exec_driver_sql("SELECT pg_terminate_backend(%s)", (number,))

    event.listen(database.engine, "commit", cut)

    def mend() -> None:
        event.remove(database.engine, "commit", cut)
        other.close()

    return mend


def database_password(database: Database) -> Secret:
    """That of the test's own server, as the connection has it."""
    with database.read() as connection:
        driver: Any = connection.connection.driver_connection
        return Secret(driver.info.password)


def _on(database: Database, name: str, function: Callable[..., None]) -> Callable[[], None]:
    database.close()  # connections that were open before
    event.listen(database.engine, name, function)

    def mend() -> None:
        event.remove(database.engine, name, function)
        database.close()

    return mend


@pytest.mark.parametrize("fault", [full_disk, read_only, lost_at_commit])
@pytest.mark.parametrize("action", ["put", "rotate", "audience", "delete"])
def test_37_a_database_that_does_not_take_it_keeps_what_it_had(
    mesh: Installation, fault: Callable[[Database], Callable[[], None]], action: str
) -> None:
    if (fault, mesh.database.dialect) in ((full_disk, "postgresql"), (lost_at_commit, "sqlite")):
        return  # that database has no such fault, or the test no such power over it
    ref = mesh.put(value="before")
    station = Station(SqlCustodyRows(mesh.database), mesh.host, ACTOR, "here")
    acts: dict[str, Callable[[], object]] = {
        "put": lambda: mesh.put(value="after " * 2000),
        "rotate": lambda: rotate(station, "connectors"),
        "audience": lambda: mesh.store.audience.allow(ref, "hr", [f"host{n}.example:1" for n in range(400)], ACTOR),
        "delete": lambda: mesh.store.delete(ref, actor=ACTOR),
    }
    before = state(mesh)
    mend = fault(mesh.database)
    went_through = False
    try:
        if fault is full_disk and action in ("rotate", "delete"):  # may need no page more; then it is done, and wholly
            with suppress(StorageError):
                acts[action]()
                went_through = True
        else:
            with pytest.raises(StorageError):
                acts[action]()
    finally:
        mend()
    if not went_through:
        assert state(mesh) == before
        assert mesh.store.reveal(ref, actor=ACTOR) == Secret("before")
        acts[action]()  # and nothing is stuck
    assert state(mesh) != before
    assert mesh.store.exists(ref) is (action != "delete")
    if action != "delete":
        assert mesh.store.reveal(ref, actor=ACTOR) == Secret("after " * 2000 if action == "put" else "before")


def state(mesh: Installation) -> list[Any]:
    """Everything of secrets and keyrings that must be whole; and that no record says what did not happen."""
    tables = ("keyring", "keyring_slot", "keyring_rotation", "secret", "secret_ledger")
    changes = [one for one in mesh.audit() if one.record.action not in ("secret.reveal", "secret.open")]
    used = ("last_used", "last_used_version", "last_used_by", "opened", "opened_by")
    found: list[Any] = [len(changes)]
    with mesh.database.read() as connection:
        for table in tables:
            rows = connection.execute(text(f"SELECT * FROM {table}")).mappings()
            found.append(sorted(str([value for name, value in row.items() if name not in used]) for row in rows))
    return found


def test_37_a_clock_that_jumps_back_loses_nothing(mesh: Installation) -> None:
    ref = mesh.put(value="kept")
    rows = SqlCustodyRows(mesh.database)
    rotate(Station(rows, mesh.host, ACTOR, "here"), "connectors")
    before = state(mesh)
    yesterday = Station(rows, mesh.host, ACTOR, "here", clock=lambda: datetime.now(UTC) - timedelta(days=400))
    rotate(yesterday, "connectors")
    assert state(mesh) != before
    assert mesh.sql("SELECT * FROM keyring_rotation") == []
    assert mesh.store.reveal(ref, actor=ACTOR) == Secret("kept")
    rotate(Station(rows, mesh.host, ACTOR, "here"), "connectors")
    assert mesh.store.reveal(ref, actor=ACTOR) == Secret("kept")
    assert [one.problems for one in mesh.store.verify(actor=ACTOR)] == [()]


@pytest.mark.parametrize("share", ["A" * 43, "AQ" + "A" * 41, "A" * 42, "A" * 44])
def test_24_a_point_of_low_order_or_a_wrong_length_opens_nothing(embedded: Installation, share: str) -> None:
    (sealed,) = embedded.sql("SELECT sealed FROM keyring WHERE name = 'connectors'")[0]
    lines = sealed.split(b"\n")
    at = next(number for number, line in enumerate(lines) if line.startswith(b"-> X25519 "))
    forged = b"\n".join([*lines[:at], b"-> X25519 " + share.encode(), *lines[at + 1 :]])
    with pytest.raises((KeyringError, NotSealedToUs)):
        open_age(forged, embedded.result.recovery_key, "connectors")
    embedded.sql("UPDATE keyring SET sealed = :sealed WHERE name = 'connectors'", sealed=forged)
    with pytest.raises(KeyringError):
        embedded.store.reveal(embedded.put("secret://a/b", keyring="connectors"), actor=ACTOR)
