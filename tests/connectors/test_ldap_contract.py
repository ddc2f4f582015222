"""The contract of connectors, kept by ``ldap`` against a real slapd: over LDAPS, over StartTLS and in pages."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from identitymesh.connectors.facade import Facade
from identitymesh.model.attributes import Attributes
from tests.connectors.contract import (
    ChangesContract,
    Names,
    SeveralValuesWritableContract,
    World,
    WritableContract,
)
from tests.connectors.doubles import Credentials, facade
from tests.servers.slapd import Branch, encoded, person


class LdapWorld:
    def __init__(self, branch: Branch, options: dict[str, Any]) -> None:
        self.branch = branch
        self.options = options
        self.names = Names(
            unique="employeeNumber",
            text="meshNote",
            many="meshTag",
            flag="meshFlag",
            binary="meshBlob",
            empty=False,  # RFC 4517 section 3.3.6: a directory string has at least one character
            beside=self._beside,
        )
        self._open: list[Facade] = []

    def _beside(self, attributes: Attributes) -> Attributes:
        number = uuid.uuid5(uuid.NAMESPACE_OID, str(attributes["employeeNumber"])).hex
        dn = f"uid={number},{self.branch.people}"
        return {"dn": dn, "objectClass": ["inetOrgPerson", "meshPerson"], "uid": number, "cn": "x", "sn": "y"}

    def add(self, people: Sequence[Attributes]) -> list[str]:
        keys: list[str] = []
        with self.branch.server.client() as client:
            for one in people:
                values: dict[str, Any] = {name: _ldap(value) for name, value in one.items()}
                number = uuid.uuid4().hex
                dn = f"uid={number},{self.branch.people}"
                client.add_s(dn, [(name, encoded(value)) for name, value in person(number, **values).items()])
                ((_, raw),) = client.search_s(dn, 0, attrlist=["entryUUID"])
                keys.append(raw["entryUUID"][0].decode())
        return keys

    def facade(self) -> Facade:
        opened = ldap_facade(self.branch, **self.options)
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()


def _ldap(value: Any) -> Any:
    return {True: "TRUE", False: "FALSE"}[value] if isinstance(value, bool) else value


def ldap_facade(
    branch: Branch, *, password: str | None = None, user: dict[str, Any] | None = None, **settings: Any
) -> Facade:
    """A facade of a connector for the people of this branch; ``user`` are further settings of the object class."""
    server = branch.server
    return facade(
        {
            "type": "ldap",
            "url": server.tls_url,
            "bind_dn": branch.bind_dn,
            "bind_password": "secret://ldap/bind",
            "ca_file": str(server.authority.file),
            "timeout": 10,
            **settings,
            "objects": {
                "user": {"base": branch.people, "filter": "(objectClass=inetOrgPerson)", "overlap": 0, **(user or {})}
            },
        },
        Credentials(bind_password=branch.password if password is None else password),
    )


class TestOverLdaps(WritableContract, SeveralValuesWritableContract):
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {}

    @pytest.fixture
    def world(self, branch: Branch, options: dict[str, Any]) -> Iterator[World]:
        made = LdapWorld(branch, options)
        yield made
        made.close()


class TestOverStartTls(TestOverLdaps):
    @pytest.fixture
    def options(self, branch: Branch) -> dict[str, Any]:
        return {"url": branch.server.url, "starttls": True}


class TestInPages(TestOverLdaps):
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"page_size": 10}


class TestChangesByCsn(ChangesContract):
    @pytest.fixture
    def world(self, branch: Branch) -> Iterator[World]:
        made = LdapWorld(branch, {"user": {"watermark": "entryCSN"}})
        yield made
        made.close()
