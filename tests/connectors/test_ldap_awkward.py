"""What goes wrong with directories: each case with its named error, and with the right consequence."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ldap
import pytest

from identitymesh.connectors.catalogue import kind
from identitymesh.connectors.contract import Modification, Page
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.kinds.ldap import delta, failures, reading
from identitymesh.connectors.kinds.ldap.ber import POST_READ, post_read
from identitymesh.connectors.kinds.ldap.session import Session
from identitymesh.connectors.outcomes import Verdict
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    ImportIncomplete,
    MeshError,
    ObjectExists,
    ObjectRefused,
    PermissionDenied,
    SecretMissing,
    TimedOut,
    Unreachable,
)
from identitymesh.model.attributes import Attributes, values_of
from identitymesh.redaction import Secret
from identitymesh.rules.expressions import check, compile_one
from tests.connectors.contract import read_all
from tests.connectors.doubles import Credentials
from tests.connectors.test_ldap_contract import ldap_facade
from tests.servers.proxy import Proxy
from tests.servers.slapd import SUFFIX, Branch, SlapdServer

SPECIAL = ' # leading, "quoted" a+b <c>;d\\e=f/g é\u0301 *(x)\n tail '


@pytest.fixture
def opened(branch: Branch) -> Iterator[Facade]:
    with ldap_facade(branch) as made:
        yield made


def new(branch: Branch, name: str, **more: Any) -> Attributes:
    dn = f"uid={name},{branch.people}"
    return {"dn": dn, "objectClass": ["inetOrgPerson", "meshPerson"], "uid": name, "cn": name, "sn": name, **more}


def change(opened: Facade, key: str, expected: Attributes, desired: Attributes) -> Any:
    put = {name: value for name, value in desired.items() if expected.get(name) != value}
    clear = [name for name in expected if name not in desired]
    return opened.write("user", key, Modification(put, clear), expected=expected, desired=desired)


def last_page(opened: Facade) -> Page:
    return list(opened.read("user", ["uid"]))[-1]


# -- reads that are not complete ------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [None, 10])
def test_a_size_limit_makes_it_incomplete(branch: Branch, page_size: int | None) -> None:
    for number in range(12):
        branch.add(f"u{number}")
    login: dict[str, Any] = {"bind_dn": f"cn=limited,{SUFFIX}", "password": branch.server.password}
    with ldap_facade(branch, page_size=page_size, **login) as opened:
        pages = list(opened.read("user", ["uid"]))
    assert sum(len(page.entries) for page in pages) == 5
    assert pages[-1].complete is None
    assert pages[-1].incomplete.startswith("the server's size limit ended the read (Size limit exceeded)")
    assert "after 5 entries" in pages[-1].incomplete


def test_a_size_limit_moves_no_watermark(branch: Branch) -> None:
    for number in range(12):
        branch.add(f"u{number}")
    login: dict[str, Any] = {"bind_dn": f"cn=limited,{SUFFIX}", "password": branch.server.password}
    with ldap_facade(branch, user={"watermark": "entryCSN"}, **login) as opened:
        assert [page.watermark for page in opened.read("user", ["uid"])] == [None, None]
        seen = []
        with pytest.raises(ImportIncomplete, match="size limit"):
            seen += list(opened.read_since("user", ["uid"], None))
        assert [page.watermark for page in seen if page.watermark] == []


def test_a_referral_makes_it_incomplete_and_is_not_followed(branch: Branch, opened: Facade) -> None:
    branch.add("ann")
    with Proxy(branch.server.port) as elsewhere:
        referral = {"objectClass": ["referral", "extensibleObject"], "ref": f"ldap://127.0.0.1:{elsewhere.port}/"}
        branch.server.add(f"ou=elsewhere,{branch.people}", referral)
        last = last_page(opened)
        assert last.incomplete == "a referral to other servers came with the 1 entries, and is not followed"
        with pytest.raises(ObjectRefused, match="referrals are not followed with a password"):
            opened.create("user", new(branch, "bob", dn=f"uid=bob,ou=elsewhere,{branch.people}"))
        assert elsewhere.connections == 0
    with ldap_facade(branch, user={"base": f"ou=elsewhere,{branch.people}"}) as there:
        with pytest.raises(ConnectorMisconfigured) as refused:
            list(there.read("user", ["uid"]))
        assert "password to another host" in refused.value.hint


@pytest.mark.parametrize("way", ["ldap", "starttls", "ldaps"])
@pytest.mark.parametrize("what", ["cut", "stall"])
def test_a_server_that_stops_in_the_middle(
    branch: Branch, monkeypatch: pytest.MonkeyPatch, way: str, what: str
) -> None:
    monkeypatch.setattr(reading, "PAGE", 5)  # of entries with 20 kB each; what was handed on is not read again
    with branch.server.client() as client:
        for number in range(60):
            dn = f"uid=u{number},{branch.people}"
            client.add_s(dn, [("objectClass", [b"inetOrgPerson"]), ("cn", [b"x" * 20_000]), ("sn", [b"y"])])
    with Proxy(branch.server.tls_port if way == "ldaps" else branch.server.port) as proxy:
        url = f"{'ldaps' if way == 'ldaps' else 'ldap'}://127.0.0.1:{proxy.port}"
        given: dict[str, Any] = {"url": url, "starttls": way == "starttls", "allow_cleartext": way == "ldap"}
        with ldap_facade(branch, **given, timeout=1) as opened:
            opened.schema("user")
            answered = 300_017  # in the middle of an entry, and of a TLS record
            if what == "cut":
                proxy.cut_after(answered)
            else:
                proxy.stall_after(answered)
            with pytest.raises(ConnectionLost if what == "cut" else TimedOut, match="reading below ou=people"):
                list(opened.read("user", ["cn"]))
            proxy.open()
            assert len(read_all(opened, ["cn"])) == 60, "the next read has a connection of its own"


def test_a_filter_that_matches_nothing_is_complete(branch: Branch) -> None:
    branch.add("ann")
    for nothing in ("(objectClass=printer)", "(noSuchAttribute=x)", "(&(uid=ann)(uid=bob))"):
        with ldap_facade(branch, user={"filter": nothing}) as opened:
            last = last_page(opened)
            assert last.complete is not None  # whether it is believed is the engine's limit to say
            assert last.complete.count == 0


@pytest.mark.parametrize(
    ("user", "told", "hint"),
    [
        ({"base": "ou=nowhere,dc=example,dc=org"}, "No such object", "Check the base"),
        ({"base": "ou=people=x,,dc=org"}, "Invalid DN syntax", "Correct the base"),
        ({"filter": "(&(uid=ann)"}, "Bad search filter", "Correct the filter"),
    ],
)
def test_a_base_or_filter_that_is_wrong(branch: Branch, user: dict[str, Any], told: str, hint: str) -> None:
    with ldap_facade(branch, user=user) as opened:
        calls: list[Callable[[], Any]] = [opened.test, lambda: list(opened.read("user", ["uid"]))]
        calls.append(lambda: opened.get("user", "x"))
        for call in calls:
            with pytest.raises(ConnectorMisconfigured, match=told) as refused:
                call()
            assert hint in refused.value.hint


def test_a_key_that_cannot_be_read(branch: Branch) -> None:
    branch.add("ann")
    branch.add("bob", meshNote="n1")
    with ldap_facade(branch, user={"key": "meshNote"}) as opened:
        page, last = opened.read("user", ["uid"])
        assert [entry.key for entry in page.entries] == ["n1"]
        ((bad),) = page.bad
        assert bad.key is None  # so absences are held
        assert bad.position == f"uid=ann,{branch.people}"
        assert "has not one readable meshNote" in bad.reason
        assert last.complete is not None
    with ldap_facade(branch, user={"key": "userPassword"}) as opened, pytest.raises(ConnectorMisconfigured, match="no"):
        opened.test()


def test_the_collector_is_as_it_was(branch: Branch, opened: Facade) -> None:
    for number in range(3):
        branch.add(f"u{number}")
    assert [gc.isenabled() for _ in opened.read("user", ["uid"])] == [False, True]  # the last has the end alone
    given_up: Any = opened.read("user", ["uid"])
    next(given_up)
    given_up.close()
    assert gc.isenabled()
    gc.disable()
    try:
        list(opened.read("user", ["uid"]))
        assert not gc.isenabled()
    finally:
        gc.enable()


# -- deltas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["entryCSN", "modifyTimestamp"])
def test_entries_that_share_the_last_mark_come_again(branch: Branch, mark: str) -> None:
    for number in range(30):
        branch.add(f"u{number:02}")  # many of them in one second
    with ldap_facade(branch, user={"watermark": mark}) as opened:
        last = list(opened.read("user", ["uid"]))[-1]
        assert last.watermark is not None
        branch.server.modify(f"uid=u03,{branch.people}", "sn", "changed")
        pages = list(opened.read_since("user", ["uid", "sn"], last.watermark))
        found = {entry.attributes["uid"]: entry.attributes["sn"] for page in pages for entry in page.entries}
        assert found["u03"] == "changed"
        assert pages[-1].watermark is not None
        assert pages[-1].watermark >= last.watermark
    with ldap_facade(branch, user={"watermark": mark, "overlap": 3600}) as opened:
        assert len(next(opened.read_since("user", ["uid"], pages[-1].watermark)).entries) == 30


def test_what_changes_while_it_is_read_is_not_lost(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry that was read first changes, then another one that is read later: the watermark stays before both."""
    monkeypatch.setattr(reading, "PAGE", 5)
    monkeypatch.setattr(delta, "PAGE", 5)
    for number in range(20):
        branch.add(f"u{number:02}")
    with ldap_facade(branch, user={"watermark": "entryCSN"}, page_size=10) as opened:
        reads: list[Callable[[], Iterator[Page]]] = [lambda: opened.read("user", ["uid", "sn"])]
        reads.append(lambda: opened.read_since("user", ["uid", "sn"], None))
        for read in reads:
            pages: list[Page] = []
            sent = ""
            for page in read():
                if not pages:
                    sent = str(page.entries[0].attributes["uid"])
                    branch.server.modify(f"uid={sent},{branch.people}", "sn", f"late {sent}")
                    for number in range(20):
                        branch.server.modify(f"uid=u{number:02},{branch.people}", "meshNote", "moved")
                pages.append(page)
            mark = pages[-1].watermark
            again = {
                str(entry.attributes["uid"]): entry.attributes
                for page in opened.read_since("user", ["uid", "sn"], mark)
                for entry in page.entries
            }
            assert again[sent]["sn"] == f"late {sent}"


