"""Which versions of the schema this program has migrations of. Needs no database and no Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from identitymesh.errors import SchemaOutdated

SCRIPTS: Final = Path(__file__).parent / "migrations"


def head() -> str:
    """The version that this program works with: that of the newest script, whose file name begins with it."""
    return max(known())


def known() -> set[str]:
    """Versions of all scripts. Read from their names: importing Alembic for every command would cost half a second."""
    found = {path.name.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py")}
    if not found:
        raise SchemaOutdated("this program carries no migrations", hint="Install it again; its package is incomplete.")
    return found
