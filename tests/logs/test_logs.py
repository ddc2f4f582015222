"""The log: attached for every command, redacted whatever library speaks, and where the settings want it."""

from __future__ import annotations

import io
import json
import logging
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import create_engine, text

from identitymesh.errors import Unreachable
from identitymesh.logs import Wish, attached, failures
from identitymesh.redaction import MASKED, Secret
from tests.connectors.doubles import Credentials, facade
from tests.connectors.servers import Asked, Reply, Service, people, web_server
from tests.connectors.test_no_credential_shows import ACCESS, SECRET, TOKEN, assert_hidden

CANARY = "c4nary-8Rk2Vw"


class Listener:
    """A datagram socket as syslog and the journal have one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(place))
        self.socket.settimeout(10)

    def __call__(self) -> str:
        return self.socket.recv(65536).decode()

    def all(self) -> list[str]:
        """Everything that has arrived."""
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.socket.recv(65536).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def listener() -> Iterator[Listener]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Listener(Path(folder) / "log")
        yield made
        made.socket.close()


def speak() -> None:
    """What a careless library, a careless structlog user and we ourselves say."""
    library = logging.getLogger("somebody.library")
    library.warning("sent %s to %r with %r", Secret(CANARY), {"authorization": CANARY.encode()}, Holder(CANARY))
    library.warning("named %(token)s", {"token": Secret(CANARY)})
    library.warning(Holder(CANARY))
    library.info("headers %s", CANARY)
    library.debug(f"return_value=[(b'authorization', b'{CANARY}')]")
    logging.getLogger("identitymesh.test").warning("opened", extra={"secret": Secret(CANARY), "raw": CANARY.encode()})
    structlog.get_logger("identitymesh.other").warning("spoke", secret=Secret(CANARY), deep=[{"a": CANARY.encode()}])
    try:
        fail(CANARY)
    except RuntimeError:
        library.exception("failed")
        structlog.get_logger("identitymesh.other").exception("failed too")


def fail(credential: str) -> None:
    raise RuntimeError(f"a driver that repeats the password {credential}")


class Holder:
    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return self.value


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("level", ["info", "warning"])
def test_whoever_speaks_no_credential_is_written(form: str, level: str) -> None:
    stream = io.StringIO()
    with attached(Wish(level=level, format=form), stream) as told:
        speak()
    written = stream.getvalue()
    assert told == ()
    assert CANARY not in written
    assert MASKED in written
    assert "<Holder>" in written
    assert "RuntimeError" in written
    assert "test_logs.py:" in written
    assert len(written.splitlines()) == 7
    if form == "json":
        events = [json.loads(line) for line in written.splitlines()]
        assert events[3]["event"] == "opened"
        assert (events[3]["secret"], events[3]["raw"], events[3]["level"]) == (MASKED, "<bytes>", "warning")
        assert events[4]["deep"] == [{"a": "<bytes>"}]


def test_libraries_are_heard_at_debug_but_never_what_they_send() -> None:
    stream = io.StringIO()
    with attached(Wish(level="debug"), stream):
        logging.getLogger("somebody.library").info("request to %s", Holder("x"))
        logging.getLogger("somebody.library").debug("return_value=%s", CANARY)
        logging.getLogger("identitymesh.test").debug("ours")
    assert "request to <Holder>" in stream.getvalue()
    assert "ours" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_real_libraries_at_debug_show_neither_tokens_nor_what_they_buy_nor_parameters() -> None:
    def tokens(_asked: Asked) -> Reply:
        return Reply(200, {"access_token": ACCESS, "token_type": "Bearer"}, {"Set-Cookie": f"session={ACCESS}"})

    stream = io.StringIO()
    with attached(Wish(level="debug"), stream), web_server(tokens) as issuer, web_server(Service(people(1))) as server:
        common = {"type": "scim", "url": server.url, "objects": {"user": {}}}
        with facade({**common, "token": "secret://a/b"}, Credentials(token=TOKEN)) as opened:
            opened.test()
            list(opened.read("user", []))
        oauth = {"token_url": issuer.url, "client_id": "mesh", "client_secret": "secret://a/b"}
        with facade({**common, "oauth": oauth}, Credentials(oauth__client_secret=SECRET)) as opened:
            opened.test()
        logging.getLogger("sqlalchemy").setLevel(logging.INFO)
        try:
            with create_engine("sqlite://", echo=False).connect() as connection:
                connection.execute(text("SELECT :value"), {"value": CANARY})
        finally:
            logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    assert "HTTP Request" in stream.getvalue()
    assert "SELECT ?" in stream.getvalue()
    assert_hidden(stream.getvalue(), TOKEN, SECRET, ACCESS, CANARY)


def test_an_entry_is_one_line_whatever_it_holds() -> None:
    stream = io.StringIO()
    with attached(Wish(), stream):
        logging.getLogger("identitymesh.test").error("failed\nforged", extra={"problem": 'a "b"\n\x1b[31m\u202e'})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'error identitymesh.test: failed\x0aforged problem="a \"b\"\n\u001b[31m\u202e"')


def test_syslog_hears_failures_with_their_priority(listener: Listener) -> None:
    wish = Wish(destination="syslog", address=str(listener.place), quiet=True)
    with attached(wish) as told, pytest.raises(Unreachable), failures():
        raise Unreachable("no answer from db.example.org", connector="hr")
    assert told == ()
    entry = listener()
    assert entry.startswith("<27>identitymesh[")  # facility daemon (3), severity error (3): RFC 3164, section 4.1.1
    assert (
        'identitymesh.failures: failed code=unreachable problem="no answer from db.example.org" connector=hr' in entry
    )


def test_the_journal_hears_them_as_fields(listener: Listener) -> None:
    with attached(Wish(destination="journal", address=str(listener.place))):
        logging.getLogger("identitymesh.test").warning("slow", extra={"run": 7})
    fields = dict(line.split("=", 1) for line in listener().splitlines())
    assert fields["MESSAGE"] == "warning identitymesh.test: slow run=7"
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("4", "identitymesh")


def test_a_journal_that_restarts_is_found_again(listener: Listener) -> None:
    with attached(Wish(destination="journal", address=str(listener.place))):
        listener.socket.close()
        listener.place.unlink()
        again = Listener(listener.place)
        logging.getLogger("identitymesh.test").warning("back")
        assert "back" in again()
        again.socket.close()


@pytest.mark.parametrize("destination", ["syslog", "journal"])
def test_a_log_that_nobody_keeps_is_told_and_stops_nothing(
    destination: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / uuid4().hex)
    for quiet, expected in ((True, "nothing is logged"), (False, "the log goes to standard error")):
        with attached(Wish(destination=destination, address=place, quiet=quiet)) as told:  # type: ignore[arg-type]
            logging.getLogger("identitymesh.test").warning("heard")
        assert f"logging.destination: the {destination} at {place} does not answer" in told[0]
        assert told[0].endswith(expected)
        assert ("heard" in capsys.readouterr().err) != quiet


def test_what_was_before_is_there_again() -> None:
    before = (logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("identitymesh").level)
    with attached(Wish(level="debug"), io.StringIO()):
        assert logging.getLogger().handlers != before[1]
    assert (logging.getLogger().level, logging.getLogger().handlers, logging.getLogger("identitymesh").level) == before
