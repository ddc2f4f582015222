"""The backup archive: rows of every table as text, with their hashes, for whichever database comes next.

A ZIP file, described in ``docs/formats/backup.md``: ``tables/NAME.jsonl`` holds one JSON array for each row,
``manifest.json`` (the last but one) says what must be there, ``manifest.mac`` that the holder of the keyring made it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Boolean, Column, Integer, LargeBinary, Table, Text
from sqlalchemy.types import TypeEngine

from identitymesh.errors import BackupRefused
from identitymesh.secrets.keyring import Document
from identitymesh.storage.tables.base import Moment

FORMAT: Final = "identitymesh-backup/1"
MANIFEST: Final = "manifest.json"
MAC: Final = "manifest.mac"
LONGEST_LINE: Final = 64 * 1024 * 1024
LONGEST_MANIFEST: Final = 1024 * 1024
_INFO: Final = b"identitymesh/backup/1"
# What opens the keyring, and what is true of the living processes alone.
LEFT_OUT: Final = frozenset({"slot_guard", "lease", "service", "alembic_version"})
TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    "text": Text(),
    "integer": Integer(),
    "boolean": Boolean(),
    "bytes": LargeBinary(),
    "moment": Moment(),
}


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table: its columns with their types, how many rows, and the SHA-256 of its file."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself. ``digest`` is the SHA-256 of the manifest, so of everything."""

    schema: str
    product: str
    installation: str
    created: str
    tables: tuple[TableEntry, ...]
    digest: str
    authenticated: bool

    def table(self, name: str) -> TableEntry:
        for one in self.tables:
            if one.name == name:
                return one
        raise refused(f"it has no table {name}")


def type_name(column: Column[Any]) -> str:
    """The engine-neutral type of a column."""
    kind = column.type
    if isinstance(kind, Moment):
        return "moment"
    for name, types in (("bytes", LargeBinary), ("boolean", Boolean), ("integer", Integer)):
        if isinstance(kind, types):
            return name
    return "text"


class Writer:
    """Writes an archive to an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3)
        self._tables: list[dict[str, Any]] = []

    def table(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        """One table with its rows, in the order of its columns."""
        types = [type_name(column) for column in table.columns]
        digest, count = hashlib.sha256(), 0
        with self._zip.open(f"tables/{table.name}.jsonl", "w", force_zip64=True) as entry:
            for row in rows:
                line = (json.dumps([_encode(value) for value in row], separators=(",", ":")) + "\n").encode()
                digest.update(line)
                entry.write(line)
                count += 1
        columns = [[column.name, kind] for column, kind in zip(table.columns, types, strict=True)]
        self._tables.append({"name": table.name, "columns": columns, "rows": count, "sha256": digest.hexdigest()})

    def finish(self, about: Mapping[str, str], document: Document | None) -> str:
        """The manifest, and its MAC where the keyring is open; answers the digest."""
        content = {"format": FORMAT, **about, "tables": self._tables}
        manifest = json.dumps(content, sort_keys=True, indent=1).encode()
        self._zip.writestr(MANIFEST, manifest)
        if document is not None:
            self._zip.writestr(MAC, mac_of(manifest, document))
        self._zip.close()
        return hashlib.sha256(manifest).hexdigest()


class Archive:
    """Reads an archive. ``close()`` it, or use it in a ``with``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._raw = self._small(MANIFEST)
            self._mac = self._small(MAC).decode() if MAC in self._zip.namelist() else ""
            self.manifest = _manifest(self._raw, authenticated=bool(self._mac))
        except OSError as error:
            raise refused(f"{path} cannot be read: {(error.strerror or '').lower()}") from None
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, RuntimeError, NotImplementedError):
            raise refused(f"{path} is no backup of this version, or is damaged") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _small(self, name: str) -> bytes:
        if self._zip.getinfo(name).file_size > LONGEST_MANIFEST:
            raise ValueError(name)
        return self._zip.read(name)

    def check_mac(self, document: Document) -> bool:
        """Whether the holder of this keyring made the archive as it is."""
        return hmac.compare_digest(mac_of(self._raw, document), self._mac)

    def verify(self) -> int:
        """Read everything, compare with the manifest, and answer the number of rows.

        Raises:
            BackupRefused: something is missing, too much, or not as it was written.
        """
        expected = {f"tables/{one.name}.jsonl" for one in self.manifest.tables} | {MANIFEST, MAC}
        names = self._zip.namelist()
        if set(names) - expected or len(set(names)) != len(names):
            raise refused("it has files that its manifest does not name")
        return sum(sum(1 for _row in self.rows(one.name)) for one in self.manifest.tables)

    def rows(self, name: str) -> Iterator[list[Any]]:
        """The rows of a table as Python values; complete and as written, or an error at the end."""
        table = self.manifest.table(name)
        types = [kind for _column, kind in table.columns]
        digest, count = hashlib.sha256(), 0
        try:
            with self._zip.open(f"tables/{name}.jsonl") as entry:
                while line := entry.readline(LONGEST_LINE):
                    digest.update(line)
                    count += 1
                    row = json.loads(line)
                    yield [_decode(value, kind) for value, kind in zip(row, types, strict=True)]
        except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, OSError, EOFError):
            raise refused(f"the rows of {name} are damaged") from None
        if (count, digest.hexdigest()) != (table.rows, table.sha256):
            raise refused(f"the rows of {name} are not as they were written")


def mac_of(manifest: bytes, document: Document) -> str:
    """HMAC-SHA-256 under a key that HKDF-SHA-256 derives from the keyset secret; hexadecimal."""
    key = HKDF(SHA256(), 32, document.keyset_id, _INFO).derive(document.keyset_secret.reveal())
    return hmac.new(key, manifest, hashlib.sha256).hexdigest()


def _manifest(raw: bytes, *, authenticated: bool) -> Manifest:
    fields = json.loads(raw)
    if fields["format"] != FORMAT:
        raise ValueError("format")
    tables = tuple(
        TableEntry(
            str(one["name"]),
            tuple((str(name), _known_type(kind)) for name, kind in one["columns"]),
            int(one["rows"]),
            str(one["sha256"]),
        )
        for one in fields["tables"]
    )
    about = {name: str(fields[name]) for name in ("schema", "product", "installation", "created")}
    return Manifest(**about, tables=tables, digest=hashlib.sha256(raw).hexdigest(), authenticated=authenticated)


def _known_type(name: str) -> str:
    if name not in TYPES:
        raise ValueError(name)
    return name


def _encode(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def _decode(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "bytes":
        return base64.b64decode(value, validate=True)
    if kind == "moment":
        return datetime.fromisoformat(value)
    expected = {"text": str, "integer": int, "boolean": bool}[kind]
    if type(value) is not expected:
        raise TypeError(kind)
    return value


def refused(reason: str) -> BackupRefused:
    return BackupRefused(f"the backup is refused: {reason}", hint="Nothing was changed. Use another backup.")
