"""What ``identitymesh --help`` prints, made from the first line of each command's file. Imports nothing slow."""

from __future__ import annotations

import os

FOLDER = os.path.join(os.path.dirname(__file__), "commands")  # noqa: PTH118, PTH120 - pathlib doubles the start-up time

HEAD = """\
Usage: identitymesh [--home DIR] COMMAND [OPTIONS]

Keeps people's accounts in step across HR databases, directories and SaaS,
and looks after the credentials that this takes.
"""
DAY = """
A first day:
  identitymesh init                            in a new folder; note the recovery key
  identitymesh secrets set secret://hr/reader  asks for the value, shows nothing
  identitymesh apply mesh.yaml                 your connectors and rules
  identitymesh plan                            what would change, written nowhere
  identitymesh run                             the same, and writes it
  identitymesh serve                           that by the schedules, until stopped
"""
OPTIONS = """
Options:
  --home DIR            the installation's folder [IDENTITYMESH_HOME, else here]
  --debug               after an unforeseen error, show where it happened
  --version             the version of this program
  --install-completion  completion for this shell; --show-completion prints it
  -h, --help            this text; each command has its own

Every command takes --json. Exit codes: 0 done, 2 wrong call, 3 refused settings or
definition, 4 secret, 5 ended with problems, 6 held for approval, 7 busy,
8 unreachable, 1 anything else.
"""


def command_names() -> list[str]:
    """The commands there are: one file each."""
    return sorted(
        name.removesuffix(".py").replace("_", "-")
        for name in os.listdir(FOLDER)  # noqa: PTH208 - as above
        if name.endswith(".py") and not name.startswith("_")
    )


def summary(name: str) -> str:
    """The first line of a command's file."""
    with open(os.path.join(FOLDER, f"{name.replace('-', '_')}.py"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as above
        return file.readline().strip().strip('"').rstrip(".")


def overview() -> str:
    """The whole text."""
    commands = "".join(f"  {name:<15}{summary(name)}\n" for name in command_names())
    return f"{HEAD}{DAY}\nCommands:\n{commands}{OPTIONS}"


def version() -> str:
    from identitymesh import __version__

    return f"identitymesh {__version__}\n"
