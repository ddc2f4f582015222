from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from identitymesh.connectors.catalogue import kind, kind_names, kinds
from identitymesh.connectors.kinds.scim.settings import ScimSettings, endpoints, scope
from identitymesh.connectors.settings import secret_fields
from identitymesh.errors import ConnectorMisconfigured
from tests.connectors.doubles import Credentials

OAUTH = {"token_url": "https://login.example.org/token", "client_id": "mesh", "client_secret": "secret://a/b"}


def describe(**changes: Any) -> dict[str, Any]:
    base = {
        "type": "scim",
        "url": "https://CRM.example.org/scim/v2/",
        "token": "{{secret:crm/token}}",
        "objects": {"user": {"resource": "User"}},
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def check(**changes: Any) -> ScimSettings:
    return ScimSettings.model_validate(describe(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"token": None},
        {"oauth": OAUTH},
        {"token": "plain-text-token"},
        {"url": "http://crm.example.org/scim"},
        {"url": "http://127.0.0.1.example.org/scim"},
        {"url": "ftp://crm.example.org"},
        {"url": "https://user@crm.example.org"},
        {"url": "https://user:pass@crm.example.org"},
        {"url": "https://crm.example.org/?x=1"},
        {"url": "https://crm.example.org/#x"},
        {"url": "https://"},
        {"url": "https://crm.example.org:0/"},
        {"url": "https://crm.example.org:99999/"},
        {"url": "https://%65lsewhere.example.org/"},
        {"url": "https://crm.example.org%2eelsewhere.example.org/"},
        {"url": "https://crm\u3002example.org/"},
        {"url": "https://crm.example.org elsewhere/"},
        {"url": "https://crm.example.org\\elsewhere/"},
        {"url": "crm.example.org"},
        {"token": None, "oauth": {**OAUTH, "token_url": "http://login.example.org/token"}},
        {"token": None, "oauth": {**OAUTH, "client_secret": "plain-text-token"}},
        {"update": "sometimes"},
        {"page_size": 1},
        {"objects": {}},
        {"objects": {"user": {"endpoint": "Users"}}},
        {"verify": False},
    ],
)
def test_what_is_wrong_or_unsafe_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        check(**changes)
    assert "plain-text-token" not in str(refused.value)


def test_credentials_go_to_these_hosts_alone() -> None:
    assert endpoints(check()) == ("crm.example.org:443",)
    assert endpoints(check(url="http://localhost:8080/scim")) == ("localhost:8080",)
    assert endpoints(check(url="http://[::1]/scim")) == ("[::1]:80",)
    both = check(token=None, oauth=OAUTH)
    assert endpoints(both) == ("crm.example.org:443", "login.example.org:443")
    assert {name: str(reference) for name, reference in secret_fields(both).items()} == {
        "oauth.client_secret": "secret://a/b"
    }


def test_a_request_elsewhere_is_not_sent() -> None:
    from identitymesh.connectors.kinds.scim.session import Session

    session = Session(check(), Credentials(token="t0ken"))
    object.__setattr__(session._settings, "url", "https://elsewhere.example.org")
    with pytest.raises(ConnectorMisconfigured, match=r"may not be sent to elsewhere\.example\.org:443"):
        session.request("GET", "/Users")
    session.close()


def test_the_scope_changes_with_what_selects_the_resources() -> None:
    base = scope(check(), "user")
    others = [
        check(url="https://other.example.org"),
        check(objects={"user": {"resource": "Person"}}),
        check(objects={"user": {"endpoint": "/Other"}}),
        check(objects={"user": {"filter": "active eq true"}}),
    ]
    assert len({base, *(scope(other, "user") for other in others)}) == 5
    assert scope(check(page_size=7, timeout=3, update="replace"), "user") == base


def test_kinds_are_found_by_their_folder() -> None:
    assert {"sql", "scim"} <= set(kind_names())
    assert all(found.name == name for name, found in kinds().items())
    with pytest.raises(KeyError):
        kind("ghost")
    with pytest.raises(KeyError):
        kind("sql.source")


def test_a_reference_stays_one_after_a_round_trip() -> None:
    settings = check()
    assert ScimSettings.model_validate(settings.model_dump()) == settings
