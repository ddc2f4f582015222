"""`make demo` as a newcomer runs it, and a thief who looks everywhere for the credential that it used."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.house_rules.repository import ROOT

pytestmark = pytest.mark.slow
SECONDS = 60
ENOUGH_LOOKS = 10


class Witness(threading.Thread):
    """Notes what every process of the machine shows of itself, as long as the demonstration runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._looks: Counter[str] = Counter()
        self._over = threading.Event()

    def run(self) -> None:
        # The shortest command takes ten times as long; and what a process shows it shows at its start.
        while not self._over.wait(0.05):
            for process in Path("/proc").iterdir():
                if process.name.isdigit() and self._looks[process.name] < ENOUGH_LOOKS:
                    self._looks[process.name] += 1
                    self._look(process)

    def _look(self, process: Path) -> None:
        for name in ("cmdline", "environ"):
            try:
                self.seen.add((process / name).read_bytes())
            except OSError:  # it has ended, or belongs to somebody else
                continue

    def stop(self) -> None:
        self._over.set()
        self.join()


@dataclass
class Demonstration:
    folder: Path
    output: str
    token: str
    seconds: float
    witness: Witness = field(repr=False)


def run_identitymesh(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "identitymesh", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    folder = tmp_path_factory.mktemp("demonstration") / "demo"
    witness = Witness()
    witness.start()
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/demo.py", "--folder", folder],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    witness.stop()
    assert done.returncode == 0, done.stdout
    token = run_identitymesh(folder, "secrets", "get", "secret://crm/token", "--force").stdout
    return Demonstration(folder, done.stdout, token, seconds, witness)


def forms(credential: str) -> dict[str, re.Pattern[bytes]]:
    """The credential as it could have been written by accident."""
    raw = credential.encode()
    found = {
        "raw": raw,
        "hex": raw.hex().encode(),
        "reversed": raw[::-1],
        "URL-encoded": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "quoted": urllib.parse.quote(credential, safe="").encode(),
        "UTF-16": credential.encode("utf-16-le"),
    }
    # In Base64 three neighbours decide the letters: at each offset what is certain is looked for.
    for offset in range(3):
        padded = base64.b64encode(b"\0" * offset + raw)
        certain = padded[(offset * 4 + 2) // 3 : -4]
        found[f"Base64 at {offset}"] = certain
        found[f"Base64 for URLs at {offset}"] = certain.replace(b"+", b"-").replace(b"/", b"_")
    return {name: re.compile(re.escape(text), re.IGNORECASE) for name, text in found.items()}


def places_with(credential: str, texts: Iterator[tuple[str, bytes]]) -> list[str]:
    patterns = forms(credential)
    return [f"{form} in {place}" for place, text in texts for form, pattern in patterns.items() if pattern.search(text)]


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def test_the_search_finds_a_credential_in_every_form() -> None:
    credential = "Zq3-7_hunter2+canary/xyz"
    raw = credential.encode()
    for text in (
        b"token=" + raw,
        raw.hex().upper().encode(),
        base64.b64encode(raw),
        base64.b64encode(b"x" + raw + b"y"),
        base64.urlsafe_b64encode(b"xy" + raw),
        urllib.parse.quote(credential, safe="").encode(),
    ):
        assert places_with(credential, iter([("a", text)])), text


def test_it_ends_by_itself_within_a_minute(demo: Demonstration) -> None:
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # other tests run beside this one
    assert demo.seconds < SECONDS * busy
    assert "# Done in" in demo.output


def test_the_credential_is_nowhere_in_clear(demo: Demonstration) -> None:
    assert len(demo.token) >= 40
    assert len(list(files(demo.folder))) > 5
    assert places_with(demo.token, files(demo.folder)) == []
    assert places_with(demo.token, iter([("output", demo.output.encode())])) == []


def test_the_credential_is_in_no_argument_and_no_environment(demo: Demonstration) -> None:
    seen = demo.witness.seen
    assert any(b"identitymesh\0run" in one for one in seen)
    assert any(b"crm_server.py" in one for one in seen)
    assert places_with(demo.token, ((one[:80].decode(errors="replace"), one) for one in seen)) == []


def test_the_story_is_told_with_real_output(demo: Demonstration) -> None:
    lines = demo.output.splitlines()
    for line in (
        "$ identitymesh init",
        "$ identitymesh secrets set secret://crm/token   # the token arrives on standard input",
        "secret://crm/token is stored (version 1)",
        "$ identitymesh apply mesh.yaml",
        "People: 1,000 created",
        "Nothing to do: every target holds what it should.",
        "People: 3 changed, 1 left",
        "update  crm/user  100002",
        "delete  crm/user  100005",
        "$ identitymesh explain 100003",
        "  HR has 999 people, the CRM 999 accounts; numbers and names are equal: True",
    ):
        assert line in lines, demo.output
    key = lines[lines.index("$ identitymesh init") + 1]
    assert key.startswith("AGE-SECRET-KEY-1")
    assert "error" not in demo.output
    assert "Traceback" not in demo.output


def without_chance(text: str) -> list[str]:
    """Lines in which times, ports and ids are the same in every run."""
    text = re.sub(r"\d+\.\d s\b", "0.0 s", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:]+Z", "2026-01-01T00:00:00Z", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text)
    return re.sub(r"\b[0-9a-f]{32}\b", "0" * 32, text).splitlines()


def test_the_readme_shows_what_it_prints(demo: Demonstration) -> None:
    readme = (ROOT / "README.md").read_text()
    block = readme.split("```text\n")[1].split("```")[0]
    printed = without_chance(demo.output)
    assert [line for line in without_chance(block) if line not in printed and line.strip() != "…"] == []


def test_another_demonstration_starts_over_but_touches_nothing_else(demo: Demonstration, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("important")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/demo.py", "--folder", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "was not made by the demonstration" in done.stderr
    assert (tmp_path / "mine").read_text() == "important"


class Crm:
    """The target, brought back by the command that the demonstration left."""

    def __init__(self, demo: Demonstration) -> None:
        self._token = demo.token
        self._child = subprocess.Popen(
            [sys.executable, demo.folder / "start-crm"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._child.stdout is not None
        self.greeting = self._child.stdout.readline()
        self._url = self.greeting.split(" ")[0]

    def get(self, path: str, token: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token or self._token}"}
        return httpx2.get(f"{self._url}{path}", headers=headers, timeout=30).raise_for_status().json()

    def people(self) -> dict[str, dict[str, Any]]:
        return {one["externalId"]: one for one in self.get("/Users?count=2000")["Resources"]}

    def stop(self, number: signal.Signals) -> int:
        self._child.send_signal(number)
        code = self._child.wait(30)
        assert self._child.stdout is not None
        self._child.stdout.close()
        return code


class TestAfterwards:
    """The folder that it leaves. In this order: each test goes on where the one before it stopped."""

    def test_the_crm_comes_back_with_contents_and_ids(self, demo: Demonstration) -> None:
        crm = Crm(demo)
        try:
            assert "serves 999 people" in crm.greeting
            people = crm.people()
            with pytest.raises(httpx2.HTTPStatusError, match="401"):
                crm.get("/Users", token="wrong")
        finally:
            assert crm.stop(signal.SIGTERM) == 0
        again = Crm(demo)
        try:
            assert {number: one["id"] for number, one in again.people().items()} == {
                number: one["id"] for number, one in people.items()
            }
        finally:
            assert again.stop(signal.SIGINT) == 0
        with closing(sqlite3.connect(demo.folder / "hr.db")) as connection:
            connection.row_factory = sqlite3.Row
            employees = {row["employee_id"]: dict(row) for row in connection.execute("select * from employees")}
        assert people.keys() == employees.keys()
        for number, employee in employees.items():
            assert shown(people[number]) == expected(employee)

    def test_nothing_is_left_to_do_and_a_kill_forgets_nothing(self, demo: Demonstration) -> None:
        crm = Crm(demo)
        try:
            done = run_identitymesh(demo.folder, "run", "--json")
            assert (done.returncode, done.stderr) == (0, "")
            assert json.loads(done.stdout)["row_count"] == 0
            with closing(sqlite3.connect(demo.folder / "hr.db")) as connection, connection:
                connection.execute("update employees set title = 'Queen' where employee_id = '100010'")
            assert run_identitymesh(demo.folder, "run").returncode == 0
            before = crm.people()
        finally:
            crm.stop(signal.SIGKILL)
        again = Crm(demo)
        try:
            assert again.people() == before
            assert before["100010"]["title"] == "Queen"
        finally:
            again.stop(signal.SIGTERM)

    def test_an_emptied_hr_removes_nobody(self, demo: Demonstration) -> None:
        crm = Crm(demo)
        try:
            with closing(sqlite3.connect(demo.folder / "hr.db")) as connection, connection:
                connection.execute("delete from employees")
            planned = run_identitymesh(demo.folder, "plan")
            assert planned.returncode in {0, 6}, planned.stdout + planned.stderr
            assert "999 absences held" in planned.stdout
            run_identitymesh(demo.folder, "run")
            assert len(crm.people()) == 999
        finally:
            crm.stop(signal.SIGTERM)


def shown(person: dict[str, Any]) -> dict[str, Any]:
    enterprise = person["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"]
    return {
        "given": person["name"]["givenName"],
        "last": person["name"]["familyName"],
        "display": person["displayName"],
        "title": person["title"],
        "department": enterprise["department"],
        "number": enterprise["employeeNumber"],
        "active": person["active"],
        "phones": [one["value"] for one in person.get("phoneNumbers", [])],
        "mails": [one["value"] for one in person["emails"]] == [person["userName"]],
    }


def expected(employee: dict[str, Any]) -> dict[str, Any]:
    return {
        "given": employee["first_name"],
        "last": employee["last_name"],
        "display": employee["native_name"] or f"{employee['first_name']} {employee['last_name']}",
        "title": employee["title"],
        "department": employee["department"],
        "number": employee["employee_id"],
        "active": employee["status"] == "active",
        "phones": [employee["phone"].replace(" ", "")] if employee["phone"] else [],
        "mails": True,
    }


def test_the_crm_is_gone_when_the_demonstration_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with subprocess.Popen(
        [sys.executable, ROOT / "scripts/demo.py", "--folder", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("# CRM: "):
                break
        url = line.split(" at ")[1].split(",")[0]
        assert httpx2.get(f"{url}/ServiceProviderConfig", timeout=5).status_code == httpx2.codes.OK
        child.kill()  # it alone: nobody tells the CRM
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx2.get(f"{url}/ServiceProviderConfig", timeout=5)
        except httpx2.TransportError:
            return
        time.sleep(0.1)
    pytest.fail("the CRM still answers")