def test_the_watermark_moves_with_each_page(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "PAGE", 5)
    for number in range(20):
        branch.add(f"u{number:02}")
    for number in (3, 0, 19):  # the order of the tree is not that of time
        branch.server.modify(f"uid=u{number:02},{branch.people}", "sn", "changed")
    with ldap_facade(branch, user={"watermark": "entryCSN"}) as opened:
        pages = list(opened.read_since("user", ["uid"], None))
        marks = [str(page.watermark) for page in pages]
        assert len(pages) == 4
        assert marks == sorted(set(marks))
        for at, mark in enumerate(marks):  # from each of them, nothing that came later is missing
            rest = {entry.key for page in opened.read_since("user", ["uid"], mark) for entry in page.entries}
            assert rest >= {entry.key for page in pages[at + 1 :] for entry in page.entries}
        monkeypatch.setattr(delta, "HELD", 3)  # too many to be put in order
        pages = list(opened.read_since("user", ["uid"], None))
        assert [page.watermark for page in pages[:-1]] == [None] * (len(pages) - 1)
        assert pages[-1].watermark == marks[-1]


@pytest.mark.parametrize("mark", ["modifyTimestamp:20261122081617Z", "integer:7", "entryCSN:soon", ""])
def test_a_watermark_that_is_none(branch: Branch, mark: str) -> None:
    with ldap_facade(branch, user={"watermark": "entryCSN"}) as opened:
        with pytest.raises(ConnectorMisconfigured, match="not one of entryCSN") as refused:
            list(opened.read_since("user", [], mark))
        assert "full import" in refused.value.hint
    with ldap_facade(branch) as opened, pytest.raises(ConnectorMisconfigured, match="has no watermark"):
        list(opened.read_since("user", [], None))


