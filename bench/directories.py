"""Lines about directories: slapd read and written by the product, beside `ldapsearch` and the library alone."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ldap
from tests.servers.authority import Authority
from tests.servers.process import need
from tests.servers.slapd import ROOT, SUFFIX, SlapdServer, encoded

from bench.company import definition_of_directory, installed, person, silent
from bench.lines import folder, seconds
from identitymesh.cli.measuring import Line
from identitymesh.collector import collector_resting
from identitymesh.connectors.catalogue import kind
from identitymesh.connectors.contract import Page
from identitymesh.connectors.facade import Facade, open_facade
from identitymesh.redaction import Secret

ENTRIES = 100_000
ADDS = 20_000
ROUNDS = 5
PEOPLE = f"ou=people,{SUFFIX}"
NAMES = ("entryUUID", "uid", "cn", "sn", "givenName", "mail")


@contextmanager
def directory(place: Path, text: str = "") -> Iterator[SlapdServer]:
    server = SlapdServer.start(Authority.create(place), ldif_text=text)
    try:
        yield server
    finally:
        server.stop()


def read_a_directory() -> list[Line]:
    """Everything in clear on loopback, so that TLS is not what is compared; the four ways take turns."""
    text = "".join(map(_as_ldif, range(ENTRIES)))
    with folder() as place, directory(place, text) as server, _opened(server) as plain, _opened(server, 1_000) as paged:

        def raw() -> int:
            pages: Iterator[Page] = plain._connector.search("user", NAMES)  # type: ignore[attr-defined]  # noqa: SLF001
            return sum(len(page.entries) for page in pages)

        ways: dict[str, Callable[[], object]] = {
            "search": lambda: _ldapsearch(server, place),
            "library": lambda: _library_alone(server),
            "raw": raw,
            "facade": lambda: sum(len(page.entries) for page in plain.read("user", NAMES)),
            "search paged": lambda: _ldapsearch(server, place, "-E", "pr=1000/noprompt"),
            "paged": lambda: sum(len(page.entries) for page in paged.read("user", NAMES)),
        }
        for way in ways.values():  # once to have everything in memory
            way()
        spent = [{name: seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)]
    rates = {name: ENTRIES / statistics.median(one[name] for one in spent) for name in ways}
    figures = f"{{:,.0f}} entries/s, ldapsearch {rates['search']:,.0f}/s; {ENTRIES:,} entries, six attributes"

    def ratio(ours: str, theirs: str) -> float:
        return statistics.median(one[theirs] / one[ours] for one in spent)

    beside = f"; paged {rates['paged']:,.0f}/s, {ratio('paged', 'search paged'):.2f} of ldapsearch paged"
    alone = f"; python-ldap alone {ratio('library', 'search'):.2f} of ldapsearch"
    return [
        Line(
            "read slapd, raw adapter / ldapsearch",
            ratio("raw", "search"),
            figures.format(rates["raw"]) + alone,
            least=0.7,
        ),
        Line(
            "read slapd, through the facade / ldapsearch",
            ratio("facade", "search"),
            figures.format(rates["facade"]) + beside,
            least=0.5,
        ),
    ]


def adds_to_a_directory() -> Line:
    """The export of a plan, records of it included, and the same adds on a bare connection to another slapd."""
    with folder() as place, directory(place) as server, directory(place) as other:
        definition = definition_of_directory(server.url, f"cn=sync,{SUFFIX}", PEOPLE)
        with installed(place, ADDS, definition, ("ldap/bind", server.password)) as installation:
            planned = installation.engine.plan(delta=False, connectors=(), progress=silent)
            ours = seconds(lambda: installation.engine.release(planned.run_id, progress=silent))
        if len(server.entries(PEOPLE, "(objectClass=inetOrgPerson)", "1.1")) != ADDS:
            raise RuntimeError("not everybody was added")
        entries = [_as_entry(number) for number in range(ADDS)]
        with other.client(f"cn=sync,{SUFFIX}") as client:

            def add_all() -> None:
                for dn, attributes in entries:
                    client.add_s(dn, attributes)

            bare = seconds(add_all)
    figures = f"{ADDS / ours:,.0f} adds/s, bare client {ADDS / bare:,.0f}/s, {ADDS:,} people, one connection each"
    return Line("export adds to slapd / the same adds by a bare client", bare / ours, figures, least=0.7)


@contextmanager
def _opened(server: SlapdServer, page_size: int | None = None) -> Iterator[Facade]:
    found = kind("ldap")
    settings = found.settings.model_validate(
        {
            "type": "ldap",
            "url": server.url,
            "allow_cleartext": True,
            "bind_dn": ROOT,
            "bind_password": "secret://ldap/bind",
            "page_size": page_size,
            "objects": {"user": {"base": PEOPLE, "filter": "(objectClass=inetOrgPerson)"}},
        }
    )
    with open_facade("directory", found, settings, lambda _: Secret(server.password)) as opened:
        yield opened


def _library_alone(server: SlapdServer) -> None:
    """The same search by the library at its fastest: nothing is done with what it gives, not even decoding."""
    with server.client(ROOT) as client:
        asked = client.search_ext(PEOPLE, ldap.SCOPE_SUBTREE, "(objectClass=inetOrgPerson)", list(NAMES))
        with collector_resting():
            while client._l.result4(asked, 0, 60, 0, 0, 0)[0] != ldap.RES_SEARCH_RESULT:  # noqa: SLF001  past its lock
                pass


def _ldapsearch(server: SlapdServer, place: Path, *more: str) -> None:
    secret = place / "password"
    secret.touch(mode=0o600)
    secret.write_text(server.password)
    program = need("ldapsearch", "ldap-utils")
    login = ("-x", "-LLL", "-H", server.url, "-D", ROOT, "-y", str(secret))
    subprocess.run(
        [program, *login, *more, "-b", PEOPLE, "(objectClass=inetOrgPerson)", *NAMES],
        env={"PATH": os.defpath, "LDAPNOINIT": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _values(number: int) -> dict[str, str]:
    row = person(number)
    return {
        "uid": row[0],
        "employeeNumber": row[0],
        "givenName": row[1],
        "sn": row[2],
        "cn": f"{row[1]} {row[2]}",
        "mail": f"{row[1]}.{row[2]}@example.org".lower(),
        "title": row[3],
    }


def _as_entry(number: int) -> tuple[str, list[tuple[str, list[bytes]]]]:
    values = {"objectClass": "inetOrgPerson", **_values(number)}
    return f"uid={values['uid']},{PEOPLE}", [(name, encoded(value)) for name, value in values.items()]


def _as_ldif(number: int) -> str:
    values = _values(number)
    lines = "".join(f"{name}: {value}\n" for name, value in values.items())
    return f"dn: uid={values['uid']},{PEOPLE}\nobjectClass: inetOrgPerson\n{lines}\n"
