"""People from a file of comma separated values (RFC 4180): as a source.

```yaml
connectors:
  contractors:
    type: csv
    objects:
      user: {path: contractors.csv, key: id, expect: {min_rows: 10}}
```

The first row names the columns (or `columns` does, for a file without such a row), and
columns become attributes of text. An empty cell is an attribute that is absent. A path
that does not begin with `/` starts in the folder of the installation.

**Is it whole?** A file says nothing about what is missing in it, so say how a whole one
is recognised. Nobody is taken to have left because of a file that is not whole; what it
adds and changes is taken over, and no plan is released before a whole one was read.

| `expect` | A whole file |
|---|---|
| `min_rows: 500` | has at least so many rows of people |
| `trailer: END` | ends with a row `END`; a whole number in its next cell counts the rows before it |
| `sha256_file: people.csv.sha256` | has the SHA-256 that this file begins with, as `sha256sum` writes it |

Whatever is expected, a file is not whole if it was changed or replaced while it was
read, if a quote in it is never closed, or if its last row lacks the line break that
others have (`final_newline: false` where the program that writes it leaves that one out;
`trailer` and `sha256_file` prove more and do not need it). Without `expect` nothing
proves a file: who is missing in it is noted and held until somebody approves that.

Whoever writes the file should write it under another name and rename it when it is done.

**Rows that cannot be taken** are reported with their number, as a spreadsheet counts them
(the row of names is row 1), and with their key if it can be read; the others are not
affected: no key, a key that came before, more or fewer cells than columns, bytes that are
not in the file's encoding, text after a closing quote. As long as there is a row without
a readable key, nobody is taken to have left. In a row with too many or too few cells the
key is believed in the first column only, because elsewhere it may be another cell.

Columns that rules use must be there, so that a renamed one is an error and not a value
that everybody has lost.
"""

from __future__ import annotations

from identitymesh.connectors.contract import Connector, CredentialSource, Kind
from identitymesh.connectors.kinds.csv.settings import CsvSettings, endpoints, scope


def _open(settings: CsvSettings, credentials: CredentialSource) -> Connector:
    from identitymesh.connectors.kinds.csv.source import CsvSource

    del credentials  # a file has no login
    return CsvSource(settings)


KIND = Kind(
    name="csv",
    summary="Files of comma separated values",
    settings=CsvSettings,
    open=_open,
    endpoints=endpoints,
    scope=scope,
    unwritable=lambda *_: "a file is a source only",
)
