"""Who is trusted with the password of a directory: nobody but the server that was meant, over TLS 1.2 or later."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from identitymesh.connectors.catalogue import kind
from identitymesh.errors import ConnectorMisconfigured, CredentialRefused, Unreachable
from tests.connectors.doubles import Credentials, facade
from tests.connectors.test_ldap_contract import ldap_facade
from tests.servers.authority import Authority, IssuedCertificate
from tests.servers.proxy import Proxy
from tests.servers.slapd import Branch, SlapdServer

PASSWORD = "p4ssw0rd-that-must-not-travel"
UNKNOWN = "does not prove who it is: (unable to get local issuer|self-signed) certificate"
OBJECTS = {"user": {"base": "ou=people,dc=example,dc=org"}}


def settings(**given: Any) -> dict[str, Any]:
    return {
        "type": "ldap",
        "bind_dn": "cn=sync,dc=example,dc=org",
        "bind_password": "secret://ldap/bind",
        "timeout": 5,
        "objects": OBJECTS,
        **given,
    }


@contextlib.contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that does what ``talk`` says with each connection; its port, and everything it read in clear."""
    read: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                read.append(connection.recv(65_536, socket.MSG_PEEK))
                talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], read
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def with_tls(
    certificate: IssuedCertificate, newest: ssl.TLSVersion, spoken: list[str | None] | None = None
) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = newest
    context.load_cert_chain(certificate.certificate, certificate.key)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            if spoken is not None:
                spoken.append(secured.version())
            secured.recv(1)

    return talk


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize(
    ("names", "expired", "told"),
    [
        ((), True, "certificate has expired"),
        (("ldap.example.org",), False, "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_a_certificate_that_is_not_the_servers(
    authority: Authority,
    start_slapd: Callable[..., SlapdServer],
    starttls: bool,
    names: tuple[str, ...],
    expired: bool,
    told: str,
) -> None:
    server = start_slapd(certificate=authority.issue(*names, expired=expired))
    given = settings(url=server.url if starttls else server.tls_url, starttls=starttls, ca_file=str(authority.file))
    credentials = Credentials(bind_password=server.password)
    with facade(given, credentials) as opened, pytest.raises(Unreachable) as refused:
        opened.test()
    assert told in str(refused.value)
    assert "does not prove who it is" in str(refused.value)
    assert "ca_file" in refused.value.hint
    assert credentials.opened == [], "the password is not even opened for a server that is not trusted"
    with server.client():  # the server itself is up
        pass


@pytest.mark.parametrize("starttls", [False, True])
def test_a_certificate_of_an_unknown_authority(
    slapd_server: SlapdServer, tmp_path_factory: pytest.TempPathFactory, starttls: bool
) -> None:
    other = Authority.create(tmp_path_factory.mktemp("other"))
    url = slapd_server.url if starttls else slapd_server.tls_url
    credentials = Credentials(bind_password=slapd_server.password)
    for ca_file in (str(other.file), None):  # without one, the authorities of the system
        given = settings(url=url, starttls=starttls, ca_file=ca_file)
        with facade(given, credentials) as opened, pytest.raises(Unreachable, match=UNKNOWN):
            opened.test()
    assert credentials.opened == []


def test_the_environment_does_not_weaken_it(slapd_server: SlapdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDAPTLS_REQCERT", "never")
    monkeypatch.setenv("LDAPTLS_CACERT", str(slapd_server.authority.file))
    given = settings(url=slapd_server.tls_url)
    with (
        facade(given, Credentials(bind_password=slapd_server.password)) as opened,
        pytest.raises(Unreachable, match=UNKNOWN),
    ):
        opened.test()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_an_old_protocol(authority: Authority) -> None:
    with listening(with_tls(authority.issue(), ssl.TLSVersion.TLSv1_1)) as (port, _):
        old = ssl.create_default_context(cafile=authority.file)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            old.wrap_socket(plain, server_hostname="127.0.0.1") as spoken,
        ):
            assert spoken.version() == "TLSv1.1"
        given = settings(url=f"ldaps://127.0.0.1:{port}", ca_file=str(authority.file))
        credentials = Credentials(bind_password=PASSWORD)
        with facade(given, credentials) as opened, pytest.raises(Unreachable, match=r"no TLS 1[.]2 or later"):
            opened.test()
        assert credentials.opened == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_tls_1_2_is_enough(authority: Authority) -> None:
    spoken: list[str | None] = []
    with listening(with_tls(authority.issue(), ssl.TLSVersion.TLSv1_2, spoken)) as (port, _):
        given = settings(url=f"ldaps://127.0.0.1:{port}", ca_file=str(authority.file))
        with facade(given, Credentials(bind_password=PASSWORD)) as opened, pytest.raises(Unreachable):
            opened.test()  # it shakes hands, and then it is no directory
    assert "TLSv1.2" in spoken


@pytest.mark.parametrize(
    "answer",
    [
        bytes.fromhex("300c02010178070a010204000400"),  # protocol error: StartTLS is not known
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ],
)
def test_a_server_without_starttls_gets_no_password(authority: Authority, answer: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with listening(talk) as (port, read):
        given = settings(url=f"ldap://127.0.0.1:{port}", starttls=True, ca_file=str(authority.file))
        credentials = Credentials(bind_password=PASSWORD)
        with facade(given, credentials) as opened, pytest.raises(Unreachable):
            opened.test()
    assert credentials.opened == []
    assert PASSWORD.encode() not in b"".join(read)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "ldap://ldap.example.org"}, "in clear"),
        ({"url": "ldap://127.0.0.1"}, "in clear"),
        ({"url": "ldaps://ldap.example.org", "starttls": True}, "begins with TLS already"),
        ({"url": "ldaps://u:hunter2@ldap.example.org"}, "password in a URL is refused"),
        ({"url": "ldaps://u@ldap.example.org"}, "a host and perhaps a port"),
        ({"url": "ldaps://ldap.example.org/dc=x"}, "a host and perhaps a port"),
        ({"url": "ldapi:///"}, "begins with ldaps://"),
        ({"url": "https://ldap.example.org"}, "begins with ldaps://"),
        ({"url": "ldaps://ldap.example.org", "bind_dn": None}, "given together"),
        ({"url": "ldaps://ldap.example.org", "bind_password": None}, "given together"),
        ({"url": "ldaps://ldap.example.org", "bind_dn": "sync"}, "not a distinguished name"),
        ({"url": "ldaps://ldap.example.org", "bind_password": "hunter2"}, "secret reference"),
        ({"url": "ldaps://ldap.example.org", "objects": {"user": {"base": "x"}}}, "not a distinguished name"),
        ({"url": "ldaps://x.org", "objects": {"user": {"base": "o=x", "filter": "a=b"}}}, "in parentheses"),
        ({"url": "ldaps://x.org", "objects": {"user": {"base": "o=x", "key": "a b"}}}, "key"),
    ],
)
def test_settings_that_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        kind("ldap").settings.model_validate(settings(**given))
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_in_clear_only_when_the_definition_says_so(branch: Branch) -> None:
    with ldap_facade(branch, url=branch.server.url, allow_cleartext=True) as opened:
        assert opened.test().details["connection"] == "not encrypted"
    with ldap_facade(branch) as opened:
        assert opened.test().details["connection"] == "encrypted"


