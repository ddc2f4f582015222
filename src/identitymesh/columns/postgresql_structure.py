"""What a PostgreSQL table is, asked of its catalogue; what is in the way is told before anything is changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from identitymesh.columns.places import ColumnPlace, RowPlace
from identitymesh.columns.postgresql import PostgresSession
from identitymesh.columns.session import SIDE_TABLE, Structure, quote_path
from identitymesh.errors import ColumnsForbidden, ColumnsUnfit

TEXT_TYPES: Final = ("text", "varchar", "bpchar", "citext")
# What writes the same text in every program; sealed values are bound to it.
KEY_TYPES: Final = ("int2", "int4", "int8", "text", "varchar", "uuid")
_INSERT, _DELETE, _UPDATE = 1 << 2, 1 << 3, 1 << 4  # pg_trigger.tgtype
GUARD: Final = "zz_identitymesh_columns_"

_RELATION: Final = """
SELECT c.oid, c.relkind, EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid),
       row_security_active(c.oid), pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner), current_user,
       current_schema(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
       (SELECT array_agg(rulename::text) FROM pg_rewrite WHERE ev_class = c.oid AND ev_type = '2')
FROM pg_class c WHERE c.oid = to_regclass(%s)
"""
_COLUMNS: Final = """
SELECT a.attname, coalesce(b.typname, t.typname), format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attnum
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
_KEY: Final = """
SELECT a.attname FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place
"""
_TRIGGERS: Final = """
SELECT tgname, tgenabled FROM pg_trigger
WHERE tgrelid = %s AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & %s > 0 AND tgname NOT LIKE %s
      AND (tgattr = ''::int2vector OR tgattr::int2[] && (SELECT array_agg(attnum) FROM pg_attribute
           WHERE attrelid = tgrelid AND attname = ANY(%s))::int2[])
ORDER BY tgname
"""
_DEPENDENTS: Final = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid),
       CASE WHEN k.conrelid = d.refobjid AND k.contype <> 'f' THEN array_length(k.conkey, 1) > 1
            WHEN i.indrelid = d.refobjid THEN i.indnatts > 1 OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
            ELSE d.deptype = 'n' END
FROM pg_depend d LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
     LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND d.refobjsubid = %s
      AND d.classid <> 'pg_attrdef'::regclass AND d.deptype IN ('n', 'a', 'i')
      AND NOT EXISTS (SELECT FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
                      AND g.tgname LIKE %s)
ORDER BY 1
"""
_MENTIONS: Final = r"""
SELECT DISTINCT tgname FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
WHERE g.tgrelid = %s AND NOT g.tgisinternal AND g.tgname NOT LIKE %s AND p.prosrc ~ ('\m' || %s || '\M') ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    base: str
    type: str
    not_null: bool
    default: str | None
    generated: bool
    number: int


@dataclass(frozen=True, slots=True)
class Table:
    oid: int
    name: str
    columns: dict[str, Column]
    keys: tuple[str, ...]


def find_table(session: PostgresSession, name: str, *, altering: bool) -> Table:
    """Look a table up.

    Raises:
        ColumnsUnfit: there is none, or it is of a kind that cannot be worked on.
        ColumnsForbidden: this login may not alter it, or may not see all its rows.
    """
    where = session.describe()
    found = session.execute(_RELATION, (quote_path(name),))
    if not found:
        raise ColumnsUnfit(f"{where} has no table {name}", hint="Spell it as in the database, with its schema.")
    oid, kind, inherits, hidden, owned, owner, user, schema, may_create, rules = found[0]
    if kind != "r" or inherits:
        what = "is partitioned or inherits" if inherits or kind == "p" else "is no ordinary table"
        raise ColumnsUnfit(f"{name} {what}; encrypted columns need an ordinary table")
    if hidden:
        raise ColumnsForbidden(
            f"row security hides rows of {name} from {user}",
            hint="Run this as a login with BYPASSRLS, or as the owner.",
        )
    if rules:
        raise ColumnsUnfit(
            f"the rule {rules[0]} of {name} rewrites updates", hint="Drop it before, make it again after."
        )
    if altering and not owned:
        raise ColumnsForbidden(
            f"{user} may not alter {name}: it belongs to {owner}",
            hint=f"Run this as {owner}, or: GRANT {owner} TO {user}",
        )
    if altering and not may_create and not session.has_side_table():
        raise ColumnsForbidden(
            f"{user} may not make the table {SIDE_TABLE} in schema {schema}",
            hint=f"As an administrator: GRANT CREATE ON SCHEMA {schema} TO {user}",
        )
    columns = {row[0]: Column(*row) for row in session.execute(_COLUMNS, (oid,))}
    keys = tuple(row[0] for row in session.execute(_KEY, (oid,)))
    return Table(oid, name, columns, keys)


