import base64
import copy
import io
import json
import logging
import pickle
import pprint
import resource
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from uuid import uuid4

import orjson
import pytest
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.traceback import Traceback

from identitymesh.logs import RedactingFilter, loggable, redact_event
from identitymesh.redaction import MASKED, Secret
from identitymesh.secrets.process import child_environment
from tests.house_rules.repository import ROOT

CANARY = "hunter2-canary"


@dataclass
class Holder:
    name: str
    secret: Secret


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    secret: Secret


def test_text_forms_are_a_fixed_mark() -> None:
    secret = Secret(CANARY)
    holder = Holder("x", secret)
    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret:>20}",
        "%s %r" % (secret, secret),  # noqa: UP031
        "{} {!r}".format(secret, secret),  # noqa: UP032
        Template("$x").substitute(x=secret),
        repr(holder),
        repr(asdict(holder)),
        pprint.pformat({"a": [secret]}),
        repr(Model(secret=secret)),
        json.dumps([secret], default=str),
        repr(copy.copy(secret)),
        repr(copy.deepcopy(holder)),
    ):
        assert CANARY not in text
        assert MASKED in text
    assert len(str(Secret("x"))) == len(str(secret))


def test_it_does_not_leave_by_other_doors() -> None:
    secret = Secret(CANARY)
    for door in (
        lambda: pickle.dumps(secret),
        lambda: pickle.dumps(Holder("x", secret)),
        lambda: json.dumps(secret),
        lambda: json.dumps(asdict(Holder("x", secret))),
        lambda: orjson.dumps(secret),
        lambda: orjson.dumps(Holder("x", secret)),
        lambda: bytes(secret),  # type: ignore[call-overload]
        lambda: list(secret),  # type: ignore[call-overload]
        lambda: len(secret),  # type: ignore[arg-type]
        lambda: hash(secret),
        lambda: memoryview(secret),  # type: ignore[arg-type]
        lambda: vars(secret),
        secret.__getstate__,
        lambda: secret + b"x",  # type: ignore[operator]
        lambda: base64.b64encode(secret),  # type: ignore[arg-type]
        lambda: Model(secret=secret).model_dump_json(),
    ):
        with pytest.raises((TypeError, ValueError)) as refused:
            door()
        assert CANARY not in str(refused.value)


def test_it_compares_by_value() -> None:
    assert Secret("a") == Secret(b"a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")
    with pytest.raises(ValueError, match="not UTF-8"):
        Secret(b"\xff").reveal_text()


def fail(nested: object) -> None:
    raise RuntimeError(str(nested))


def test_logs_and_tracebacks_with_locals_do_not_show_it() -> None:
    secret = Secret(CANARY)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("test")  # noqa: LOG001
    logger.addHandler(handler)
    logger.warning("value %s %r", secret, b"hunter2-canary")
    logger.warning("value %(x)s", {"x": secret})
    logger.warning(secret)
    with pytest.raises(RuntimeError) as raised:
        fail({"holder": Holder("x", secret)})
    error = raised.value
    logger.error("failed", exc_info=error)
    text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    rendered = io.StringIO()
    Console(file=rendered).print(Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True))
    for written in (stream.getvalue(), text, rendered.getvalue()):
        assert CANARY not in written
        assert MASKED in written


def test_log_events_are_redacted_by_type() -> None:
    number = uuid4()
    event = redact_event(
        None,
        "info",
        {
            "event": "opened",
            "secret": Secret(CANARY),
            "bytes": CANARY.encode(),
            "deep": [{"a": (Secret(CANARY), memoryview(CANARY.encode()))}],
            "path": Path("/x"),
            "id": number,
            "error": ValueError("wrong"),
            "exc_info": True,
        },
    )
    assert event["secret"] == MASKED
    assert event["bytes"] == "<bytes>"
    assert event["deep"] == [{"a": [MASKED, "<memoryview>"]}]
    assert (event["path"], event["id"], event["error"]) == (Path("/x"), number, "ValueError: wrong")
    assert event["exc_info"] is True
    assert loggable(Holder("x", Secret(CANARY))) == "<Holder>"


def test_a_hardened_process_leaves_no_core() -> None:
    program = (
        "import ctypes, resource; from identitymesh.secrets.process import harden_process; harden_process();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = "0" if sys.platform == "linux" else "-1"
    assert child.stdout.split() == ["(0,", "0)", expected]
    assert resource.getrlimit(resource.RLIMIT_CORE) is not None
    assert child_environment()["PYTHONPATH"] == str(ROOT / "src")
