"""A new password for the login itself, set in the directory by the password modify operation (RFC 3062).

The server gets it in clear inside the encrypted connection, because it alone knows how it keeps passwords. The old one
is sent with it: servers that are set so ask for both.
"""

from __future__ import annotations

import ldap

from identitymesh.connectors.contract import CredentialSource
from identitymesh.connectors.kinds.ldap.failures import translate_password
from identitymesh.connectors.kinds.ldap.session import connect, hang_up
from identitymesh.connectors.kinds.ldap.settings import LdapSettings
from identitymesh.errors import ConnectorError, ConnectorMisconfigured
from identitymesh.redaction import Secret


def change_password(settings: LdapSettings, credentials: CredentialSource, name: str, new: Secret) -> None:
    """See :class:`identitymesh.connectors.contract.ChangePasswordOp`."""
    if settings.bind_dn is None or name != "bind_password":
        raise ConnectorMisconfigured("there is no login, so no password can be changed")
    old = credentials("bind_password")
    failure: ConnectorError
    connection = connect(settings, lambda _: old)
    try:
        connection.passwd_s(settings.bind_dn, old.reveal(), new.reveal())
    except ldap.LDAPError as error:
        failure = translate_password(error, (old, new))
    else:
        return
    finally:
        hang_up(connection)
    # Raised out here, without a cause: frames of the library's exception hold the passwords.
    raise failure
