"""Which server it is and how one logs in, from the settings; what is missing is named before anything is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from identitymesh.errors import ProviderMisconfigured
from identitymesh.redaction import Secret
from identitymesh.secrets.private_files import UnsafeFile, read_private
from identitymesh.secrets.providers import Setup
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.vaults import OpenBaoSettings

FILE_MODES: Final = (0o400, 0o600)
MAX_FILE_BYTES: Final = 4096
DELIVERED: Final = {"token": "openbao-token", "approle": "openbao-secret-id"}  # below $CREDENTIALS_DIRECTORY


@dataclass(frozen=True, slots=True)
class Place:
    """``credential`` answers the token, or the secret id of the role; it is asked for at each login."""

    address: str
    auth: str
    credential: Callable[[], Secret]
    mount: str
    prefix: str
    namespace: str | None
    ca_file: Path | None
    auth_mount: str
    role_id: str


def place_of(setup: Setup) -> Place:
    """Check the settings.

    Raises:
        ProviderMisconfigured: one is missing or contradicts another; the message names it.
    """
    given = setup.means.openbao
    if given is None or not given.address:
        raise _lacking("openbao.address is not set", 'Set it to the address of the server: "https://bao.example:8200".')
    parts = urlsplit(given.address)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise _lacking(
            "openbao.address is no address of a server with TLS", 'It looks like this: "https://bao.example:8200".'
        )
    if given.ca_file is not None and not given.ca_file.is_file():
        raise _lacking(f"openbao.ca_file: there is no file {given.ca_file}", "Correct it, or leave it out.")
    if given.auth == "approle" and not given.role_id:
        raise _lacking("openbao.role_id is not set", "AppRole needs it: bao read auth/approle/role/NAME/role-id")
    if not given.mount.strip("/"):
        raise _lacking("openbao.mount is empty", "Name the mount of a KV engine, version 2.")
    return Place(
        address=given.address.rstrip("/"),
        auth=given.auth,
        credential=_credential(given, setup),
        mount=given.mount.strip("/"),
        prefix=given.prefix.strip("/"),
        namespace=given.namespace,
        ca_file=given.ca_file,
        auth_mount=given.auth_mount.strip("/"),
        role_id=given.role_id,
    )


def _credential(given: OpenBaoSettings, setup: Setup) -> Callable[[], Secret]:
    """Where token or secret id come from: exactly one place, so that nobody wonders which one was used."""
    names = {"token": ("token", "token_file"), "approle": ("secret_id", "secret_id_file")}
    for auth, (value, file) in names.items():
        if auth != given.auth and (getattr(given, value) or getattr(given, file)):
            raise _lacking(f"openbao.{value} is set, but openbao.auth is {given.auth}", "Remove one of the two.")
    value, file = names[given.auth]
    stored: str | None = getattr(given, value)
    path: Path | None = getattr(given, file)
    delivered = setup.means.credentials
    if stored and path:
        raise _lacking(f"openbao.{value} and openbao.{file} are both set", "Remove one of the two.")
    if stored:
        ref = parse(stored)
        return lambda: _login(setup, ref, given)
    if path is None and delivered is not None and (delivered / DELIVERED[given.auth]).is_file():
        path = delivered / DELIVERED[given.auth]
    if path is None:
        raise _lacking(
            f"openbao.{value} is not set",
            f"Name a secret of the keyring application there, a file of mode 0400 in openbao.{file}, or let the "
            f"service manager deliver the credential {DELIVERED[given.auth]}.",
        )
    found = path
    return lambda: _read(f"openbao.{file}", found)


def _login(setup: Setup, ref: SecretReference, given: OpenBaoSettings) -> Secret:
    return setup.login(ref, f"login at openbao {given.address}")


def _read(setting: str, path: Path) -> Secret:
    try:
        content = read_private(path, modes=FILE_MODES, max_bytes=MAX_FILE_BYTES)
    except FileNotFoundError:
        raise _lacking(f"{setting}: there is no file {path}", "Make it, or correct the setting.") from None
    except UnsafeFile as reason:
        raise _lacking(
            f"{setting}: {path} may not be trusted: {reason}",
            f"Make it readable for its owner alone: chmod 0400 {path}",
        ) from None
    return Secret(content.reveal().strip())


def _lacking(message: str, hint: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(f"the provider openbao is not set up: {message}", hint=hint)
