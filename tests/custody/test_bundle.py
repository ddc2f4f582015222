"""The bundle: out with everything for the ordinary age program, in with all of it or nothing."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from pyrage import x25519

from tests.custody.conftest import Home

KEY = x25519.Identity.generate()
RECIPIENT, IDENTITY = str(KEY.to_public()), str(KEY)
VALUES = {"secret://a/plain": "hunter2", "secret://b/unicode": "pässwörd\nzwei", "secret://smtp": "mail"}


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Another installation."""
    made = Home(tmp_path / "other", monkeypatch)
    made.init()
    return made


def filled(home: Home) -> Home:
    home.store("secret://a/plain", VALUES["secret://a/plain"], "--owner", "HR", "--cadence-days", "90")
    home.store("secret://b/unicode", VALUES["secret://b/unicode"], "--description", "zwei Zeilen")
    home.store("secret://smtp", VALUES["secret://smtp"], "--keyring", "application")
    return home


def exported(home: Home, *recipients: str) -> Path:
    file = home.folder / "secrets.age"
    options = [part for one in recipients or (RECIPIENT,) for part in ("--recipient", one)]
    answer = home.ok("secrets", "export", "--to", str(file), *options)
    assert "3 secrets written" in answer.out
    return file


def value(home: Home, ref: str) -> str:
    return home.ok("secrets", "get", ref, "--force").out


def sealed(content: Any, file: Path) -> Path:
    file.write_bytes(pyrage.encrypt(json.dumps(content).encode(), [KEY.to_public()]))
    return file


def test_everything_goes_out_and_comes_in(home: Home, other: Home) -> None:
    file = exported(filled(home), RECIPIENT, str(x25519.Identity.generate().to_public()))
    assert file.stat().st_mode & 0o7777 == 0o600
    for text in VALUES.values():
        assert text.encode() not in file.read_bytes()
    done = other.ok("secrets", "import", str(file), "--json", stdin=IDENTITY + "\n").document
    assert done["stored"] == sorted(VALUES)
    for ref, text in VALUES.items():
        assert value(other, ref) == text
    listed = {one["ref"]: one for one in other.ok("secrets", "list", "--json").document["secrets"]}
    assert (listed["secret://a/plain"]["owner"], listed["secret://a/plain"]["cadence_days"]) == ("HR", 90)
    assert listed["secret://smtp"]["keyring"] == "application"
    assert all(one["audience"] == [] for one in listed.values())  # it goes nowhere before an apply
    (record,) = home.audit("secret.export")
    assert record.record.payload["refs"] == sorted(VALUES)
    assert len(other.audit("secret.import")) == 1


def test_the_ordinary_program_opens_it(embedded: Home, tmp_path: Path) -> None:
    if shutil.which("age") is None:
        pytest.skip("there is no program age here")
    file = exported(filled(embedded))
    key = tmp_path / "key.txt"
    key.write_text(f"# made by a test\n{IDENTITY}\n")
    shown = subprocess.run(["age", "--decrypt", "--identity", str(key), str(file)], capture_output=True, check=True)
    content = json.loads(shown.stdout)
    assert content["format"] == "identitymesh-bundle/1"
    assert {one["ref"]: base64.b64decode(one["value"]).decode() for one in content["secrets"]} == VALUES
    assert "3 secrets stored" not in embedded.ok("secrets", "import", str(file), "--identity", str(key)).out


def test_the_difference_is_shown_without_a_value(home: Home, other: Home) -> None:
    file = exported(filled(home))
    other.store("secret://a/plain", "hunter2")
    other.store("secret://b/unicode", "another")
    shown = other.ok("secrets", "import", str(file), "--dry-run", stdin=IDENTITY)
    for line in ("same          secret://a/plain", "different     secret://b/unicode", "new           secret://smtp"):
        assert line in shown.out
    assert "Nothing was stored." in shown.out
    for text in (*VALUES.values(), "another", IDENTITY):
        assert text not in shown.out + shown.err
    assert other("secrets", "exists", "secret://smtp").code == 1

    refused = other("secrets", "import", str(file), stdin=IDENTITY)
    assert refused.code == 4
    assert "1 of its secrets are stored here with another value, nothing was stored" in refused.err
    assert other("secrets", "exists", "secret://smtp").code == 1

    other.ok("secrets", "import", str(file), "--on-conflict", "keep", stdin=IDENTITY)
    assert value(other, "secret://b/unicode") == "another"
    assert value(other, "secret://smtp") == "mail"
    other.ok("secrets", "import", str(file), "--on-conflict", "replace", stdin=IDENTITY)
    assert value(other, "secret://b/unicode") == VALUES["secret://b/unicode"]
    assert other.sql("SELECT version FROM secret WHERE ref = 'secret://a/plain'") == [(1,)]


def one(**changes: Any) -> dict[str, Any]:
    entry = {"ref": "secret://x/y", "keyring": "connectors", "value": "aGk=", "owner": None, "description": None}
    return entry | {"cadence_days": None} | changes


def bundle(*secrets: Any, **changes: Any) -> dict[str, Any]:
    head = {"format": "identitymesh-bundle/1", "installation": "i", "created": "2026-01-01T00:00:00Z"}
    return head | {"secrets": list(secrets)} | changes