# -- names ----------------------------------------------------------------------------------------


def test_a_dn_with_every_special_character(branch: Branch, opened: Facade) -> None:
    escape = compile_one(check('Concat("uid=", EscapeDN([n]), ",", [base])', names=None))
    dn = escape({"n": SPECIAL, "base": branch.people})
    assert isinstance(dn, str)
    created = opened.create("user", {**new(branch, "x", uid=SPECIAL), "dn": dn})
    assert created.attributes["dn"] == dn, "it reads as the rule wrote it"
    assert created.attributes["uid"] == SPECIAL
    assert read_all(opened, ["dn"]) == {created.key: {"dn": dn}}
    found = opened.lookup("user", "dn", dn, ["uid"])
    assert [entry.key for entry in found] == [created.key]
    assert [entry.key for entry in opened.lookup("user", "uid", SPECIAL)] == [created.key]
    (entry,) = branch.entries("uid").values()
    assert entry["uid"] == [SPECIAL]
    outcome = change(opened, created.key, {"dn": dn}, {"dn": dn.replace("tail", "end")})
    assert outcome.verdict is Verdict.WRITTEN
    with ldap_facade(branch, user={"key": "dn"}) as by_dn:
        ((key),) = read_all(by_dn, ["uid"])
        got = by_dn.get("user", key, ["uid"])
        assert got is not None
        assert got.attributes == {"uid": SPECIAL.replace("tail", "end")}
    assert opened.remove("user", created.key, expected={}).verdict is Verdict.WRITTEN
    assert branch.entries() == {}


