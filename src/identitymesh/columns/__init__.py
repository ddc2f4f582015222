"""Encrypted columns of an application's database: the library for the application itself.

::

    from identitymesh import columns

    key = columns.load_key("/etc/patch-manager/keys/secret-encryption.key")
    TOTP = columns.EncryptedColumn("users.totp_secret", key)

    secret = TOTP.read(row)  # a Secret, or None where nothing is stored
    connection.execute(update(users).values(TOTP.write("JBSWY3DP")).where(users.c.id == 7))

This is all that applications need: :func:`load_key`; :class:`EncryptedColumn` and
:class:`EncryptedSetting` with their ``read`` and ``write``; the SQLAlchemy type
:class:`EncryptedBytes`; :func:`check` for their start. The commands of ``identitymesh columns``
are in :mod:`identitymesh.columns.service`. Errors are those of :mod:`identitymesh.errors`; loads
of keys are logged to ``identitymesh.columns``, values never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from identitymesh.columns.checking import check
    from identitymesh.columns.keys import ColumnKey, load_key
    from identitymesh.columns.library import EncryptedColumn, EncryptedSetting
    from identitymesh.columns.sqlalchemy_type import EncryptedBytes
    from identitymesh.redaction import Secret

__all__ = ["ColumnKey", "EncryptedBytes", "EncryptedColumn", "EncryptedSetting", "Secret", "check", "load_key"]

# Each is imported when it is asked for: an application that only reads needs neither YAML nor a driver of ours.
_PLACES = {
    "ColumnKey": "identitymesh.columns.keys",
    "EncryptedBytes": "identitymesh.columns.sqlalchemy_type",
    "EncryptedColumn": "identitymesh.columns.library",
    "EncryptedSetting": "identitymesh.columns.library",
    "Secret": "identitymesh.redaction",
    "check": "identitymesh.columns.checking",
    "load_key": "identitymesh.columns.keys",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
