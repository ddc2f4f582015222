import os
from pathlib import Path

import pytest

from identitymesh import settings
from identitymesh.errors import SettingsError
from identitymesh.redaction import Secret
from identitymesh.settings.tables import LoggingSettings, SecretsSettings


def load(folder: Path, content: str = "", **variables: str) -> settings.Settings:
    (folder / "identitymesh.toml").write_text(content)
    return settings.load(folder, environment=variables)


def refused(folder: Path, content: str = "", **variables: str) -> str:
    with pytest.raises(SettingsError) as error:
        load(folder, content, **variables)
    return f"{error.value} | {error.value.hint}"


def test_what_init_writes_is_what_applies_without_a_file(tmp_path: Path) -> None:
    without = settings.load(tmp_path, environment={}, required=False)
    assert settings.create(tmp_path)
    assert settings.load(tmp_path, environment={}) == without
    assert without.database.url == f"sqlite:///{tmp_path}/identitymesh.db"
    assert without.host == tmp_path / "host"
    assert without.secrets == SecretsSettings(provider="database", allow_value_argument=True)
    assert without.database_password() is None


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "identitymesh.toml").write_text("# mine\n")
    assert not settings.create(tmp_path)
    assert (tmp_path / "identitymesh.toml").read_text() == "# mine\n"


def test_every_line_of_the_template_is_a_setting(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") if " = " in line else line for line in settings.TEMPLATE.splitlines()]
    loaded = load(tmp_path, "\n".join(line for line in lines if " = " in line or line.startswith("[")))
    assert loaded.secrets.allow_value_argument is False
    assert loaded.database.password_file == tmp_path / "database.password"
    assert loaded.database.root_certificate == tmp_path / "database-ca.pem"


def test_a_missing_file_names_init(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no identitymesh\.toml in") as missing:
        settings.load(tmp_path, environment={})
    assert "identitymesh init" in missing.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_the_named_or_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.find_folder({}) == tmp_path
    assert settings.find_folder({"IDENTITYMESH_HOME": "/"}) == Path("/")
    for wrong in ("", "nowhere"):
        with pytest.raises(SettingsError, match="IDENTITYMESH_HOME"):
            settings.find_folder({"IDENTITYMESH_HOME": wrong})


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    content = '[secrets]\nallow_value_argument = true\n[logging]\nlevel = "debug"\nformat = "json"\n'
    variables = {"IDENTITYMESH_SECRETS__ALLOW_VALUE_ARGUMENT": "false", "IDENTITYMESH_LOGGING__LEVEL": "error"}
    loaded = load(tmp_path, content, **variables, IDENTITYMESH_HOME="/", OTHER="x")
    assert loaded.secrets.allow_value_argument is False
    assert loaded.logging == LoggingSettings(level="error", format="json")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[secret]\n", "unknown setting secret in {file} | Did you mean secrets"),
        ('[secrets]\nproviders = "database"\n', "unknown setting secrets.providers in {file} | Did you mean"),
        ("databases = 1\n", "unknown setting databases in"),
        ("database = 1\n", "unknown setting database in"),
        (
            '[secrets]\nprovider = "dpapi"\n',
            "secrets.provider in {file}: unknown provider 'dpapi'; known: azure",
        ),
        ("[secrets]\nallow_value_argument = 3\n", "secrets.allow_value_argument in {file}: must be true or false"),
        ('[logging]\nlevel = "loud"\n', "logging.level in {file}: must be one of debug, info, warning, error"),
        ("[database]\nurl = 3\n", "database.url in {file}: must be text"),
        ('[database]\nurl = "hunter2"\n', "database.url is not a database URL"),
        ("[database\n", "{file} is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, content: str, expected: str) -> None:
    text = refused(tmp_path, content)
    assert expected.format(file=tmp_path / "identitymesh.toml") in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IDENTITYMESH_SECRETS__PROVIDERS", "Did you mean IDENTITYMESH_SECRETS__PROVIDER"),
        ("IDENTITYMESH_HOMES", "Did you mean IDENTITYMESH_HOME"),
        ("IDENTITYMESH_DATABASE", "unknown setting IDENTITYMESH_DATABASE in the environment"),
        ("IDENTITYMESH_SECRETS__PROVIDER", "IDENTITYMESH_SECRETS__PROVIDER: unknown provider"),
    ],
)
def test_wrong_variables_are_named(tmp_path: Path, name: str, expected: str) -> None:
    assert expected in refused(tmp_path, **{name: "x"})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("schedule.at_once", "0", "must be at least 1"),
        ("schedule.at_once", "65", "must be at most 64"),
        ("schedule.at_once", "four", "must be a whole number"),
        ("schedule.at_once", "4.5", "must be a whole number"),
        ("schedule.stagger_seconds", "nan", "must be a number"),
        ("schedule.stagger_seconds", "inf", "must be a number"),
        ("schedule.stagger_seconds", "-0.5", "must be at least 0"),
        ("schedule.stagger_seconds", "3600.5", "must be at most 3600"),
        ("secrets.allow_value_argument", "perhaps", "must be true or false"),
        ("logging.destination", "printer", "must be one of stderr, syslog, journal"),
        ("openbao.secret_id", "hunter2", "not a secret reference"),
        ("azure_key_vault.vault_uri", "http://hunter2.example", "must be https://host"),
    ],
)
def test_a_value_is_refused_in_the_same_words_from_a_variable_and_from_the_file(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    variable = f"IDENTITYMESH_{name.replace('.', '__').upper()}"
    told = refused(tmp_path, **{variable: value})
    assert told.startswith(f"{variable}: ")
    assert expected in told
    part, field = name.split(".")
    written = refused(tmp_path, f'[{part}]\n{field} = "{value}"\n')
    assert written.startswith(f"{name} in {tmp_path / 'identitymesh.toml'}: ")
    assert expected in written
    assert "hunter2" not in told + written


@pytest.mark.parametrize("value", ["true", "4", "1970-01-01", "[4]", "{}", "4.5"])
def test_a_value_of_another_type_is_refused(tmp_path: Path, value: str) -> None:
    assert "must be text" in refused(tmp_path, f"[database]\nurl = {value}\n")
    assert "must be a path" in refused(tmp_path, f"[database]\npassword_file = {value}\n")
    if value != "4":
        assert "must be a whole number" in refused(tmp_path, f"[schedule]\nat_once = {value}\n")
    if value not in {"4", "4.5"}:
        assert "must be a number" in refused(tmp_path, f"[schedule]\nstop_seconds = {value}\n")


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, "[schedule]\nat_once = 0\n", IDENTITYMESH_LOGGING__LEVEL="loud")
    assert "schedule.at_once in" in told
    assert "IDENTITYMESH_LOGGING__LEVEL: must be one of" in told


