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
        ("[secrets]\nallow_value_argument = 3\n", "secrets.allow_value_argument in {file}: Input should be a valid"),
        ('[logging]\nlevel = "loud"\n', "logging.level in {file}: Input should be 'debug', 'info'"),
        ("[database]\nurl = 3\n", "database.url in {file}: Input should be a valid string"),
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
