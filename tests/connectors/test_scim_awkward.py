"""What a well-behaved service does not do, done by small servers on loopback."""

from __future__ import annotations

import base64
import gzip
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from identitymesh.connectors.contract import Modification
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.outcomes import Verdict
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    ObjectExists,
    ObjectRefused,
    PermissionDenied,
    Throttled,
    TimedOut,
    Unreachable,
)
from tests.connectors.doubles import Clock, Credentials, facade
from tests.connectors.servers import Asked, Reply, Service, WebServer, people, self_signed, web_server

TOKEN = "tok-3n4b5v6c7x8y9z"
SECRET = "s3cr et/+&ü:value"


def scim(server: WebServer, *, clock: Clock | None = None, **settings: Any) -> Facade:
    described = {
        "type": "scim",
        "url": server.url,
        "token": "secret://crm/token",
        "page_size": 5,
        "timeout": 5,
        "objects": {"user": {"resource": "User"}},
        **settings,
    }
    return facade(
        {name: value for name, value in described.items() if value is not None},
        Credentials(token=TOKEN, oauth__client_secret=SECRET),
        clock=clock,
    )


def on(method: str, path: str, *replies: Reply) -> Callable[[Asked], Reply | None]:
    """Answers these requests with the replies in turn, and with nothing of its own afterwards."""
    left = list(replies)

    def quirk(asked: Asked) -> Reply | None:
        return left.pop(0) if left and (asked.method, asked.path) == (method, path) else None

    return quirk


def forever(method: str, path: str, reply: Reply) -> Callable[[Asked], Reply | None]:
    return lambda asked: reply if (asked.method, asked.path) == (method, path) else None


class TestThrottling:
    def test_retry_after_in_seconds_is_waited_for(self) -> None:
        clock = Clock()
        service = Service(people(1), quirks=[on("GET", "/Users/1", Reply(429, headers={"Retry-After": "7"}))])
        with web_server(service) as server, scim(server, clock=clock) as opened:
            assert opened.get("user", "1") is not None
        assert clock.slept == [7.0]

    def test_retry_after_as_a_date_is_waited_for(self) -> None:
        clock = Clock()
        reply = Reply(503, headers={"Retry-After": formatdate(time.time() + 20, usegmt=True)})
        service = Service(people(1), quirks=[on("GET", "/Users/1", reply)])
        with web_server(service) as server, scim(server, clock=clock) as opened:
            assert opened.get("user", "1") is not None
        assert 15 < clock.slept[0] <= 20

    def test_a_create_is_sent_again_after_the_pause(self) -> None:
        service = Service(quirks=[on("POST", "/Users", Reply(429, {"detail": "slow down"}))])
        with web_server(service) as server, scim(server) as opened:
            assert opened.create("user", {"userName": "u1"}).key == "1"
        assert len(service.people) == 1

    def test_an_hour_is_too_long(self) -> None:
        service = Service(people(1), quirks=[forever("GET", "/Users/1", Reply(429, headers={"Retry-After": "3600"}))])
        with web_server(service) as server, scim(server) as opened, pytest.raises(Throttled) as throttled:
            opened.get("user", "1")
        assert throttled.value.retry_after == 3600


