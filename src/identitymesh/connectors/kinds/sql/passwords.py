"""A new password for the login itself, set at the PostgreSQL server.

What is sent is a SCRAM-SHA-256 verifier (RFC 5803) that libpq computes here: the plaintext is in no statement, so in no
server log, no ``pg_stat_activity`` and no error. The role changes itself; it needs no right beside its login.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from identitymesh.connectors.contract import CredentialSource
from identitymesh.connectors.kinds.sql.failures import translate_error
from identitymesh.connectors.kinds.sql.opening import connect_postgres
from identitymesh.connectors.kinds.sql.settings import PostgresAddress, SqlSettings
from identitymesh.errors import ConnectorError, ConnectorMisconfigured
from identitymesh.redaction import Secret

_WHAT = "changing the password of its login"


def password_changer(settings: SqlSettings, credentials: CredentialSource) -> Callable[[str, Secret], None]:
    """See :class:`identitymesh.connectors.contract.ChangePasswordOp`; what logs in stays inside the function."""

    def change(name: str, new: Secret) -> None:
        _change(settings, credentials, name, new)

    return change


def _change(settings: SqlSettings, credentials: CredentialSource, name: str, new: Secret) -> None:
    address = settings.address
    if not isinstance(address, PostgresAddress) or name != "password":
        raise ConnectorMisconfigured("an SQLite file has no login, so no password can be changed there")
    failure: ConnectorError
    connection = connect_postgres(address, settings, credentials)
    try:
        with connection:
            role = connection.info.user
            verifier = _verifier(connection, role, new)
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
            connection.execute(statement)
    except psycopg.Error as error:
        failure = translate_error(error, _WHAT)
    except ValueError:
        failure = ConnectorMisconfigured("the new password is not text", hint="Rotate to another value.")
    else:
        return
    finally:
        connection.close()
    raise failure


def _verifier(connection: psycopg.Connection[object], role: str, new: Secret) -> str:
    """``SCRAM-SHA-256$4096:salt$StoredKey:ServerKey``."""
    user = role.encode()
    return connection.pgconn.encrypt_password(new.reveal_text().encode(), user, b"scram-sha-256").decode()
