"""Opens the database of a plan, its places, and its key; refuses a key that is not the one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from identitymesh.columns.addresses import PostgresAddress, SqliteAddress
from identitymesh.columns.formats import Cipher, Format
from identitymesh.columns.keys import ColumnKey, load_key
from identitymesh.columns.places import ColumnPlace, Place, State
from identitymesh.columns.plan import Plan
from identitymesh.columns.rows import KeyValueRow
from identitymesh.columns.session import Session, Target, Which, read_states
from identitymesh.errors import ColumnBroken, ColumnKeyMissing, ColumnKeyWrong, ColumnPlanRefused, Problem
from identitymesh.redaction import Secret
from identitymesh.secrets.private_files import UnsafeFile, read_private

_PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Work:
    """An opened plan."""

    plan: Plan
    session: Session
    targets: tuple[Target, ...]

    def states(self) -> Mapping[str, State]:
        return read_states(self.session)


@contextmanager
def open_plan(plan: Plan) -> Iterator[Work]:
    """Connect; nothing is changed."""
    address = plan.address
    if isinstance(address, SqliteAddress):
        session, targets = _open_sqlite(plan, address)
    else:
        session, targets = _open_postgres(plan, address)
    try:
        yield Work(plan, session, targets)
    finally:
        session.close()


def _open_sqlite(plan: Plan, address: SqliteAddress) -> tuple[Session, tuple[Target, ...]]:
    from identitymesh.columns.sqlite import SqliteColumn, SqliteSession

    session = SqliteSession(address)

    def target(place: Place) -> Target:
        if isinstance(place, ColumnPlace):
            return SqliteColumn(session, place, plan.triggers)
        return KeyValueRow(session, place)

    return session, tuple(map(target, plan.resolved()))


def _open_postgres(plan: Plan, address: PostgresAddress) -> tuple[Session, tuple[Target, ...]]:
    from identitymesh.columns.postgresql import PostgresSession
    from identitymesh.columns.postgresql_columns import PostgresColumn
    from identitymesh.columns.postgresql_structure import settle_row_table

    session = PostgresSession(address, _password(plan, address), plan.ca_file)

    def target(place: Place) -> Target:
        if isinstance(place, ColumnPlace):
            return PostgresColumn(session, place, plan.format, plan.triggers)
        return KeyValueRow(session, place, lambda: settle_row_table(session, place, plan.triggers))

    return session, tuple(map(target, plan.resolved()))


def _password(plan: Plan, address: PostgresAddress) -> Secret | None:
    if plan.password_file is None:
        return address.password
    try:
        content = read_private(Path(plan.password_file), modes=(0o400, 0o600), max_bytes=_PASSWORD_BYTES)
    except FileNotFoundError:
        reason = "there is no such file"
    except UnsafeFile as error:
        reason = str(error)
    else:
        return Secret(content.reveal().removesuffix(b"\n"))
    raise ColumnPlanRefused(plan.password_file, [Problem(f"password_file is not used: {reason}", "password_file")])


# The key


def settle_key(work: Work) -> ColumnKey:
    """The key of the plan, if it is the one that the encrypted values there are under.

    Raises:
        ColumnKeyMissing, ColumnKeyUnsafe: it cannot be loaded; says so differently where values need it.
        ColumnKeyWrong: values were encrypted under another key.
    """
    states = {target.place.name: work.states().get(target.place.name) for target in work.targets}
    try:
        key = load_key(work.plan.key)
    except ColumnKeyMissing as missing:
        needing = [name for name, count in _encrypted(work).items() if count]
        if needing:
            raise ColumnKeyMissing(
                f"{missing.message}, and {needing[0]} has values that were encrypted with it",
                hint="Bring the file back from your backup of keys. A new key opens none of them, so none is made.",
            ) from None
        raise
    for target in work.targets:
        state = states[target.place.name]
        if state is None:
            _try(key, target)
        else:
            compare(key, target, state)
    return key


def _encrypted(work: Work) -> dict[str, int]:
    counts = {}
    for target in work.targets:
        target.inspect(writing=False)
        counts[target.place.name] = target.count().encrypted
    return counts


def compare(key: ColumnKey, target: Target, state: State) -> None:
    """Raise ``ColumnKeyWrong`` if what is encrypted there is under another key."""
    if key.check == state.key_check:
        return
    target.inspect(writing=False)
    if not target.count().encrypted:
        return
    name, where = state.place, key.path
    if state.next_key_check and key.check == state.next_key_check:
        raise ColumnKeyWrong(
            f"{name} is on its way from key {state.key_id} to key {key.id}, and the plan names the new one",
            hint="Name the old key file in the plan, and run `identitymesh columns rotate-key` again with the new one.",
        )
    if state.detail.get("former_key_id") == key.id:
        raise ColumnKeyWrong(
            f"{where} is key {key.id}, from which {name} was rotated to key {state.key_id}",
            hint="Name the new key file in the plan.",
        )
    raise ColumnKeyWrong(
        f"{where} is the wrong key: it is key {key.id}, and {name} was encrypted with key {state.key_id}",
        hint=f"Bring key {state.key_id} back from your backup of keys, or name its file in the plan.",
    )


def _try(key: ColumnKey, target: Target) -> None:
    """Values that another program encrypted: the key must open one, or it is the wrong one."""
    target.inspect(writing=False)
    rows = target.scan(Which.ENCRYPTED, None, 20)
    if not rows:
        return
    cipher = Cipher(key, *target.place.bound_to, Format.COMPATIBLE)
    for row in rows:
        with suppress(ColumnBroken):
            if row.cell is not None:
                cipher.open(row.key, row.cell)
                return
    raise ColumnKeyWrong(
        f"{key.path} is the wrong key: it opens none of the encrypted values that {target.place.name} has",
        hint="Name the key file of the program that wrote them.",
    )
