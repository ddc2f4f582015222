"""The provider ``openbao`` keeps the contract, on our own server; and on a real one that the environment names."""

import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from identitymesh.errors import (
    ProviderDenied,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
    SecretBroken,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.providers import Setup, assert_usable
from identitymesh.secrets.references import parse
from identitymesh.secrets.stores.openbao import session as sessions
from identitymesh.secrets.stores.openbao.entries import Entries
from identitymesh.secrets.stores.openbao.place import Place, place_of
from identitymesh.secrets.stores.openbao.session import Session
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage.database import open_database
from tests.conftest import OUTSIDE
from tests.secrets.conftest import ACTOR, Installation, copy_installation, make_installation
from tests.secrets.providers.contract import REF, VaultContract, VaultWorld
from tests.servers.authority import Authority
from tests.servers.https import Answer, Request
from tests.servers.openbao import ALL, MOUNT, OpenBaoServer, denied

ADDRESS = "OPENBAO_ADDR"
WHERE = "secret://openbao/token"


@pytest.fixture
def server(authority: Authority) -> Iterator[OpenBaoServer]:
    server = OpenBaoServer(authority)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives up gives up soon; how long it waits has tests of its own, with a clock of theirs."""
    monkeypatch.setattr(sessions, "ATTEMPTS", 3)
    monkeypatch.setattr(sessions, "FIRST_PAUSE", 0.01)


def token_file(folder: Path, token: str) -> Path:
    path = folder / "openbao.token"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(token + "\n")
    path.chmod(0o400)
    return path


def settings(server: OpenBaoServer, folder: Path, **more: Any) -> OpenBaoSettings:
    """Of a host that logs in with a token from a file."""
    given: dict[str, Any] = {"address": server.url, "ca_file": server.ca_file, "auth": "token"}
    if "token_file" not in more and "token" not in more and more.get("auth", "token") == "token":
        given["token_file"] = token_file(folder, server.root)
    return OpenBaoSettings(**{**given, **more})


class Vault:
    """Our own server as a world's vault."""

    def __init__(self, server: OpenBaoServer, mesh: Installation, folder: Path) -> None:
        self.server, self.mesh, self.folder = server, mesh, folder
        self.client = hvac.Client(url=server.url, token=server.root, verify=str(server.ca_file))

    def path(self, ref: str) -> str:
        return "identitymesh/" + ref.removeprefix("secret://")

    @contextmanager
    def outage(self, after: int) -> Iterator[None]:
        self.server.cut_after(after)
        yield
        self.server.fault = lambda _request: None

    @contextmanager
    def denied(self) -> Iterator[None]:
        self.server.fault = lambda _request: denied()
        yield
        self.server.fault = lambda _request: None

    def exchange(self, ref: str, other: str) -> None:
        self.server.kv[self.path(ref)] = self.server.kv[self.path(other)]

    def lose(self, ref: str) -> None:
        del self.server.kv[self.path(ref)]

    def fill(self, count: int) -> None:
        installation = self.mesh.result.installation
        for number in range(count):
            path = self.path(f"secret://many/{number}")
            tags = {"ref": f"secret://many/{number}", "installation": installation}
            self.server.write(path, {"value": "v", "installation": installation}, tags)

    def set_outside(self, ref: str, value: bytes) -> str:
        kv = self.client.secrets.kv.v2
        written = kv.create_or_update_secret(path=self.path(ref), secret={"value": value.decode()}, mount_point=MOUNT)
        return str(written["data"]["version"])

    def other(self) -> Installation:
        database = open_database(f"sqlite:///{self.folder}/other.db")
        return make_installation(database, self.folder / "other-host")


@pytest.fixture
def world(server: OpenBaoServer, tmp_path: Path) -> Iterator[VaultWorld]:
    database = open_database(f"sqlite:///{tmp_path}/mesh.db")
    mesh = copy_installation(database, tmp_path / "host")
    vault = Vault(server, mesh, tmp_path)
    yield VaultWorld(
        mesh,
        "openbao",
        outage=vault.outage,
        denied=vault.denied,
        exchange=vault.exchange,
        lose=vault.lose,
        fill=vault.fill,
        outage_error=ProviderUnavailable,
        denied_error=ProviderDenied,
        means=Means(openbao=settings(server, tmp_path)),
        set_outside=vault.set_outside,
        other=vault.other,
    )
    database.close()


class TestOpenBao(VaultContract):
    @pytest.fixture
    def world(self, world: VaultWorld) -> VaultWorld:
        return world


class RealVault(Vault):
    """A server that somebody else started: what happens to it is done on the way to it, or with its own calls."""

    def __init__(self, mesh: Installation, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mesh, self.folder, self._patch = mesh, folder, monkeypatch
        self.token = OUTSIDE["OPENBAO_TOKEN"]
        self.prefix = f"suite/{uuid.uuid4().hex}"
        self.client = hvac.Client(url=OUTSIDE[ADDRESS], token=self.token, verify=OUTSIDE["OPENBAO_CACERT"])

    def path(self, ref: str) -> str:
        return f"{self.prefix}/" + ref.removeprefix("secret://")

    def settings(self) -> OpenBaoSettings:
        file = token_file(self.folder, self.token)
        authority = Path(OUTSIDE["OPENBAO_CACERT"])
        return OpenBaoSettings(
            address=OUTSIDE[ADDRESS], ca_file=authority, auth="token", token_file=file, prefix=self.prefix
        )

    @contextmanager
    def outage(self, after: int) -> Iterator[None]:
        left = [after]
        send = requests.Session.send

        def cut(web: requests.Session, *arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise requests.ConnectionError
            return send(web, *arguments, **more)

        with self._patch.context() as patch:
            patch.setattr(requests.Session, "send", cut)
            yield

    @contextmanager
    def denied(self) -> Iterator[None]:
        powerless = self.client.auth.token.create(policies=["default"], ttl="5m")["auth"]["client_token"]
        token_file(self.folder, powerless)
        yield
        token_file(self.folder, self.token)

    def exchange(self, ref: str, other: str) -> None:
        kv = self.client.secrets.kv.v2
        found = kv.read_secret_version(path=self.path(other), raise_on_deleted_version=True)["data"]
        kv.update_metadata(path=self.path(ref), custom_metadata=found["metadata"]["custom_metadata"])
        kv.create_or_update_secret(path=self.path(ref), secret=found["data"])

    def lose(self, ref: str) -> None:
        self.client.secrets.kv.v2.delete_metadata_and_all_versions(path=self.path(ref))

    def fill(self, count: int) -> None:
        installation, kv = self.mesh.result.installation, self.client.secrets.kv.v2

        def one(number: int) -> None:
            ref = f"secret://many/{number}"
            kv.update_metadata(path=self.path(ref), custom_metadata={"ref": ref, "installation": installation})
            kv.create_or_update_secret(path=self.path(ref), secret={"value": "v"})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(count)))


if ADDRESS in OUTSIDE:

    class TestRealOpenBao(VaultContract):
        """What IDENTITYMESH_TEST_OPENBAO_ADDR names; not collected without it."""

        @pytest.fixture
        def world(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultWorld]:
            database = open_database(f"sqlite:///{tmp_path}/mesh.db")
            mesh = make_installation(database, tmp_path / "host")
            vault = RealVault(mesh, tmp_path, monkeypatch)
            yield VaultWorld(
                mesh,
                "openbao",
                outage=vault.outage,
                denied=vault.denied,
                exchange=vault.exchange,
                lose=vault.lose,
                fill=vault.fill,
                outage_error=ProviderUnavailable,
                denied_error=ProviderDenied,
                means=Means(openbao=vault.settings()),
                set_outside=vault.set_outside,
                other=vault.other,
            )
            database.close()


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.slept.append(seconds)
            self.now += seconds


def place(given: OpenBaoSettings, means: Means | None = None) -> Place:
    return place_of(Setup(means or Means(openbao=given), lambda: "installation", lambda _ref, _purpose: Secret(b"")))


def approle(server: OpenBaoServer, folder: Path, **more: Any) -> OpenBaoSettings:
    role_id, secret_id = server.role(**more)
    file = folder / "secret-id"
    file.touch(mode=0o600)
    file.write_text(secret_id)
    return settings(server, folder, auth="approle", role_id=role_id, secret_id_file=file)


def entries(session: Session) -> Entries:
    return Entries(session, lambda: "installation")


class TestLogin:
    def test_approle_logs_in_once_and_keeps_its_token(self, server: OpenBaoServer, tmp_path: Path) -> None:
        session = Session(place(approle(server, tmp_path)))
        for number in range(5):
            entries(session).write(f"secret://hr/{number}", Secret("value"), 0, pending=False)
        assert (server.logins, server.renewals) == (1, 0)

    def test_a_token_is_renewed_before_it_ends(self, server: OpenBaoServer, tmp_path: Path) -> None:
        clock = Clock()
        session = Session(place(approle(server, tmp_path, seconds=60.0)), clock=clock, sleep=clock.sleep)
        session.token()
        for _ in range(6):
            clock.now += 45
            session.token()
        assert (server.logins, server.renewals) == (1, 6)

    def test_one_that_cannot_be_renewed_is_replaced_by_a_new_login(self, server: OpenBaoServer, tmp_path: Path) -> None:
        clock = Clock()
        given = approle(server, tmp_path, seconds=60.0, renewable=False)
        session = Session(place(given), clock=clock, sleep=clock.sleep)
        first = session.token()
        clock.now += 30
        assert session.token() == first
        clock.now += 15
        assert session.token() != first
        assert (server.logins, server.renewals) == (2, 0)

    def test_a_revoked_token_costs_one_new_login_and_no_error(self, server: OpenBaoServer, tmp_path: Path) -> None:
        session = Session(place(approle(server, tmp_path)))
        session.token()
        for name in [name for name in server.tokens if name != server.root]:
            del server.tokens[name]
        entries(session).write("secret://hr/reader", Secret("value"), 0, pending=False)
        assert server.logins == 2

    def test_an_identity_revoked_in_the_middle_is_denied_and_not_tried_for_ever(
        self, server: OpenBaoServer, tmp_path: Path
    ) -> None:
        session = Session(place(approle(server, tmp_path)))
        entries(session).write("secret://hr/reader", Secret("value"), 0, pending=False)
        server.roles.clear()
        server.tokens.clear()
        before = len(server.asked)
        with pytest.raises(ProviderDenied, match="secret id is not accepted") as refused:
            entries(session).read("secret://hr/reader", None)
        assert "secret_id" in refused.value.hint
        assert len(server.asked) - before == 2  # the call, one login

    def test_many_threads_log_in_once(self, server: OpenBaoServer, tmp_path: Path) -> None:
        session = Session(place(approle(server, tmp_path)))
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda _number: entries(session).read("secret://hr/reader", None), range(48)))
        assert server.logins == 1

    def test_abuse_57_tokens_of_whoever_starts_the_program_are_not_used(
        self, server: OpenBaoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VAULT_TOKEN", server.root)
        monkeypatch.setenv("BAO_TOKEN", server.root)
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".vault-token").write_text(server.root)
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password canary")
        session = Session(place(settings(server, tmp_path, token_file=token_file(tmp_path, "s.unknown"))))
        with pytest.raises(ProviderDenied):
            entries(session).read("secret://hr/reader", None)
        assert all(server.root not in request.headers.values() for request in server.asked)
        assert not any("authorization" in request.headers for request in server.asked)

    def test_the_login_comes_from_the_keyring_of_the_application(
        self, world: VaultWorld, server: OpenBaoServer
    ) -> None:
        given = OpenBaoSettings(address=server.url, ca_file=server.ca_file, auth="token", token=WHERE)
        world.means = Means(openbao=given)
        world.store().put(parse(WHERE), Secret(server.root), actor=ACTOR, keyring="application")
        world.put("value")
        assert world.get() == b"value"
        logins = world.mesh.audit("secret.login")
        assert {one.record.subject for one in logins} == {WHERE}
        assert server.url in logins[0].record.payload["purpose"]

    def test_abuse_65_a_login_of_the_connectors_keyring_is_refused(
        self, world: VaultWorld, server: OpenBaoServer
    ) -> None:
        world.mesh.sql("UPDATE installation SET provider = 'database'")
        world.put("token", parse(WHERE))
        world.mesh.sql("UPDATE installation SET provider = 'openbao'")
        world.means = Means(openbao=OpenBaoSettings(address=server.url, auth="token", token=WHERE))
        with pytest.raises(ProviderMisconfigured, match="cannot come from the vault"):
            world.put("value")

    def test_what_the_service_manager_delivers_is_used(self, server: OpenBaoServer, tmp_path: Path) -> None:
        delivered = tmp_path / "credentials"
        delivered.mkdir()
        file = delivered / "openbao-token"
        file.touch(mode=0o600)
        file.write_text(server.root + "\n")
        file.chmod(0o400)
        given = OpenBaoSettings(address=server.url, ca_file=server.ca_file, auth="token")
        found = place(given, Means(openbao=given, credentials=delivered))
        assert found.credential() == Secret(server.root)