@pytest.mark.parametrize(
    "dn", ["no dn at all", "uid=a,b,dc=example", "uid=a+,dc=example,dc=org", "=x,dc=example", ["a"]]
)
def test_a_dn_that_is_none(branch: Branch, opened: Facade, dn: Any) -> None:
    with pytest.raises(ObjectRefused) as refused:
        opened.create("user", {**new(branch, "a"), "dn": dn})
    assert "EscapeDN" in refused.value.hint or "one text" in str(refused.value)
    assert opened.lookup("user", "dn", dn) == []
    created = opened.create("user", new(branch, "a"))
    with pytest.raises(ObjectRefused):
        change(opened, created.key, {"dn": f"uid=a,{branch.people}"}, {"dn": dn})


def test_an_entry_without_a_dn_or_a_parent(branch: Branch, opened: Facade) -> None:
    person = new(branch, "a")
    del person["dn"]
    with pytest.raises(ObjectRefused, match="needs a dn"):
        opened.create("user", person)
    with pytest.raises(ObjectRefused, match="the entry above it does not exist"):
        opened.create("user", new(branch, "a", dn=f"uid=a,ou=nowhere,{branch.people}"))


def test_renamed_and_moved(branch: Branch, opened: Facade) -> None:
    branch.server.add(f"ou=left,{branch.people}", {"objectClass": "organizationalUnit"})
    created = opened.create("user", new(branch, "ann"))
    known = dict(created.attributes)
    steps: list[Attributes] = [
        {"dn": f"uid=ann2,{branch.people}", "uid": "ann2"},  # the old value goes
        {"dn": f"uid=ann3,ou=left,{branch.people}", "uid": ["ann3", "ann2"]},  # the old one is wanted beside it
        {"dn": f"cn=Ann,{branch.people}", "cn": "Ann", "uid": "ann3", "sn": "Lee"},  # another naming attribute
        {"dn": f"cn=ANN,{branch.people}", "cn": "ANN"},  # in case alone
        {"dn": f"cn=ANN+sn=Lee,{branch.people}"},
        {"dn": f"sn=Lee,{branch.people}", "cn": "x"},
    ]
    for step in steps:
        wanted = {**known, **step}
        outcome = change(opened, created.key, known, wanted)
        assert outcome.verdict is Verdict.WRITTEN, step
        assert outcome.entry is not None
        got = opened.get("user", created.key, list(wanted))
        assert got is not None
        assert got.attributes == outcome.entry.attributes
        for name, value in wanted.items():
            assert sorted(map(str, values_of(got.attributes[name]))) == sorted(map(str, values_of(value))), (step, name)
        known = got.attributes
    assert change(opened, created.key, known, {**known, "dn": known["dn"].upper()}).verdict is Verdict.WRITTEN  # type: ignore[union-attr]
    (dn,) = branch.entries()
    assert dn == f"sn=LEE,{branch.people}"


def test_renamed_and_then_refused(branch: Branch, opened: Facade) -> None:
    """The whole is neither carried out nor refused: what is there now is given, as what may be half of it."""
    created = opened.create("user", new(branch, "ann"))
    known: Attributes = {"dn": str(created.attributes["dn"]), "cn": "ann"}
    there, no_ascii = f"uid=eve,{branch.people}", "\u00e4@example.com"
    outcome = change(opened, created.key, known, {"dn": there, "cn": "ann", "mail": no_ascii})
    assert (outcome.verdict, outcome.unsure) == (Verdict.STALE, True)
    assert outcome.entry.attributes == {"dn": there, "cn": "ann"}
    with pytest.raises(ObjectRefused):
        change(opened, created.key, {"dn": there, "cn": "ann"}, {"dn": there, "cn": "ann", "mail": no_ascii})


