"""What the settings say about vaults. It stands here because providers do not know the settings module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from identitymesh.secrets.references import parse


def _reference(text: str) -> str:
    return parse(text).text


Reference = Annotated[str, AfterValidator(_reference)]


class OpenBaoSettings(BaseModel):
    """The provider `openbao`: a KV engine (version 2) of an OpenBao or HashiCorp Vault server."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    address: str = Field("", description="`https://host:port` of the active server, or of its load balancer.")
    ca_file: Path | None = Field(None, description="The authority that its certificate must come from.")
    namespace: str | None = Field(None, description="The namespace that mount and login are in.")
    mount: str = Field("secret", description="Where the KV engine is mounted.")
    prefix: str = Field("identitymesh", description="The path below the mount; two installations need two.")
    auth: Literal["approle", "token"] = Field("approle", description="How to log in.")
    auth_mount: str = Field("approle", description="Where AppRole is mounted.")
    role_id: str = Field("", description="AppRole: the id of the role.")
    secret_id: Reference | None = Field(
        None, description="AppRole: a `secret://` reference of the keyring `application`."
    )
    secret_id_file: Path | None = Field(None, description="AppRole: instead, a file of mode 0400.")
    token: Reference | None = Field(None, description="Token: a `secret://` reference of the keyring `application`.")
    token_file: Path | None = Field(None, description="Token: instead, a file of mode 0400.")

    def below(self, folder: Path) -> OpenBaoSettings:
        """The same with absolute paths."""
        given = {name: getattr(self, name) for name in ("ca_file", "secret_id_file", "token_file")}
        return self.model_copy(update={name: folder / path for name, path in given.items() if path is not None})
