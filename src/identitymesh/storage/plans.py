"""Plans in the database: which accounts differ, what was decided, what was let out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from identitymesh.audit import Record
from identitymesh.errors import UsageError
from identitymesh.lease import Lease
from identitymesh.model.attributes import dump, load
from identitymesh.runs.contract import UNDECIDED, KindCount, PlannedRow, PlanTarget
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.database import Database
from identitymesh.storage.leases import assert_held
from identitymesh.storage.rows import ACCOUNT_FIELDS, account_value
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

_ACCOUNT = m.account.c
_ROW = r.plan_row.c
_COVERED = or_(
    func.coalesce(_ACCOUNT.approved == _ACCOUNT.row_digest, False),
    func.coalesce(_ACCOUNT.released == _ACCOUNT.row_digest, False),
)
_SAME_ROW = and_(
    _ROW.connector == _ACCOUNT.connector,
    _ROW.identity_id == _ACCOUNT.identity_id,
    _ROW.object == _ACCOUNT.object,
    _ROW.row_digest == _ACCOUNT.row_digest,
)


def thawed(frozen: Collection[str]) -> ColumnElement[bool]:
    """Accounts of people who are not frozen."""
    if not frozen:
        return true()
    ids = select(m.identity.c.id).where(m.identity.c.anchor.in_(sorted(frozen)))
    return _ACCOUNT.identity_id.not_in(ids)


class SqlPlans:
    """``PlanStore`` of ``runs/contract.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _write(self, lease: Lease | None) -> Iterator[Connection]:
        with self._database.write() as connection:
            if lease is not None:
                assert_held(connection, lease)
            yield connection

    def create(self, run_id: int, version: int, frozen: Collection[str], lease: Lease) -> None:
        """Every account where desired and known differ, whatever this run read."""
        with self._write(lease) as connection:
            row = {"id": run_id, "definition_version": version, "created_at": datetime.now(UTC)}
            connection.execute(insert(r.plan), row)
            rows = select(
                literal(run_id),
                _ACCOUNT.connector,
                _ACCOUNT.identity_id,
                _ACCOUNT.object,
                _ACCOUNT.kind,
                _ACCOUNT.row_digest,
                _COVERED,
            ).where(_ACCOUNT.kind.is_not(None), thawed(frozen))
            names = ["plan_id", "connector", "identity_id", "object", "kind", "row_digest", "covered"]
            connection.execute(insert(r.plan_row).from_select(names, rows))

    def counts(self, run_id: int) -> dict[str, dict[str, KindCount]]:
        fresh = func.sum(case((_ROW.covered, 0), else_=1))
        query = select(_ROW.connector, _ROW.kind, func.count().label("total"), fresh.label("fresh"))
        query = query.where(_ROW.plan_id == run_id).group_by(_ROW.connector, _ROW.kind)
        found: dict[str, dict[str, KindCount]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.connector, {})[row.kind] = KindCount(row.total, int(row.fresh))
        return found

    def frozen_rows(self, frozen: Collection[str]) -> dict[str, int]:
        if not frozen:
            return {}
        query = select(_ACCOUNT.connector, func.count()).where(_ACCOUNT.kind.is_not(None), ~thawed(frozen))
        return self._by_connector(query)

    def parked_rows(self) -> dict[str, int]:
        query = select(_ACCOUNT.connector, func.count()).where(_ACCOUNT.kind.is_not(None), _ACCOUNT.status == "parked")
        return self._by_connector(query)

    def unknown_anchors(self, anchors: Collection[str]) -> list[str]:
        query = select(m.identity.c.anchor).where(m.identity.c.anchor.in_(sorted(anchors)))
        with self._database.read() as connection:
            return sorted(set(anchors) - set(connection.scalars(query)))

    def _by_connector(self, query: Any) -> dict[str, int]:
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query.group_by(_ACCOUNT.connector))}

    def linked(self, connector: str) -> int:
        # Whatever is known of an account, it has its key: counted in the index, without a look at the rows.
        query = select(func.count()).where(_ACCOUNT.connector == connector, _ACCOUNT.key.is_not(None))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def released_since(self, connector: str, since: datetime) -> dict[str, int]:
        columns = r.released.c
        query = select(columns.kind, func.sum(columns.rows)).where(columns.connector == connector, columns.at >= since)
        with self._database.read() as connection:
            return {kind: int(rows) for kind, rows in connection.execute(query.group_by(columns.kind))}

    def gates(self) -> dict[str, str]:
        with self._database.read() as connection:
            return {row.connector: row.reason for row in connection.execute(select(r.target_gate))}

    def open_gate(self, connector: str, version: int, lease: Lease) -> None:
        with self._write(lease) as connection:
            _open_gate(connection, connector, version)

    def put_targets(self, run_id: int, targets: Sequence[PlanTarget], lease: Lease) -> None:
        rows = [
            {
                "plan_id": run_id,
                "connector": one.connector,
                "state": one.state,
                "counts": dump(dict(one.counts)).decode(),
                "reasons": dump({"held": list(one.reasons), "frozen": one.frozen, "parked": one.parked}).decode(),
            }
            for one in targets
        ]
        with self._write(lease) as connection:
            if rows:
                connection.execute(insert(r.plan_target), rows)

    def targets(self, run_id: int) -> list[PlanTarget]:
        query = select(r.plan_target).where(r.plan_target.c.plan_id == run_id)
        with self._database.read() as connection:
            return [_target(row) for row in connection.execute(query)]

    def release(
        self, run_id: int, connector: str, counted: Mapping[str, int], *, covered_only: bool, actor: str, lease: Lease
    ) -> int:
        """Let the plan's rows out, where the accounts still say the same; ``counted`` goes to the limits' memory."""
        now = datetime.now(UTC)
        mine = exists().where(_SAME_ROW, _ROW.plan_id == run_id, *([_ROW.covered] if covered_only else []))
        with self._write(lease) as connection:
            if _closed(connection, run_id, [connector]):
                return 0
            if not covered_only and _has_newer_gate(connection, run_id, connector):
                return 0
            statement = update(m.account).where(_ACCOUNT.connector == connector, _ACCOUNT.kind.is_not(None), mine)
            count = connection.execute(statement.values(released=_ACCOUNT.row_digest)).rowcount
            rows = [{"connector": connector, "kind": kind, "rows": n, "at": now} for kind, n in counted.items() if n]
            if rows:
                connection.execute(insert(r.released), rows)
            if not covered_only:
                _decide(connection, run_id, [connector], state="released", actor=actor, now=now)
            if count:
                payload = {"plan": run_id, "rows": count, "counted": dict(counted)}
                event = Record("plan.release", connector, actor, run=str(run_id), payload=payload)
                SqlAuditTrail(connection).append([event])
        return int(count)

    # -- a person decides --------------------------------------------------------

    def approve(self, run_id: int, connectors: Collection[str], actor: str) -> tuple[int, int]:
        now = datetime.now(UTC)
        names = sorted(connectors)
        mine = exists().where(_SAME_ROW, _ROW.plan_id == run_id)
        with self._write(None) as connection:
            if closed := _closed(connection, run_id, names):
                raise UsageError(
                    f"plan {run_id}: {', '.join(closed)} in this moment", hint=f"See `identitymesh runs show {run_id}`."
                )
            statement = update(m.account).where(_ACCOUNT.connector.in_(names), _ACCOUNT.kind.is_not(None), mine)
            count = int(connection.execute(statement.values(approved=_ACCOUNT.row_digest)).rowcount)
            planned = select(func.count()).where(_ROW.plan_id == run_id, _ROW.connector.in_(names))
            total = int(connection.scalar(planned) or 0)
            version = connection.scalar(select(r.plan.c.definition_version).where(r.plan.c.id == run_id))
            for name in names:
                _open_gate(connection, name, version or 0)
                payload = {"plan": run_id, "rows": count, "superseded": total - count}
                SqlAuditTrail(connection).append([Record("plan.approve", name, actor, payload=payload)])
            _decide(connection, run_id, names, state="ready", actor=actor, now=now)
        return count, total - count

    def drop(self, run_id: int, connectors: Collection[str], actor: str) -> int:
        now = datetime.now(UTC)
        names = sorted(connectors)
        with self._write(None) as connection:
            if closed := _closed(connection, run_id, names):
                raise UsageError(
                    f"plan {run_id}: {', '.join(closed)} in this moment", hint=f"See `identitymesh runs show {run_id}`."
                )
            planned = select(func.count()).where(_ROW.plan_id == run_id, _ROW.connector.in_(names))
            total = int(connection.scalar(planned) or 0)
            mine = exists().where(_SAME_ROW, _ROW.plan_id == run_id)
            withdrawn = update(m.account).where(_ACCOUNT.connector.in_(names), _ACCOUNT.status != "sending", mine)
            connection.execute(withdrawn.values(approved=None, released=None))
            _decide(connection, run_id, names, state="dropped", actor=actor, now=now)
            events = [Record("plan.drop", name, actor, payload={"plan": run_id}) for name in names]
            SqlAuditTrail(connection).append(events)
        return total

    def approve_absences(self, run_id: int, connectors: Collection[str], actor: str) -> int:
        """Believe the absences that were held by this run or before it; the next full run removes who is still gone."""
        columns = m.connector_object.c
        where = [columns.absent_run.is_not(None), columns.absent_run <= run_id, ~columns.absent_approved]
        if connectors:
            where.append(columns.connector.in_(sorted(connectors)))
        with self._write(None) as connection:
            per = select(columns.connector, func.count()).where(*where).group_by(columns.connector)
            counts = {row[0]: row[1] for row in connection.execute(per)}
            connection.execute(update(m.connector_object).where(*where).values(absent_approved=True))
            events = [
                Record("absences.approve", name, actor, payload={"run": run_id, "objects": count})
                for name, count in counts.items()
            ]
            SqlAuditTrail(connection).append(events)
        return sum(counts.values())

    # -- looking -----------------------------------------------------------------

    def rows(self, run_id: int, *, limit: int, anchor: str | None) -> list[PlannedRow]:
        same_place = and_(
            _ROW.connector == _ACCOUNT.connector,
            _ROW.identity_id == _ACCOUNT.identity_id,
            _ROW.object == _ACCOUNT.object,
        )
        account = [_ACCOUNT[name].label(f"a_{name}") for name in ACCOUNT_FIELDS]
        query = (
            select(r.plan_row, m.identity.c.anchor, *account)
            .join(m.identity, m.identity.c.id == _ROW.identity_id)
            .outerjoin(m.account, same_place)
            .where(_ROW.plan_id == run_id)
            .order_by(_ROW.connector, _ROW.kind, _ROW.identity_id)
            .limit(limit)
        )
        if anchor is not None:
            query = query.where(m.identity.c.anchor == anchor)
        with self._database.read() as connection:
            return [_planned(row) for row in connection.execute(query)]

    def skipped(self, frozen: Collection[str], *, limit: int, anchor: str | None) -> list[PlannedRow]:
        query = select(m.account, m.identity.c.anchor).join(m.identity, m.identity.c.id == _ACCOUNT.identity_id)
        query = query.where(_ACCOUNT.kind.is_not(None), m.identity.c.anchor.in_(sorted(frozen)))
        if anchor is not None:
            query = query.where(m.identity.c.anchor == anchor)
        with self._database.read() as connection:
            rows = list(connection.execute(query.order_by(_ACCOUNT.connector, _ACCOUNT.identity_id).limit(limit)))
        return [
            PlannedRow(
                row.connector, row.object, row.identity_id, row.anchor, row.kind, row.row_digest, account_value(row)
            )
            for row in rows
        ]

    def definition_version(self, run_id: int) -> int | None:
        with self._database.read() as connection:
            return connection.scalar(select(r.plan.c.definition_version).where(r.plan.c.id == run_id))