def test_a_rename_that_cannot_be(branch: Branch, opened: Facade) -> None:
    created = opened.create("user", new(branch, "ann"))
    branch.add("bob")
    known: Attributes = {"dn": str(created.attributes["dn"])}
    for dn, told in (
        (f"uid=bob,{branch.people}", "with this dn already"),
        ("uid=a,ou=x,dc=example,dc=org", "above its new dn does not exist"),
    ):
        with pytest.raises(ConnectorError, match=told):
            change(opened, created.key, known, {"dn": dn})
    got = opened.get("user", created.key, ["dn", "uid"])
    assert got is not None
    assert got.attributes == {**known, "uid": "ann"}


def test_names_of_attributes_differ_in_case_and_by_alias(branch: Branch, opened: Facade) -> None:
    person = new(branch, "ann")
    del person["sn"]
    created = opened.create("user", {**person, "MAIL": "a@x.org", "MeshRemark": "r", "surName": "ann"})
    assert created.attributes["MAIL"] == "a@x.org"
    assert read_all(opened, ["Mail", "mail", "meshremark", "meshNote", "SURNAME"]) == {
        created.key: {"Mail": "a@x.org", "mail": "a@x.org", "meshremark": "r", "meshNote": "r", "SURNAME": "ann"}
    }
    with pytest.raises(ObjectRefused, match="Mail and mail are the same attribute"):
        change(opened, created.key, {"Mail": "a@x.org", "mail": "a@x.org"}, {"Mail": "b", "mail": "c"})


# -- values ---------------------------------------------------------------------------------------


def test_values_that_differ_only_in_case_or_normal_form(branch: Branch, opened: Facade) -> None:
    for twice in (["Ann", "ANN"], ["Ann Lee", "Ann  Lee"], ["\u00e9", "e\u0301"]):
        with pytest.raises(ObjectRefused, match="does not tell values apart by case, spaces or Unicode form"):
            opened.create("user", new(branch, "a", title=twice))
    created = opened.create("user", new(branch, "a", title="ann \u00e9"))
    for now, then in (("ann \u00e9", "Ann \u00e9"), ("Ann \u00e9", "Ann e\u0301"), ("Ann e\u0301", "Ann  e\u0301")):
        outcome = change(opened, created.key, {"title": now}, {"title": then})
        assert outcome.verdict is Verdict.WRITTEN
        assert read_all(opened, ["title"]) == {created.key: {"title": then}}
    # The directory finds it under each of these spellings; that it is the same one is its own word for it.
    assert [entry.key for entry in opened.lookup("user", "title", "ANN E\u0301")] == [created.key]


def test_of_two_that_the_directory_takes_for_equal_the_exact_one_is_found(branch: Branch, opened: Facade) -> None:
    branch.add("a", title="Boss")
    branch.add("b", title="boss")
    assert [entry.attributes for entry in opened.lookup("user", "title", "boss", ["uid"])] == [{"uid": "b"}]
    assert len(opened.lookup("user", "title", "BOSS", ["uid"])) == 2


def test_five_thousand_values_in_one_attribute(branch: Branch, opened: Facade) -> None:
    many: list[Any] = [f"value {number:05}" for number in range(5_000)]
    created = opened.create("user", new(branch, "a", meshTag=many))
    sent: list[Any] = []
    inner: Any = opened._connector
    change_of = inner._session.change

    def watched(send: Any, failed: Any) -> Any:
        class Spy:
            def modify_ext(self, dn: str, steps: Any, **more: Any) -> Any:
                sent.append(steps)
                return real[0].modify_ext(dn, steps, **more)

        real: list[Any] = []

        def through(connection: Any) -> Any:
            real.append(connection)
            return send(Spy())

        return change_of(through, failed)

    inner._session.change = watched
    wanted = [*many[:-2], "new one"]
    assert change(opened, created.key, {"meshTag": many}, {"meshTag": wanted}).verdict is Verdict.WRITTEN
    assert sent == [
        [(ldap.MOD_DELETE, "meshTag", [b"value 04998", b"value 04999"]), (ldap.MOD_ADD, "meshTag", [b"new one"])]
    ]
    found = read_all(opened, ["meshTag"])[created.key]["meshTag"]
    assert sorted(map(str, values_of(found))) == sorted(wanted)
    assert change(opened, created.key, {"meshTag": wanted}, {"meshTag": "one"}).verdict is Verdict.WRITTEN
    assert sent[1] == [(ldap.MOD_REPLACE, "meshTag", [b"one"])]


