"""The settings of the kind ``csv``."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from identitymesh.connectors.settings import ConnectorSettings, ObjectSettings, Settings

_LINE_BREAKS: Final = "\r\n"


def _checked_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
        "".encode(name)  # refuses codecs that are none of text, such as base64
    except LookupError:
        raise ValueError("there is no such encoding; for example utf-8, utf-16, cp1252, iso-8859-15") from None
    return name


def _checked_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("the path has a NUL character")
    return path


def _no_line_break(text: str) -> str:
    if any(character in _LINE_BREAKS for character in text):
        raise ValueError("a line break ends a row and cannot be this")
    return text


_FilePath = Annotated[str, AfterValidator(_checked_path)]
_Character = Annotated[str, AfterValidator(_no_line_break)]


class Expect(Settings):
    """How a whole file is recognised; all that is given must hold."""

    min_rows: int | None = Field(None, ge=1, description="A whole file has at least so many rows of people.")
    trailer: str | None = Field(
        None,
        min_length=1,
        description=(
            "First cell of the row that closes a whole file. "
            "A whole number in its second cell must be the number of rows before it."
        ),
    )
    sha256_file: _FilePath | None = Field(
        None, min_length=1, description="File that begins with the SHA-256 of a whole file in hexadecimal digits."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.min_rows is None and self.trailer is None and self.sha256_file is None:
            raise ValueError("give at least one of min_rows, trailer and sha256_file")
        return self


class CsvObject(ObjectSettings):
    """One class of objects: the rows of a file."""

    path: _FilePath = Field(min_length=1, description="The file; relative paths start in the installation's folder.")
    key: str = Field(min_length=1, description="Column that identifies an object for ever.")
    expect: Expect | None = Field(
        None, description="How a whole file is recognised. Without it absences are held until they are approved."
    )
    encoding: Annotated[str, AfterValidator(_checked_encoding)] = Field(
        "utf-8", description="Name of the encoding, as Python knows it. A byte order mark is skipped."
    )
    delimiter: _Character = Field(",", min_length=1, max_length=1, description="What stands between two cells.")
    quote: _Character = Field(
        '"',
        max_length=1,
        description="What cells with delimiters stand in, doubled inside; empty: there are no quotes.",
    )
    escape: _Character | None = Field(
        None, min_length=1, max_length=1, description="Takes the meaning from the character that follows it."
    )
    absent: str = Field("", description="Cells with exactly this text have no value.")
    columns: list[str] | None = Field(
        None, min_length=1, description="Names of the columns, for a file whose first row does not have them."
    )
    several: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Columns whose cells hold several values, each with what stands between two of them.",
    )
    final_newline: bool = Field(True, description="Whether the last row of a whole file ends with a line break.")

    @model_validator(mode="after")
    def _different_characters(self) -> Self:
        used = [one for one in (self.delimiter, self.quote, self.escape) if one]
        if len(set(used)) < len(used):
            raise ValueError("delimiter, quote and escape must be different characters")
        return self


class CsvSettings(ConnectorSettings):
    type: Literal["csv"]
    objects: dict[str, CsvObject] = Field(min_length=1, description="The file that is read, for each class of objects.")

    def below(self, folder: Path) -> Self:
        return self.model_copy(update={"objects": {name: _below(one, folder) for name, one in self.objects.items()}})


def _below(selected: CsvObject, folder: Path) -> CsvObject:
    update: dict[str, object] = {"path": str(folder / selected.path)}
    expect = selected.expect
    if expect is not None and expect.sha256_file is not None:
        update["expect"] = expect.model_copy(update={"sha256_file": str(folder / expect.sha256_file)})
    return selected.model_copy(update=update)


def endpoints(settings: CsvSettings) -> Sequence[str]:
    """None: a file has no login."""
    del settings
    return ()


def scope(settings: CsvSettings, object_class: str) -> str:
    """What decides which rows a complete read gives: path and key."""
    selected = settings.objects[object_class]
    return f"{selected.path}\nkey {selected.key}"
