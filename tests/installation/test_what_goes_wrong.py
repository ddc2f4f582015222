"""What goes wrong in a whole installation: named, with its remedy, and the next run repairs it."""

from __future__ import annotations

import re
import shutil

from tests.installation.place import Place
from tests.servers.postgresql import PostgresDatabase


def test_people_flow_and_a_delta_reads_only_changes(place: Place) -> None:
    place.set_up()
    place.hire("e1", "e2", "e3")
    assert place("run", "--json").code == 0
    place.hire("e4", changed="2026-02-01")
    place.execute("UPDATE employees SET name = 'Bea', changed = '2026-02-02' WHERE id = 'e1'")
    place.execute("DELETE FROM employees WHERE id = 'e2'")

    answer = place("run", "--delta", "--json")

    assert answer.code == 0, answer
    (imported,) = answer.json["imports"]
    assert (imported["mode"], imported["added"], imported["changed"], imported["removed"]) == ("delta", 1, 1, 0)
    accounts = place.accounts()
    assert accounts["e1"]["displayName"] == "Bea"
    assert accounts["e2"]["active"] is True, "a delta never shows leaving"
    assert "e4" in accounts
    assert place("run").code == 0
    assert place.accounts()["e2"]["active"] is False


def test_a_missing_secret_stops_one_connector_and_says_the_command(place: Place) -> None:
    place("init")
    place.apply()
    place.hire("e1")

    answer = place("run", "--json")

    assert answer.code == 5
    by_name = {one["connector"]: one for one in answer.json["imports"]}
    assert by_name["hr"]["added"] == 1
    assert by_name["crm"]["error_code"] == "secret-missing"
    assert "identitymesh secrets set secret://crm/token" in by_name["crm"]["hint"]
    place("secrets", "set", "secret://crm/token", given=place.crm.token)
    refused = place("run", "--json")
    assert {one["error_code"] for one in refused.json["imports"]} == {"", "audience-refused"}
    assert place.apply().json["audience"]
    assert place("run", "--json").code == 0
    assert set(place.accounts()) == {"e1"}


def test_a_wrong_token_and_its_repair(place: Place) -> None:
    place.set_up()
    place("secrets", "set", "secret://crm/token", given="not-the-token")
    place.hire("e1")

    answer = place("run", "--json")

    assert answer.code == 5
    assert answer.json["targets"][0]["state"] == "incomplete"
    assert "credential-refused" in {one["error_code"] for one in answer.json["imports"]}
    assert "not-the-token" not in answer.out + answer.err
    place("secrets", "set", "secret://crm/token", given=place.crm.token)
    assert place("run").code == 0
    assert set(place.accounts()) == {"e1"}


def test_the_host_key_of_another_host(place: Place) -> None:
    place.set_up()
    key = place.folder / "host" / "connectors.key"
    other = place.folder / "other"
    other.mkdir()
    shutil.copy(place.folder / "host" / "application.key", other / "connectors.key")
    key.unlink()
    missing = place("run", "--json")
    shutil.move(other / "connectors.key", key)
    wrong = place("secrets", "get", "secret://crm/token", "--force", "--json")

    assert missing.code == 5
    assert any(one["error_code"].startswith(("host-key", "keyring")) for one in missing.json["imports"])
    assert wrong.code == 4
    assert wrong.error["code"].startswith(("host-key", "keyring"))
    assert wrong.error["hint"]
    assert not key.is_symlink()


def test_an_edited_row(place: Place) -> None:
    place.set_up()
    import sqlite3

    with sqlite3.connect(place.folder / "identitymesh.db") as connection:
        (sealed,) = connection.execute("SELECT sealed FROM secret").fetchone()
        connection.execute("UPDATE secret SET sealed = ?", (sealed[:-1] + bytes([sealed[-1] ^ 1]),))
    place.hire("e1")

    answer = place("run", "--json")

    assert answer.code == 5
    assert "secret-broken" in {one["error_code"] for one in answer.json["imports"]}
    assert {one["connector"] for one in answer.json["imports"] if not one["error_code"]} == {"hr"}


def test_an_unknown_setting_and_provider(place: Place) -> None:
    place("init")
    file = place.folder / "identitymesh.toml"
    good = file.read_text()
    file.write_text(good.replace('provider = "database"', 'provider = "databse"'))
    provider = place("secrets", "list", "--json")
    file.write_text(good + "\n[secret]\nprovider = 'database'\n")
    setting = place("secrets", "list", "--json")

    assert (provider.code, setting.code) == (3, 3)
    assert "database" in provider.error["message"] + provider.error["hint"]
    assert "secret" in setting.error["message"]


def test_no_installation_here(place: Place) -> None:
    answer = place("run", "--json")

    assert answer.code == 3
    assert "identitymesh init" in answer.error["hint"]
    assert not (place.folder / "identitymesh.db").exists(), "nothing is made silently"


