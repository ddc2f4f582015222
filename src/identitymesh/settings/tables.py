"""What may stand in each table of ``identitymesh.toml``, with its default and what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from identitymesh.secrets.providers import known_providers


def _provider(name: str) -> str:
    if name not in known_providers():
        raise ValueError(f"unknown provider {name[:40]!r}; known: {', '.join(known_providers())}")
    return name


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DatabaseSettings(Part):
    """Where the product's database is. Relative paths start at the folder of the installation."""

    url: str = Field(
        "sqlite:///identitymesh.db", description="`sqlite:///file` or `postgresql://user@host/name`; no password in it."
    )
    password_file: Path | None = Field(
        None, description="A file with the password of the database, mode 0400 or 0600, owned by who runs the program."
    )
    root_certificate: Path | None = Field(
        None, description="PostgreSQL: the authority that the server's certificate must come from."
    )


class SecretsSettings(Part):
    """Where secrets are kept."""

    provider: Annotated[str, AfterValidator(_provider)] = Field(
        "database", description="Chooses the provider while no secret is stored; later it is only compared."
    )
    migration_writes_per_second: float | None = Field(
        None, ge=0, description="How fast `secrets migrate` writes; 0 is no limit. Default: what the service allows."
    )
    allow_value_argument: bool = Field(
        True, description="Whether `secretscli set` may be given a value as an argument, which others can see."
    )
    initial_password_days: int = Field(
        14, ge=1, le=365, description="How long the initial password of a new account can be read."
    )


class SlotsSettings(Part):
    """What slots of the keyrings need to know of this host."""

    tpm2_tcti: str = Field("device:/dev/tpmrm0", description="How the TPM of this host is reached.")


class ScheduleSettings(Part):
    """How `identitymesh serve` carries out what is due. When that is stands in the definition."""

    at_once: int = Field(4, ge=1, le=64, description="Runs at once. One reads at a time; others write meanwhile.")
    stagger_seconds: float = Field(
        60, ge=0, le=3600, description="Connectors due in the same minute begin up to so many seconds apart."
    )
    stop_seconds: float = Field(
        30, ge=0, le=3600, description="How long what runs may go on when the service is told to stop."
    )


class HistorySettings(Part):
    """How long what was done is remembered. The audit trail is not touched by it."""

    days: int = Field(90, ge=1, le=36500, description="Runs, their plans and their issues; older ones go every night.")


class LoggingSettings(Part):
    """What is logged, and where to. Failures of secrets and connectors are always logged."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="From which level on. Libraries are heard from warning on, at debug from info on."
    )
    format: Literal["console", "json"] = Field("console", description="One line of words, or one JSON document.")
    destination: Literal["stderr", "syslog", "journal"] = Field(
        "stderr", description="Where to. A command of a person logs to stderr only at level debug."
    )
    address: str | None = Field(
        None, description="Where it listens: a socket, or host:port for syslog. Default: where Linux has it."
    )
