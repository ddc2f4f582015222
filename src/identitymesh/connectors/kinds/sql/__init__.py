"""People from a table or a query of a database, and into a table: SQLite and PostgreSQL.

```yaml
connectors:
  hr:
    type: sql
    url: postgresql+psycopg://hr_reader@db.example.org/hr
    password: secret://hr/reader
    objects:
      user: {query: select * from employees, key: employee_id, watermark: updated_at}
  badges:
    type: sql
    url: sqlite:///badges.db
    objects:
      user: {table: badge_holder, key: person_no}
```

Columns become attributes under the names that the table or query gives them. How their
values are translated, in both directions, stands in [documents](../formats/documents.md).
Columns that rules use must be there, so that a renamed one is an error and not a value
that everybody has lost.

**TLS.** A PostgreSQL server on another host must prove who it is (`verify-full`), with a
certificate of `ca_file`, or of the system's authorities without it. A server on this
host (loopback or a socket folder, `?host=/var/run/postgresql`) needs none.

## As a source

What no rule projects to is only ever read. SQLite files are opened read-only, so that a
misspelt path is an error and not a new, empty file; PostgreSQL reads in read-only
transactions. A complete read is one snapshot of the database with its own count of rows,
which is the proof that nobody is missing.

Give the connector a login of its own that may select from these tables and do nothing
else. On PostgreSQL: `GRANT SELECT ON employees TO hr_reader`.

**Delta reads** give the rows whose `watermark` column is at or after the last value seen;
rows that share that value, and rows without a watermark, come with every delta read. A
watermark is a promise of the database that rows which change get a higher one. It does
not hold where

* a transaction takes its time, or its number of a sequence, and commits later than others
  that took a later one: set `overlap` to the longest time that a transaction takes, or to
  the most numbers that are taken meanwhile;
* the clock of the database server is set back: rows of that time come with the next full
  read;
* a date has no zone and the server's is not UTC: on the day when clocks go back, an hour
  comes twice. Use `timestamp with time zone`, or an `overlap` of 3600;
* a row is deleted: no delta read can show that. `full_schedule` does.

## As a target

Objects that have a `table` can be written. Everything is one row at a time, in a
transaction of its own that looks at the row, changes it, and looks at it again:

* updated and deleted is the row with this key alone, and only while it holds what the
  plan was made from: the values that were read stand in the `WHERE`. What somebody else
  changed is left alone, and planned anew;
* if several rows have the key, none is touched. Make the key unique in the database, and
  the column that `correlate` names too: then nobody can make a second account;
* keys that the database makes are read back, and so is whatever defaults and triggers
  made of the values: that is the target's own spelling, and no difference;
* an attribute that is cleared becomes `NULL`; one that is absent in a new row is left to
  the column's default.

A view is written where the database can do that. What it says against a row (constraints,
triggers, a value that the column cannot have) parks that row with its words; a column or
table that is not there stops this target until somebody has mended it.

The login needs `SELECT, INSERT, UPDATE, DELETE` on the table, and on PostgreSQL `USAGE`
on the sequence of a `serial` key. Files of SQLite are never made, their foreign keys are
respected, and a program that holds the file's lock is waited for.
"""

from __future__ import annotations

from identitymesh.connectors.contract import Connector, CredentialSource, Kind
from identitymesh.connectors.kinds.sql.settings import SqlSettings, endpoints, scope, unwritable


def _open(settings: SqlSettings, credentials: CredentialSource) -> Connector:
    from identitymesh.connectors.kinds.sql.target import SqlTarget

    return SqlTarget(settings, credentials)


KIND = Kind(
    name="sql",
    summary="Tables and queries of SQLite and PostgreSQL",
    settings=SqlSettings,
    open=_open,
    endpoints=endpoints,
    scope=scope,
    unwritable=unwritable,
)
