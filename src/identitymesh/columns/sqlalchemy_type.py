"""The SQLAlchemy type of columns that hold encrypted values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import LargeBinary
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from identitymesh.errors import ColumnValueRefused


class EncryptedBytes(TypeDecorator[bytes]):
    """``NAME_encrypted`` and ``NAME_nonce``: bytes that :meth:`EncryptedColumn.write` made, or NULL.

    Text is refused, so that a plain value is never stored there by mistake, and so are empty
    bytes: what is absent is NULL. BYTEA in PostgreSQL, BLOB in SQLite.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        if not isinstance(value, bytes) or not value:
            kind = type(value).__name__ if value else f"empty {type(value).__name__}"
            raise ColumnValueRefused(
                f"an encrypted column takes bytes that were encrypted, not {kind}",
                hint="Store what EncryptedColumn.write(value) answers; NULL where there is no value.",
            )
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - as above
        return None if value is None else bytes(value)