class TestBrokenAnswers:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_server_error_is_tried_again_where_that_is_safe(self, status: int) -> None:
        service = Service(people(1), quirks=[on("GET", "/Users/1", Reply(status), Reply(status))])
        with web_server(service) as server, scim(server) as opened:
            assert opened.get("user", "1") is not None

    @pytest.mark.parametrize(
        "reply",
        [Reply(500), Reply(503), Reply(201, cut=0), Reply(201, {"id": "1"}, cut=3), Reply(201, b"<html>"), Reply(201)],
    )
    def test_a_create_of_unknown_outcome_is_not_sent_again(self, reply: Reply) -> None:
        with web_server(Service(quirks=[forever("POST", "/Users", reply)])) as server, scim(server) as opened:
            with pytest.raises(ConnectionLost):
                opened.create("user", {"userName": "u1"})
            assert server.paths("POST") == ["/Users"]

    def test_a_create_that_is_answered_but_cannot_be_read_is_not_sent_again(self) -> None:
        created = Reply(201, headers={"Location": "https://elsewhere.test/Users/7"})
        busy = Reply(429, headers={"Retry-After": "1"})
        service = Service(quirks=[forever("POST", "/Users", created), forever("GET", "/Users/7", busy)])
        with web_server(service) as server, scim(server) as opened:
            with pytest.raises(ConnectionLost, match="a part of the change was carried out, and then: "):
                opened.create("user", {"userName": "u1"})
            assert server.paths("POST") == ["/Users"]

    def test_a_slow_answer_is_cut_off(self) -> None:
        service = Service(people(1), quirks=[forever("GET", "/Users/1", Reply(delay=3))])
        with web_server(service) as server, scim(server, timeout=0.3) as opened, pytest.raises(TimedOut):
            opened.get("user", "1")

    def test_a_dripping_answer_is_cut_off(self) -> None:
        service = Service(quirks=[forever("GET", "/Users/1", Reply(body={"id": "1", "x": "y" * 50}, drip=0.05))])
        with web_server(service) as server, scim(server, timeout=0.4) as opened:
            begun = time.monotonic()
            with pytest.raises(TimedOut):
                opened.get("user", "1")
            assert time.monotonic() - begun < 6  # four tries

    def test_an_answer_that_breaks_off_is_no_answer(self) -> None:
        service = Service(people(1), quirks=[on("GET", "/Users/1", *[Reply(body={"id": "1"}, cut=4)] * 4)])
        with web_server(service) as server, scim(server) as opened, pytest.raises(ConnectionLost):
            opened.get("user", "1")

    def test_nobody_there(self) -> None:
        with web_server(Service()) as server:
            opened = scim(server)
        with opened, pytest.raises(Unreachable) as unreachable:
            opened.test()
        assert unreachable.value.connector == "crm"

    def test_compressed_answers_are_understood(self) -> None:
        packed = Reply(body=gzip.compress(b'{"id": "1", "userName": "u1"}'), headers={"Content-Encoding": "gzip"})
        with web_server(Service(quirks=[on("GET", "/Users/1", packed)])) as server, scim(server) as opened:
            got = opened.get("user", "1")
        assert got is not None
        assert got.attributes == {"userName": "u1"}
        assert "gzip" in server.asked[-1].headers["accept-encoding"]

    def test_one_connection_serves_many_requests(self) -> None:
        with web_server(Service(people(3))) as server, scim(server) as opened:
            for _ in range(20):
                assert opened.get("user", "2") is not None
            assert len({one.port for one in server.asked}) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (Reply(400, {"scimType": "invalidValue", "detail": "title: too\nlong"}), ObjectRefused),
            (Reply(400, {"scimType": "uniqueness", "detail": "taken"}), ObjectExists),
            (Reply(409, {"detail": "taken"}), ObjectExists),
            (Reply(413), ObjectRefused),
            (Reply(422, {"detail": "no"}), ObjectRefused),
            (Reply(401, {"detail": "who are you"}), CredentialRefused),
            (Reply(403, {"detail": "not you"}), PermissionDenied),
            (Reply(404), ConnectorMisconfigured),
            (Reply(405), ConnectorMisconfigured),
            (Reply(501), ConnectorMisconfigured),
        ],
    )
    def test_creates(self, reply: Reply, error: type[ConnectorError]) -> None:
        with web_server(Service(quirks=[forever("POST", "/Users", reply)])) as server, scim(server) as opened:
            with pytest.raises(error) as refused:
                opened.create("user", {"userName": "u1"})
            assert "\n" not in str(refused.value)
            assert "POST /Users" in str(refused.value)

    def test_the_services_own_words_are_shown_in_short(self) -> None:
        reply = Reply(400, {"scimType": "invalidValue", "detail": f"first\nsecond {TOKEN} " + "x" * 1000})
        with (
            web_server(Service(quirks=[forever("POST", "/Users", reply)])) as server,
            scim(server) as opened,
            pytest.raises(ObjectRefused) as refused,
        ):
            opened.create("user", {"userName": "u1"})
        assert "first second ********" in str(refused.value)
        assert TOKEN not in str(refused.value)
        assert len(str(refused.value)) < 330

    def test_a_redirect_is_not_followed(self) -> None:
        with web_server(Service(people(1))) as thief:
            reply = Reply(307, headers={"Location": f"{thief.url}/Users/1"})
            with (
                web_server(Service(quirks=[forever("GET", "/Users/1", reply)])) as server,
                scim(server) as opened,
                pytest.raises(ConnectorMisconfigured, match="redirect"),
            ):
                opened.get("user", "1")
            assert thief.asked == []