def structure_of(session: PostgresSession, place: ColumnPlace, *, writing: bool, triggers: str) -> Structure:
    """See :meth:`identitymesh.columns.session.Target.inspect`."""
    table = find_table(session, place.table, altering=writing)
    _check_keys(table)
    plain = table.columns.get(place.column)
    cells = [table.columns.get(name) for name in (place.encrypted, place.nonce)]
    if plain is None and not any(cells):
        raise ColumnsUnfit(f"{place.table} has no column {place.column}", hint="Spell it as in the database.")
    if plain is not None and (plain.base not in (*TEXT_TYPES, "bytea") or plain.generated):
        raise ColumnsUnfit(
            f"{place.name} is {plain.type}{', generated' if plain.generated else ''}; text and bytea are encrypted"
        )
    for cell in cells:
        if cell is not None and (cell.base != "bytea" or cell.not_null or cell.generated):
            raise ColumnsUnfit(
                f"{place.table}.{cell.name} exists already and is {cell.type}{' NOT NULL' if cell.not_null else ''}",
                hint="It must be bytea and take NULL; or name other columns in the plan (`encrypted`, `nonce`).",
            )
    guard = session.execute(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = %s AND tgname = %s", (table.oid, guard_name(place))
    )
    unfired = _bypassed(session, table, _UPDATE, place.columns, triggers) if writing else ()
    described = {} if plain is None else {
        "type": plain.type, "not_null": plain.not_null, "default": plain.default, "binary": plain.base == "bytea"
    }  # fmt: skip
    return Structure(table.keys, plain is not None, all(cells), bool(guard), described, unfired)


def guard_name(place: ColumnPlace) -> str:
    """Its trigger and its function; last in the alphabet, so that it sees what the application's triggers made."""
    return GUARD + hashlib.sha256(place.name.encode()).hexdigest()[:12]


def _check_keys(table: Table) -> None:
    if not table.keys:
        raise ColumnsUnfit(f"{table.name} has no primary key, so no row can be named", hint="Give it one.")
    odd = [name for name in table.keys if "%" in name]
    if odd:
        raise ColumnsUnfit(f"{table.name}: a column of its primary key has a name with %")


def settle_row_table(session: PostgresSession, place: RowPlace, triggers: str) -> tuple[str, ...]:
    """See :class:`identitymesh.columns.rows.KeyValueRow`."""
    table = find_table(session, place.table, altering=False)
    return _bypassed(session, table, _INSERT | _DELETE | _UPDATE, (place.value_column,), triggers)


def _bypassed(
    session: PostgresSession, table: Table, events: int, columns: Sequence[str], wish: str
) -> tuple[str, ...]:
    """Triggers that will not fire; the session is told so."""
    found = session.execute(_TRIGGERS, (table.oid, events, f"{GUARD}%", list(columns)))
    if not found or wish == "fire":
        return ()
    names = tuple(row[0] for row in found)
    always = [name for name, enabled in found if enabled in {"A", "R"}]
    if always:
        raise ColumnsUnfit(
            f"{table.name} has the trigger {always[0]}, which always fires on UPDATE",
            hint="Write `triggers: fire` into the plan if it may fire once for each encrypted row; else disable it.",
        )
    if not _may_bypass(session):
        raise ColumnsForbidden(
            f"{table.name} has triggers that would fire for each encrypted row: {', '.join(names)}",
            hint="Write `triggers: fire` into the plan if they may. Else run this as a login that may set "
            "session_replication_role (PostgreSQL 15: GRANT SET ON PARAMETER session_replication_role TO …).",
        )
    session.execute("SET session_replication_role = replica")
    return names


def _may_bypass(session: PostgresSession) -> bool:
    if session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0]:
        return True
    if session.writer.info.server_version < 150000:
        return False
    return session.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')")[0][0] is True


def check_drop(session: PostgresSession, place: ColumnPlace) -> tuple[str, ...]:
    """See :meth:`identitymesh.columns.session.Target.check_drop`."""
    table = find_table(session, place.table, altering=True)
    plain = table.columns.get(place.column)
    if plain is None:
        return ()
    if place.column in table.keys:
        raise ColumnsUnfit(f"{place.name} belongs to the primary key and cannot be dropped")
    found = session.execute(_DEPENDENTS, (table.oid, plain.number, f"{GUARD}%"))
    blocking = [text for text, blocks in found if blocks]
    mentions = session.execute(_MENTIONS, (table.oid, f"{GUARD}%", re.escape(place.column)))
    blocking += [f"trigger {row[0]}, whose function names {place.column}" for row in mentions]
    if blocking:
        raise ColumnsUnfit(_blocked(place, blocking), hint="Change or drop these first; nothing was dropped.")
    return tuple(text for text, _blocks in found)


def _blocked(place: ColumnPlace, blocking: Sequence[str]) -> str:
    return "\n".join([f"{place.name} cannot be dropped, it is used by:", *(f"  {text}" for text in blocking)])
