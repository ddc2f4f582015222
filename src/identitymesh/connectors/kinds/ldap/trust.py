"""Why a server is not trusted, in words.

libldap says "connect error" for an expired certificate, a wrong name, an unknown authority and an old protocol alike.
After such an error the same handshake is made once more, with nothing sent in it, to be able to say which it was.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

from identitymesh.connectors.kinds.ldap.settings import LdapSettings
from identitymesh.errors import ConnectorMisconfigured

# RFC 4511 section 4.14: message 1, an extended request with the name of StartTLS.
_STARTTLS: Final = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
_ANSWER: Final = 512  # bytes; an answer to it has about fifteen


def authorities(settings: LdapSettings) -> str:
    """The file of the certificates that are trusted.

    Raises:
        ConnectorMisconfigured: there is none, or it has no certificate.
    """
    file = settings.ca_file or ssl.get_default_verify_paths().cafile
    if file is None:
        raise ConnectorMisconfigured(
            "this system has no file of certificate authorities", hint="Set ca_file to a PEM file."
        )
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConnectorMisconfigured(
            f"the certificates of {file} cannot be read: {type(error).__name__}", hint="Set ca_file to a PEM file."
        ) from None
    return file


def diagnose(settings: LdapSettings) -> tuple[str, bool]:
    """Why no connection comes about, and whether it is a matter of trust. Sends no credential."""
    server = settings.server
    try:
        with socket.create_connection((server.host, server.port), timeout=settings.timeout) as plain:
            return _shake_hands(plain, settings)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message, True
    except ssl.SSLError as error:
        reason = (error.reason or type(error).__name__).replace("_", " ").lower()
        return f"no TLS 1.2 or later: {reason}", True
    except TimeoutError:
        return "it did not answer in time", False
    except OSError as error:
        return error.strerror or type(error).__name__, False


def _shake_hands(plain: socket.socket, settings: LdapSettings) -> tuple[str, bool]:
    if not settings.encrypted:
        return "the server hangs up", False
    if settings.starttls:
        plain.sendall(_STARTTLS)
        if b"\x0a\x01\x00" not in plain.recv(_ANSWER):
            return "the server does not offer StartTLS", True
    context = ssl.create_default_context(cafile=authorities(settings))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(plain, server_hostname=settings.server.host):
        return "the TLS handshake failed", True
