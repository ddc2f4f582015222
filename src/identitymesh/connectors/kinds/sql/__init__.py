"""People from a table or a query of a database: SQLite and PostgreSQL, as a source.

The connector only ever reads. SQLite files are opened read-only, so that a misspelt
path is an error and not a new, empty file; PostgreSQL reads in read-only transactions.
A complete read is one snapshot of the database with its own count of rows, which is
the proof that nobody is missing. A delta read gives the rows whose `watermark` column
is at or after the last value seen; rows without a watermark come with every delta read.

```yaml
connectors:
  hr:
    type: sql
    url: postgresql+psycopg://hr_reader@db.example.org/hr
    password: secret://hr/reader
    objects:
      user: {query: select * from employees, key: employee_id, watermark: updated_at}
```

Columns become attributes under the names that the query gives them. How their values
are translated stands in [documents](../formats/documents.md).

Give the connector a login of its own that may select from these tables and do nothing
else. On PostgreSQL: `GRANT SELECT ON employees TO hr_reader`.

**TLS.** A PostgreSQL server on another host must prove who it is (`verify-full`), with a
certificate of `ca_file`, or of the system's authorities without it. A server on this
host (loopback or a socket folder, `?host=/var/run/postgresql`) needs none.
"""

from __future__ import annotations

from identitymesh.connectors.contract import Connector, CredentialSource, Kind
from identitymesh.connectors.kinds.sql.settings import SqlSettings, endpoints, scope


def _open(settings: SqlSettings, credentials: CredentialSource) -> Connector:
    from identitymesh.connectors.kinds.sql.source import SqlSource

    return SqlSource(settings, credentials)


KIND = Kind(
    name="sql",
    summary="Tables and queries of SQLite and PostgreSQL",
    settings=SqlSettings,
    open=_open,
    endpoints=endpoints,
    scope=scope,
)
