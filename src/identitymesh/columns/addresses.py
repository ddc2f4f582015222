"""Where the application's database is: the URL of a plan, taken apart and checked. Nothing is opened here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from identitymesh.redaction import Secret

# What a URL may say after the question mark. Everything else of libpq could carry a credential or weaken TLS.
_OPTIONS: Final = ("host", "port", "application_name", "options")


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """A file that exists."""

    path: str

    def describe(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """``host`` is a name, an address, or a socket folder; what is absent, libpq finds in its own ways."""

    host: str | None
    port: int | None
    database: str | None
    user: str | None
    options: tuple[tuple[str, str], ...] = ()
    password: Secret | None = field(default=None, repr=False)

    def describe(self) -> str:
        place = self.host or "local"
        return f"{place}{f':{self.port}' if self.port else ''}/{self.database or ''}"

    @property
    def local(self) -> bool:
        """Whether nobody between here and the server could listen: a socket, or loopback."""
        if not self.host or self.host.startswith("/") or self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


Address = SqliteAddress | PostgresAddress


def parse_url(url: str) -> Address:
    """Take a URL apart.

    Raises:
        ValueError: not a URL of a database that this works on; nothing of the URL is repeated.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a URL; use postgresql+psycopg://user@host/database") from None
    if "\0" in unquote(url):
        raise ValueError("the URL has a NUL character")
    if parts.scheme == "sqlite":
        return _sqlite(url, parts.query)
    if parts.scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ValueError("the URL begins with postgresql+psycopg:// or with sqlite:///")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ValueError(f"{unknown[0][:40]!r} is not possible after the ? of the URL; possible: {', '.join(_OPTIONS)}")
    host = options.pop("host", "") or (unquote(parts.hostname) if parts.hostname else "")
    if "," in host:
        raise ValueError("the URL names one host")
    given = options.pop("port", "")
    if given and not given.isdigit():
        raise ValueError("the port of the URL is not a number")
    return PostgresAddress(
        host or None,
        port or (int(given) if given else None),
        unquote(parts.path.removeprefix("/")) or None,
        unquote(parts.username) if parts.username else None,
        tuple(sorted(options.items())),
        Secret(unquote(parts.password)) if parts.password else None,
    )


def _sqlite(url: str, query: str) -> SqliteAddress:
    path = unquote(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path or path == ":memory:":
        raise ValueError("the URL of an SQLite file is sqlite:///file.db, or sqlite:////absolute/file.db")
    if query:
        raise ValueError("nothing is possible after the ? in the URL of an SQLite file")
    return SqliteAddress(path)
