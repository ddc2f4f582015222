"""Plain URLs of SQLite, read without SQLAlchemy: it takes longer to import than a short command takes to run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

# Nothing in these stands for something else in a URL, so both readings are the same. ":memory:" is none of them.
_PLAIN: Final = re.compile(r"sqlite:///([A-Za-z0-9_./ -]+)\Z")


def plain_file(url: str) -> Path | None:
    """The file of ``sqlite:///file``; ``None``: another database, or a URL that SQLAlchemy has to read."""
    match = _PLAIN.match(url)
    return None if match is None else Path(match[1])


def plain_url(file: Path) -> str | None:
    """Inverse of :func:`plain_file`; ``None`` where SQLAlchemy has to write it."""
    url = f"sqlite:///{file}"
    return url if _PLAIN.match(url) else None
