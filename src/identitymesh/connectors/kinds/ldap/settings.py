"""The settings of the kind ``ldap``, and which host its credential may go to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from identitymesh.connectors.settings import ConnectorSettings, ObjectSettings, SecretRef, Url, check_place

_PORTS: Final = {"ldaps": 636, "ldap": 389}
# RFC 4512 section 1.4: a name, or an object identifier; RFC 4511 section 4.1.4 allows options after it.
_ATTRIBUTE: Final = r"^([A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+)(;[A-Za-z0-9-]+)*$"
_RDN: Final = re.compile(r"\s*[A-Za-z0-9.-]+\s*=")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the directory is. ``secure``: the connection begins with TLS."""

    host: str
    port: int
    secure: bool

    @property
    def place(self) -> str:
        """``host:port`` in lower case, an IPv6 address in brackets."""
        host = self.host.lower()
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def uri(self) -> str:
        return f"{'ldaps' if self.secure else 'ldap'}://{self.place}"


def parse_url(url: str) -> Server:
    """Where the directory is.

    Raises:
        ValueError: not the address of one directory; nothing of it is repeated.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the address begins with ldaps:// or ldap:// and a host")
    if parts.username is not None or parts.query or parts.fragment or parts.path.strip("/"):
        raise ValueError("the address has a host and perhaps a port, nothing else; base and filter stand at objects")
    check_place(parts.hostname, parts.port)
    return Server(parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme == "ldaps")


def _checked_url(url: str) -> str:
    parse_url(url)
    return url


def _checked_dn(dn: str) -> str:
    if "\0" in dn or (dn and not _RDN.match(dn)):
        raise ValueError("not a distinguished name, such as ou=people,dc=example,dc=org")
    return dn


def _checked_filter(text: str) -> str:
    if "\0" in text or not (text.startswith("(") and text.endswith(")")):
        raise ValueError("a filter stands in parentheses, such as (objectClass=inetOrgPerson)")
    return text


DistinguishedName = Annotated[str, AfterValidator(_checked_dn)]


class LdapObject(ObjectSettings):
    """The entries below a base that a filter matches."""

    base: DistinguishedName = Field(description="Distinguished name below which the entries are.")
    filter: Annotated[str, AfterValidator(_checked_filter)] = Field(
        "(objectClass=*)", description="Filter (RFC 4515) that tells entries of this class from others."
    )
    scope: Literal["subtree", "one"] = Field(
        "subtree", description="`subtree`: everything below the base; `one`: what is directly below it."
    )
    key: str = Field(
        "entryUUID",
        pattern=_ATTRIBUTE,
        description="Attribute that identifies an entry for ever; `entryUUID` outlives a rename, `dn` does not.",
    )
    watermark: Literal["entryCSN", "modifyTimestamp"] | None = Field(
        None, description="Attribute that grows with every change; delta runs read entries at or after its last value."
    )
    overlap: float = Field(
        2.0,
        ge=0,
        le=86400,
        description=(
            "Seconds by which a delta run reads back before the last value. "
            "Give more where several servers accept changes and replicate them late."
        ),
    )


class LdapSettings(ConnectorSettings):
    type: Literal["ldap"]
    url: Annotated[Url, AfterValidator(_checked_url)] = Field(
        description="`ldaps://host` or `ldap://host`, with `:port` where it is not 636 or 389."
    )
    bind_dn: DistinguishedName | None = Field(None, min_length=1, description="Entry to log in as; anonymous without.")
    bind_password: SecretRef | None = Field(None, description="Password of that entry.")
    starttls: bool = Field(False, description="Begin TLS on the `ldap://` connection before anything else is sent.")
    ca_file: str | None = Field(None, description="Certificates (PEM) that the server's certificate must come from.")
    allow_cleartext: bool = Field(
        False, description="Send password and people without TLS, although everybody on the way can read them."
    )
    page_size: int | None = Field(
        None, ge=10, le=100_000, description="Entries asked for at once (RFC 2696); all in one answer without it."
    )
    adds_at_once: int = Field(
        32,
        ge=1,
        le=100,
        description=(
            "New entries that may be under way at once on the connection. Give 1 where the directory compares entries "
            "as they are added and not one after the other, as OpenLDAP's `unique` does without `serialize`."
        ),
    )
    objects: dict[str, LdapObject] = Field(min_length=1, description="Where the entries of each class are.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        server = self.server
        if (self.bind_dn is None) != (self.bind_password is None):
            raise ValueError("bind_dn and bind_password are given together, or neither")
        if self.starttls and server.secure:
            raise ValueError("starttls is for ldap:// addresses; ldaps:// begins with TLS already")
        if self.bind_password is not None and not self.encrypted and not self.allow_cleartext:
            raise ValueError(
                "the bind password would go over the network in clear: use ldaps://, or starttls: true "
                "(allow_cleartext: true if nobody can listen there)"
            )
        return self

    @property
    def server(self) -> Server:
        return parse_url(self.url)

    @property
    def encrypted(self) -> bool:
        return self.starttls or self.server.secure


def endpoints(settings: LdapSettings) -> Sequence[str]:
    """``host:port`` of the server that gets the password."""
    return (settings.server.place,)


def scope(settings: LdapSettings, object_class: str) -> str:
    """What decides which entries a complete read gives: server, base, scope, filter and key."""
    selected = settings.objects[object_class]
    below = f"base {selected.base}\nscope {selected.scope}\nfilter {selected.filter}\nkey {selected.key}"
    return f"{settings.url}\n{below}"