def test_nobody_needs_a_password_to_read_what_everybody_may(branch: Branch) -> None:
    branch.add("ann")
    given: dict[str, Any] = {"bind_dn": None, "bind_password": None, "url": branch.server.url}
    with ldap_facade(branch, **given) as opened:
        (page, last) = opened.read("user", ["uid"])
        assert [entry.attributes for entry in page.entries] == [{"uid": "ann"}]
        assert last.complete is not None


def test_a_wrong_password(branch: Branch) -> None:
    with ldap_facade(branch, password=PASSWORD) as opened, pytest.raises(CredentialRefused) as refused:
        opened.test()
    assert "refuses the login: Invalid credentials" in str(refused.value)
    assert PASSWORD not in f"{refused.value!r} {refused.value.hint}"
    with ldap_facade(branch, password="") as opened, pytest.raises(CredentialRefused, match="empty"):
        opened.test()  # a directory would take it for anonymous and say yes


def test_a_ca_file_that_is_none(branch: Branch, tmp_path: Any) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for name in ("no.pem", "missing.pem"):
        with (
            ldap_facade(branch, ca_file=str(tmp_path / name)) as opened,
            pytest.raises(ConnectorMisconfigured, match="cannot be read"),
        ):
            opened.test()


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    given = settings(url=f"ldaps://127.0.0.1:{port}")
    with facade(given, Credentials(bind_password=PASSWORD)) as opened, pytest.raises(Unreachable) as refused:
        opened.test()
    assert "cannot be reached: Connection refused" in str(refused.value)
    given = settings(url="ldaps://nowhere.invalid")
    with facade(given, Credentials(bind_password=PASSWORD)) as opened, pytest.raises(Unreachable, match="cannot be"):
        opened.test()


@pytest.mark.parametrize("way", ["ldap", "starttls", "ldaps"])
def test_a_server_that_says_nothing(branch: Branch, way: str) -> None:
    server = branch.server
    with Proxy(server.tls_port if way == "ldaps" else server.port) as proxy:
        proxy.stall()
        url = f"{'ldaps' if way == 'ldaps' else 'ldap'}://127.0.0.1:{proxy.port}"
        given: dict[str, Any] = {
            "url": url,
            "starttls": way == "starttls",
            "allow_cleartext": way == "ldap",
            "timeout": 0.5,
        }
        with ldap_facade(branch, **given) as opened, pytest.raises(Unreachable, match="did not answer in time"):
            opened.test()
        proxy.open()
        with ldap_facade(branch, **given) as opened:
            assert opened.test().summary == "sees user"
