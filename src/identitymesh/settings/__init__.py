"""The settings: ``identitymesh.toml`` and ``IDENTITYMESH_*``. Nothing else reads files or the environment for them.

The folder is ``IDENTITYMESH_HOME`` or the current one. A variable wins over the file;
``__`` stands between levels (``IDENTITYMESH_SECRETS__PROVIDER``). An unknown name or a
wrong value is a :class:`~identitymesh.errors.SettingsError` that names it, where it
stands and what was probably meant; values are not repeated, one could be a password.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from identitymesh.errors import SettingsError
from identitymesh.fields import Part, Refused, described
from identitymesh.redaction import Secret
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.private_files import UnsafeFile, read_private
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.settings.tables import (
    DatabaseSettings,
    HistorySettings,
    LoggingSettings,
    ScheduleSettings,
    SecretsSettings,
    SlotsSettings,
)
from identitymesh.storage.addresses import plain_file, plain_url

FILE: Final = "identitymesh.toml"
HOME: Final = "IDENTITYMESH_HOME"
PREFIX: Final = "IDENTITYMESH_"
HOST: Final = "host"
NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
PASSWORD_MODES: Final = (0o400, 0o600)
MAX_PASSWORD_BYTES: Final = 4096

# What Azure Kubernetes Service sets for a pod; a setting outranks it.
WORKLOAD_IDENTITY: Final = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "token_file": "AZURE_FEDERATED_TOKEN_FILE",
    "authority": "AZURE_AUTHORITY_HOST",
}

TEMPLATE: Final = """\
# Settings of Identity Mesh. Every name can also be given as a variable: IDENTITYMESH_DATABASE__URL.
# No credential belongs in here.

[database]
# SQLite beside this file, or postgresql://identitymesh@db.example.com/identitymesh
url = "sqlite:///identitymesh.db"
# password_file = "database.password"           # mode 0400 or 0600, owned by the user who runs the program
# root_certificate = "database-ca.pem"          # PostgreSQL: the server must show a certificate of this authority

[secrets]
provider = "database"
# allow_value_argument = false                  # secretscli set REF VALUE is then refused

[slots]
# tpm2_tcti = "device:/dev/tpmrm0"              # how the TPM of this host is reached, for slots of type tpm2

[schedule]
# at_once = 4                                   # runs at once, with `identitymesh serve`

[history]
# days = 90                                     # how long runs and their plans are kept

[openbao]
# address = "https://bao.example.com:8200"      # see docs/howto/openbao.md
# role_id = "..."
# secret_id = "secret://openbao/secret-id"      # a secret of the keyring application

[azure_key_vault]                               # the provider azure-key-vault; see docs/howto/azure-key-vault.md
# vault_uri = "https://contoso-im.vault.azure.net"
# credential = "managed-identity"

[logging]
# level = "info"                                # debug, info, warning or error
# format = "console"                            # or "json"
# destination = "stderr"                        # or "syslog", "journal"
"""


_PARTS: Final[Mapping[str, type[Part]]] = {
    "database": DatabaseSettings,
    "secrets": SecretsSettings,
    "slots": SlotsSettings,
    "schedule": ScheduleSettings,
    "history": HistorySettings,
    "openbao": OpenBaoSettings,
    "azure_key_vault": AzureKeyVaultSettings,
    "logging": LoggingSettings,
}


@dataclass(frozen=True)
class Settings:
    """All settings, checked, and the folder that they belong to (absolute)."""

    folder: Path
    database: DatabaseSettings
    secrets: SecretsSettings
    slots: SlotsSettings
    schedule: ScheduleSettings
    history: HistorySettings
    openbao: OpenBaoSettings
    azure_key_vault: AzureKeyVaultSettings
    logging: LoggingSettings
    means: Means = NO_MEANS
    notify_socket: str | None = None  # where systemd wants to be told how a service goes

    @property
    def host(self) -> Path:
        """The folder of this host's slot keys and anchors; never in a backup."""
        return self.folder / HOST

    def names(self) -> dict[str, str]:
        """Every name, and whether its value is the default; never a value."""
        found = {}
        for part, kind in _PARTS.items():
            given = getattr(self, part)
            for name, _kind, default, _meaning in described(kind):
                found[f"{part}.{name}"] = "default" if getattr(given, name) == default else "set"
        return found

    def database_password(self) -> Secret | None:
        """The content of ``database.password_file`` without one trailing newline.

        Raises:
            SettingsError: the file is missing or may not be trusted.
        """
        path = self.database.password_file
        if path is None:
            return None
        try:
            content = read_private(path, modes=PASSWORD_MODES, max_bytes=MAX_PASSWORD_BYTES)
        except FileNotFoundError:
            raise SettingsError(
                f"database.password_file: there is no file {path}", hint="Make it, or remove the setting."
            ) from None
        except UnsafeFile as reason:
            raise SettingsError(
                f"database.password_file: {path} may not be trusted: {reason}",
                hint=f"Make it readable for its owner alone: chmod 0400 {path}",
            ) from None
        return Secret(content.reveal().removesuffix(b"\n"))


def parts() -> Mapping[str, type[Part]]:
    """The tables of the file and what may stand in each, for the reference."""
    return _PARTS


def find_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """``IDENTITYMESH_HOME`` or the current folder, absolute.

    Raises:
        SettingsError: the variable is set, but names no folder.
    """
    named = environment.get(HOME)
    if named is None:
        return Path.cwd()
    folder = Path(named)
    if not named or not folder.is_dir():
        raise SettingsError(
            f"{HOME} names {named!r}, which is not a folder", hint="Make the folder, or correct the variable."
        )
    return folder.resolve()