def _open_gate(connection: Connection, connector: str, version: int) -> None:
    gate = r.target_gate.c
    connection.execute(delete(r.target_gate).where(gate.connector == connector, gate.version <= version))


def _closed(connection: Connection, run_id: int, connectors: Sequence[str]) -> list[str]:
    """Which of these targets of a plan were decided already, and how; the others stay undecided until the commit."""
    target = r.plan_target.c
    mine = (target.plan_id == run_id, target.connector.in_(connectors))
    rows = connection.execute(select(r.plan_target).where(*mine).order_by(target.connector).with_for_update())
    return [f"{row.connector} was {row.state} by {row.decided_by}" for row in rows if row.state not in UNDECIDED]


def _has_newer_gate(connection: Connection, run_id: int, connector: str) -> bool:
    """Whether a definition that was applied since this plan was made waits for a plan of its own."""
    gate = r.target_gate.c
    made_by = select(r.plan.c.definition_version).where(r.plan.c.id == run_id).scalar_subquery()
    return bool(connection.scalar(select(exists().where(gate.connector == connector, gate.version > made_by))))


def _decide(
    connection: Connection, run_id: int, connectors: Sequence[str], *, state: str, actor: str, now: datetime
) -> None:
    mine = (r.plan_target.c.plan_id == run_id, r.plan_target.c.connector.in_(connectors))
    connection.execute(update(r.plan_target).where(*mine).values(state=state, decided_by=actor, decided_at=now))


def _target(row: Any) -> PlanTarget:
    notes = load(row.reasons)
    counts: Counter[str] = Counter(load(row.counts))
    return PlanTarget(
        row.connector,
        row.state,
        dict(counts),
        tuple(notes["held"]),
        frozen=notes["frozen"],
        parked=notes["parked"],
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )


class _Renamed:
    """The account columns of a joined row under their own names."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, f"a_{name}")


def _planned(row: Any) -> PlannedRow:
    account = account_value(_Renamed(row)) if row.a_identity_id is not None else None  # type: ignore[arg-type]
    return PlannedRow(row.connector, row.object, row.identity_id, row.anchor, row.kind, bytes(row.row_digest), account)