class TestLists:
    def read(self, service: Service, **settings: Any) -> tuple[list[str], str, list[str]]:
        """The keys, why it is not complete (or nothing), and the reasons of what was bad."""
        with web_server(service) as server, scim(server, **settings) as opened:
            pages = list(opened.read("user", ["userName"]))
        assert (pages[-1].complete is None) == bool(pages[-1].incomplete)
        if pages[-1].complete is not None:
            assert f"{pages[-1].complete.count:,} different ids" in pages[-1].complete.proof
        return (
            [entry.key for page in pages for entry in page.entries],
            pages[-1].incomplete,
            [bad.reason for page in pages for bad in page.bad],
        )

    @pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 23])
    @pytest.mark.parametrize("largest", [2, 3, 1000])
    def test_every_size_of_page_is_read_to_the_end(self, count: int, largest: int) -> None:
        keys, incomplete, bad = self.read(Service(people(count), largest_page=largest))
        assert keys == [str(number) for number in range(1, count + 1)]
        assert (incomplete, bad) == ("", [])

    def test_a_service_that_ignores_paging_is_read(self) -> None:
        whole = Reply(body={"totalResults": 9, "Resources": people(9)})
        keys, incomplete, _ = self.read(Service(quirks=[forever("GET", "/Users", whole)]))
        assert (len(keys), incomplete) == (9, "")

    @pytest.mark.parametrize("total", [8, 10, 0, None, "9", True])
    def test_a_wrong_total_proves_nothing(self, total: Any) -> None:
        whole = Reply(body={"totalResults": total, "Resources": people(9)})
        keys, incomplete, _ = self.read(Service(quirks=[forever("GET", "/Users", whole)]))
        assert len(keys) == 9
        assert incomplete

    def test_a_total_that_changes_proves_nothing(self) -> None:
        first = Reply(body={"totalResults": 12, "Resources": people(5)})
        _, incomplete, _ = self.read(Service(people(11), quirks=[on("GET", "/Users", first)]))
        assert "changed from 12 to 11" in incomplete

    def test_the_same_page_for_ever_ends(self) -> None:
        page = Reply(body={"totalResults": 100, "Resources": people(5)})
        keys, incomplete, bad = self.read(Service(quirks=[forever("GET", "/Users", page)]))
        assert len(keys) == 5
        assert "moved" in incomplete
        assert all("duplicate" in reason for reason in bad)

    def test_somebody_removed_between_two_pages_is_noticed(self) -> None:
        # Number and total stay as they were, but the sixth crossed the edge of a page and was never given.
        service = Service(people(10))

        def one_goes_one_comes(asked: Asked) -> Reply | None:
            if asked.path == "/Users" and asked.query["startIndex"] != "1" and len(service.people) == 10:
                del service.people[2]
                service.people.append({"id": "11", "userName": "u11"})
            return None

        service.quirks.append(one_goes_one_comes)
        _, incomplete, _ = self.read(service)
        assert "moved" in incomplete

    def test_duplicates_over_pages_are_bad_and_no_proof(self) -> None:
        double = [*people(6), {"id": "2", "userName": "again"}, *people(9)[6:]]
        keys, incomplete, bad = self.read(Service(double))
        assert len(keys) == 9
        assert "9 different ids" in incomplete
        assert bad == ["duplicate key: the same key came earlier in this read"]

    def test_resources_without_id_are_bad_and_no_proof(self) -> None:
        odd: list[Any] = [{"userName": "x"}, "text", {"id": 7}, {"id": ""}]
        keys, incomplete, bad = self.read(Service([*people(2), *odd]))
        assert keys == ["1", "2"]
        assert incomplete
        assert len(bad) == 4

    def test_the_filter_of_the_definition_is_sent(self) -> None:
        service = Service(people(2))
        with web_server(service) as server:
            objects = {"user": {"resource": "User", "filter": 'userType eq "x"'}}
            with scim(server, objects=objects) as opened:
                list(opened.read("user", []))
            assert server.asked[-1].query["filter"] == 'userType eq "x"'

    @pytest.mark.parametrize(
        ("listed", "error", "words"),
        [
            ({"totalResults": 1, "Resources": []}, ConnectionLost, "there are 1 resources, but gave 0"),
            ({"totalResults": 1}, ConnectionLost, "there are 1 resources, but gave 0"),
            ({"totalResults": 1, "Resources": [{"userName": "ann"}]}, ObjectRefused, "the resource has no id"),
        ],
    )
    def test_a_lookup_that_was_not_complete_does_not_say_that_there_is_nobody(
        self, listed: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        """Who is told that there is nobody makes another one."""
        with (
            web_server(Service(quirks=[forever("GET", "/Users", Reply(body=listed))])) as server,
            scim(server) as opened,
            pytest.raises(error, match=words),
        ):
            opened.lookup("user", "userName", "ann")

    @pytest.mark.parametrize("listed", [{"totalResults": 0}, {"Resources": []}])
    def test_a_lookup_that_finds_nobody_says_so(self, listed: dict[str, Any]) -> None:
        with (
            web_server(Service(quirks=[forever("GET", "/Users", Reply(body=listed))])) as server,
            scim(server) as opened,
        ):
            assert opened.lookup("user", "userName", "ann") == []

    def test_a_service_that_ignores_filters_gives_no_wrong_person(self) -> None:
        with web_server(Service(people(12))) as server, scim(server) as opened:
            assert [entry.key for entry in opened.lookup("user", "userName", "U7")] == ["7"]
            assert opened.lookup("user", "userName", "nobody") == []


class TestUpdates:
    WANTED = Modification({"nickName": "new"})

    def write(self, opened: Facade) -> Verdict:
        outcome = opened.write("user", "1", self.WANTED, expected={"nickName": "old"}, desired={"nickName": "new"})
        return outcome.verdict

    def person(self) -> list[dict[str, Any]]:
        return [
            {"id": "1", "userName": "u1", "nickName": "old", "meta": {"version": 'W/"7"'}, "groups": [{"value": "g"}]}
        ]

    def test_without_patch_the_resource_is_replaced_whole(self) -> None:
        service = Service(self.person(), patch=False)
        with web_server(service) as server, scim(server) as opened:
            assert self.write(opened) is Verdict.WRITTEN
            (put,) = [asked for asked in server.asked if asked.method == "PUT"]
        assert put.document == {"id": "1", "userName": "u1", "nickName": "new"}
        assert put.headers["if-match"] == 'W/"7"'

    def test_a_patch_that_is_announced_and_missing_is_replaced(self) -> None:
        service = Service(self.person(), quirks=[forever("PATCH", "/Users/1", Reply(501))])
        with web_server(service) as server, scim(server) as opened:
            assert self.write(opened) is Verdict.WRITTEN
            service.people = self.person()
            assert self.write(opened) is Verdict.WRITTEN
            assert [one.method for one in server.asked if one.method in {"PATCH", "PUT"}] == ["PATCH", "PUT", "PUT"]

    def test_a_forced_patch_is_not_replaced(self) -> None:
        service = Service(self.person(), quirks=[forever("PATCH", "/Users/1", Reply(501))])
        with (
            web_server(service) as server,
            scim(server, update="patch") as opened,
            pytest.raises(ConnectorMisconfigured),
        ):
            self.write(opened)

    def test_a_patch_answered_without_a_body_is_read_again(self) -> None:
        service = Service(self.person())

        def quiet(asked: Asked) -> Reply | None:
            if asked.method != "PATCH":
                return None
            service.people[0]["nickName"] = asked.document["Operations"][0]["value"]
            return Reply(204)

        service.quirks.append(quiet)
        with web_server(service) as server, scim(server) as opened:
            outcome = opened.write("user", "1", self.WANTED, expected={"nickName": "old"}, desired={"nickName": "new"})
        assert outcome.entry is not None
        assert outcome.entry.attributes == {"nickName": "new"}

    def test_somebody_was_faster(self) -> None:
        service = Service(self.person())

        def faster(asked: Asked) -> Reply | None:
            if asked.method != "PATCH":
                return None
            service.people[0]["nickName"] = "by somebody else"
            return Reply(412, {"detail": "version"})

        service.quirks.append(faster)
        with web_server(service) as server, scim(server) as opened:
            assert self.write(opened) is Verdict.STALE

    def test_the_etag_of_the_header_wins(self) -> None:
        service = Service(
            self.person(), quirks=[on("GET", "/Users/1", Reply(body=self.person()[0], headers={"ETag": '"h"'}))]
        )
        with web_server(service) as server, scim(server, update="replace") as opened:
            self.write(opened)
            (put,) = [asked for asked in server.asked if asked.method == "PUT"]
        assert put.headers["if-match"] == '"h"'

    def test_a_create_answered_with_a_location_alone_is_read(self) -> None:
        service = Service(
            quirks=[on("POST", "/Users", Reply(201, headers={"Location": "http://elsewhere.example/Users/9"}))]
        )
        service.people = [{"id": "9", "userName": "u9"}]
        with web_server(service) as server, scim(server) as opened:
            assert opened.create("user", {"userName": "u9"}).key == "9"


class TestTls:
    def test_a_self_signed_certificate_is_refused(self, tmp_path: Path) -> None:
        context, _ = self_signed(tmp_path)
        with web_server(Service(people(1)), tls=context) as server, scim(server) as opened:
            with pytest.raises(Unreachable, match="certificate is not trusted") as refused:
                opened.get("user", "1")
            assert "ca_file" in refused.value.hint
            assert server.asked == []

    def test_unless_the_definition_names_it(self, tmp_path: Path) -> None:
        context, certificate = self_signed(tmp_path)
        with web_server(Service(people(1)), tls=context) as server, scim(server, ca_file=str(certificate)) as opened:
            assert opened.get("user", "1") is not None

    def test_a_file_without_certificates_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("nothing")
        with (
            web_server(Service()) as server,
            scim(server, ca_file=str(tmp_path / "ca.pem")) as opened,
            pytest.raises(ConnectorMisconfigured, match=r"ca\.pem"),
        ):
            opened.test()


class TestTokens:
    def guarded(self, valid: set[str], service: Service) -> Service:
        def guard(asked: Asked) -> Reply | None:
            token = asked.headers.get("authorization", "").removeprefix("Bearer ")
            return None if token in valid else Reply(401, {"detail": f"unknown token {token}"})

        service.quirks.insert(0, guard)
        return service

    def test_a_rotated_token_is_taken_up_without_a_failure(self) -> None:
        valid = {"old-token"}
        with web_server(self.guarded(valid, Service(people(1)))) as server:
            credentials = Credentials(token="old-token")
            opened = facade(
                {"type": "scim", "url": server.url, "token": "secret://a/b", "objects": {"user": {}}}, credentials
            )
            with opened:
                assert opened.get("user", "1") is not None
                valid.clear()
                valid.add("new-token")
                credentials.values["token"] = "new-token"
                assert opened.create("user", {"userName": "u2"}).key == "2"
        assert credentials.opened == ["token", "token"]

    def test_a_refused_token_is_refused_after_one_more_look(self) -> None:
        with web_server(self.guarded(set(), Service(people(1)))) as server, scim(server) as opened:
            with pytest.raises(CredentialRefused) as refused:
                opened.test()
            assert len(server.asked) == 1
        assert TOKEN not in str(refused.value)

    @pytest.mark.parametrize("token", ["two words", "line\nend", "", "ü", "tab\t"])
    def test_a_token_that_no_header_can_carry_is_not_sent(self, token: str) -> None:
        with web_server(Service()) as server:
            settings = {"type": "scim", "url": server.url, "token": "secret://a/b", "objects": {"user": {}}}
            with facade(settings, Credentials(token=token)) as opened, pytest.raises(ConnectorMisconfigured) as refused:
                opened.test()
            assert server.asked == []
        assert not token or token not in str(refused.value)


class TestOAuth:
    def open(self, server: WebServer, tokens: WebServer, **oauth: Any) -> Facade:
        described = {
            "token_url": f"{tokens.url}/token",
            "client_id": "mesh client",
            "client_secret": "secret://crm/oauth",
            **oauth,
        }
        return scim(server, token=None, oauth=described)

    def test_the_client_proves_itself_and_the_token_is_kept(self) -> None:
        given = iter(["first", "second"])

        def tokens(asked: Asked) -> Reply:
            return Reply(body={"access_token": next(given), "token_type": "Bearer", "expires_in": 3600})

        with web_server(tokens) as issuer, web_server(Service(people(1))) as server:
            with self.open(server, issuer, scope="scim") as opened:
                opened.get("user", "1")
                opened.get("user", "1")
            (asked,) = issuer.asked
            assert {one.headers["authorization"] for one in server.asked} == {"Bearer first"}
        scheme, _, login = asked.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        # Both parts are form-encoded before they are joined, RFC 6749 section 2.3.1.
        assert base64.b64decode(login).decode() == "mesh+client:s3cr+et%2F%2B%26%C3%BC%3Avalue"
        assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["scim"]}

    def test_a_token_that_ended_early_is_renewed_once(self) -> None:
        current = ["1"]

        def tokens(asked: Asked) -> Reply:
            current[0] = str(int(current[0]) + 1)
            return Reply(body={"access_token": f"token{current[0]}", "token_type": "bearer"})

        def guard(asked: Asked) -> Reply | None:
            return None if asked.headers["authorization"] == f"Bearer token{current[0]}" else Reply(401)

        with web_server(tokens) as issuer, web_server(Service(people(1), quirks=[guard])) as server:
            with self.open(server, issuer) as opened:
                assert opened.get("user", "1") is not None
                current[0] = "7"  # the service forgot the token
                assert opened.get("user", "1") is not None
            assert len(issuer.asked) == 2

    def test_a_token_near_its_end_is_replaced_before_it_is_used(self) -> None:
        def tokens(asked: Asked) -> Reply:
            return Reply(body={"access_token": "short", "token_type": "bearer", "expires_in": 0.2})

        with web_server(tokens) as issuer, web_server(Service(people(1))) as server:
            with self.open(server, issuer) as opened:
                opened.get("user", "1")
                time.sleep(0.25)
                opened.get("user", "1")
            assert len(issuer.asked) == 2

    @pytest.mark.parametrize("status", [400, 401])
    def test_a_wrong_client_secret_is_said(self, status: int) -> None:
        said = {"error": "invalid_client", "error_description": f"bad secret {SECRET}"}
        with web_server(lambda _: Reply(status, said)) as issuer, web_server(Service()) as server:
            with self.open(server, issuer) as opened, pytest.raises(CredentialRefused) as refused:
                opened.test()
            assert server.asked == []
        assert "client" in str(refused.value)
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (Reply(400, {"error": "invalid_scope"}), ConnectorMisconfigured),
            (Reply(200, {"token_type": "bearer"}), ConnectorMisconfigured),
            (Reply(200, {"access_token": "x", "token_type": "mac"}), ConnectorMisconfigured),
            (Reply(404), ConnectorMisconfigured),
            (Reply(500), ConnectionLost),
            (Reply(200, b"<html>"), ConnectionLost),
        ],
    )
    def test_other_answers(self, reply: Reply, error: type[ConnectorError]) -> None:
        with (
            web_server(lambda _: reply) as issuer,
            web_server(Service()) as server,
            self.open(server, issuer) as opened,
            pytest.raises(error),
        ):
            opened.test()

    def test_a_redirect_to_another_host_gets_nothing(self) -> None:
        with web_server(lambda _: Reply(body={"access_token": "x", "token_type": "bearer"})) as thief:
            redirect = Reply(307, headers={"Location": f"{thief.url}/token"})
            with (
                web_server(lambda _: redirect) as issuer,
                web_server(Service()) as server,
                self.open(server, issuer) as opened,
                pytest.raises(ConnectorMisconfigured, match="redirect"),
            ):
                opened.test()
            assert thief.asked == []


