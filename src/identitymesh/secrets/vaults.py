"""What the settings say about vaults. It stands here because providers do not know the settings module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from identitymesh.fields import PATH, TEXT, Part, one_of, setting, text_that
from identitymesh.secrets.references import parse

REFERENCE = text_that(lambda text: parse(text).text)


@dataclass(frozen=True)
class OpenBaoSettings(Part):
    """The provider `openbao`: a KV engine (version 2) of an OpenBao or HashiCorp Vault server."""

    address: str = setting("", TEXT, "`https://host:port` of the active server, or of its load balancer.")
    ca_file: Path | None = setting(None, PATH, "The authority that its certificate must come from.")
    namespace: str | None = setting(None, TEXT, "The namespace that mount and login are in.")
    mount: str = setting("secret", TEXT, "Where the KV engine is mounted.")
    prefix: str = setting("identitymesh", TEXT, "The path below the mount; two installations need two.")
    auth: str = setting("approle", one_of("approle", "token"), "How to log in.")
    auth_mount: str = setting("approle", TEXT, "Where AppRole is mounted.")
    role_id: str = setting("", TEXT, "AppRole: the id of the role.")
    secret_id: str | None = setting(None, REFERENCE, "AppRole: a `secret://` reference of the keyring `application`.")
    secret_id_file: Path | None = setting(None, PATH, "AppRole: instead, a file of mode 0400.")
    token: str | None = setting(None, REFERENCE, "Token: a `secret://` reference of the keyring `application`.")
    token_file: Path | None = setting(None, PATH, "Token: instead, a file of mode 0400.")

    def below(self, folder: Path) -> OpenBaoSettings:
        """The same with absolute paths."""
        given: dict[str, Path | None] = {
            name: getattr(self, name) for name in ("ca_file", "secret_id_file", "token_file")
        }
        changed: dict[str, Any] = {name: folder / path for name, path in given.items() if path is not None}
        return replace(self, **changed)