HALF: dict[str, tuple[dict[str, Any], str]] = {
    "no address": ({"address": ""}, "openbao.address"),
    "no TLS": ({"address": "http://127.0.0.1:8200"}, "openbao.address"),
    "a path": ({"address": "https://127.0.0.1:8200/v1"}, "openbao.address"),
    "no role": ({"auth": "approle", "secret_id": "secret://openbao/id"}, "openbao.role_id"),
    "no secret id": ({"auth": "approle", "role_id": "r"}, "openbao.secret_id"),
    "no token": ({"auth": "token"}, "openbao.token"),
    "token and role": ({"auth": "token", "secret_id": "secret://openbao/id"}, "openbao.secret_id"),
    "two places": ({"auth": "token", "token": "secret://a", "token_file": Path("/token")}, "openbao.token_file"),
    "no authority": ({"auth": "token", "token": "secret://a", "ca_file": Path("/nowhere.pem")}, "openbao.ca_file"),
    "no mount": ({"auth": "token", "token": "secret://a", "mount": "/"}, "openbao.mount"),
}


@pytest.mark.parametrize(("given", "named"), HALF.values(), ids=HALF.keys())
def test_half_a_configuration_names_what_is_missing_before_anything_is_asked(given: dict[str, Any], named: str) -> None:
    means = Means(openbao=OpenBaoSettings(**{"address": "https://127.0.0.1:1", **given}))
    with pytest.raises(ProviderMisconfigured, match=named.replace(".", "[.]")) as refused:
        assert_usable("openbao", means)
    assert refused.value.hint