class TestDiscovery:
    TYPES = Reply(
        body={
            "Resources": [
                {
                    "name": "Person",
                    "endpoint": "/People",
                    "schema": "urn:x:Person",
                    "schemaExtensions": [{"schema": "urn:x:Ext"}],
                }
            ]
        }
    )
    SCHEMAS = Reply(
        body={
            "Resources": [
                {
                    "id": "urn:x:Person",
                    "attributes": [
                        {"name": "loginName", "type": "string", "required": True},
                        {"name": "codes", "type": "string", "multiValued": True},
                        {"name": "born", "type": "dateTime", "mutability": "readOnly"},
                    ],
                },
                {"id": "urn:x:Ext", "attributes": [{"name": "desk", "type": "integer"}]},
            ]
        }
    )

    def service(self) -> Service:
        return Service(quirks=[forever("GET", "/ResourceTypes", self.TYPES), forever("GET", "/Schemas", self.SCHEMAS)])

    def test_a_resource_type_of_its_own_is_written_where_and_how_the_service_says(self) -> None:
        service = self.service()
        service.quirks.append(on("POST", "/People", Reply(201, {"id": "p1", "loginName": "a"})))
        with web_server(service) as server, scim(server, objects={"user": {"resource": "person"}}) as opened:
            opened.create("user", {"LOGINNAME": "a", "codes": "one", "urn:X:ext:DESK": 7})
            assert server.asked[-1].document == {
                "schemas": ["urn:x:Person", "urn:x:Ext"],
                "loginName": "a",
                "codes": ["one"],
                "urn:x:Ext": {"desk": 7},
            }
            described = {info.name: info for info in opened.schema("user")}
        assert described["codes"].many
        assert described["loginName"].required
        assert not described["born"].writable
        assert described["urn:x:Ext:desk"].type == "integer"

    def test_a_resource_type_that_is_not_there_is_named(self) -> None:
        with (
            web_server(self.service()) as server,
            scim(server) as opened,
            pytest.raises(ConnectorMisconfigured, match="no resource type User") as refused,
        ):
            opened.get("user", "1")
        assert "Person" in refused.value.hint

    def test_an_id_cannot_leave_its_endpoint(self) -> None:
        with web_server(Service(people(1))) as server, scim(server) as opened:
            for key in ("..", ".", ""):
                with pytest.raises(ObjectRefused):
                    opened.get("user", key)
            assert opened.get("user", "a/../1") is None
            assert "/Users/a%2F..%2F1" in server.paths()
