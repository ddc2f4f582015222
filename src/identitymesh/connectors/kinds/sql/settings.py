"""The settings of the kind ``sql``, and what they mean for credentials and scope."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from identitymesh.connectors.kinds.sql.statements import StatementRefused, check_query
from identitymesh.connectors.settings import ConnectorSettings, ObjectSettings, SecretRef, Url, check_place

POSTGRESQL_PORT: Final = 5432
# What a URL may say after the question mark. Everything else of libpq could carry a password or weaken TLS.
_POSTGRESQL_OPTIONS: Final = ("host", "application_name", "options")


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    path: str


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """``host`` is a name, an address, or a socket folder (which begins with ``/``)."""

    host: str
    port: int
    database: str
    user: str | None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def local(self) -> bool:
        """Whether nobody between here and the server could listen: a socket, or loopback."""
        if self.host.startswith("/") or self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


Address = SqliteAddress | PostgresAddress


def parse_url(url: str) -> Address:
    """Where the database is.

    Raises:
        ValueError: not a URL of a database that this connector reads; nothing of the URL is repeated.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(url, parts.query)
    if parts.scheme not in {"postgresql", "postgresql+psycopg"}:
        raise ValueError("the URL begins with sqlite:/// or with postgresql+psycopg://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - set(_POSTGRESQL_OPTIONS))
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is not possible after the ? of the URL; possible are {', '.join(_POSTGRESQL_OPTIONS)}"
        )
    folder = options.pop("host", "")
    if folder and (parts.hostname or not folder.startswith("/")):
        raise ValueError("?host= names the folder of a socket, and then no host stands before it")
    host = folder or parts.hostname or ""
    if not folder:
        check_place(host, parts.port)
    database = unquote(parts.path.removeprefix("/"))
    if not host or "," in host:
        raise ValueError("the URL names one host, or a socket folder as ?host=/var/run/postgresql")
    if not database:
        raise ValueError("the URL names no database")
    user = unquote(parts.username) if parts.username else None
    if "\0" in f"{host}{database}{user}{options}":
        raise ValueError("the URL has a NUL character")
    return PostgresAddress(host, parts.port or POSTGRESQL_PORT, database, user, tuple(sorted(options.items())))


def _sqlite(url: str, query: str) -> SqliteAddress:
    path = unquote(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path or path == ":memory:":
        raise ValueError("the URL of an SQLite file is sqlite:///file.db, or sqlite:////absolute/file.db")
    if query:
        raise ValueError("nothing is possible after the ? in the URL of an SQLite file")
    return SqliteAddress(path)


def _checked_url(url: str) -> str:
    parse_url(url)
    return url


def _checked_query(query: str | None) -> str | None:
    if query is not None:
        try:
            check_query(query)
        except StatementRefused as refused:
            raise ValueError(str(refused)) from None
    return query


class SqlObject(ObjectSettings):
    """One class of objects: the rows of a query or of a table. Exactly one of both is given."""

    query: Annotated[str | None, AfterValidator(_checked_query)] = Field(
        None, description="One SELECT (or WITH … SELECT) that gives a row for each object."
    )
    table: str | None = Field(
        None,
        min_length=1,
        pattern=r"^[^.\x00]+(\.[^.\x00]+)?$",
        description="A table or view, as `name` or `schema.name`, spelt as in the database.",
    )
    key: str = Field(min_length=1, description="Column that identifies an object for ever.")
    watermark: str | None = Field(
        None,
        min_length=1,
        description="Column that grows with every change; delta runs read rows at or after its last value.",
    )
    overlap: float = Field(
        0.0,
        ge=0,
        le=86400,
        description=(
            "How far a delta run reads back before the last value: seconds of a date, or so much of a number. "
            "Set it where transactions are long: they commit rows with a watermark that others have passed already."
        ),
    )

    @model_validator(mode="after")
    def _query_or_table(self) -> Self:
        if (self.query is None) == (self.table is None):
            raise ValueError("give either query or table")
        return self


class SqlSettings(ConnectorSettings):
    type: Literal["sql"]
    url: Annotated[Url, AfterValidator(_checked_url)] = Field(
        description="`sqlite:///file.db` or `postgresql+psycopg://user@host:port/database`, without a password."
    )
    password: SecretRef | None = Field(None, description="Password of the database user.")
    ca_file: str | None = Field(None, description="Certificates (PEM) that the server's certificate must come from.")
    allow_cleartext: bool = Field(
        False, description="Send password and people without TLS to another host, if the server wants it so."
    )
    objects: dict[str, SqlObject] = Field(min_length=1, description="What is read, for each class of objects.")

    @model_validator(mode="after")
    def _fits_the_database(self) -> Self:
        if isinstance(parse_url(self.url), SqliteAddress):
            given = [name for name in ("password", "ca_file") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{given[0]} means nothing for an SQLite file")
        return self

    @property
    def address(self) -> Address:
        return parse_url(self.url)

    def below(self, folder: Path) -> Self:
        settings = super().below(folder)
        address = self.address
        if not isinstance(address, SqliteAddress):
            return settings
        return settings.model_copy(update={"url": f"sqlite:///{quote(str(folder / address.path))}"})


def endpoints(settings: SqlSettings) -> Sequence[str]:
    """``host:port`` of the server that gets the password; a socket as ``folder:port``; none for a file."""
    address = settings.address
    if isinstance(address, SqliteAddress):
        return ()
    host = address.host if address.host.startswith("/") else address.host.lower()  # letters of a folder are not equal
    host = f"[{host}]" if ":" in host else host
    return (f"{host}:{address.port}",)


def unwritable(settings: SqlSettings, object_class: str) -> str:
    """Why this class cannot be written: rows of a query belong to nobody knows which table."""
    return "it is read with a query; to write to it, name a `table`" if settings.objects[object_class].query else ""


def scope(settings: SqlSettings, object_class: str) -> str:
    """What decides which rows a complete read gives: URL, query or table, and key."""
    selected = settings.objects[object_class]
    source = f"query {selected.query}" if selected.query is not None else f"table {selected.table}"
    return f"{settings.url}\n{source}\nkey {selected.key}"
