"""An installation whose own database is PostgreSQL, with its password in a file that only the owner reads."""

from __future__ import annotations

from tests.installation.place import Place
from tests.servers.postgresql import PostgresDatabase


def test_a_whole_installation_on_postgresql(place: Place, postgres_url: PostgresDatabase) -> None:
    password = place.folder / "database.password"
    password.write_text(postgres_url.password + "\n")
    password.chmod(0o400)
    place.environment = {"IDENTITYMESH_DATABASE__PASSWORD_FILE": str(password)}

    made = place("init", "--database-url", postgres_url.url)
    place.prepare()
    place.hire("e1", "e2", "e3")
    done = place("run", "--json")

    assert made.code == 0, made
    assert done.code == 0, done
    assert set(place.accounts()) == {"e1", "e2", "e3"}
    assert not (place.folder / "identitymesh.db").exists()
    assert place("run", "--json").json["exports"] == []
    assert place("secrets", "verify").code == 0


def test_a_password_file_that_others_can_read(place: Place, postgres_url: PostgresDatabase) -> None:
    password = place.folder / "database.password"
    password.write_text(postgres_url.password)
    password.chmod(0o644)
    place.environment = {"IDENTITYMESH_DATABASE__PASSWORD_FILE": str(password)}

    answer = place("init", "--database-url", postgres_url.url, "--json")

    assert answer.code == 3
    assert "chmod 0400" in answer.error["hint"]
    assert postgres_url.password not in answer.out + answer.err


def test_a_password_in_the_url_is_refused(place: Place) -> None:
    answer = place("init", "--database-url", "postgresql://app:hunter2@127.0.0.1/mesh", "--json")

    assert answer.code == 3
    assert "hunter2" not in answer.out + answer.err
    assert list(place.folder.glob("*.toml")) == [], "the password would stand in it"
    assert not (place.folder / "host").exists()