ODD: dict[str, tuple[Any, str]] = {
    "another format": (bundle(format="identitymesh-bundle/2"), "not a bundle of this version"),
    "a list": ([], "not a bundle of this version"),
    "a field too many": (bundle(extra=1), "not a bundle of this version"),
    "an entry with a field too many": (bundle(one(extra=1)), "fields that are missing or unknown"),
    "an entry without a field": (bundle({"ref": "secret://x"}), "fields that are missing or unknown"),
    "a ref twice": (bundle(one(), one()), "a reference is in it twice"),
    "dots": (bundle(one(ref="secret://a/../b")), "number 1 has no valid reference"),
    "a ref that is too long": (bundle(one(ref="secret://" + "a/" * 9 + "b")), "no valid reference"),
    "a ref that is a number": (bundle(one(ref=1)), "no valid reference"),
    "an unknown keyring": (bundle(one(keyring="other")), "names a keyring that this program has not"),
    "an empty value": (bundle(one(value="")), "the value is empty"),
    "a value of 16 KiB + 1": (bundle(one(value=base64.b64encode(bytes(16385)).decode())), "16384 is the limit"),
    "a huge value": (bundle(one(value="A" * 100_000)), "not Base64, or is too large"),
    "no Base64": (bundle(one(value="hunter2!")), "not Base64"),
    "an odd owner": (bundle(one(owner=["x"])), "owner or description"),
    "a long description": (bundle(one(description="x" * 1001)), "owner or description"),
    "an odd cadence": (bundle(one(cadence_days=True)), "no number of days"),
    "the second is odd": (bundle(one(), one(ref="secret://z", value="")), "the value is empty"),
}


@pytest.mark.parametrize(("content", "text"), ODD.values(), ids=ODD.keys())
def test_what_is_odd_is_refused_whole(embedded: Home, tmp_path: Path, content: Any, text: str) -> None:
    refused = embedded("secrets", "import", str(sealed(content, tmp_path / "odd.age")), stdin=IDENTITY)
    assert refused.code == 4
    assert text in refused.err
    assert "hunter2" not in refused.err
    assert embedded.sql("SELECT * FROM secret") == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the header": lambda raw: raw[:60] + bytes([raw[60] ^ 1]) + raw[61:],
    "a bit of the body": lambda raw: raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:],
    "cut short": lambda raw: raw[:-20],
    "one byte more": lambda raw: raw + b"x",
    "empty": lambda raw: raw[:0],
    "text": lambda raw: b"secrets" + raw[:0],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_refused(embedded: Home, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = sealed(bundle(one()), tmp_path / "x.age")
    file.write_bytes(damage(file.read_bytes()))
    refused = embedded("secrets", "import", str(file), stdin=IDENTITY)
    assert refused.code in {2, 4}
    assert "no age file, or is damaged" in refused.err or "not sealed to this key" in refused.err
    assert embedded.sql("SELECT * FROM secret") == []


@pytest.mark.parametrize(
    ("arguments", "stdin", "text"),
    [
        (("import", "{file}"), "{another}", "not sealed to this key"),
        (("import", "{file}"), "hunter2", "no private age key was given"),
        (("import", "{file}"), "{damaged}", "not an age key"),
        (("import", "{file}", "--on-conflict", "newer"), "{key}", "refuse, keep, replace"),
        (("import", "{file}.missing"), "{key}", "cannot be read"),
        (("export", "--to", "{file}", "--recipient", "{recipient}"), "", "exists already"),
        (("export", "--to", "{file}.new", "--recipient", "age1nobody"), "", "not an age recipient"),
        (("export", "--to", "{file}/x", "--recipient", "{recipient}"), "", "cannot be written"),
    ],
)
def test_wrong_calls(embedded: Home, tmp_path: Path, arguments: tuple[str, ...], stdin: str, text: str) -> None:
    file = sealed(bundle(one()), tmp_path / "x.age")
    before = file.read_bytes()
    given = [part.replace("{file}", str(file)).replace("{recipient}", RECIPIENT) for part in arguments]
    wrong = IDENTITY[:-1] + ("Q" if IDENTITY[-1] != "Q" else "P")
    keys = {"{another}": str(x25519.Identity.generate()), "{damaged}": wrong, "{key}": IDENTITY}
    refused = embedded("secrets", *given, stdin=keys.get(stdin, stdin))
    assert refused.code == 2
    assert text in refused.err
    assert "hunter2" not in refused.err
    assert IDENTITY not in refused.err
    assert file.read_bytes() == before


def test_a_broken_secret_makes_no_bundle(embedded: Home) -> None:
    filled(embedded)
    embedded.sql("UPDATE secret SET version = 7 WHERE ref = 'secret://a/plain'")
    refused = embedded("secrets", "export", "--to", str(embedded.folder / "x.age"), "--recipient", RECIPIENT)
    assert refused.code == 4
    assert "secret://a/plain" in refused.err
    assert not (embedded.folder / "x.age").exists()


def test_a_secret_of_the_other_keyring_is_refused(home: Home, other: Home) -> None:
    file = exported(filled(home))
    other.store("secret://smtp", "mail")  # in connectors here
    refused = other("secrets", "import", str(file), "--on-conflict", "replace", stdin=IDENTITY)
    assert refused.code == 4
    assert "stored here in the other keyring" in refused.err
    assert other("secrets", "exists", "secret://a/plain").code == 1
