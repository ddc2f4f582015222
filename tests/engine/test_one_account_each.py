"""An account at a target is the account of one person, whatever the target answers."""

from __future__ import annotations

from identitymesh.errors import ObjectExists
from identitymesh.model.attributes import Attributes

from .world import World


def by_name(text: str) -> str:
    return text.replace("correlate: externalId", "correlate: userName").replace("on_leave: disable", "on_leave: delete")


def codes(world: World) -> list[tuple[str, str]]:
    return [(one.subject, one.code) for one in world.run().issues]


def refuse_second_name(world: World) -> None:
    """As a service that wants every userName once."""

    def before(operation: str, subject: str) -> None:
        if operation != "create":
            return
        person = world.hr.objects[subject]
        wanted = f"{person['first']!s}.{person['last']!s}@example.org".lower()
        if any(one["userName"] == wanted for one in world.crm.objects.values()):
            raise ObjectExists("userName is taken")

    world.crm.before = before


def test_two_people_with_one_name_get_one_account_and_one_issue(both: World) -> None:
    both.apply(by_name, release=True)
    refuse_second_name(both)
    both.hire("a", "Ann", "Lee")
    both.hire("b", "Ann", "Lee")

    assert codes(both) == [("b", "account-taken")]
    assert codes(both) == []
    both.fire("b")
    both.run()

    assert [one["externalId"] for one in both.crm.objects.values()] == ["a"]
    assert both.crm.calls == [("create", "id-1")], "nobody wrote to the account of the other"


def test_an_account_that_two_people_fit_is_taken_over_for_one(both: World) -> None:
    both.apply(by_name, release=True)
    both.crm.add({"externalId": "a", "userName": "ann.lee@example.org"})
    both.hire("a", "Ann", "Lee")
    both.hire("b", "Ann", "Lee")

    assert ("b", "account-taken") in codes(both)
    both.fire("b")
    both.run()

    assert [one["externalId"] for one in both.crm.objects.values()] == ["a"]


def test_a_create_without_an_answer_does_not_take_the_account_of_another(both: World) -> None:
    both.apply(by_name, release=True)
    both.hire("a", "Ann", "Lee")
    both.run()
    both.hire("b", "Ann", "Lee")
    killed = RuntimeError("the process ends here")

    def before(operation: str, subject: str) -> None:
        if operation == "create":
            raise KeyboardInterrupt from killed

    both.crm.before = before
    try:
        both.run()
    except KeyboardInterrupt:
        both.crm.before = None

    both.run()

    assert both.accounts()["a"]["externalId"] == "a"
    assert ("update", "id-1") not in both.crm.calls


def test_a_target_that_answers_with_the_id_of_another(both: World) -> None:
    both.hire("a", "Ann", "Lee")
    both.run()
    both.hire("b", "Bob", "Ray")

    def same(attributes: Attributes) -> Attributes:
        both.crm._numbers = iter([1])  # the next id once more
        return attributes

    both.crm.spelling = same
    assert codes(both) == [("b", "account-taken")]
    both.crm.spelling = dict
    both.run()
    both.fire("b")
    both.run()

    assert both.accounts()["a"]["active"] is True, "who leaves takes nobody's account along"