def test_text_of_a_variable_becomes_what_the_setting_is(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        IDENTITYMESH_SCHEDULE__AT_ONCE="7",
        IDENTITYMESH_SCHEDULE__STAGGER_SECONDS="1.5",
        IDENTITYMESH_SECRETS__ALLOW_VALUE_ARGUMENT="Off",
        IDENTITYMESH_DATABASE__PASSWORD_FILE="pw",
    )
    assert (loaded.schedule.at_once, loaded.schedule.stagger_seconds) == (7, 1.5)
    assert loaded.secrets.allow_value_argument is False
    assert loaded.database.password_file == tmp_path / "pw"


def test_a_database_beside_a_folder_with_an_odd_name_is_found(tmp_path: Path) -> None:
    from sqlalchemy import make_url

    for name in ("plain", "with space", "per%cent", "a?b", "ä#"):
        folder = tmp_path / name
        folder.mkdir()
        assert make_url(load(folder).database.url).database == str(folder / "identitymesh.db")


def test_what_the_cluster_says_of_the_login_is_checked_too(tmp_path: Path) -> None:
    content = '[azure_key_vault]\ncredential = "workload-identity"\n'
    assert load(tmp_path, content, AZURE_FEDERATED_TOKEN_FILE="/run/t").means.azure is not None
    assert refused(tmp_path, content, AZURE_AUTHORITY_HOST="ftp://x").startswith("AZURE_AUTHORITY_HOST: must be https")


def test_a_password_in_the_url_is_never_repeated(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[database]\nurl = "postgresql://u:hunter2@h/db"\n')
    from identitymesh.storage.database import open_database

    with pytest.raises(SettingsError, match="carries a password") as error:
        open_database(loaded.database.url)
    assert "hunter2" not in str(error.value)


def test_paths_are_meant_from_the_folder(tmp_path: Path) -> None:
    content = '[database]\nurl = "sqlite:///data/x.db"\npassword_file = "pw"\nroot_certificate = "/etc/ca.pem"\n'
    database = load(tmp_path, content).database
    assert database.url == f"sqlite:///{tmp_path}/data/x.db"
    assert database.password_file == tmp_path / "pw"
    assert database.root_certificate == Path("/etc/ca.pem")
    absolute = load(tmp_path, '[database]\nurl = "sqlite:////srv/x.db"\n').database.url
    assert absolute == "sqlite:////srv/x.db"


def test_the_password_file_is_read_as_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "pw"
    path.write_text("hunter2\n\n")
    path.chmod(0o400)
    loaded = load(tmp_path, '[database]\npassword_file = "pw"\n')
    assert loaded.database_password() == Secret("hunter2\n")
    assert "hunter2" not in repr(loaded)
    path.chmod(0o600)
    assert loaded.database_password() == Secret("hunter2\n")


def test_an_unsafe_password_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pw"
    loaded = load(tmp_path, '[database]\npassword_file = "pw"\n')
    with pytest.raises(SettingsError, match="there is no file"):
        loaded.database_password()
    path.write_text("hunter2")
    for mode in (0o644, 0o640, 0o700, 0o440):
        path.chmod(mode)
        with pytest.raises(SettingsError, match=f"its mode is {mode:04o}; 0400 or 0600 is required") as unsafe:
            loaded.database_password()
        assert "chmod 0400" in unsafe.value.hint
    path.chmod(0o400)
    os.link(path, tmp_path / "second")
    with pytest.raises(SettingsError, match="2 hard links"):
        loaded.database_password()
    path.unlink()
    path.symlink_to(tmp_path / "second")
    with pytest.raises(SettingsError, match="symbolic link"):
        loaded.database_password()
