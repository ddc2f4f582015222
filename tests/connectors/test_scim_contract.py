"""The contract of connectors, kept by ``scim`` against a real service, with PATCH and with PUT."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identitymesh.connectors.contract import Modification
from identitymesh.connectors.facade import Facade
from identitymesh.model.attributes import Attributes, same, values_of
from tests.connectors.contract import Names, SeveralValuesWritableContract, World, WritableContract
from tests.connectors.doubles import Credentials, facade
from tests.servers.scim import ScimServer

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


class ScimWorld:
    names = Names(
        unique="userName", text="nickName", many="roles.value", flag="active", binary="x509Certificates.value"
    )

    def __init__(self, server: ScimServer, update: str) -> None:
        self.server = server
        self.update = update
        self._open: list[Facade] = []

    def add(self, people: Sequence[Attributes]) -> list[str]:
        return [self._post(person) for person in people]

    def facade(self) -> Facade:
        opened = scim(self.server, update=self.update, page_size=7)
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()

    def _post(self, person: Attributes) -> str:
        body: dict[str, Any] = {"schemas": [USER]}
        for name, value in person.items():
            attribute, _, part = name.partition(".")
            encoded = [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in values_of(value)]
            body[attribute] = [{part: one} for one in encoded] if part else encoded[0]
        request = urllib.request.Request(  # noqa: S310  a server of this test
            f"{self.server.base_url}/Users",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.server.token}", "Content-Type": "application/scim+json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  as above
            key = json.load(answer)["id"]
        assert isinstance(key, str)
        return key


def scim(server: ScimServer, **settings: Any) -> Facade:
    return facade(
        {
            "type": "scim",
            "url": server.base_url,
            "token": "secret://crm/token",
            "objects": {"user": {"resource": "User"}},
            **settings,
        },
        Credentials(token=server.token),
    )


@pytest.mark.parametrize("update", ["auto", "replace"])
class TestScim(WritableContract, SeveralValuesWritableContract):
    @pytest.fixture
    def world(self, scim_server: ScimServer, update: str) -> Iterator[World]:
        made = ScimWorld(scim_server, update)
        yield made
        made.close()


# What a JSON string and a database can hold: any text without NUL and lone surrogates.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "externalId": TEXT,
        "nickName": TEXT,
        "active": st.booleans(),
        "name.givenName": TEXT,
        "name.familyName": TEXT,
        'emails[type eq "work"].value': st.emails(domains=st.just("example.org")),
        'emails[type eq "home"].value': st.emails(domains=st.just("example.org")),
        'addresses[type eq "work"].locality': TEXT,
        'addresses[type eq "work"].country': st.sampled_from(["CH", "DE"]),
        "roles.value": st.lists(TEXT.filter(bool), min_size=2, max_size=5, unique=True),
        "x509Certificates.value": st.binary(min_size=1, max_size=40),
        f"{ENTERPRISE}:department": TEXT,
        f"{ENTERPRISE}:manager.value": TEXT.filter(bool),
    },
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=VALUES, second=VALUES, update=st.sampled_from(["patch", "replace"]))
def test_what_is_written_is_read_back(
    module_scim_server: ScimServer, first: Attributes, second: Attributes, update: str
) -> None:
    with scim(module_scim_server, update=update) as opened:
        number = len(NUMBERS)
        NUMBERS.append(number)
        attributes: Attributes = {"userName": f"{update}{number}", **first}
        created = opened.create("user", attributes)
        assert_same(created.attributes, attributes)
        got = opened.get("user", created.key, list(attributes))
        assert got is not None
        assert_same(got.attributes, attributes)
        change = Modification(second, [name for name in first if name not in second])
        outcome = opened.write("user", created.key, change, expected=first, desired=second)
        assert outcome.settled
        changed = opened.get("user", created.key, ["userName", *first, *second])
        assert changed is not None
        assert_same(changed.attributes, {"userName": attributes["userName"], **second})


NUMBERS: list[int] = []


def assert_same(left: Attributes, right: Attributes) -> None:
    assert set(left) == set(right)
    assert [name for name in left if not same(left[name], right[name])] == []