def test_types_of_values(branch: Branch, opened: Facade) -> None:
    person = new(branch, "a", meshLevel=7, meshFlag=True, meshEnd="2026-11-22T08:30:00Z", meshBlob=[b"\0\xff", b"text"])
    created = opened.create("user", person)
    assert created.attributes == person
    assert branch.entries("meshEnd", "meshLevel")[f"uid=a,{branch.people}"] == {
        "meshEnd": ["20261122083000Z"],
        "meshLevel": ["7"],
    }
    branch.server.modify(f"uid=a,{branch.people}", "meshEnd", "202611220930.5+0100")
    assert read_all(opened, ["meshEnd"])[created.key] == {"meshEnd": "2026-11-22T08:30:30Z"}
    infos = {info.name: info for info in opened.schema("user")}
    assert (infos["meshLevel"].type, infos["meshLevel"].many) == ("integer", False)
    assert (infos["meshEnd"].type, infos["meshBlob"].type, infos["meshBlob"].many) == ("datetime", "binary", True)
    assert (infos["sn"].type, infos["sn"].many) == ("string", True)  # both by way of its superior
    assert infos["userCertificate"].type == "binary"
    assert not infos["entryUUID"].writable
    assert infos["dn"].required


def test_operational_attributes_are_read_when_named(branch: Branch, opened: Facade) -> None:
    branch.add("a")
    ((key, attributes),) = read_all(opened, ["entryUUID", "createTimestamp"]).items()
    assert attributes["entryUUID"] == key
    assert str(attributes["createTimestamp"]).endswith("Z")
    assert "entryUUID" not in read_all(opened, [])[key]


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"noSuchAttribute": "x"}, "schema violation: the directory does not know an attribute"),
        ({"uidNumber": "7"}, "schema violation: .*attribute 'uidNumber' not allowed"),
        ({"meshLevel": "many"}, "schema violation: a value has not the attribute's syntax"),
        ({"meshNote": ["a", "b"]}, "schema violation"),
        ({"sn": []}, "schema violation: .*requires attribute 'sn'"),
        ({"objectClass": "ghost"}, "schema violation"),
    ],
)
def test_schema_violations_are_said_in_the_servers_words(
    branch: Branch, opened: Facade, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(ObjectRefused, match=told):
        opened.create("user", new(branch, "a", **more))
    created = opened.create("user", new(branch, "a"))
    if "objectClass" not in more:
        with pytest.raises(ObjectRefused, match="schema violation"):
            change(opened, created.key, {"sn": "a"}, {"sn": "a", **more} if "sn" not in more else {})


def test_a_server_that_is_unwilling(start_slapd: Callable[..., SlapdServer]) -> None:
    server = start_slapd(overlays="readonly on")
    login = Branch(server, SUFFIX, server.password)
    with ldap_facade(login) as opened:
        with pytest.raises(ObjectRefused, match=r"the server is unwilling to perform it: .*operation restricted"):
            opened.create("user", new(login, "a"))
        assert opened.test().summary == "sees user"


def test_a_login_that_may_not_write(branch: Branch) -> None:
    branch.add("a")
    login: dict[str, Any] = {"bind_dn": f"cn=limited,{SUFFIX}", "password": branch.server.password}
    with ldap_facade(branch, **login) as opened:
        ((key, known),) = read_all(opened, ["sn"]).items()
        for call in (
            lambda: opened.create("user", new(branch, "b")),
            lambda: change(opened, key, known, {"sn": "x"}),
            lambda: opened.remove("user", key, expected=known),
        ):
            with pytest.raises(PermissionDenied):
                call()


def test_an_attribute_for_correlate_that_the_directory_does_not_know(branch: Branch, opened: Facade) -> None:
    """It would find nothing without a word, and then everybody would be made again."""
    with pytest.raises(ConnectorMisconfigured, match="has no attribute employeNumber"):
        opened.lookup("user", "employeNumber", "7")


# -- somebody else writes at the same time --------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "asserts"),
    [
        *((what, True) for what in ("update", "clear", "rename", "delete")),
        *((what, False) for what in ("update", "clear")),  # nothing guards the others there, as the page says
    ],
)
def test_a_change_between_reading_and_writing_is_not_overwritten(
    branch: Branch, opened: Facade, monkeypatch: pytest.MonkeyPatch, asserts: bool, what: str
) -> None:
    if not asserts:
        _forget(opened, monkeypatch, ldap.CONTROL_ASSERT)
    created = opened.create("user", new(branch, "a", title="known"))
    dn = f"uid=a,{branch.people}"
    inner: Any = opened._connector
    get = inner.get
    raced: list[int] = []

    def get_and_lose_the_race(*arguments: Any) -> Any:
        found = get(*arguments)
        if not raced:
            raced.append(1)
            branch.server.modify(dn, "title", "by somebody else")
        return found

    inner.get = get_and_lose_the_race
    known: Attributes = {"dn": dn, "title": "known"}
    if what == "delete":
        outcome = opened.remove("user", created.key, expected=known)
    else:
        wanted: dict[str, Attributes] = {
            "update": {"dn": dn, "title": "wanted"},
            "clear": {"dn": dn},
            "rename": {"dn": dn.replace("uid=a", "uid=b"), "title": "known"},
        }
        outcome = change(opened, created.key, known, wanted[what])
    assert outcome.verdict is Verdict.STALE
    assert branch.entries("title") == {dn: {"title": ["by somebody else"]}}


