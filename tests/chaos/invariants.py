"""What must hold after every disturbance."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from identitymesh.secrets.references import parse
from identitymesh.storage.leases import SqlLeases

from .estate import BASE, NEW, Estate

SLACK = 10.0  # seconds: the machine may be busy with other tests


@dataclass(frozen=True, slots=True)
class End:
    """What must be equal, however the day was disturbed."""

    accounts: dict[str, dict[str, dict[str, Any]]]  # what the servers hold, by target and person
    people: dict[str, tuple[bool, str]]  # by anchor: present, and the plain values
    audit: Counter[tuple[str, str, str]]  # action, anchor and target of what was done to people since the morning


@dataclass(frozen=True, slots=True)
class Morning:
    """Where the day began."""

    sequence: int  # of the last audit record
    images: dict[tuple[str, str], dict[str, Any] | None]  # of each account, by target and anchor


def morning(estate: Estate) -> Morning:
    with estate.database() as database, database.read() as connection:
        sequence = int(connection.scalar(text("SELECT max(sequence) FROM audit")) or 0)
    return Morning(sequence, _images(estate, "known"))


def _images(estate: Estate, column: str) -> dict[tuple[str, str], dict[str, Any] | None]:
    query = f"SELECT a.connector, i.anchor, a.{column} AS image FROM account a JOIN identity i ON i.id = a.identity_id"
    with estate.database() as database, database.read() as connection:
        rows = connection.execute(text(query)).all()
    return {(row.connector, row.anchor): json.loads(row.image) if row.image else None for row in rows}


def check_watermark(estate: Estate) -> None:
    """Every row of HR below the stored watermark is in the mesh as HR has it."""
    with estate.database() as database, database.read() as connection:
        value = str(connection.scalar(text("SELECT value FROM watermark WHERE connector = 'hr'")))
        query = text("SELECT key, document FROM connector_object WHERE connector = 'hr'")
        stored = {row.key: json.loads(row.document) for row in connection.execute(query)}
    watermark = int(value.removeprefix("integer:"))
    for key, first, last, title, changed in estate.people():
        if changed < watermark:
            assert key in stored, f"{key} is below the watermark {watermark}, and was not read"
            held = stored[key]
            assert (held["first"], held["last"], held.get("title")) == (first, last, title), f"{key} is as it was"


def check_leases(estate: Estate, seconds: float) -> None:
    """Each is free again within its time."""
    deadline = time.monotonic() + seconds + SLACK
    with estate.database() as database:
        leases = SqlLeases(database)
        while True:
            with database.read() as connection:
                names = connection.execute(text("SELECT name FROM lease")).scalars().all()
            held = [name for name in names if leases.held(name)]
            if not held:
                return
            assert time.monotonic() < deadline, f"held leases: {held}"
            time.sleep(0.1)


def check_marks(connection: Connection) -> None:
    """What is believed without a look at the rows: keys of accounts, and the mark that all is settled."""
    half = connection.scalar(text("SELECT count(*) FROM account WHERE (key IS NULL) <> (known IS NULL)"))
    assert half == 0, f"{half} accounts have a key and nothing known, or the other way round"
    for table in ("connector_object", "identity"):
        query = f"SELECT count(*) FROM {table} AS one, rules_mark AS mark WHERE one.ruleset <> mark.ruleset"
        left = connection.scalar(text(query))
        assert left == 0, f"{left} rows of {table} are not settled, and the mark says that they are"


def check_rest(estate: Estate) -> None:
    """Nothing is left to do, and nothing is on its way."""
    with estate.database() as database, database.read() as connection:
        check_marks(connection)
        running = connection.scalar(text("SELECT count(*) FROM run WHERE state = 'running'"))
        waiting = connection.execute(
            text("SELECT connector, kind, status, error FROM account WHERE kind IS NOT NULL OR status <> 'idle'")
        ).all()
        twice = connection.execute(
            text("SELECT due, count(*) FROM run WHERE due IS NOT NULL AND state <> 'abandoned' GROUP BY 1")
        ).all()
    assert running == 0, "a run is recorded as running"
    assert not waiting, f"accounts with something left to do: {waiting}"
    assert all(row[1] == 1 for row in twice), f"a due moment was carried out twice: {twice}"


def end(estate: Estate, begun: Morning) -> End:
    """How the day ended."""
    with estate.database() as database, database.read() as connection:
        people = {}
        for row in connection.execute(text("SELECT anchor, present, document FROM identity")):
            assert row.anchor not in people, f"two people with the anchor {row.anchor}"
            values = {name: held[0] for name, held in json.loads(row.document).items()}
            people[row.anchor] = (bool(row.present), json.dumps(values, sort_keys=True))
        rows = connection.execute(
            text("SELECT sequence, action, outcome, payload FROM audit WHERE sequence > :s ORDER BY sequence"),
            {"s": begun.sequence},
        ).all()
    if estate.kind == "sqlite":  # PostgreSQL numbers what it rolls back, too
        numbers = [row.sequence for row in rows]
        assert numbers == list(range(begun.sequence + 1, begun.sequence + 1 + len(rows))), "a number is missing"
    told = [(row.action, json.loads(row.payload)) for row in rows if row.outcome == "done"]
    told = [one for one in told if one[0].startswith(("account.", "identity."))]
    _replay(estate, begun, told)
    audit = Counter((action, payload["anchor"], payload.get("connector", "")) for action, payload in told)
    return End(estate.contents(), people, audit)


def _replay(estate: Estate, begun: Morning, told: list[tuple[str, dict[str, Any]]]) -> None:
    """What the audit tells of each account leads from its image in the morning to the one that it has now."""
    images: dict[tuple[str, str], dict[str, Any] | None] = {
        place: None if image is None else dict(image) for place, image in begun.images.items()
    }
    for action, payload in told:
        if not action.startswith("account."):
            continue
        place = (payload["connector"], payload["anchor"])
        image = images.get(place) or {}
        before, after = payload["before"], payload["after"]
        assert {name: image.get(name) for name in before} == before, f"{place}: {action} began with {before}"
        image = {name: value for name, value in image.items() if name not in before} | after
        images[place] = None if action == "account.delete" else image
    now = {place: image for place, image in _images(estate, "known").items() if image is not None}
    replayed = {place: image for place, image in images.items() if image is not None}
    places = replayed.keys() | now.keys()
    wrong = {one: (replayed.get(one), now.get(one)) for one in places if replayed.get(one) != now.get(one)}
    assert not wrong, f"the audit does not lead to what is known: {wrong}"


def check_passwords(estate: Estate) -> None:
    """Whoever came today can log in with the password that is kept for them."""
    with estate.opened() as installation:
        for person in NEW:
            ref = parse(f"secret://initial/directory/{person}")
            assert installation.secrets.exists(ref), f"no initial password of {person} is kept"
            value = installation.secrets.reveal(ref, actor="tester").reveal_text()
            assert estate.servers.slapd.accepts(f"uid={person},{BASE}", value), f"{person} cannot log in"
