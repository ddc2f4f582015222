"""Values for one person alone: given once, kept, and given to nobody else, whoever asks and whenever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from identitymesh.errors import DefinitionRefused, StorageError
from identitymesh.model.attributes import Value
from identitymesh.redaction import Secret
from identitymesh.runs.contract import Reservation
from identitymesh.storage.batches import SqlMeshTransaction
from tests.servers.postgresql import PostgresDatabase

from .world import World, silent

PLAIN = """'ToLower(Concat([first], ".", [last], "@example.org"))'"""
FREE = (
    """'FirstFree(ToLower(Concat([first], ".", [last], "@example.org")), """
    """ToLower(Concat([first], ".", [last], [#], "@example.org")))'"""
)


def free(text: str) -> str:
    return text.replace(PLAIN, FREE)


@pytest.fixture
def unique(both: World) -> World:
    both.apply(free, release=True)
    return both


def mails(world: World) -> dict[Value, Value]:
    return {person: account["userName"] for person, account in world.accounts().items()}


def test_two_people_with_one_name_get_two_addresses(unique: World) -> None:
    for person in ("p1", "p2", "p3"):
        unique.hire(person)
    unique.run()

    assert mails(unique) == {
        "p1": "ann.lee@example.org",
        "p2": "ann.lee2@example.org",
        "p3": "ann.lee3@example.org",
    }
    assert unique.run().row_count == 0, "and keep them"


def test_later_people_do_not_get_what_somebody_has(unique: World) -> None:
    unique.hire("p1")
    unique.run()
    unique.hire("p0")

    unique.run()

    assert mails(unique)["p0"] == "ann.lee2@example.org"


def test_a_new_name_gives_nothing_away(unique: World) -> None:
    unique.hire("p1")
    unique.hire("p2")
    unique.run()
    unique.change("p1", last="Berg")
    unique.run()
    assert mails(unique)["p1"] == "ann.lee@example.org", "given once"
    assert unique.accounts()["p1"]["familyName"] == "Berg"
    unique.hire("p3")
    unique.hire("p4", last="Berg")

    unique.run()

    assert mails(unique)["p3"] == "ann.lee3@example.org"
    assert mails(unique)["p4"] == "ann.berg@example.org"


def test_who_left_keeps_the_address_and_has_it_again_after_a_return(unique: World) -> None:
    for person in ("p1", "p2", "p3"):
        unique.hire(person, last=f"Lee{person}")
    unique.run()
    gone = unique.fire("p1")
    unique.run()
    unique.hire("p9", last="Leep1")
    unique.run()
    assert mails(unique)["p9"] == "ann.leep12@example.org"
    unique.hr.objects.update(gone)

    unique.run()

    assert mails(unique)["p1"] == "ann.leep1@example.org"


def test_what_an_account_of_nobody_holds_is_not_free(unique: World) -> None:
    unique.crm.objects["stranger"] = {"externalId": "x", "userName": "Ann.LEE@Example.org"}
    unique.hire("p1")

    unique.run()

    assert mails(unique)["p1"] == "ann.lee2@example.org", "nor does case make it another one"
    del unique.crm.objects["stranger"]
    unique.run()
    assert mails(unique)["p1"] == "ann.lee2@example.org"
    unique.hire("p2")
    unique.run()
    assert mails(unique)["p2"] == "ann.lee@example.org"


def test_a_person_may_have_what_the_own_account_holds(unique: World) -> None:
    unique.crm.objects["old"] = {"externalId": "p1", "userName": "ann.lee@example.org", "active": True}
    unique.hire("p1")
    unique.hire("p2")

    unique.run()
    unique.approve(unique.engine.runs(1)[0].run_id)
    unique.run()

    assert mails(unique) == {"p1": "ann.lee@example.org", "p2": "ann.lee2@example.org"}
    assert "old" in unique.crm.objects


def test_nothing_is_given_before_the_targets_are_read(unique: World) -> None:
    unique.hire("p1")
    unique.crm.proves = False
    unique.crm.objects["stranger"] = {"externalId": "x", "userName": "ann.lee@example.org"}

    report = unique.run()

    found = [one for one in report.issues if one.code == "value-unchecked"]
    assert [(one.connector, one.subject) for one in found][:1] == [("hr", "mail")]
    assert "crm has not been read completely" in found[0].message
    unique.crm.proves = True
    unique.run()
    assert mails(unique)["p1"] == "ann.lee2@example.org"


def test_a_run_of_the_source_alone_gives_nothing_before_the_first_complete_import(unique: World) -> None:
    unique.hire("p1")
    unique.run(delta=True, connectors=["hr"])

    report = unique.run(connectors=["crm"])  # nothing changed at the source

    assert [one.code for one in report.issues] == []
    assert mails(unique)["p1"] == "ann.lee@example.org"


