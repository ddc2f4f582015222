"""`make demo`: people flow from an HR database into a CRM, and no credential is ever in clear.

Everything happens in the folder `demo/`, which is made anew each time. The commands are the
real ones, and what they print is what you would see. It ends by itself.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NoReturn

from demonstration.people import CHANGES, PEOPLE, change_hr, make_hr
from demonstration.service import Crm, write_start_command

ROOT: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
MARK: Final = ".made-by-demo"
TOKEN_REFERENCE: Final = "secret://crm/token"  # noqa: S105 - its name, not its value


class Show:
    """Says what happens, and runs the commands as a user types them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITYMESH_")}
        # What is printed here is read on a terminal or in a log; progress bars would only flicker by.
        self._environment["COLUMNS"] = str(shutil.get_terminal_size((100, 24)).columns)
        bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._bold, self._plain = ("\x1b[1m", "\x1b[0m") if bold else ("", "")

    def say(self, text: str) -> None:
        """A title or a remark."""
        print(f"\n{self._bold}# {text}{self._plain}", flush=True)

    def run(self, arguments: str, *, stdin: str | None = None, remark: str = "", expect: int = 0) -> None:
        """One command, its output, and how long it took."""
        print(f"\n{self._bold}$ identitymesh {arguments}{self._plain}{remark and f'   # {remark}'}", flush=True)
        started = time.perf_counter()
        done = subprocess.run(
            [str(BIN / "identitymesh"), *arguments.split()],
            cwd=self._folder,
            env=self._environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            text=True,
            check=False,
        )
        print(f"({time.perf_counter() - started:.1f} s)", flush=True)
        if done.returncode != expect:
            raise SystemExit(f"\nThe demonstration failed: `identitymesh {arguments}` ended with {done.returncode}.")


def make_folder(folder: Path) -> None:
    """A new, empty folder; only one that an earlier demonstration made is removed for it."""
    if folder.exists():
        if not (folder / MARK).exists():
            raise SystemExit(
                f"{folder} was not made by the demonstration; move it away, or choose another with --folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("`make demo` removes this folder and makes it anew.\n", encoding="utf-8")


def demonstrate(folder: Path) -> None:
    """The whole story."""
    show = Show(folder)
    token = secrets.token_urlsafe(32)  # the CRM's credential; from here on it exists in memory and in sealed form
    make_hr(folder / "hr.db")
    show.say(f"HR: {folder.name}/hr.db, an SQLite database with {PEOPLE:,} people")
    with Crm(folder / "crm", token) as crm:
        show.say(f"CRM: a SCIM 2.0 service at {crm.url}, empty, that wants a bearer token")
        definition = Path(__file__).with_name("demonstration") / "mesh.yaml"
        text = definition.read_text(encoding="utf-8").replace("{port}", str(crm.port))
        (folder / "mesh.yaml").write_text(text, encoding="utf-8")
        write_start_command(folder / "start-crm")

        show.say(
            "An installation. Its first line is the recovery key: yours would go on paper. This one opens nothing else."
        )
        show.run("init")
        show.run(f"secrets set {TOKEN_REFERENCE}", stdin=f"{token}\n", remark="the token arrives on standard input")
        show.say("Connectors and rules are in demo/mesh.yaml.")
        show.run("apply mesh.yaml")
        show.say("What would happen? Nothing is written yet.")
        show.run("plan --rows 1")
        show.say("Do it.")
        show.run("run")
        show.say("Once more: nothing is left to do.")
        show.run("run")

        show.say("A day at HR: somebody marries, somebody moves, somebody goes on leave, somebody leaves.")
        print("\n".join(f"  {statement};" for statement in CHANGES))
        change_hr(folder / "hr.db")
        show.run("plan")
        show.run("run")
        show.say("Where does every value of this person come from?")
        show.run("explain 100003")
        show.say("And the CRM itself, asked over HTTP, without Identity Mesh:")
        compare(folder / "hr.db", crm.people())


def compare(hr: Path, accounts: list[dict[str, Any]]) -> None:
    """The CRM holds exactly the people of HR."""
    with closing(sqlite3.connect(hr)) as connection:
        people = dict(connection.execute("select employee_id, first_name || ' ' || last_name from employees"))
    names = {one["externalId"]: f"{one['name']['givenName']} {one['name']['familyName']}" for one in accounts}
    same = names == people and len(accounts) == len(people)
    print(f"  HR has {len(people):,} people, the CRM {len(accounts):,} accounts; numbers and names are equal: {same}")
    if not same:
        raise SystemExit("\nThe demonstration failed: the CRM does not hold what HR says.")


def say_goodbye(folder: Path, seconds: float) -> None:
    """What is left, and what to do with it."""
    here = Path.cwd()
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    programs = BIN.relative_to(here) if BIN.is_relative_to(here) else BIN
    python, program = f"{programs}/python", f"{programs}/identitymesh --home {shown}"
    print(f"""
# Done in {seconds:.0f} s. The CRM is stopped; everything else is in {shown}/.

Try next:
  {python} {shown}/start-crm      (brings the CRM back, with its people and ids; then, elsewhere:)
  {program} runs list
  {program} explain 100002
  {program} secrets list
  {python} -c "import sqlite3; sqlite3.connect('{shown}/hr.db', isolation_level=None).execute('delete from employees')"
  {program} plan      (an emptied HR database removes nobody: it says why)
  {programs}/identitymesh --help
""")  # noqa: S608 - a line for a person to type


def main() -> None:
    """Read the arguments, tell the story, and clean up whatever happens."""
    parser = argparse.ArgumentParser(description="People flow from an HR database into a CRM.")
    parser.add_argument("--folder", type=Path, default=ROOT / "demo", help="where everything is made; removed first")
    folder: Path = parser.parse_args().folder.resolve()
    signal.signal(signal.SIGTERM, _terminated)
    started = time.perf_counter()
    make_folder(folder)
    try:
        demonstrate(folder)
    except KeyboardInterrupt:
        raise SystemExit("\nstopped") from None
    say_goodbye(folder, time.perf_counter() - started)


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise SystemExit("\nstopped")


if __name__ == "__main__":
    main()