def test_a_change_of_something_else_in_between_is_no_hindrance(branch: Branch, opened: Facade) -> None:
    created = opened.create("user", new(branch, "a", title="known"))
    inner: Any = opened._connector
    get = inner.get
    raced: list[int] = []

    def get_and_lose_the_race(*arguments: Any) -> Any:
        found = get(*arguments)
        if not raced:
            raced.append(1)
            branch.server.modify(f"uid=a,{branch.people}", "description", "by somebody else")
        return found

    inner.get = get_and_lose_the_race
    assert change(opened, created.key, {"title": "known"}, {"title": "wanted"}).verdict is Verdict.WRITTEN
    entry = branch.entries("title", "description")[f"uid=a,{branch.people}"]
    assert entry == {"title": ["wanted"], "description": ["by somebody else"]}


def test_a_server_without_the_newer_controls(branch: Branch, opened: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(opened, monkeypatch, ldap.CONTROL_ASSERT, "1.3.6.1.1.13.2")
    person = new(branch, "a", title="one", meshBlob=b"x")
    created = opened.create("user", person)
    assert created.attributes == person
    wanted: Attributes = {**person, "dn": f"uid=b,{branch.people}", "uid": "b", "title": "two", "meshBlob": b"y"}
    outcome = change(opened, created.key, person, wanted)
    assert outcome.verdict is Verdict.WRITTEN
    assert outcome.entry is not None
    assert outcome.entry.attributes == wanted
    assert opened.remove("user", created.key, expected=wanted).verdict is Verdict.WRITTEN


def _forget(opened: Facade, monkeypatch: pytest.MonkeyPatch, *controls: str) -> None:
    inner: Any = opened._connector
    offers = inner._session.offers
    monkeypatch.setattr(inner._session, "offers", lambda control: control not in controls and offers(control))


# -- connections ----------------------------------------------------------------------------------


def test_an_answer_that_is_lost_leaves_no_duplicate(branch: Branch) -> None:
    with Proxy(branch.server.port) as proxy:
        given: dict[str, Any] = {"url": f"ldap://127.0.0.1:{proxy.port}", "allow_cleartext": True}
        with ldap_facade(branch, **given) as opened:
            opened.test()
            proxy.cut_at(b"uid=lost", times=1)
            with pytest.raises(ConnectionLost):
                opened.create("user", new(branch, "lost"))
            assert proxy.cuts == 1, "a create is not repeated"
            (found,) = opened.lookup("user", "uid", "lost", ["uid"])
            assert found.attributes == {"uid": "lost"}
            with pytest.raises(ObjectExists):
                opened.create("user", new(branch, "lost"))
            proxy.cut_at(b"uid=never", delivered=False, times=1)
            with pytest.raises(ConnectionLost):
                opened.create("user", new(branch, "never"))
            assert opened.lookup("user", "uid", "never", ["uid"]) == []
            proxy.cut_at(b"meshNote", times=1)
            assert change(opened, found.key, {}, {"meshNote": "set"}).settled  # read again, and seen to be done


def test_an_answer_to_a_create_that_cannot_be_read_is_a_lost_one(
    branch: Branch, opened: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in (b"", b"\x64", b"\x64\x05\x04\x01a", b"\x64\x03\x04\x09a", b"\x64\x02\x04\x00"):
        with monkeypatch.context() as patched:
            patched.setattr(f"{Session.__module__}.post_read", lambda _, broken=broken: post_read(broken))
            with pytest.raises(ConnectionLost, match="whether it was carried out is unknown"):
                opened.create("user", new(branch, f"u{len(branch.entries())}"))
    assert len(opened.lookup("user", "uid", "u0")) == 1
    assert len(branch.entries()) == 5


@pytest.mark.parametrize(
    "error",
    [Unreachable("no"), PermissionDenied("no"), CredentialRefused("no"), ObjectRefused("no"), SecretMissing("no")],
    ids=lambda error: type(error).__name__,
)
def test_what_was_carried_out_is_not_undone_by_a_failed_look_at_it(
    branch: Branch, opened: Facade, monkeypatch: pytest.MonkeyPatch, error: MeshError
) -> None:
    """A server without the post-read control; the look at what became of a change fails."""
    made = opened.create("user", new(branch, "there"))
    find, changed = Session.find, Session.change
    down: list[bool] = []

    def change_and_go_down(*given: Any, **more: Any) -> Any:
        answer = changed(*given, **more)
        down.append(True)
        return answer

    def unreachable_once(*given: Any, **more: Any) -> Any:
        if down:
            down.clear()
            raise error
        return find(*given, **more)

    monkeypatch.setattr(Session, "offers", lambda _, control: control != POST_READ)
    monkeypatch.setattr(Session, "change", change_and_go_down)
    monkeypatch.setattr(Session, "find", unreachable_once)
    with pytest.raises(ConnectionLost, match="carried out, and then: no"):
        opened.create("user", new(branch, "new"))
    down.clear()
    (_, second) = opened.create_many("user", iter([new(branch, "one"), new(branch, "two")]))
    assert isinstance(second, ConnectionLost)
    assert change(opened, made.key, {}, {"meshNote": "set"}).verdict is Verdict.DONE  # seen at the second look
    assert len(opened.lookup("user", "uid", "new")) == 1


def test_a_reconnect_opens_the_password_again(branch: Branch) -> None:
    with Proxy(branch.server.tls_port) as proxy:
        settings = kind("ldap").settings.model_validate(
            {
                "type": "ldap",
                "url": f"ldaps://127.0.0.1:{proxy.port}",
                "bind_dn": branch.bind_dn,
                "bind_password": "secret://ldap/bind",
                "ca_file": str(branch.server.authority.file),
                "timeout": 5,
                "objects": {"user": {"base": branch.people}},
            }
        )
        credentials = Credentials(bind_password=branch.password)
        opened = Facade("dir", kind("ldap").open(settings, credentials), timeout=5, sleep=lambda _: None)
        with opened:
            opened.test()
            opened.get("user", "x")
            assert credentials.opened == ["bind_password"], "one login for all calls"
            branch.server.modify(branch.bind_dn, "userPassword", "another one")
            credentials.values["bind_password"] = "another one"  # rotated meanwhile
            proxy.cut()
            with pytest.raises(ConnectorError):
                opened.get("user", "x")
            proxy.open()
            opened.get("user", "x")
            assert set(credentials.opened) == {"bind_password"}
            assert len(credentials.opened) > 1
        kept = [one for one in gc.get_objects() if isinstance(one, Secret) and one == Secret("another one")]
        assert kept == []


def test_the_password_of_the_login_is_changed_at_the_server(branch: Branch) -> None:
    with ldap_facade(branch) as opened:
        opened.change_password("bind_password", Secret("n\u00e9w p4ssword"))
    assert branch.server.accepts(branch.bind_dn, "n\u00e9w p4ssword")
    assert not branch.server.accepts(branch.bind_dn, branch.password)
    (entry,) = branch.server.entries(branch.bind_dn, "(objectClass=*)", "userPassword").values()
    assert "n\u00e9w" not in str(entry)


def test_without_the_library_the_extra_is_named(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "identitymesh.connectors.kinds.ldap.directory"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "ldap", None)
    for part in [one for one in sys.modules if one.startswith("identitymesh.connectors.kinds.ldap.")]:
        if not part.endswith(("settings", "values", "subschema", "filters")):
            monkeypatch.delitem(sys.modules, part, raising=False)
    with pytest.raises(ConnectorMisconfigured, match="python-ldap is not installed") as refused:
        ldap_facade(branch)
    assert "identitymesh[ldap]" in refused.value.hint


def test_an_error_of_the_clients_own_says_nothing_of_what_the_server_did() -> None:
    local = ldap.LOCAL_ERROR({"desc": "Local error"})
    assert type(failures.translate(local, "reading it")) is ConnectionLost
    assert type(failures.translate_write(local, "changing it")) is ConnectionLost
    assert type(failures.translate_password(local, [])) is ConnectionLost
