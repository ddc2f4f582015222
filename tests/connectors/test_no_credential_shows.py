"""Promise 1, for connectors: neither a log at its most talkative nor an error nor a repr has a credential."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import socketserver
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from identitymesh.connectors.catalogue import kind
from identitymesh.connectors.facade import Facade
from identitymesh.errors import MeshError
from identitymesh.redaction import Secret
from tests.connectors.doubles import Credentials, facade
from tests.connectors.servers import Asked, Reply, Service, people, web_server
from tests.servers.postgresql import PostgresDatabase
from tests.servers.slapd import Branch

TOKEN = "tok-Zq8v5TnY2kLm4Rw7"
WRONG = "Wr0ng-Passw0rd-9f8e7d"
SECRET = "cl13nt s3cret/+&value"
ACCESS = "acc-7Hd93kSl20aQpWe"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "httpcore2.http11", "httpcore2.connection", "sqlalchemy", "psycopg"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


def forms(credential: str) -> set[str]:
    raw = credential.encode()
    return {
        credential,
        quote(credential),
        quote_plus(credential),
        raw.hex(),
        *(base64.b64encode(prefix + raw).decode().rstrip("=")[4:-4] for prefix in (b"", b"x", b"xx")),
    }


def shown(opened: Facade, act: Callable[[Facade], Any]) -> str:
    """Everything a person could get to see while ``act`` runs."""
    seen: list[str] = []
    try:
        seen.append(repr(act(opened)))
    except MeshError as error:
        seen += [repr(error), str(error), error.hint, *traceback.format_exception(error)]
        seen += [repr(vars(link)) for link in chain(error)]
    inner = opened._connector
    seen += [repr(opened), repr(vars(opened)), repr(inner), repr(vars(inner))]
    for part in vars(inner).values():
        with contextlib.suppress(TypeError):
            seen += [repr(part), repr(vars(part))]
    return "\n".join(seen)


def chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def assert_hidden(text: str, *credentials: str) -> None:
    for credential in credentials:
        assert [form for form in forms(credential) if form in text] == []


def read_everything(opened: Facade) -> Any:
    return [opened.test(), list(opened.read("user", [])), opened.get("user", "1")]


def test_the_log_is_talkative_and_the_search_finds(log: pytest.LogCaptureFixture) -> None:
    with web_server(Service(people(1))) as server:
        settings = {"type": "scim", "url": server.url, "token": "secret://a/b", "objects": {"user": {}}}
        with facade(settings, Credentials(token=TOKEN)) as opened:
            opened.test()
    assert "send_request_headers" in log.text
    with pytest.raises(AssertionError):
        assert_hidden("x " + base64.b64encode(f"client:{SECRET}".encode()).decode(), SECRET)


@pytest.mark.parametrize("given", ["right", "wrong"])
def test_the_password_of_a_database(log: pytest.LogCaptureFixture, postgres_url: PostgresDatabase, given: str) -> None:
    password = postgres_url.password if given == "right" else WRONG
    with postgres_url.connect() as connection:
        connection.execute("CREATE TABLE p AS SELECT 1 AS k")
    settings = {
        "type": "sql",
        "url": postgres_url.url,
        "password": "secret://hr/reader",
        "objects": {"user": {"table": "p", "key": "k"}},
    }
    with facade(settings, Credentials(password=password)) as opened:
        text = shown(opened, read_everything)
    assert ("refuses the login" in text) == (given == "wrong")
    assert_hidden(text + log.text + repr(kind("sql").settings.model_validate(settings)), password)


@pytest.mark.parametrize("given", ["right", "wrong", "repeated"])
def test_the_password_of_a_directory(log: pytest.LogCaptureFixture, branch: Branch, given: str) -> None:
    password = {"right": branch.password, "wrong": WRONG, "repeated": WRONG}[given]
    repeat = listening_as_directory(WRONG) if given == "repeated" else contextlib.nullcontext(branch.server.port)
    with repeat as port:
        settings = {
            "type": "ldap",
            "url": f"ldap://127.0.0.1:{port}",
            "allow_cleartext": True,
            "bind_dn": branch.bind_dn,
            "bind_password": "secret://ldap/bind",
            "timeout": 5,
            "objects": {"user": {"base": branch.people}},
        }
        with facade(settings, Credentials(bind_password=password)) as opened:
            text = shown(opened, read_everything)
            text += shown(opened, lambda made: made.change_password("bind_password", Secret(WRONG + "2")))
    assert ("refuses the login" in text) == (given != "right")
    assert_hidden(text + log.text + repr(kind("ldap").settings.model_validate(settings)), password, WRONG + "2")


@contextlib.contextmanager
def listening_as_directory(refusal: str) -> Iterator[int]:
    """A server that finds its root empty, and answers a login by repeating the password."""

    def answer(number: int, kind: int, code: int, words: bytes = b"") -> bytes:
        result = bytes((0x0A, 1, code, 4, 0, 4, len(words))) + words
        body = bytes((2, 1, number, kind, len(result))) + result
        return bytes((0x30, len(body))) + body

    class Login(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while piece := self.request.recv(4096):
                at = 2 if piece[1] < 0x80 else 2 + (piece[1] & 0x7F)
                number, asked = piece[at + 2], piece[at + 3]
                if asked == 0x63:  # a search
                    self.request.sendall(answer(number, 0x65, 0))
                elif asked == 0x60:  # a bind
                    self.request.sendall(answer(number, 0x61, 49, f"you sent {refusal}".encode()))
                else:
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 409, 418, 500])
@pytest.mark.parametrize("cut", [None, 0, 3])
def test_the_token_of_a_service(log: pytest.LogCaptureFixture, status: int, cut: int | None) -> None:
    def echo(asked: Asked) -> Reply:
        """Repeats what it was sent, as some services do."""
        said = {"detail": f"you sent {asked.headers['authorization']}", "totalResults": 0, "id": "1"}
        return Reply(status, said, {"Location": "http://127.0.0.1:1/"}, cut=cut)

    with web_server(echo) as server:
        settings = {"type": "scim", "url": server.url, "token": "secret://a/b", "objects": {"user": {}}}
        for act in (lambda opened: opened.test(), lambda opened: opened.create("user", {"userName": "u"})):
            with facade(settings, Credentials(token=TOKEN)) as opened:
                assert_hidden(shown(opened, act) + log.text, TOKEN)
        assert server.asked
        assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_the_secret_of_a_client_and_what_it_buys(log: pytest.LogCaptureFixture, status: int) -> None:
    def tokens(asked: Asked) -> Reply:
        login = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
        said = {"access_token": ACCESS, "token_type": "Bearer"}
        problem = {"error": "invalid_client", "error_description": f"{login} {SECRET} {asked.headers['authorization']}"}
        return Reply(status, said if status == 200 else problem)

    def refuse(asked: Asked) -> Reply:
        return Reply(401, {"detail": f"unknown {asked.headers['authorization']}"})

    with web_server(tokens) as issuer, web_server(refuse) as server:
        settings = {
            "type": "scim",
            "url": server.url,
            "oauth": {"token_url": issuer.url, "client_id": "mesh", "client_secret": "secret://a/b"},
            "objects": {"user": {}},
        }
        with facade(settings, Credentials(oauth__client_secret=SECRET)) as opened:
            text = shown(opened, lambda opened: opened.test())
        assert issuer.asked
    assert_hidden(text + log.text, SECRET, ACCESS)


def test_a_password_that_no_driver_takes(log: pytest.LogCaptureFixture, postgres_url: PostgresDatabase) -> None:
    settings = {
        "type": "sql",
        "url": postgres_url.url,
        "password": "secret://hr/reader",
        "objects": {"user": {"table": "p", "key": "k"}},
    }
    password = WRONG + "\0tail"
    with facade(settings, Credentials(password=password)) as opened:
        text = shown(opened, read_everything)
    assert_hidden(text + log.text, WRONG)


@pytest.mark.parametrize("form", [str, quote, quote_plus, lambda raw: raw.encode().hex(), json.dumps])
@pytest.mark.parametrize("status", [400, 401])
def test_an_error_code_that_is_the_secret_of_a_client(status: int, form: Callable[[str], str]) -> None:
    with web_server(lambda _: Reply(status, {"error": form(SECRET), "error_description": form(SECRET)})) as issuer:
        settings = {
            "type": "scim",
            "url": issuer.url,
            "oauth": {"token_url": issuer.url, "client_id": "mesh", "client_secret": "secret://a/b"},
            "objects": {"user": {}},
        }
        with facade(settings, Credentials(oauth__client_secret=SECRET)) as opened:
            assert_hidden(shown(opened, lambda opened: opened.test()), SECRET)


@pytest.mark.parametrize("field", ["totalResults", "name"])
def test_a_token_where_a_number_or_a_name_belongs(field: str) -> None:
    def echo(asked: Asked) -> Reply:
        said = asked.headers["authorization"]
        if asked.path.endswith("/ResourceTypes"):
            return Reply(200, {"Resources": [{"name": said if field == "name" else "User", "endpoint": "/Users"}]})
        return Reply(200, {"totalResults": said if field == "totalResults" else 1, "Resources": []})

    with web_server(echo) as server:
        settings = {"type": "scim", "url": server.url, "token": "secret://a/b", "objects": {"user": {}}}
        with facade(settings, Credentials(token=TOKEN)) as opened:
            try:
                told = repr(opened.test())
            except MeshError as error:
                told = f"{error} {error.hint}"
    assert "resource type User" in told
    assert_hidden(told, TOKEN)


@pytest.mark.parametrize("words", ["no login for {}", "FATAL first\n{}", "x" * 290 + "{}"])
def test_a_database_that_repeats_the_password(words: str) -> None:
    with listening_as_postgresql(words.format(WRONG)) as port:
        settings = {
            "type": "sql",
            "url": f"postgresql://u@127.0.0.1:{port}/hr",
            "password": "secret://hr/reader",
            "objects": {"user": {"table": "p", "key": "k"}},
        }
        with facade(settings, Credentials(password=WRONG)) as opened:
            text = shown(opened, lambda opened: opened.test())
    assert "28P01" in text or "127.0.0.1" in text
    assert_hidden(text, WRONG)


@contextlib.contextmanager
def listening_as_postgresql(refusal: str) -> Iterator[int]:
    """A server that asks for the password in clear and answers with these words."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    class Login(socketserver.StreamRequestHandler):
        def packet(self) -> bytes:
            (size,) = struct.unpack("!I", self.rfile.read(4))
            return bytes(self.rfile.read(size - 4))

        def handle(self) -> None:
            while len(self.packet()) == 4:  # asks for encryption
                self.wfile.write(b"N")
            self.wfile.write(message(b"R", struct.pack("!I", 3)))
            self.rfile.read(1)
            self.packet()
            self.wfile.write(message(b"E", b"SFATAL\0C28P01\0M" + refusal.encode() + b"\0\0"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
