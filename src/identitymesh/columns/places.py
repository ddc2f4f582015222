"""Places: where an application keeps a secret in clear, and where its encrypted value stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from identitymesh.columns.formats import Cell, RowKey
from identitymesh.redaction import Secret


@dataclass(frozen=True, slots=True)
class ColumnPlace:
    """A column, and the two that hold its encrypted values. ``table`` is spelt as in the plan."""

    table: str
    column: str
    encrypted: str
    nonce: str

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def columns(self) -> tuple[str, str, str]:
        return self.column, self.encrypted, self.nonce

    @property
    def bound_to(self) -> tuple[str, str]:
        """Table and column as sealed values know them."""
        return self.table, self.column


@dataclass(frozen=True, slots=True)
class RowPlace:
    """A row of a key/value table, and the two that hold its encrypted value."""

    table: str
    key_column: str
    value_column: str
    row: str
    encrypted: str
    nonce: str

    @property
    def name(self) -> str:
        return f"{self.table}[{self.row}]"

    @property
    def rows(self) -> tuple[str, str, str]:
        return self.row, self.encrypted, self.nonce

    @property
    def bound_to(self) -> tuple[str, str]:
        """Table and column as sealed values know them."""
        return self.table, self.value_column


Place = ColumnPlace | RowPlace


class Row(Protocol):
    """One row as it was read. ``address`` means something to the database that it came from alone.

    ``after`` is where a scan goes on behind this row. ``plain`` is ``None`` where there is nothing to encrypt:
    NULL, empty, or no such column any more. ``unfit`` says why a value cannot be encrypted at all.
    ``cell`` is the encrypted value; half of one is one too: it does not open.
    """

    @property
    def address(self) -> Any: ...
    @property
    def after(self) -> tuple[str | int, ...]: ...
    @property
    def key(self) -> RowKey: ...
    @property
    def plain(self) -> Secret | None: ...
    @property
    def cell(self) -> Cell | None: ...
    @property
    def unfit(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(slots=True)
class ReadRow:
    """A row with its values beside each other."""

    address: Any
    after: tuple[str | int, ...]
    key: RowKey
    plain: Secret | None
    cell: Cell | None
    unfit: str = ""

    @property
    def size(self) -> int:
        """Bytes of its values, for the size of batches."""
        return (len(self.plain.reveal()) if self.plain else 0) + (len(self.cell.encrypted) if self.cell else 0)


def cell_of(encrypted: bytes | None, nonce: bytes | None) -> Cell | None:
    """What two columns hold together."""
    return None if encrypted is None and nonce is None else Cell(encrypted or b"", nonce)


class Change(NamedTuple):
    """What a row becomes: another cell (``None`` removes it), or another plain value."""

    row: Row
    cell: Cell | None = None
    plain: Secret | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a place. ``pending`` have a plain value and no encrypted one yet."""

    rows: int = 0
    plain: int = 0
    encrypted: int = 0
    sealed: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What the side table keeps of a place. ``detail`` is what a later command must know, as JSON."""

    place: str
    step: str
    form: str
    key_id: str
    key_check: str
    next_key_id: str = ""
    next_key_check: str = ""
    cursor: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
