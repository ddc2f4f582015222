"""What may stand in each table of ``identitymesh.toml``, with its default and what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from identitymesh.fields import PATH, TEXT, YES_OR_NO, Part, number, one_of, setting, text_that, whole


def _provider(name: str) -> str:
    from identitymesh.secrets.providers import known_providers  # here: only who names another one needs them

    if name not in known_providers():
        raise ValueError(f"unknown provider {name[:40]!r}; known: {', '.join(known_providers())}")
    return name


@dataclass(frozen=True)
class DatabaseSettings(Part):
    """Where the product's database is. Relative paths start at the folder of the installation."""

    url: str = setting(
        "sqlite:///identitymesh.db", TEXT, "`sqlite:///file` or `postgresql://user@host/name`; no password in it."
    )
    password_file: Path | None = setting(
        None, PATH, "A file with the password of the database, mode 0400 or 0600, owned by who runs the program."
    )
    root_certificate: Path | None = setting(
        None, PATH, "PostgreSQL: the authority that the server's certificate must come from."
    )


@dataclass(frozen=True)
class SecretsSettings(Part):
    """Where secrets are kept."""

    provider: str = setting(
        "database",
        text_that(_provider),
        "Chooses the provider while no secret is stored; later it is only compared.",
    )
    migration_writes_per_second: float | None = setting(
        None, number(0), "How fast `secrets migrate` writes; 0 is no limit. Default: what the service allows."
    )
    allow_value_argument: bool = setting(
        True, YES_OR_NO, "Whether `secretscli set` may be given a value as an argument, which others can see."
    )
    initial_password_days: int = setting(
        14, whole(1, 365), "How long the initial password of a new account can be read."
    )


@dataclass(frozen=True)
class SlotsSettings(Part):
    """What slots of the keyrings need to know of this host."""

    tpm2_tcti: str = setting("device:/dev/tpmrm0", TEXT, "How the TPM of this host is reached.")


@dataclass(frozen=True)
class ScheduleSettings(Part):
    """How `identitymesh serve` carries out what is due. When that is stands in the definition."""

    at_once: int = setting(4, whole(1, 64), "Runs at once. One reads at a time; others write meanwhile.")
    stagger_seconds: float = setting(
        60, number(0, 3600), "Connectors due in the same minute begin up to so many seconds apart."
    )
    stop_seconds: float = setting(30, number(0, 3600), "How long what runs may go on when the service is told to stop.")


@dataclass(frozen=True)
class HistorySettings(Part):
    """How long what was done is remembered. The audit trail is not touched by it."""

    days: int = setting(90, whole(1, 36500), "Runs, their plans and their issues; older ones go every night.")


@dataclass(frozen=True)
class LoggingSettings(Part):
    """What is logged, and where to. Failures of secrets and connectors are always logged."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        one_of("debug", "info", "warning", "error"),
        "From which level on. Libraries are heard from warning on, at debug from info on.",
    )
    format: Literal["console", "json"] = setting(
        "console", one_of("console", "json"), "One line of words, or one JSON document."
    )
    destination: Literal["stderr", "syslog", "journal"] = setting(
        "stderr",
        one_of("stderr", "syslog", "journal"),
        "Where to. A command of a person logs to stderr only at level debug.",
    )
    address: str | None = setting(
        None, TEXT, "Where it listens: a socket, or host:port for syslog. Default: where Linux has it."
    )
