"""Exports in the database: which rows are being sent, and what came of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_

from identitymesh.lease import Lease
from identitymesh.model.accounts import Account
from identitymesh.runs.contract import Attempt, Result
from identitymesh.storage.batches import SqlMeshTransaction
from identitymesh.storage.bulk import among, update_rows
from identitymesh.storage.database import Database
from identitymesh.storage.leases import assert_held
from identitymesh.storage.plans import thawed
from identitymesh.storage.rows import ACCOUNT_FIELDS, ACCOUNTS
from identitymesh.storage.rules_mark import written_under
from identitymesh.storage.tables import mesh as m

_ACCOUNT = m.account.c
_PLACE = ACCOUNT_FIELDS[:3]
_SETTLED_BY_IMPORT = ("account-ambiguous", "account-taken")  # only the target's next import can change these


class SqlExports:
    """``ExportStore`` of ``runs/contract.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        connector: str,
        after: tuple[int, str],
        size: int,
        frozen: Collection[str],
        rules: Collection[str],
        *,
        parked: bool,
        lease: Lease,
    ) -> list[Attempt]:
        states: ColumnElement[bool] = _ACCOUNT.status.in_(("idle", "sending"))
        if parked:
            again = and_(_ACCOUNT.status == "parked", func.coalesce(_ACCOUNT.error_code, "").not_in(_SETTLED_BY_IMPORT))
            states = or_(states, again)
        query = (
            ACCOUNTS.add_columns(m.identity.c.anchor)
            .join(m.identity, m.identity.c.id == _ACCOUNT.identity_id)
            .where(*_released(connector, frozen), _ACCOUNT.rule.in_(sorted(rules)), states)
            .where(tuple_(_ACCOUNT.identity_id, _ACCOUNT.object) > after)
            .order_by(_ACCOUNT.identity_id, _ACCOUNT.object)
            .limit(size)
            .with_for_update(of=m.account)
        )
        with self._database.write() as connection:
            assert_held(connection, lease)
            attempts = [_attempt(Account._make(row[:-1]), row[-1]) for row in connection.execute(query)]
            update_rows(
                connection, m.account, _PLACE, ("status",), [("sending", *one.account.place) for one in attempts]
            )
        return attempts

    def record(self, results: Sequence[Result], ruleset: int, lease: Lease) -> None:
        """Apply results to the rows as they are now: a run may have wanted something newer meanwhile."""
        if not results:
            return
        with self._database.write() as connection:
            assert_held(connection, lease)
            tx = SqlMeshTransaction(connection)
            by_place = {
                one.place: one
                for several in tx.accounts_of([result.place[0] for result in results]).values()
                for one in several
            }
            changed = [result.change(by_place[result.place]) for result in results if result.place in by_place]
            tx.put_accounts([], changed)
            written_under(connection, ruleset)
            tx.put_objects([result.stored for result in results if result.stored is not None], ruleset)
            tx.remove_objects([result.removed for result in results if result.removed is not None])
            tx.audit([result.event for result in results])

    def put_back(self, attempts: Sequence[Attempt], lease: Lease) -> None:
        """Rows that were marked and not tried are what they were before: idle, parked, or without an answer."""
        before = [(one.account.status, *one.account.place) for one in attempts if one.account.status != "sending"]
        if not before:
            return
        with self._database.write() as connection:
            assert_held(connection, lease)
            update_rows(connection, m.account, _PLACE, ("status",), before)

    def waiting(self, connector: str, frozen: Collection[str]) -> int:
        query = select(func.count()).select_from(m.account).where(*_released(connector, frozen))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def owners(self, connector: str, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        keys: dict[str, list[str]] = {}
        for object_class, key in places:
            keys.setdefault(object_class, []).append(key)
        query = select(_ACCOUNT.object, _ACCOUNT.key, _ACCOUNT.identity_id).where(_ACCOUNT.connector == connector)
        found: dict[tuple[str, str], int] = {}
        with self._database.read() as connection:
            for object_class, several in keys.items():
                one_class = query.where(_ACCOUNT.object == object_class, among(connection, _ACCOUNT.key, several))
                found.update(((row[0], row[1]), row[2]) for row in connection.execute(one_class))
        return found


def _attempt(account: Account, anchor: str | None) -> Attempt:
    # Parked creates too: the reason may have been that a lookup found accounts of this person.
    return Attempt(account, anchor, recovering=account.status != "idle")


def _released(connector: str, frozen: Collection[str]) -> list[ColumnElement[bool]]:
    return [
        _ACCOUNT.connector == connector,
        _ACCOUNT.kind.is_not(None),
        _ACCOUNT.released == _ACCOUNT.row_digest,
        thawed(frozen),
    ]
