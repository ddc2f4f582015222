"""How a kind declares its settings: pydantic models, with credentials declared as such.

A field of type :data:`SecretRef` takes a reference (``secret://seg/seg`` or
``{{secret:seg/seg}}``) and nothing else; plaintext is refused and never echoed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from identitymesh.errors import ReferenceInvalid
from identitymesh.secrets.references import SecretReference, parse_setting

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")


class Settings(BaseModel):
    """Base of every settings model: unknown names are errors, values are frozen, inputs are never echoed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class ObjectSettings(Settings):
    """Base of what a kind says about one object class."""


class ConnectorSettings(Settings):
    """Base of what every kind has beside its own fields; ``objects`` is added by the kind."""

    type: str
    renamed_from: str | None = Field(
        None, description="Former name of this connector; its objects and history follow. Applied while nothing runs."
    )
    schedule: str | None = Field(None, description="Cron expression for delta runs: what changed since the last.")
    full_schedule: str | None = Field(None, description="Cron expression for complete runs, which alone show leavers.")
    timeout: float = Field(30.0, gt=0, le=3600, description="Seconds that one call may take.")

    def below(self, folder: Path) -> Self:
        """The same settings with relative paths starting at ``folder``, where the installation is.

        A kind with paths of its own beside ``ca_file`` adds them.
        """
        ca_file = getattr(self, "ca_file", None)
        return self if ca_file is None else self.model_copy(update={"ca_file": str(folder / ca_file)})


def _reference(value: Any) -> Any:
    if isinstance(value, SecretReference):
        return value
    if not isinstance(value, str):
        raise ValueError("a secret reference is text such as secret://hr/reader")
    try:
        return parse_setting(value)
    except ReferenceInvalid as refused:
        # pydantic reports ValueErrors with the name of the field; the message repeats nothing of the value.
        raise ValueError(f"{refused.message}. {refused.hint}") from None


SecretRef = Annotated[
    SecretReference,
    BeforeValidator(_reference),
    PlainSerializer(str, return_type=str),  # dumped settings are read again: stored versions, copies
    WithJsonSchema({"type": "string", "pattern": "^(secret://|\\{\\{secret:)", "secret": True}),
]


def _no_userinfo_password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        raise ValueError("not a URL") from None
    if password is not None:
        raise ValueError(
            "a password in a URL is refused: store it with `identitymesh secrets set` and name its reference"
        )
    return url


def check_place(host: str, port: int | None) -> None:
    """A host that every reader of the URL takes for the same one.

    Raises:
        ValueError: it is not; nothing of the URL is repeated.
    """
    if not _HOST.fullmatch(host):
        raise ValueError(
            "the host is a name of ASCII letters, digits, dots and hyphens (xn-- for others), or an address"
        )
    if port == 0:
        raise ValueError("there is no port 0")


Url = Annotated[str, AfterValidator(_no_userinfo_password)]


def secret_fields(settings: BaseModel, prefix: str = "") -> dict[str, SecretReference]:
    """Every declared secret of a settings value: dotted path of the field, and the reference in it."""
    found: dict[str, SecretReference] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        path = f"{prefix}{name}"
        if isinstance(value, SecretReference):
            found[path] = value
        elif isinstance(value, BaseModel):
            found.update(secret_fields(value, f"{path}."))
        elif isinstance(value, dict):
            for key, child in value.items():
                if isinstance(child, BaseModel):
                    found.update(secret_fields(child, f"{path}.{key}."))
    return found
