"""The settings of the kind ``scim``, and which hosts its credentials may go to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from identitymesh.connectors.settings import ConnectorSettings, ObjectSettings, SecretRef, Settings, Url, check_place

_PORTS: Final = {"https": 443, "http": 80}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the address begins with https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the address has no user, no ? and no #")
    check_place(parts.hostname, parts.port)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("http:// would send the credential in clear over the network; use https://")
    return url.rstrip("/")


WebAddress = Annotated[Url, AfterValidator(_web_address)]


def endpoint(url: str) -> str:
    """``host:port`` of an address, in lower case."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


class OAuth(Settings):
    """The client credentials grant. The client authenticates with HTTP Basic (RFC 6749 section 2.3.1)."""

    token_url: WebAddress = Field(description="Where access tokens are given out.")
    client_id: str = Field(min_length=1, description="Name of this client there.")
    client_secret: SecretRef = Field(description="Secret of this client.")
    scope: str | None = Field(None, description="What the access token shall allow, if the service asks for it.")


class ScimObject(ObjectSettings):
    resource: str = Field("User", min_length=1, description="Name of the resource type, as the service calls it.")
    endpoint: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9._~/-]+$",
        description="Path of the resources below the address, such as `/Users`; asked from the service without it.",
    )
    filter: str | None = Field(None, min_length=1, description="SCIM filter that a complete read is limited to.")


class ScimSettings(ConnectorSettings):
    type: Literal["scim"]
    url: WebAddress = Field(description="Base address of the SCIM service.")
    token: SecretRef | None = Field(None, description="Bearer token.")
    oauth: OAuth | None = Field(None, description="Client credentials to fetch access tokens with, instead of `token`.")
    ca_file: str | None = Field(None, description="Certificates (PEM) that the server's certificate must come from.")
    update: Literal["auto", "patch", "replace"] = Field(
        "auto", description="`patch`, `replace` (PUT), or `auto`: PATCH where the service says that it can."
    )
    page_size: int = Field(200, ge=2, le=5000, description="Resources asked for at once in a complete read.")
    objects: dict[str, ScimObject] = Field(min_length=1, description="The resource type of each class of objects.")

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if (self.token is None) == (self.oauth is None):
            raise ValueError("give either token or oauth")
        return self


def endpoints(settings: ScimSettings) -> Sequence[str]:
    """``host:port`` of the service and, with ``oauth``, of the token URL."""
    addresses = [settings.url] if settings.oauth is None else [settings.url, settings.oauth.token_url]
    return tuple(dict.fromkeys(endpoint(address) for address in addresses))


def scope(settings: ScimSettings, object_class: str) -> str:
    """What decides which resources a complete read gives: address, resource type and filter."""
    selected = settings.objects[object_class]
    return f"{settings.url}\nresource {selected.endpoint or selected.resource}\nfilter {selected.filter or ''}"
