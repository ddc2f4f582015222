import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identitymesh.audit import Record, encode_payload, local_actor, person_record
from identitymesh.redaction import Secret
from identitymesh.storage.audit import SqlAuditTrail, read_audit
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.tables.audit import audit


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path}/mesh.db")
    else:
        server = request.getfixturevalue("postgres_url")
        opened = open_database(server.url, password=Secret(server.password))
    audit.metadata.create_all(opened.engine, tables=[audit])
    yield opened
    opened.close()


def append(database: Database, *records: Record) -> None:
    with database.write() as connection:
        assert SqlAuditTrail(connection).append(records) == len(records)


def test_records_are_kept_in_order_and_found_again(database: Database) -> None:
    at = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    first = Record("secret.set", "secret://a", "me@here", at=at, payload={"version": "1", "n": 3, "ok": True})
    second = Record("plan.approve", "crm", "you@there", outcome="refused", run="r1")
    third = person_record("identity.change", "p1", actor="run", run="r1", before={"mail": "a"}, after={}, source="hr")
    append(database, first, second, third)
    with database.read() as connection:
        found = read_audit(connection)
        assert [stored.sequence for stored in found] == sorted((s.sequence for s in found), reverse=True)
        assert found[2].record == first
        assert found[0].record.payload == {"before": {"mail": "a"}, "after": {}, "source": "hr"}
        assert found[0].record.at is not None
        assert [stored.record.action for stored in read_audit(connection, run="r1")] == [third.action, second.action]
        assert [stored.record for stored in read_audit(connection, action="secret.*")] == [first]
        assert [stored.record.subject for stored in read_audit(connection, subject="crm", action="plan.approve")] == [
            "crm"
        ]
        assert [stored.record for stored in read_audit(connection, before=found[1].sequence)] == [first]
        assert len(read_audit(connection, limit=1)) == 1


def test_a_record_lives_and_dies_with_its_transaction(database: Database) -> None:
    broken = [Record("run.start", "r1", "me"), Record("run.start", "r2", "me", payload={"x": object()})]
    with pytest.raises(TypeError):
        append(database, *broken)
    with database.read() as connection:
        assert read_audit(connection) == []


def test_a_secret_never_gets_into_a_record(database: Database) -> None:
    for payload in ({"value": Secret("hunter2")}, {"deep": [{"value": Secret("hunter2")}]}):
        with pytest.raises(TypeError) as refused, database.write() as connection:
            SqlAuditTrail(connection).append([Record("secret.set", "secret://a", "me", payload=payload)])
        assert "hunter2" not in str(refused.value)


def test_many_records_go_in_as_a_stream(database: Database) -> None:
    records = (
        person_record("identity.create", f"p{n}", actor="run", run="r", after={"mail": f"p{n}@example.com"})
        for n in range(20_000)
    )
    started = time.monotonic()
    with database.write() as connection:
        assert SqlAuditTrail(connection).append(records) == 20_000
    assert time.monotonic() - started < 20
    with database.read() as connection:
        newest = read_audit(connection, limit=2)
        assert [stored.record.subject for stored in newest] == ["p19999", "p19998"]


@pytest.mark.parametrize("action", ["", "secret", "Secret.set", "secret.set ", "secret..set", "secret.set\n"])
def test_actions_have_one_form(action: str) -> None:
    with pytest.raises(ValueError, match="not an audit action"):
        Record(action, "x", "y")


def test_a_payload_is_canonical() -> None:
    assert encode_payload({"b": [1, True, None], "a": "ä"}) == '{"a":"ä","b":[1,true,null]}'
    assert json.loads(encode_payload({})) == {}


def test_the_local_actor_is_not_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    user, at, host = local_actor().partition("@")
    assert (at, user != "somebody-else", bool(host)) == ("@", True, True)
