"""Places: where an application keeps a secret in clear, and where its encrypted value stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(slots=True)
class Row:
    """One row as it was read. ``address`` means something to the database that it came from alone.

    ``plain`` is ``None`` where there is nothing to encrypt: NULL, empty, or no such column any more.
    ``unfit`` says why a value cannot be encrypted at all.
    """

    address: Any
    after: tuple[str | int, ...]  # where a scan goes on behind this row
    key: RowKey
    plain: Secret | None
    encrypted: bytes | None
    nonce: bytes | None
    unfit: str = ""

    @property
    def cell(self) -> Cell | None:
        """The encrypted value; ``None`` if there is none. Half of one is one too: it does not open."""
        if self.encrypted is None and self.nonce is None:
            return None
        return Cell(self.encrypted or b"", self.nonce)


@dataclass(frozen=True, slots=True)
class Change:
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