def test_init_refuses_where_a_keyring_is(place: Place) -> None:
    first = place("init")
    again = place("init")

    assert re.fullmatch(r"AGE-SECRET-KEY-1[A-Z0-9]{58}", first.out.splitlines()[0])
    assert first.err == ""
    assert again.code == 4
    assert again.out == ""


def test_a_source_on_postgresql_with_a_wrong_password(place: Place, postgres_url: PostgresDatabase) -> None:
    with postgres_url.connect() as connection:
        connection.execute("CREATE TABLE employees (id TEXT PRIMARY KEY, name TEXT, changed TIMESTAMPTZ DEFAULT now())")
        connection.execute("INSERT INTO employees SELECT 'e' || n, 'Name ' || n FROM generate_series(1, 50) n")
        connection.commit()
    place("init")
    place("secrets", "set", "secret://crm/token", given=place.crm.token)
    place("secrets", "set", "secret://hr/reader", given=postgres_url.password)
    place.apply(hr_url=postgres_url.url, hr_password="secret://hr/reader")
    assert place("run").code == 0
    assert len(place.accounts()) == 50
    place("secrets", "set", "secret://hr/reader", given="wrong-canary")
    with postgres_url.connect() as connection:
        connection.execute("DELETE FROM employees WHERE id = 'e7'")
        connection.commit()

    answer = place("run", "--json")

    assert answer.code == 5
    assert {one["connector"]: one["error_code"] for one in answer.json["imports"]} == {
        "hr": "credential-refused",
        "crm": "",
    }
    assert "wrong-canary" not in answer.out + answer.err
    assert place.accounts()["e7"]["active"] is True
    place("secrets", "set", "secret://hr/reader", given=postgres_url.password)
    assert place("run").code == 0
    assert place.accounts()["e7"]["active"] is False


def test_bad_rows_are_reported_and_the_rest_goes_on(place: Place) -> None:
    place.set_up()
    place.hire("e1", "e2")
    place.hire("e3", name="x" * 1_100_000)
    place.hire("e4", name="nul\x00byte")
    place.execute("INSERT INTO employees VALUES (NULL, 'no key', '2026-01-01')")
    place.hire("e2", name="Twice")

    answer = place("run", "--json")

    assert answer.code == 5
    (hr,) = [one for one in answer.json["imports"] if one["connector"] == "hr"]
    assert (hr["read"], hr["bad"]) == (6, 4)
    told = {issue["subject"]: issue["message"] for issue in answer.json["issues"]}
    assert {"e2", "e3", "e4"} <= told.keys()
    assert set(place.accounts()) == {"e1", "e2"}


def test_a_value_that_the_target_refuses(place: Place) -> None:
    place.set_up()
    place.hire("e1", "e2")
    place.hire("E1")  # user names at the service differ in more than case

    answer = place("run", "--json")

    assert answer.code == 5, answer
    (export,) = answer.json["exports"]
    assert (export["done"], export["parked"]) == ({"create": 2}, 1)
    assert any(issue["connector"] == "crm" for issue in answer.json["issues"])
    assert "parked" in place("explain", "E1").out or "parked" in place("explain", "e1").out


def test_a_target_that_is_down_gets_it_later(place: Place) -> None:
    place.set_up()
    place.hire("e1")
    planned = place("plan", "--json")
    assert planned.code == 0
    place.crm.stop()

    answer = place("run", "--plan", str(planned.json["run_id"]), "--json")

    assert answer.code == 5
    (export,) = answer.json["exports"]
    assert (export["error_code"], export["left"]) == ("unreachable", 1)


def test_plaintext_in_a_definition(place: Place) -> None:
    place("init")
    text = place.definition().replace("secret://crm/token", "hunter2-canary")
    (place.folder / "mesh.yaml").write_text(text)

    answer = place("apply", "mesh.yaml")

    assert answer.code == 3
    assert re.search(r"mesh\.yaml:11:\d+: connectors\.crm\.token: plaintext where a secret", answer.err), answer.err
    assert "hunter2" not in answer.out + answer.err


def test_apply_says_which_places_needed_to_be_allowed(place: Place) -> None:
    place.set_up()
    (place.folder / "mesh.yaml").write_text(place.definition(crm_url="http://127.0.0.1:9/v2"))

    refused = place("apply", "mesh.yaml", "--json")
    allowed = place("apply", "mesh.yaml", "--allow-audience", "secret://crm/token", "--json")

    assert refused.code == 4
    assert "--allow-audience secret://crm/token" in refused.error["hint"]
    (change,) = allowed.json["audience"]
    assert (change["endpoints"], change["needs_permission"]) == (["127.0.0.1:9"], True)