def test_a_token_file_that_others_may_read_is_refused(server: OpenBaoServer, tmp_path: Path) -> None:
    given = settings(server, tmp_path)
    assert given.token_file is not None
    given.token_file.chmod(0o644)
    with pytest.raises(ProviderMisconfigured, match=r"openbao[.]token_file"):
        Session(place(given)).token()


class TestTransport:
    @pytest.fixture
    def session(self, server: OpenBaoServer, tmp_path: Path) -> Session:
        clock = Clock()
        return Session(place(settings(server, tmp_path)), clock=clock, sleep=clock.sleep)

    def test_abuse_56_a_redirect_is_not_followed_and_nobody_else_gets_the_token(
        self, server: OpenBaoServer, session: Session, authority: Authority
    ) -> None:
        elsewhere = OpenBaoServer(authority)
        server.fault = lambda request: Answer(307, headers={"Location": f"{elsewhere.url}{request.path}"})
        try:
            with pytest.raises(ProviderRefused, match="redirect") as refused:
                entries(session).read("secret://hr/reader", None)
        finally:
            elsewhere.stop()
        assert "openbao.address" in refused.value.hint
        assert elsewhere.asked == []

    def test_a_certificate_that_is_not_trusted_ends_it_at_once(self, server: OpenBaoServer, tmp_path: Path) -> None:
        given = settings(server, tmp_path, ca_file=None)
        with pytest.raises(ProviderMisconfigured, match="certificate is not trusted"):
            entries(Session(place(given))).read("secret://hr/reader", None)
        assert server.asked == []

    def test_a_certificate_of_another_host_is_refused(self, authority: Authority, tmp_path: Path) -> None:
        server = OpenBaoServer(authority, certificate=authority.issue("bao.example"))
        try:
            with pytest.raises(ProviderMisconfigured, match="certificate is not trusted"):
                entries(Session(place(settings(server, tmp_path)))).read("secret://hr/reader", None)
        finally:
            server.stop()

    def test_abuse_58_a_pause_that_is_asked_for_is_made(
        self, server: OpenBaoServer, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "ATTEMPTS", 6)
        session.token()
        clock = session._sleep.__self__  # type: ignore[attr-defined]
        server.fail(2, Answer(429, {"errors": ["slow down"]}, {"Retry-After": "3"}))
        assert entries(session).read("secret://hr/reader", None) is None
        assert clock.slept == [3.0, 3.0]

    def test_a_pause_beyond_our_patience_is_told_at_once(self, server: OpenBaoServer, session: Session) -> None:
        session.token()
        before = len(server.asked)
        server.fail(99, Answer(429, {"errors": ["slow down"]}, {"Retry-After": "120"}))
        with pytest.raises(ProviderUnavailable, match="pause of 120 seconds"):
            entries(session).read("secret://hr/reader", None)
        assert len(server.asked) - before == 1

    @pytest.mark.parametrize("answer", [Answer(429, {"errors": []}), Answer(503, {"errors": []}), Answer(cut=True)])
    def test_tries_are_bounded_and_a_server_that_is_down_is_not_stormed(
        self, server: OpenBaoServer, session: Session, monkeypatch: pytest.MonkeyPatch, answer: Answer
    ) -> None:
        monkeypatch.setattr(sessions, "ATTEMPTS", 6)
        monkeypatch.setattr(sessions, "FIRST_PAUSE", 0.1)
        session.token()
        server.fault = lambda _request: answer
        before = len(server.asked)
        clock = session._sleep.__self__  # type: ignore[attr-defined]
        began = clock.now
        for _ in range(4):
            with pytest.raises(ProviderUnavailable):
                entries(session).read("secret://hr/reader", None)
        assert len(server.asked) - before == 6 + 3  # who comes after the first that gave up tries once
        assert clock.now - began <= sessions.PATIENCE

    def test_a_sealed_server_says_how_it_is_unsealed(self, server: OpenBaoServer, session: Session) -> None:
        session.token()
        server.sealed = True
        with pytest.raises(ProviderUnavailable, match="sealed") as failed:
            entries(session).read("secret://hr/reader", None)
        assert "bao operator unseal" in failed.value.hint

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"mount": "nowhere"}, "no KV engine at mount 'nowhere'"),
            ({"namespace": "nobody"}, "no namespace 'nobody'"),
        ],
    )
    def test_a_vault_that_was_deleted_is_named(
        self, server: OpenBaoServer, tmp_path: Path, more: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ProviderMisconfigured, match=words) as failed:
            entries(Session(place(settings(server, tmp_path, **more)))).read("secret://hr/reader", None)
        assert failed.value.hint

    def test_a_namespace_of_its_own(self, server: OpenBaoServer, tmp_path: Path) -> None:
        server.mounts["team", MOUNT] = {}
        ours = entries(Session(place(settings(server, tmp_path, namespace="team"))))
        ours.write("secret://hr/reader", Secret("value"), 0, pending=False)
        assert list(server.mounts["team", MOUNT]) == ["identitymesh/hr/reader"]
        assert server.kv == {}

    def test_an_engine_of_version_1_is_named(self, server: OpenBaoServer, session: Session) -> None:
        session.token()
        server.fault = lambda request: (
            Answer(204) if request.method == "POST" else Answer(200, {"data": {"value": "x"}})
        )
        for call in (
            lambda: entries(session).write("secret://hr/reader", Secret("value"), 0, pending=False),
            lambda: entries(session).read("secret://hr/reader", None),
        ):
            with pytest.raises(ProviderMisconfigured, match="version 1"):
                call()

    def test_what_the_server_repeats_of_a_value_is_not_told(self, server: OpenBaoServer, session: Session) -> None:
        session.token()
        server.fault = lambda request: Answer(400, {"errors": [f"cannot use {request.body.decode()}"]})
        with pytest.raises(ProviderRefused) as refused:
            entries(session).write("secret://hr/reader", Secret("canary-41"), 0, pending=False)
        assert "canary-41" not in f"{refused.value} {refused.value.hint}"
        assert refused.value.__context__ is None

    def test_neither_token_nor_value_is_logged(
        self, server: OpenBaoServer, session: Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        entries(session).write("secret://hr/reader", Secret("canary-41"), 0, pending=False)
        assert "canary-41" not in caplog.text
        assert server.root not in caplog.text


class TestEntries:
    def test_a_write_whose_answer_was_lost_is_one_version(self, world: VaultWorld, server: OpenBaoServer) -> None:
        answered = self._lose_one_write(server)
        assert world.put("value") == "1"
        assert answered
        assert server.kv["identitymesh/hr/reader"].current == 1

    def _lose_one_write(self, server: OpenBaoServer) -> list[str]:
        answered: list[str] = []

        def lose_one(request: Request) -> Answer | None:
            if request.method == "POST" and "/data/" in request.path and not answered:
                answered.append(request.path)
                server.fault = lambda _request: None
                server.answer(request)
                return Answer(cut=True)
            return None

        server.fault = lose_one
        return answered

    def test_a_mount_that_keeps_one_version_keeps_enough_of_ours(
        self, world: VaultWorld, server: OpenBaoServer
    ) -> None:
        server.max_versions = 1
        world.put("old")
        rotation = world.rotations().begin(REF, Secret("new"), at_server=False, retire_days=7, actor=ACTOR)
        assert world.get() == b"old"
        world.rotations().switch(rotation, ACTOR)
        assert world.get() == b"new"

    def test_abuse_59_a_deletion_is_soft_a_set_goes_on_from_it_and_a_purge_is_for_good(
        self, world: VaultWorld, server: OpenBaoServer
    ) -> None:
        world.put("one")
        world.put("two")
        world.store().delete(REF, actor=ACTOR)
        entry = server.kv["identitymesh/hr/reader"]
        assert all(version.deleted and version.data for version in entry.versions.values())
        assert world.put("three") == "3"
        assert {number for number, version in entry.versions.items() if not version.deleted} == {2, 3}
        world.store().delete(REF, actor=ACTOR, purge=True)
        assert server.kv == {}

    def test_a_set_that_fails_brings_back_nothing_that_was_deleted(
        self, world: VaultWorld, server: OpenBaoServer
    ) -> None:
        world.put("one")
        world.store().delete(REF, actor=ACTOR)
        server.fault = lambda request: (
            Answer(403, {"errors": ["permission denied"]}) if "/data/" in request.path else None
        )
        with pytest.raises(ProviderDenied):
            world.put("two")
        server.fault = lambda _request: None
        (version,) = server.kv["identitymesh/hr/reader"].versions.values()
        assert version.deleted

    def test_a_set_is_one_although_what_was_deleted_cannot_be_brought_back(
        self, world: VaultWorld, server: OpenBaoServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.put("one")
        world.store().delete(REF, actor=ACTOR)
        server.fault = lambda request: (
            Answer(403, {"errors": ["permission denied"]}) if "/undelete/" in request.path else None
        )
        assert world.put("two") == "2"
        assert world.get() == b"two"
        assert "version 1 stays deleted in openbao" in caplog.text

    def test_after_a_lost_answer_a_set_goes_on_from_what_was_deleted_as_well(
        self, world: VaultWorld, server: OpenBaoServer
    ) -> None:
        world.put("one")
        world.store().delete(REF, actor=ACTOR)
        self._lose_one_write(server)
        assert world.put("two") == "2"
        assert not any(version.deleted for version in server.kv["identitymesh/hr/reader"].versions.values())

    def test_retired_versions_are_destroyed(self, world: VaultWorld, server: OpenBaoServer) -> None:
        world.put("old")
        rotation = world.rotations().begin(REF, Secret("new"), at_server=False, retire_days=0, actor=ACTOR)
        world.rotations().switch(rotation, ACTOR)
        world.rotations().retire(REF, ACTOR)
        old = server.kv["identitymesh/hr/reader"].versions[1]
        assert (old.destroyed, old.data) == (True, {})

    def test_without_lists_of_metadata_the_list_is_the_same(self, world: VaultWorld, server: OpenBaoServer) -> None:
        for ref in ("secret://a", "secret://a/b", "secret://a/b/c", "secret://d/e"):
            world.put("value", parse(ref))
        world.store().delete(parse("secret://d/e"), actor=ACTOR)
        server.write("identitymesh/Not-A-Reference", {"value": "x"})
        server.write("identitymesh/theirs", {"value": "x"}, {"installation": "another"})
        with_metadata = world.provider().list(world.mesh.rows)
        server.detailed = False
        assert (
            world.provider().list(world.mesh.rows) == with_metadata == ["secret://a", "secret://a/b", "secret://a/b/c"]
        )

    def test_a_survey_finds_what_is_there_deleted_and_of_others(self, world: VaultWorld, server: OpenBaoServer) -> None:
        world.put("value", parse("secret://a"))
        world.put("value", parse("secret://b"))
        world.store().delete(parse("secret://b"), actor=ACTOR)
        server.write("identitymesh/c", {"value": "x"}, {"ref": "secret://other"})
        refs = [f"secret://{name}" for name in "abcd"]
        survey = world.provider().survey(world.mesh.rows, refs)
        assert (survey.present, survey.deleted, survey.foreign) == (["secret://a"], ["secret://b"], ["secret://c"])

    def test_tags_of_operators_are_kept(self, world: VaultWorld, server: OpenBaoServer) -> None:
        server.write("identitymesh/hr/reader", {"value": "theirs"}, {"owner": "HR"})
        world.put("ours")
        custom = server.kv["identitymesh/hr/reader"].custom
        assert custom is not None
        assert (custom["owner"], custom["ref"]) == ("HR", REF.text)

    @pytest.mark.parametrize(
        "data", [{}, {"value": 5}, {"value": ""}, {"base64": "?"}, {"value": "a", "base64": "YQ=="}]
    )
    def test_what_is_no_value_is_named_with_its_place(
        self, world: VaultWorld, server: OpenBaoServer, data: dict[str, Any]
    ) -> None:
        world.put("value")
        server.write("identitymesh/hr/reader", data)
        with pytest.raises(SecretBroken, match="identitymesh/hr/reader"):
            world.get()

    def test_check_names_the_capability_that_is_missing(self, server: OpenBaoServer, tmp_path: Path) -> None:
        rules = {f"{MOUNT}/data/": ("read",), f"{MOUNT}/metadata/": ALL}
        reader = server.token(rules=rules)
        ours = entries(Session(place(settings(server, tmp_path, token_file=token_file(tmp_path, reader)))))
        with pytest.raises(ProviderDenied, match="create, update on secret/data"):
            ours.check()
        entries(Session(place(settings(server, tmp_path)))).check()

    def test_an_expiring_version_is_there_until_it_expires(self, world: VaultWorld, server: OpenBaoServer) -> None:
        world.put("value")
        server.kv["identitymesh/hr/reader"].versions[1].deleted = "2999-01-01T00:00:00.000Z"
        assert world.provider().list(world.mesh.rows) == [REF.text]


def test_fifty_refs_at_once_wait_together(server: OpenBaoServer, tmp_path: Path) -> None:
    """Each answer takes 50 ms; one after the other they would take 2.5 s. How long it takes is in the bench."""
    waiting, most = [0], [0]
    lock = threading.Lock()

    def slow(request: Request) -> Answer | None:
        if "/data/" in request.path:
            with lock:
                waiting[0] += 1
                most[0] = max(most[0], waiting[0])
            time.sleep(0.05)
            with lock:
                waiting[0] -= 1
        return None

    server.fault = slow
    ours = entries(Session(place(settings(server, tmp_path))))
    ours.each(lambda number: ours.read(f"secret://hr/{number}", None), list(range(50)))
    assert most[0] >= 8


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("identitymesh.secrets.stores.openbao", "hvac"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(ProviderMisconfigured) as refused:
        assert_usable("openbao", Means(openbao=OpenBaoSettings(address="https://127.0.0.1:1")))
    assert "identitymesh[openbao]" in refused.value.hint