def test_people_who_had_one_address_together_are_told_apart(both: World) -> None:
    """The rule came later: who had the address first keeps it."""
    both.hire("p1")
    both.hire("p2")
    both.run()
    assert mails(both) == {"p1": "ann.lee@example.org", "p2": "ann.lee@example.org"}

    both.apply(free, release=True)
    both.run()

    assert sorted(map(str, mails(both).values())) == ["ann.lee2@example.org", "ann.lee@example.org"]
    assert both.run().row_count == 0


def test_a_better_rule_wins_and_what_it_gives_is_reserved_too(both: World) -> None:
    better = (
        "    - {name: own-mail, connector: hr, object: user, target: mail, value: '[mail]', confidence: 80}\n"
        "    - {name: hr-active"
    )
    both.apply(lambda text: free(text).replace("    - {name: hr-active", better), release=True)
    both.hire("p1", first="Ben", mail="Ann.Lee@example.org")
    both.hire("p2")
    both.hire("p3", first="Cid", mail="ann.lee2@example.org")

    report = both.run()

    assert mails(both)["p1"] == "Ann.Lee@example.org"
    assert mails(both)["p2"] == "ann.lee2@example.org"
    assert [(one.subject, one.code) for one in report.issues] == [("p3", "value-taken")]


def test_a_preview_gives_nothing_away(unique: World) -> None:
    unique.hire("p1")
    unique.run()
    report, rows = unique.engine.preview(unique.text, source="mesh.yaml", progress=silent)

    assert (report.issues, list(rows)) == ([], [])


def test_explain_shows_what_was_given(unique: World) -> None:
    unique.hire("p1")
    unique.hire("p2")
    unique.run()

    found = next(one for one in unique.engine.explain("p2").values if one.name == "mail")

    assert [(one.value, one.won) for one in found.offers] == [("ann.lee2@example.org", True)]


def test_people_in_one_batch_of_many(unique: World) -> None:
    for number in range(60):
        unique.hire(f"p{number}")
    unique.run()

    found = set(mails(unique).values())
    assert found == {"ann.lee@example.org", *(f"ann.lee{number}@example.org" for number in range(2, 61))}


def test_a_refused_person_keeps_nothing(unique: World) -> None:
    """Two objects of one anchor: the second is nobody, and takes no address."""
    unique.hr.objects["one"] = {"id": "p1", "first": "Ann", "last": "Lee", "status": "active"}
    unique.hr.objects["two"] = {"id": "", "first": "Ann", "last": "Lee", "status": "active"}
    unique.hire("p3")

    unique.run()

    assert mails(unique) == {"p1": "ann.lee@example.org", "p3": "ann.lee2@example.org"}


def test_runs_at_the_same_time_give_each_address_once(unique: World) -> None:
    engines = [unique.engine, unique.another_engine()]
    for number in range(40):
        unique.hire(f"p{number}")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda engine: engine.run(delta=False, connectors=(), progress=silent), engines))

    found = [account["userName"] for account in unique.accounts().values()]
    assert len(found) == len(set(map(str, found))) == 40


def test_the_database_itself_gives_a_text_once(unique: World) -> None:
    """What two runs could not both get past, if the lease of the mesh did not keep them apart."""
    unique.hire("p1")
    unique.run()
    row = Reservation("user", "mail", "ann.lee@example.org", 1, "ann.lee@example.org", "hr-mail")

    def reserve_again() -> None:
        with unique.database.write() as connection:
            SqlMeshTransaction(connection).unique.reserve([row])

    with pytest.raises(StorageError):
        reserve_again()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("FirstFree([a], [b])", "must count with [#]"),
        ("ToLower(FirstFree([a], [#]))", "must be the whole value of a flow rule"),
    ],
)
def test_a_definition_that_uses_it_wrongly_is_refused(world: World, value: str, message: str) -> None:
    with pytest.raises(DefinitionRefused) as caught:
        world.apply(lambda text: text.replace(PLAIN, f"'{value}'"))
    assert message in caught.value.problems[0].message


def test_many_values_cannot_be_given(world: World) -> None:
    with pytest.raises(DefinitionRefused) as caught:
        world.apply(lambda text: text.replace('"[phone]", confidence', "'FirstFree([phone], [#])', confidence"))
    assert "the attribute must be a string, and not many" in caught.value.problems[0].message


def test_renaming_the_rule_and_the_connector_keeps_what_was_given(
    tmp_path: Path, migrated_postgres: PostgresDatabase
) -> None:
    with World(tmp_path, url=migrated_postgres.url, password=Secret(migrated_postgres.password)) as world:
        world.apply(free)
        world.hire("p1")
        world.hire("p2")
        world.run()
        world.apply(lambda text: text.replace("name: hr-mail,", "name: mail-address, renamed_from: hr-mail,"))
        world.run()

        assert mails(world) == {"p1": "ann.lee@example.org", "p2": "ann.lee2@example.org"}
