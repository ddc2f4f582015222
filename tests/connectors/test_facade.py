# ruff: noqa: ARG002  the double has the signatures of the contract, and looks at none of its arguments
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from identitymesh.connectors import contract
from identitymesh.connectors.checking import MAX_KEY, MAX_VALUE
from identitymesh.connectors.contract import (
    AttributeInfo,
    BadEntry,
    Complete,
    CreateOp,
    DeleteOp,
    Entry,
    GetOp,
    LookupOp,
    Modification,
    Page,
    SearchOp,
    SyncOp,
    TestReport,
    UpdateOp,
)
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.outcomes import Verdict
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    HostKeyMissing,
    ObjectChanged,
    ObjectMissing,
    ObjectRefused,
    PermissionDenied,
    SecretMissing,
    Throttled,
    TimedOut,
    Unreachable,
)
from identitymesh.model.attributes import Attributes, Value
from tests.connectors.doubles import Clock


class Scripted:
    """Does everything; each call takes the next of ``script``, raises exceptions, calls functions, gives the rest."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[str] = []
        self.closed = 0

    def _next(self, call: str) -> Any:
        self.calls.append(call)
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step

    def close(self) -> None:
        self.closed += 1
        raise RuntimeError("closing failed")

    def test(self) -> TestReport:
        report: TestReport = self._next("test")
        return report

    def schema(self, object_class: str) -> Sequence[AttributeInfo]:
        found: Sequence[AttributeInfo] = self._next("schema")
        return found

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        yield from self._pages("search")

    def sync(self, object_class: str, names: Sequence[str], since: str | None) -> Iterator[Page]:
        yield from self._pages("sync")

    def _pages(self, call: str) -> Iterator[Page]:
        for step in self._next(call):
            if isinstance(step, BaseException):
                raise step
            yield step

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        entry: Entry | None = self._next("get")
        return entry

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        found: Sequence[Entry] = self._next("lookup")
        return found

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        entry: Entry = self._next("create")
        return entry

    def update(self, object_class: str, current: Entry, change: Modification) -> Entry:
        entry: Entry = self._next("update")
        return entry

    def delete(self, object_class: str, current: Entry) -> None:
        self._next("delete")


class Bare:
    def close(self) -> None:
        pass


def facade(connector: Any, *, retries: int = 3, timeout: float = 30, clock: Clock | None = None) -> Facade:
    clock = clock or Clock()
    return Facade(
        "hr",
        connector,
        kind="sql",
        timeout=timeout,
        sleep=clock.sleep,
        clock=clock,
        retries=retries,
        chance=lambda: 1.0,
    )


OLD, NEW = Entry("1", {"mail": "old", "other": 1}), Entry("1", {"mail": "new"})
CHANGE = Modification({"mail": "new"})


def write(opened: Facade) -> Any:
    return opened.write("user", "1", CHANGE, expected={"mail": "old"}, desired={"mail": "new"})


def remove(opened: Facade) -> Any:
    return opened.remove("user", "1", expected={"mail": "old"})


class TestGuardedWrite:
    @pytest.mark.parametrize(
        ("script", "verdict", "calls"),
        [
            ([NEW], Verdict.DONE, ["get"]),
            ([OLD, NEW], Verdict.WRITTEN, ["get", "update"]),
            ([Entry("1", {"mail": "else"})], Verdict.STALE, ["get"]),
            ([Entry("1", {})], Verdict.STALE, ["get"]),
            ([None], Verdict.MISSING, ["get"]),
            ([OLD, ObjectMissing("gone")], Verdict.MISSING, ["get", "update"]),
            ([OLD, ObjectChanged("412"), NEW], Verdict.DONE, ["get", "update", "get"]),
            ([OLD, ObjectChanged("412"), OLD, NEW], Verdict.WRITTEN, ["get", "update", "get", "update"]),
            ([OLD, ObjectChanged("412"), Entry("1", {"mail": "else"})], Verdict.STALE, ["get", "update", "get"]),
        ],
    )
    def test_outcomes(self, script: list[Any], verdict: Verdict, calls: list[str]) -> None:
        connector = Scripted(*script)
        assert write(facade(connector)).verdict is verdict
        assert connector.calls == calls
        assert connector.script == []

    def test_an_object_that_never_stops_changing_is_stale(self) -> None:
        connector = Scripted(*[OLD, ObjectChanged("412")] * 3, OLD)
        assert write(facade(connector)).verdict is Verdict.STALE

    def test_order_of_values_does_not_matter_but_type_does(self) -> None:
        connector = Scripted(Entry("1", {"a": ["x", "y"], "b": 1}))
        opened = facade(connector)
        change = Modification({})
        assert opened.write("user", "1", change, expected={}, desired={"a": ["y", "x"], "b": 1}).settled
        connector.script = [Entry("1", {"b": 1})]
        outcome = opened.write("user", "1", change, expected={}, desired={"b": True})
        assert outcome.verdict is Verdict.STALE

    def test_a_lost_answer_is_looked_at_again(self) -> None:
        connector = Scripted(OLD, ConnectionLost("cut"), NEW)
        assert write(facade(connector)).verdict is Verdict.DONE

    def test_what_differs_after_a_lost_answer_may_be_what_was_done(self) -> None:
        half = Entry("1", {"mail": "else"})
        for call in (write, remove):
            outcome = call(facade(Scripted(OLD, ConnectionLost("cut"), half)))
            assert (outcome.verdict, outcome.entry, outcome.unsure) == (Verdict.STALE, half, True)
            assert not call(facade(Scripted(OLD, ObjectChanged("412"), half))).unsure

    def test_a_refusal_is_final(self) -> None:
        connector = Scripted(OLD, ObjectRefused("too long"))
        with pytest.raises(ObjectRefused) as refused:
            write(facade(connector))
        assert refused.value.connector == "hr"

    def test_deletes(self) -> None:
        known: Attributes = {"mail": "old"}
        assert facade(Scripted(OLD, None)).remove("user", "1", expected=known).verdict is Verdict.WRITTEN
        assert facade(Scripted(None)).remove("user", "1", expected=known).verdict is Verdict.DONE
        assert facade(Scripted(OLD, ObjectMissing("x"))).remove("user", "1", expected=known).verdict is Verdict.DONE
        stale = facade(Scripted(NEW)).remove("user", "1", expected=known)
        assert (stale.verdict, stale.entry) == (Verdict.STALE, NEW)

    @pytest.mark.parametrize("lost", [ConnectionLost("cut"), TimedOut("late"), TimeoutError("late")])
    @pytest.mark.parametrize(
        "then",
        [
            Unreachable("down"),
            Throttled("busy", retry_after=61),
            CredentialRefused("no"),
            SecretMissing("gone"),
            PermissionDenied("no"),
            ObjectRefused("a row cannot be taken over"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_an_answer_that_was_lost_stays_lost_whatever_keeps_the_next_try_from_looking(
        self, lost: Exception, then: Exception
    ) -> None:
        for call in (write, remove):
            with pytest.raises(ConnectionLost, match=r"no answer while .*, and then: ") as failed:
                call(facade(Scripted(OLD, lost, *[then] * 4)))
            assert failed.value.connector == "hr"

    @pytest.mark.parametrize("answer", [PermissionDenied("no"), ObjectRefused("no")])
    def test_but_an_answer_that_comes_later_is_one(self, answer: Exception) -> None:
        with pytest.raises(type(answer)):
            write(facade(Scripted(OLD, ConnectionLost("cut"), OLD, answer)))

    def test_what_was_written_is_written_although_the_answer_cannot_be_taken_over(self) -> None:
        odd = Entry("1", {"mail": "new", "other": "a\0b"})
        written = write(facade(Scripted(OLD, odd)))
        assert (written.verdict, written.entry) == (Verdict.WRITTEN, None)
        seen = facade(Scripted(odd)).write("user", "1", CHANGE, expected={}, desired={"mail": "new"})
        assert (seen.verdict, seen.entry) == (Verdict.DONE, None)
        with pytest.raises(ObjectRefused, match="cannot be taken over"):
            write(facade(Scripted(Entry("1", {"mail": "a\0b"}))))
        with pytest.raises(ConnectionLost, match=r"carried out, and then: .* cannot be taken over"):
            facade(Scripted(odd)).create("user", {"mail": "new"})

    def test_what_was_never_sent_is_not_lost(self) -> None:
        with pytest.raises(Unreachable):
            write(facade(Scripted(OLD, *[Unreachable("down")] * 4)))


class TestRepeats:
    def test_a_safe_call_is_repeated_with_growing_pauses(self) -> None:
        clock = Clock()
        connector = Scripted(Unreachable("a"), TimedOut("b"), ConnectionLost("c"), NEW)
        assert facade(connector, clock=clock).get("user", "1") == NEW
        assert clock.slept == [0.5, 1.0, 2.0]

    def test_patience_ends(self) -> None:
        connector = Scripted(*[Unreachable("a")] * 10)
        with pytest.raises(Unreachable) as failed:
            facade(connector, retries=2).test()
        assert len(connector.calls) == 3
        assert failed.value.connector == "hr"

    def test_what_will_not_get_better_is_not_repeated(self) -> None:
        connector = Scripted(CredentialRefused("no"))
        with pytest.raises(CredentialRefused):
            facade(connector).test()

    @pytest.mark.parametrize("error", [ConnectionLost("cut"), TimedOut("late"), ConnectorError("?"), OSError("?")])
    def test_a_create_of_unknown_outcome_is_not_repeated(self, error: Exception) -> None:
        connector = Scripted(error, NEW)
        with pytest.raises(ConnectorError):
            facade(connector).create("user", {})
        assert connector.calls == ["create"]

    @pytest.mark.parametrize("error", [Unreachable("never there"), Throttled("wait", retry_after=1)])
    def test_a_create_that_was_not_carried_out_is_repeated(self, error: Exception) -> None:
        assert facade(Scripted(error, NEW)).create("user", {}) == NEW

    def test_a_server_that_asks_for_a_pause_gets_it(self) -> None:
        clock = Clock()
        connector = Scripted(*[Throttled("wait", retry_after=10)] * 5, NEW)
        assert facade(connector, clock=clock, retries=0).get("user", "1") == NEW
        assert clock.slept == [10, 10, 10, 10, 10]

    @pytest.mark.parametrize("pause", [25.0, 61.0, 0.0])
    def test_but_not_for_ever(self, pause: float) -> None:
        clock = Clock()
        connector = Scripted(*[Throttled("wait", retry_after=pause)] * 50)
        with pytest.raises(Throttled):
            facade(connector, clock=clock).get("user", "1")
        assert sum(clock.slept) <= 60

    def test_opening_a_read_is_repeated(self) -> None:
        last = Page([NEW], complete=Complete(1, "x"))
        connector = Scripted(Unreachable("a"), [TimedOut("b")], [last])
        assert [page.entries for page in facade(connector).read("user", [])] == [[NEW]]

    def test_a_read_that_breaks_after_its_first_page_is_over(self) -> None:
        connector = Scripted([Page([OLD]), ConnectionLost("cut"), Page([NEW])])
        pages = facade(connector).read("user", [])
        assert next(pages).entries == [OLD]
        with pytest.raises(ConnectionLost) as lost:
            next(pages)
        assert lost.value.connector == "hr"
        assert connector.calls == ["search"]


class TestTranslation:
    def test_a_foreign_error_shows_its_type_alone(self) -> None:
        connector = Scripted(KeyError("hunter2"))
        with pytest.raises(ConnectorError) as failed:
            facade(connector).get("user", "1")
        assert "KeyError" in str(failed.value)
        assert "hunter2" not in str(failed.value) + repr(failed.value) + failed.value.hint
        assert isinstance(failed.value.__cause__, KeyError)

    def test_a_foreign_error_after_the_time_limit_is_called_so(self) -> None:
        clock = Clock()

        def late() -> Entry:
            clock.now += 31
            raise OSError("reset")

        with pytest.raises(TimedOut, match="30 s"):
            facade(Scripted(late), clock=clock, retries=0).get("user", "1")

    def test_a_call_that_succeeds_late_has_succeeded(self) -> None:
        clock = Clock()

        def late() -> Entry:
            clock.now += 31
            return NEW

        assert facade(Scripted(late), clock=clock).get("user", "1") == NEW

    @pytest.mark.parametrize("error", [SecretMissing("no such secret"), HostKeyMissing("no key")])
    def test_errors_of_secrets_pass(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            facade(Scripted(error)).test()

    def test_an_interrupt_passes(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            facade(Scripted(KeyboardInterrupt())).test()

    def test_closing_never_fails(self) -> None:
        connector = Scripted()
        with facade(connector):
            pass
        assert connector.closed == 1


def one_page(*entries: Any) -> Page:
    pages = list(facade(Scripted([Page(entries, complete=Complete(len(entries), "x"))])).read("user", []))
    assert len(pages) == 1
    return pages[0]


class TestChecks:
    @pytest.mark.parametrize(
        ("key", "words"),
        [
            ("", "no key"),
            (7, "not text"),
            (None, "not text"),
            ("a\0b", "NUL"),
            ("\udc80", "Unicode"),
            ("x" * (MAX_KEY + 1), "1,025 characters"),
        ],
    )
    def test_a_key_that_cannot_be_one_is_unreadable(self, key: Any, words: str) -> None:
        page = one_page(Entry(key, {}))
        assert page.entries == []
        assert page.bad[0].key is None
        assert words in page.bad[0].reason

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("secret\0value", "NUL"),
            ("secret\udc80value", "Unicode"),
            ("secret" * MAX_VALUE, "at most"),
            ("ä" * (MAX_VALUE // 2 + 1), "at most"),
            (b"x" * (MAX_VALUE + 1), "at most"),
            (["ok", "secret\0"], "NUL"),
            ([], "empty list"),
            (None, "NoneType"),
            ({"secret": 1}, "dict"),
            ([["secret"]], "list"),
            (float("nan"), "finite"),
            (float("inf"), "finite"),
            (2**63, "64 bits"),
            (-(2**63) - 1, "64 bits"),
        ],
    )
    def test_a_value_that_cannot_be_one_spoils_its_entry_alone(self, value: Any, words: str) -> None:
        page = one_page(Entry("1", {"mail": "ok", "phone": value}), NEW_2)
        assert page.entries == [NEW_2]
        (bad,) = page.bad
        assert bad.key == "1"
        assert words in bad.reason
        assert "phone" in bad.reason
        assert "secret" not in bad.reason
        assert page.complete is not None

    @pytest.mark.parametrize("value", ["", "x" * (MAX_VALUE - 1), b"", True, 2**63 - 1, 1.5, ["a", b"\0", 1, False]])
    def test_every_value_of_the_model_passes(self, value: Any) -> None:
        assert one_page(Entry("1", {"a": value})).bad == []

    def test_the_second_with_a_key_is_bad_also_on_another_page(self) -> None:
        connector = Scripted([Page([OLD]), Page([OLD, NEW_2], complete=Complete(3, "x"))])
        first, second = facade(connector).read("user", [])
        assert first.entries == [OLD]
        assert second.entries == [NEW_2]
        assert [(bad.key, "duplicate key" in bad.reason) for bad in second.bad] == [("1", True)]
        assert second.complete is not None

    def test_a_bad_object_that_is_asked_for_by_key_is_refused(self) -> None:
        with pytest.raises(ObjectRefused, match="NUL"):
            facade(Scripted(Entry("1", {"a": "\0"}))).get("user", "1")


NEW_2 = Entry("2", {"mail": "new"})


class TestCompleteness:
    def test_the_proof_is_on_the_last_page_and_nothing_follows(self) -> None:
        connector = Scripted([Page([OLD]), Page(complete=Complete(1, "proof")), Page([NEW_2])])
        pages = list(facade(connector).read("user", []))
        assert [page.complete for page in pages] == [None, Complete(1, "proof")]

    def test_a_read_that_just_ends_says_so(self) -> None:
        pages = list(facade(Scripted([Page([OLD])])).read("user", []))
        assert pages[-1].complete is None
        assert "without a proof" in pages[-1].incomplete

    def test_a_read_of_nothing_at_all_is_not_complete(self) -> None:
        (page,) = facade(Scripted([])).read("user", [])
        assert page.complete is None
        assert page.incomplete

    def test_a_count_that_does_not_fit_is_no_proof(self) -> None:
        pages = list(facade(Scripted([Page([OLD], complete=Complete(2, "x"))])).read("user", []))
        assert pages[-1].complete is None
        assert pages[-1].incomplete == "the source counted 2 objects, but gave 1"

    def test_an_incomplete_read_gives_no_watermark(self) -> None:
        page = Page([OLD], watermark="w", complete=Complete(2, "x"))
        assert list(facade(Scripted([page])).read("user", []))[-1].watermark is None
        page = Page([OLD], watermark="w", complete=Complete(1, "x"))
        assert list(facade(Scripted([page])).read("user", []))[-1].watermark == "w"

    def test_bad_entries_count(self) -> None:
        page = Page([OLD], [BadEntry("no key")], complete=Complete(2, "x"))
        assert list(facade(Scripted([page])).read("user", []))[-1].complete is not None

    def test_changes_prove_nothing(self) -> None:
        page = Page([OLD], watermark="w", complete=Complete(1, "x"))
        (seen,) = facade(Scripted([page])).read_since("user", [], None)
        assert (seen.complete, seen.watermark) == (None, "w")


@pytest.mark.parametrize(
    ("operation", "call", "words"),
    [
        (contract.TestOp, lambda opened: opened.test(), "cannot be tested"),
        (SearchOp, lambda opened: opened.read("user", []), "cannot be read completely"),
        (SyncOp, lambda opened: opened.read_since("user", [], None), "cannot be read for changes only"),
        (GetOp, lambda opened: opened.get("user", "1"), "cannot read one object"),
        (LookupOp, lambda opened: opened.lookup("user", "a", "b"), "cannot look objects up"),
        (CreateOp, lambda opened: opened.create("user", {}), "cannot create objects"),
        (UpdateOp, write, "cannot"),
        (DeleteOp, lambda opened: opened.remove("user", "1", expected={}), "cannot"),
    ],
)
def test_what_a_connector_cannot_do_is_said_in_words(
    operation: type, call: Callable[[Facade], Any], words: str
) -> None:
    opened = facade(Bare())
    assert not opened.offers(operation)
    assert facade(Scripted()).offers(operation)
    with pytest.raises(ConnectorMisconfigured, match=rf"connector hr \(sql\) {words}"):
        call(opened)
