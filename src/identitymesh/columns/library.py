"""For applications: read and write encrypted columns.

::

    from identitymesh import columns

    key = columns.load_key("/etc/patch-manager/keys/secret-encryption.key")
    TOTP = columns.EncryptedColumn("users.totp_secret", key)

    secret = TOTP.read(row)                                # a Secret, or None where there is none
    connection.execute(update(users).where(users.c.id == 7).values(TOTP.write("JBSW…", row=7)))

``row`` is anything with the columns by name: a SQLAlchemy row or mapping, a dict of any driver,
an object of a mapped class. A value that is absent is ``None``, or with :meth:`EncryptedColumn.require`
an error; it is never an empty string. Both formats are read; the one that was chosen is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from identitymesh.columns.formats import Cell, Cipher, Format, RowKey, show_row
from identitymesh.columns.keys import ColumnKey
from identitymesh.errors import ColumnBroken, ColumnValueMissing, ColumnValueRefused
from identitymesh.redaction import Secret


class EncryptedColumn:
    """One encrypted column of an application's table.

    Args:
        name: as in the plan: ``table.column``.
        key: from :func:`identitymesh.columns.load_key`.
        previous: the key before a rotation that has not ended: values under it are still read.
        form: what is written, ``compatible`` or ``sealed``.
        primary_key: its columns in their order; sealed values are bound to the row.
        encrypted, nonce: where the plan names other columns than ``NAME_encrypted`` and ``NAME_nonce``.
    """

    def __init__(
        self,
        name: str,
        key: ColumnKey,
        *,
        previous: ColumnKey | None = None,
        form: Format | str = Format.COMPATIBLE,
        primary_key: Sequence[str] = ("id",),
        encrypted: str | None = None,
        nonce: str | None = None,
    ) -> None:
        table, _, column = name.rpartition(".")
        if not table or not column:
            raise ValueError(f"an encrypted column is named as in the plan, table.column, not {name!r}")
        self.name = name
        self.plain = column
        self.encrypted = encrypted or f"{column}_encrypted"
        self.nonce = nonce or f"{column}_nonce"
        self._primary_key = tuple(primary_key)
        keys = [key] if previous is None else [key, previous]
        self._ciphers = [Cipher(one, table, column, Format(form)) for one in keys]

    def read(self, row: object) -> Secret | None:
        """The value of a row; ``None`` where nothing is stored.

        While plain values are still there (before ``--drop-plaintext``), a row that has no
        encrypted value yet is read from its plain column, if ``row`` has that.

        Raises:
            ColumnBroken: the stored value was changed, cut, swapped or moved, or is under another key.
        """
        encrypted, nonce = _bytes(_value(row, self.encrypted)), _bytes(_value(row, self.nonce))
        if encrypted is None and nonce is None:
            plain = _value(row, self.plain, None)
            return Secret(plain) if plain else None
        cell = Cell(encrypted or b"", nonce)
        place = self._key_of(row) if nonce is None else ("?",)
        return self._open(place, cell)

    def _open(self, place: RowKey, cell: Cell) -> Secret:
        *first, last = self._ciphers
        for cipher in first:
            try:
                return cipher.open(place, cell)
            except ColumnBroken:
                continue
        return last.open(place, cell)

    def require(self, row: object) -> Secret:
        """The value of a row that must have one.

        Raises:
            ColumnValueMissing: nothing is stored.
            ColumnBroken: it does not open.
        """
        value = self.read(row)
        if value is None:
            raise ColumnValueMissing(
                f"{self.name} of row {show_row(self._key_of(row))} is not set",
                hint="Set it in the application; after a migration see: identitymesh columns status",
            )
        return value

    def write(self, value: Secret | str | bytes | None, *, row: object = None) -> dict[str, bytes | None]:
        """What to store: the two columns by name. ``None`` removes the value.

        Args:
            value: at least one byte; text is stored as UTF-8.
            row: the primary key (one value, or a sequence of them); only ``sealed`` needs it.

        Raises:
            ColumnValueRefused: an empty value, one too large, or (compatible) one that is not UTF-8.
        """
        if value is None:
            return {self.encrypted: None, self.nonce: None}
        secret = value if isinstance(value, Secret) else Secret(value)
        encrypted, nonce = self._ciphers[0].encrypt(self._written_for(row), secret)
        return {self.encrypted: encrypted, self.nonce: nonce}

    def _written_for(self, row: object) -> RowKey:
        if row is None and self._ciphers[0].writes(Cell(b"", None)):
            raise ColumnValueRefused(
                f"{self.name}: a sealed value is bound to its row, and no row was named",
                hint="Give its key: write(value, row=user.id); a row that the database numbers is inserted first.",
            )
        if row is None:
            return ("?",)
        return row_key(row if isinstance(row, tuple | list) else (row,))

    def _key_of(self, row: object) -> RowKey:
        return row_key([_value(row, name) for name in self._primary_key])


def row_key(values: Sequence[object]) -> RowKey:
    """A primary key as sealed values know it: integers, text and UUIDs, as the database writes them as text."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | str | UUID):
            raise ColumnValueRefused(
                f"a sealed value is bound to integers, text and UUIDs, not to {type(value).__name__}",
                hint="Name the columns of the primary key in primary_key=, and hand in their values.",
            )
    return tuple(map(str, values))


_NOTHING: Any = object()


def _value(row: object, name: str, default: Any = _NOTHING) -> Any:
    """One column of a row, whatever kind of row it is."""
    mapping = row if isinstance(row, Mapping) else getattr(row, "_mapping", None)
    if mapping is not None:
        if name in mapping:
            return mapping[name]
        if default is not _NOTHING:
            return default
        raise LookupError(f"the row has no column {name}; select it too")
    if default is _NOTHING:
        try:
            return getattr(row, name)
        except AttributeError:
            raise LookupError(f"the row has no column {name}; select it too") from None
    return getattr(row, name, default)


def _bytes(value: Any) -> bytes | None:
    """Drivers give bytes, memoryviews, and from key/value tables hex."""
    if value is None:
        return None
    return bytes.fromhex(value) if isinstance(value, str) else bytes(value)


class EncryptedSetting:
    """One encrypted row of an application's key/value table; its values are text.

    Args:
        table: as in the plan.
        row: the key of the plain row.
        key, previous, form: as for :class:`EncryptedColumn`.
        value_column: as in the plan; sealed values are bound to it.
    """

    def __init__(
        self,
        table: str,
        row: str,
        key: ColumnKey,
        *,
        previous: ColumnKey | None = None,
        form: Format | str = Format.COMPATIBLE,
        value_column: str = "value",
    ) -> None:
        self.row = row
        self._column = EncryptedColumn(f"{table}.{value_column}", key, previous=previous, form=form)
        self._names = {self._column.plain: row} | {
            own: f"{row}_{kind}" for own, kind in ((self._column.encrypted, "encrypted"), (self._column.nonce, "nonce"))
        }

    def read(self, settings: Mapping[str, str | None]) -> Secret | None:
        """The value among the settings of the application, by key; ``None`` where none is set."""
        row = {own: settings.get(name) for own, name in self._names.items()}
        return self._column.read({**row, "id": self.row})

    def write(self, value: Secret | str | bytes | None) -> dict[str, str | None]:
        """The rows to store, by key; ``None`` is a row to delete."""
        cells = self._column.write(value, row=self.row)
        return {self._names[own]: None if cell is None else cell.hex() for own, cell in cells.items()}
