"""The plan file: which columns and rows of which database are encrypted, with which key.

The shape is published as JSON Schema by ``identitymesh columns schema``. Unknown names are
errors, every problem is told with its line, and no value of the file is ever repeated.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from identitymesh.columns.addresses import Address, PostgresAddress, parse_url
from identitymesh.columns.formats import Format
from identitymesh.columns.places import ColumnPlace, Place, RowPlace
from identitymesh.definition.positions import Document, dotted, parse
from identitymesh.errors import ColumnPlanRefused, Problem

MOST_BYTES = 1_000_000
_NAME = r'[^."%\x00-\x1f]{1,63}'
TableName = Annotated[str, StringConstraints(strict=True, pattern=rf"^{_NAME}(\.{_NAME})?$")]
ColumnPath = Annotated[str, StringConstraints(strict=True, pattern=rf"^{_NAME}\.{_NAME}(\.{_NAME})?$")]
ColumnName = Annotated[str, StringConstraints(strict=True, pattern=rf"^{_NAME}$")]
RowName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1000)]


def _absolute(path: str) -> str:
    if not Path(path).is_absolute():
        raise ValueError("give the whole path, beginning with /: a plan means the same from any folder")
    return path


def _url(url: str) -> str:
    parse_url(url)
    return url


AbsolutePath = Annotated[str, StringConstraints(strict=True, min_length=1), AfterValidator(_absolute)]
DatabaseUrl = Annotated[str, StringConstraints(strict=True), AfterValidator(_url)]


class PlanPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ColumnShape(PlanPart):
    """A column. Encrypted values stand in two new columns of the same table."""

    column: ColumnPath = Field(description="`table.column` or `schema.table.column`, spelt as in the database.")
    encrypted: ColumnName | None = Field(None, description="Column of encrypted values; default NAME_encrypted.")
    nonce: ColumnName | None = Field(None, description="Column of nonces; default NAME_nonce.")

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if max(map(len, self.place().columns)) > 63:
            raise ValueError("the name with its ending is longer than 63 characters; name `encrypted` and `nonce`")
        return self

    def place(self) -> ColumnPlace:
        table, _, column = self.column.rpartition(".")
        return ColumnPlace(table, column, self.encrypted or f"{column}_encrypted", self.nonce or f"{column}_nonce")


class RowShape(PlanPart):
    """A row of a key/value table. Encrypted values stand in two new rows, as lower-case hex."""

    row: RowName = Field(description="The key of the row.")
    table: TableName
    key_column: ColumnName = Field("key", description="Column of keys, with a unique index.")
    value_column: ColumnName = Field("value", description="Column of values, of a text type.")
    encrypted: RowName | None = Field(None, description="Key of the encrypted value; default KEY_encrypted.")
    nonce: RowName | None = Field(None, description="Key of its nonce; default KEY_nonce.")

    def place(self) -> RowPlace:
        return RowPlace(
            self.table,
            self.key_column,
            self.value_column,
            self.row,
            self.encrypted or f"{self.row}_encrypted",
            self.nonce or f"{self.row}_nonce",
        )


def _shape_of(value: Any) -> str:
    named = value if isinstance(value, dict) else vars(value) if isinstance(value, PlanPart) else {}
    return "row" if "row" in named else "column"


PlaceShape = Annotated[
    Annotated[ColumnShape, Tag("column")] | Annotated[RowShape, Tag("row")], Discriminator(_shape_of)
]


class Plan(PlanPart):
    version: Literal[1]
    database: DatabaseUrl = Field(
        description="postgresql+psycopg://user@host/database or sqlite:////absolute/file.db. "
        "A password in it is taken only from a plan file that nobody else can read."
    )
    password_file: AbsolutePath | None = Field(
        None, description="File of mode 0400 or 0600 with the password of the database login."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="Authority that signed the server's certificate; default that of the system."
    )
    key: AbsolutePath = Field(description="Key file, made by `identitymesh columns init-key`; one for each purpose.")
    format: Format = Field(
        Format.COMPATIBLE, description="What values are encrypted as: `compatible` (bare AES-256-GCM) or `sealed`."
    )
    triggers: Literal["bypass", "fire"] = Field(
        "bypass",
        description="Triggers of the application on UPDATE: `bypass` (PostgreSQL: needs the right to set "
        "session_replication_role; refused where it is missing), or `fire` for every encrypted row.",
    )
    places: list[PlaceShape] = Field(min_length=1, description="What is encrypted.")

    @field_validator("places")
    @classmethod
    def _apart(cls, places: list[ColumnShape | RowShape]) -> list[ColumnShape | RowShape]:
        taken: set[tuple[str, ...]] = set()
        for shape in places:
            for name in _names(shape.place()):
                if name in taken:
                    raise ValueError(f"two places use {'.'.join(name)}; each column or row is named once")
                taken.add(name)
        return places

    @property
    def address(self) -> Address:
        """Where the database is."""
        return parse_url(self.database)

    def resolved(self) -> tuple[Place, ...]:
        """The places, with the names of everything that belongs to them."""
        return tuple(shape.place() for shape in self.places)


def _names(place: Place) -> Iterator[tuple[str, ...]]:
    if isinstance(place, ColumnPlace):
        for column in place.columns:
            yield (place.table, column)
    else:
        for row in place.rows:
            yield (place.table, place.key_column, row)


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        ColumnPlanRefused: with every problem found, each with its line; no value is quoted.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ColumnPlanRefused(source, [Problem(f"the plan cannot be read: {reason}")]) from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ColumnPlanRefused(source, [Problem("the plan is not UTF-8 text")]) from None
    document, problems = parse(text)
    if document is None:
        raise ColumnPlanRefused(source, problems)
    plan = _validated(document, source)
    _keep_password(plan, document, facts, source)
    return plan


def _validated(document: Document, source: str) -> Plan:
    try:
        return Plan.model_validate(document.data)
    except ValidationError as error:
        raise ColumnPlanRefused(source, _problems(document, error), hint=_HINT) from None


_HINT = "Correct the lines above; `identitymesh columns schema` gives the JSON Schema for your editor."


def _problems(document: Document, error: ValidationError) -> list[Problem]:
    found = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        path = item["loc"]
        if path[:1] == ("places",) and len(path) > 2:
            path = (*path[:2], *path[3:])  # pydantic names there which of the two shapes it tried
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        elif item["type"] == "missing":
            message = "missing"
        elif item["type"] == "string_pattern_mismatch":
            message = "not spelt as table.column or schema.table.column (names without dots, quotes and %)"
        line, column = document.locate(path) or (None, None)
        found.append(Problem(message, dotted(path), line, column))
    return sorted(found, key=lambda problem: (problem.line or 0, problem.column or 0))


def _keep_password(plan: Plan, document: Document, facts: os.stat_result, source: str) -> None:
    """A password in a URL is as safe as the file: it may stand in one that only we can read."""
    address = plan.address
    if not isinstance(address, PostgresAddress) or address.password is None:
        return
    line, column = document.locate(("database",)) or (None, None)
    message = ""
    if plan.password_file is not None:
        message = "a password stands here, and password_file names another"
    elif stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_uid != os.geteuid():
        message = "a password in the URL, and others can read this file"
    if message:
        raise ColumnPlanRefused(
            source,
            [Problem(message, "database", line, column)],
            hint=f"Remove the password and name a file of mode 0400 in password_file, use peer authentication or "
            f"PGPASSFILE, or make the plan yours alone: chmod 600 {source}",
        )


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a plan file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Plan.model_json_schema(),
        "title": "Identity Mesh plan of encrypted columns",
    }
