"""Rotation of the login of a directory: the tests of a database's login, at a real slapd, and what is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.custody import test_rotation as shared
from tests.custody.conftest import Home
from tests.custody.test_rotation import NEW, OLD, REF, current, ready, secret
from tests.servers.proxy import Proxy
from tests.servers.slapd import SUFFIX, Branch, SlapdServer


@dataclass
class Directory:
    """A branch of a directory with a login of its own. It has the methods of the database of the shared tests."""

    branch: Branch
    port: int

    @property
    def connector(self) -> str:
        return f"""\
  hr:
    type: ldap
    url: ldaps://127.0.0.1:{self.port}
    bind_dn: {self.branch.bind_dn}
    bind_password: {REF}
    ca_file: {self.branch.server.authority.file}
    timeout: 10
    objects: {{user: {{base: "{self.branch.people}"}}}}
"""

    def accepts(self, password: str) -> bool:
        return self.branch.server.accepts(self.branch.bind_dn, password)

    def set(self, password: str) -> None:
        self.branch.server.modify(self.branch.bind_dn, "userPassword", password)


@pytest.fixture
def hr(branch: Branch) -> Directory:
    made = Directory(branch, branch.server.tls_port)
    made.set(OLD)
    branch.add("ann")
    return made


test_current_only_after_a_login = shared.test_a_value_is_current_only_after_its_connector_logged_in_with_it
test_a_refused_value = shared.test_a_refused_value_leaves_the_old_one_in_use
test_the_old_value_is_destroyed = shared.test_the_old_value_is_destroyed_when_its_time_has_come
test_given_up = shared.test_an_open_rotation_can_be_given_up
test_a_value_that_was_set_meanwhile = shared.test_a_value_that_was_set_meanwhile_is_not_overwritten
test_nothing_fails_meanwhile = shared.test_nothing_fails_while_a_password_is_rotated_at_its_server
test_killed = shared.test_killed_at_every_sampled_step_nothing_is_lost


def test_the_engine_sets_the_new_password_itself(home: Home, hr: Directory) -> None:
    ready(home, hr)  # type: ignore[arg-type]
    answer = home.ok("secrets", "rotate", REF, "--at-server", "--generate", "40")
    assert "rotated to version 2, here and at the server" in answer.out
    value = current(home)
    assert len(value) == 40
    assert value not in answer.out + answer.err
    assert hr.accepts(value)
    assert not hr.accepts(OLD)
    home.ok("connectors", "test", "hr")
    assert value not in hr.branch.server.process.log.read_text(errors="replace")


def test_what_the_server_was_told_is_set_back_when_another_connector_refuses_it(home: Home, hr: Directory) -> None:
    ready(home, hr)  # type: ignore[arg-type]
    second = hr.connector.replace("  hr:", "  twin:", 1).replace('base: "ou=people', 'base: "ou=nowhere')
    home.ok("apply", str(home.define(hr.connector + second)), "--allow-audience", REF)
    refused = home("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert refused.code == 4
    assert "twin:" in refused.err
    assert hr.accepts(OLD)
    assert current(home) == OLD
    home.ok("connectors", "test", "hr")


def test_a_login_that_may_not_change_its_own_password(embedded: Home, start_slapd: Callable[..., SlapdServer]) -> None:
    server = start_slapd(overlays="readonly on")
    hr = Directory(Branch(server, SUFFIX, server.password), server.tls_port)
    embedded.store(REF, server.password)
    embedded.ok("apply", str(embedded.define(hr.connector)))
    refused = embedded("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert refused.code == 4
    assert "hr could not set it: changing the password of the login:" in refused.err
    assert NEW not in refused.err
    assert current(embedded) == server.password
    assert hr.accepts(server.password)


@pytest.mark.parametrize("delivered", [True, False])
def test_an_answer_that_is_lost(
    embedded: Home, hr: Directory, monkeypatch: pytest.MonkeyPatch, delivered: bool
) -> None:
    """Whether the directory has the new password is found out by trying both."""
    monkeypatch.setattr("identitymesh.connectors.patience.FIRST_PAUSE", 0.01)
    server = hr.branch.server
    with Proxy(server.port) as proxy:
        clear = hr.connector.replace(f"ldaps://127.0.0.1:{hr.port}", f"ldap://127.0.0.1:{proxy.port}")
        clear = clear.replace("    ca_file:", "    allow_cleartext: true\n    #")
        embedded.store(REF, OLD)
        embedded.ok("apply", str(embedded.define(clear)))
        password_modify = b"1.3.6.1.4.1.4203.1.11.1"
        proxy.cut_at(password_modify, delivered=delivered, times=1)
        answer = embedded("secrets", "rotate", REF, "--at-server", stdin=NEW)
        assert proxy.cuts == 1
        if delivered:
            assert answer.code == 0, answer.err
            assert (current(embedded), hr.accepts(NEW)) == (NEW, True)
        else:
            assert answer.code == 4
            assert (current(embedded), hr.accepts(OLD)) == (OLD, True)
            embedded.ok("secrets", "rotate", REF, "--at-server", stdin=NEW)
            assert (current(embedded), hr.accepts(NEW)) == (NEW, True)
        assert secret(embedded)["pending_version"] is None


def test_a_server_that_does_not_answer_decides_nothing(
    embedded: Home, hr: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("identitymesh.connectors.patience.FIRST_PAUSE", 0.01)
    with Proxy(hr.port) as proxy:
        hr.port = proxy.port
        ready(embedded, hr)  # type: ignore[arg-type]
        hr.set(NEW)
        proxy.cut()
        unknown = embedded("secrets", "rotate", REF, "--json", stdin=NEW)
        assert (unknown.code, unknown.error["code"], unknown.error["retryable"]) == (4, "rotation-unfinished", True)
        assert secret(embedded)["pending_version"] == "2"
        proxy.open()
        assert embedded.ok("secrets", "rotate", REF, "--json", stdin="something else").document["resumed"]
        assert current(embedded) == NEW