def load(folder: Path | None = None, *, environment: Mapping[str, str] = os.environ, required: bool = True) -> Settings:
    """Read and check the settings. With ``required=False`` a missing file means the defaults.

    Raises:
        SettingsError: no file, not TOML, an unknown name, or a wrong value.
    """
    folder = (folder or find_folder(environment)).resolve()
    path = folder / FILE
    variables = _variables(environment)
    content = _read(path, required=required)
    _check_names(content, variables, path)
    given = Settings(folder=folder, **_checked(content, variables, path))
    return replace(
        given,
        database=_absolute(given.database, folder),
        means=_means(given, folder, environment),
        notify_socket=environment.get(NOTIFY_SOCKET),
    )


def _checked(content: dict[str, Any], variables: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The tables by name. A variable wins over the file."""
    parts: dict[str, Part] = {}
    problems: list[str] = []
    for name, kind in _PARTS.items():
        places = {field: f"{name}.{field}" for field, *_rest in described(kind)}
        told = {field: variables[_variable(place)] for field, place in places.items() if _variable(place) in variables}
        try:
            parts[name] = kind(**{**content.get(name, {}), **told})
        except Refused as refused:
            problems += [
                f"{_variable(places[field]) if field in told else f'{places[field]} in {path}'}: {problem}"
                for field, problem in refused.problems
            ]
    if problems:
        raise SettingsError("; ".join(problems), hint="Correct the value and run the command again.")
    return parts


def _means(given: Settings, folder: Path, environment: Mapping[str, str]) -> Means:
    """What systemd, and a cluster's workload identity, say in variables of their own belongs to protectors, too."""
    paths = {"credentials": "CREDENTIALS_DIRECTORY", "systemd_secret": "SYSTEMD_CREDENTIAL_SECRET"}
    found = {name: Path(environment[variable]) for name, variable in paths.items() if environment.get(variable)}
    azure = given.azure_key_vault
    if azure.credential == "workload-identity":
        told: dict[str, Any] = {name: environment.get(variable) for name, variable in WORKLOAD_IDENTITY.items()}
        try:
            azure = replace(
                azure, **{name: value for name, value in told.items() if value and not getattr(azure, name)}
            )
        except Refused as refused:
            name, problem = refused.problems[0]
            raise SettingsError(f"{WORKLOAD_IDENTITY[name]}: {problem}", hint="Correct the variable.") from None
    return Means(
        tpm2_tcti=given.slots.tpm2_tcti,
        credentials=found.get("credentials"),
        systemd_secret=found.get("systemd_secret"),
        openbao=given.openbao.below(folder),
        azure=azure.below(folder),
    )


def create(folder: Path, database_url: str | None = None) -> bool:
    """Write ``identitymesh.toml`` with the defaults, unless there is one; answers whether it was written.

    ``database_url`` stands in the new file instead of the default; it must carry no password (see :func:`load`).
    """
    default = DatabaseSettings().url
    text = TEMPLATE if database_url is None else TEMPLATE.replace(f'"{default}"', json.dumps(database_url))
    try:
        with (folder / FILE).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(PREFIX) and name != HOME}


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not required:
            return {}
        raise SettingsError(
            f"there is no {FILE} in {path.parent}",
            hint=f"Run `identitymesh init` in a new folder, or go to the right one, or name it in {HOME}.",
        ) from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {(error.strerror or '').lower()}") from None
    except tomllib.TOMLDecodeError as error:
        # Its message names line and column; it quotes a character at most.
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text") from None


def _known_names() -> Iterator[str]:
    for name, part in _PARTS.items():
        yield from (f"{name}.{child}" for child, *_rest in described(part))


def _check_names(content: dict[str, Any], variables: Mapping[str, str], path: Path) -> None:
    known = set(_known_names())
    parts = {name.split(".")[0] for name in known}
    for part, values in content.items():
        if part not in parts or not isinstance(values, dict):
            raise _unknown(part, f"{path}", known | parts if part not in parts else known)
        for child in values:
            if f"{part}.{child}" not in known:
                raise _unknown(f"{part}.{child}", f"{path}", known)
    spellings = {_variable(name): name for name in known}
    for variable in variables:
        if variable not in spellings:
            raise _unknown(variable, "the environment", {*spellings, HOME})


def _variable(name: str) -> str:
    return PREFIX + name.replace(".", "__").upper()


def _unknown(name: str, where: str, known: set[str]) -> SettingsError:
    import difflib  # for this message alone; every command reads settings

    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(close)}?" if close else f"Known names: {', '.join(sorted(known))}."
    return SettingsError(f"unknown setting {name} in {where}", hint=meant)


def database_at(folder: Path, url: str) -> str:
    """A database URL as the settings of a folder would have it."""
    return _absolute(DatabaseSettings(url=url), folder).url


def _absolute(database: DatabaseSettings, folder: Path) -> DatabaseSettings:
    """Relative paths are meant from the folder, wherever the command is run."""

    def place(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    return DatabaseSettings(
        url=_absolute_url(database.url, folder),
        password_file=place(database.password_file),
        root_certificate=place(database.root_certificate),
    )


def _absolute_url(text: str, folder: Path) -> str:
    file = plain_file(text)
    known = None if file is None else plain_url(folder / file)
    if known is not None:
        return known
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError:
        raise SettingsError(
            "database.url is not a database URL",
            hint="Use sqlite:///identitymesh.db or postgresql://user@host/name.",
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return url.set(database=str(folder / url.database)).render_as_string(hide_password=False)
    return text
