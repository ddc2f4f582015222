"""A real OpenLDAP directory: one server for a session, one branch of its tree for a test; or a server of one's own.

What to know about it (slapd 2.5, Debian):

* It listens on `ldap://` (StartTLS too) and `ldaps://` of 127.0.0.1, with a certificate of the session's authority.
* Debian's libldap uses GnuTLS, which replaces "localhost" by the machine's own name before it looks at the
  certificate: connect to 127.0.0.1.
* Its default size limit is 500 entries; here it is unlimited but for `cn=limited`, which gets five.
* A template folder is filled once for each kind of server and copied; a copy starts in 0.15 s.
* `ldapsearch` is how tests look at it with a client that is not ours: `entries()`.
"""

from __future__ import annotations

import base64
import io
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import ldap
import ldif

from tests.servers.authority import Authority, IssuedCertificate
from tests.servers.process import ServerFailed, ServerProcess, free_port, need, private_folder

HOST = "127.0.0.1"
SUFFIX = "dc=example,dc=org"
ROOT = f"cn=admin,{SUFFIX}"
START_ATTEMPTS = 3
MODULES = "/usr/lib/ldap"

# Attributes and a class for what the shipped schema lacks: any text, a boolean, bytes, single values.
SCHEMA = """\
attributetype ( 1.3.6.1.4.1.55555.1.1 NAME ( 'meshNote' 'meshRemark' ) EQUALITY caseExactMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.2 NAME 'meshFlag' EQUALITY booleanMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.3 NAME 'meshBlob' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.3.6.1.4.1.55555.1.4 NAME 'meshTag' EQUALITY caseExactMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.55555.1.5 NAME 'meshEnd' EQUALITY generalizedTimeMatch
  ORDERING generalizedTimeOrderingMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.24 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.6 NAME 'meshLevel' EQUALITY integerMatch
  ORDERING integerOrderingMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.55555.2.1 NAME 'meshPerson' SUP top AUXILIARY
  MAY ( meshNote $ meshFlag $ meshBlob $ meshTag $ meshEnd $ meshLevel ) )
"""

CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include {folder}/mesh.schema
modulepath {modules}
moduleload back_mdb
moduleload back_ldap
moduleload ppolicy
{modules_wanted}
pidfile {folder}/pid
argsfile {folder}/args
loglevel stats
TLSCACertificateFile {authority}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSProtocolMin 3.3
sizelimit unlimited
{databases}
database mdb
suffix "{suffix}"
rootdn "{root}"
rootpw {password}
directory {folder}/data
maxsize 4294967296
dbnosync
limits dn.regex="^cn=limited," size=5
limits * size=unlimited time=unlimited
index objectClass,entryCSN,entryUUID,modifyTimestamp,uid,mail,employeeNumber,cn,sn eq
access to attrs=userPassword
  by dn.base="cn=sync,{suffix}" write
  by dn.regex="^cn=sync,o=[^,]+,{suffix}$" write
  by self write
  by anonymous auth
access to dn.regex="^(.+,)?(o=[^,]+),{suffix}$"
  by dn.base="cn=sync,{suffix}" write
  by dn.exact,expand="cn=sync,$2,{suffix}" write
  by * read
access to *
  by dn.base="cn=sync,{suffix}" write
  by * read
{overlays}
"""


@dataclass(slots=True)
class Branch:
    """A part of the directory for one test: an organisation with `ou=people`, and a login `cn=sync` that may write."""

    server: SlapdServer
    top: str
    password: str = field(repr=False)

    @property
    def people(self) -> str:
        return f"ou=people,{self.top}"

    @property
    def bind_dn(self) -> str:
        return f"cn=sync,{self.top}"

    def add(self, name: str, **attributes: str | bytes | Sequence[str | bytes]) -> str:
        """A person below `ou=people`, past the product; answers the DN."""
        dn = f"uid={ldap.dn.escape_dn_chars(name)},{self.people}"
        self.server.add(dn, person(name, **attributes))
        return dn

    def entries(self, *names: str, filter: str = "(objectClass=inetOrgPerson)") -> dict[str, dict[str, list[str]]]:  # noqa: A002
        """What is below `ou=people`, by DN, as `ldapsearch` sees it."""
        return self.server.entries(self.people, filter, *names)


def person(
    name: str, **attributes: str | bytes | Sequence[str | bytes]
) -> dict[str, str | bytes | Sequence[str | bytes]]:
    return {
        "objectClass": ["inetOrgPerson", "meshPerson"],
        "uid": name,
        "cn": attributes.pop("cn", name),
        "sn": attributes.pop("sn", name),
        **attributes,
    }


@dataclass(slots=True)
class SlapdServer:
    process: ServerProcess
    folder: Path
    port: int
    tls_port: int
    authority: Authority
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"ldap://{HOST}:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://{HOST}:{self.tls_port}"

    @classmethod
    def start(
        cls,
        authority: Authority,
        *,
        certificate: IssuedCertificate | None = None,
        modules: Iterable[str] = (),
        databases: str = "",
        overlays: str = "",
        ldif_text: str = "",
    ) -> Self:
        """`databases` stand before the main one, `overlays` are lines at its end; both may use `{folder}`.

        `ldif_text` is loaded before the start, beside the top of the tree and its login `cn=sync`.
        """
        slapd = need("slapd", "slapd", places=["/usr/sbin"])
        folder = private_folder("ldap")
        password = secrets.token_urlsafe(18)
        shown = certificate or authority.issue()
        try:
            (folder / "data").mkdir()
            (folder / "mesh.schema").write_text(SCHEMA)
            configuration = folder / "slapd.conf"
            configuration.touch(mode=0o600)
            configuration.write_text(
                CONFIGURATION.format(
                    folder=folder,
                    modules=MODULES,
                    modules_wanted="\n".join(f"moduleload {one}" for one in modules),
                    authority=authority.file,
                    certificate=shown.certificate,
                    key=shown.key,
                    root=ROOT,
                    password=password,
                    suffix=SUFFIX,
                    databases=databases.replace("{folder}", str(folder)),
                    overlays=overlays.replace("{folder}", str(folder)),
                )
            )
            _load(slapd, configuration, TOP.format(suffix=SUFFIX, password=password) + ldif_text)
            return cls._start_on_free_ports(slapd, configuration, folder, authority, password)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def _start_on_free_ports(
        cls, slapd: str, configuration: Path, folder: Path, authority: Authority, password: str
    ) -> Self:
        for attempt in range(1, START_ATTEMPTS + 1):
            port, tls_port = free_port(), free_port()
            listeners = f"ldap://{HOST}:{port} ldaps://{HOST}:{tls_port}"
            process = ServerProcess(
                [slapd, "-f", str(configuration), "-h", listeners, "-d", "0"],
                folder / "log",
                environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            )
            server = cls(process, folder, port, tls_port, authority, password)
            try:
                process.start(server._answers)
            except ServerFailed:  # somebody else may have taken a port since it was free
                if attempt == START_ATTEMPTS:
                    raise
                continue
            return server
        raise AssertionError

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def branch(self) -> Branch:
        """A fresh organisation with a login of its own."""
        top = f"o=t{secrets.token_hex(6)},{SUFFIX}"
        made = Branch(self, top, secrets.token_urlsafe(18))
        self.add(top, {"objectClass": "organization"})
        self.add(made.people, {"objectClass": "organizationalUnit"})
        login = {"objectClass": ["organizationalRole", "simpleSecurityObject"], "userPassword": made.password}
        self.add(made.bind_dn, login)
        return made

    def client(self, dn: str = ROOT, password: str | None = None) -> Any:
        """A connection past the product. Its `with` unbinds."""
        opened = _Client(self.url)
        opened.simple_bind_s(dn, self.password if password is None else password)
        return opened

    def accepts(self, dn: str, password: str) -> bool:
        try:
            with self.client(dn, password):
                return True
        except ldap.INVALID_CREDENTIALS:
            return False

    def add(self, dn: str, attributes: Mapping[str, str | bytes | Sequence[str | bytes]]) -> None:
        with self.client() as client:
            client.add_s(dn, [(name, encoded(value)) for name, value in attributes.items()])

    def modify(self, dn: str, attribute: str, *values: str | bytes) -> None:
        """Replace the values of one attribute; none removes it."""
        with self.client() as client:
            client.modify_s(dn, [(ldap.MOD_REPLACE, attribute, encoded(list(values)) or None)])

    def delete(self, dn: str) -> None:
        with self.client() as client:
            client.delete_s(dn)

    def entries(self, base: str, filter: str = "(objectClass=*)", *names: str) -> dict[str, dict[str, list[str]]]:  # noqa: A002
        """What `ldapsearch` finds below a DN, by DN; bytes that are not text come as their base64."""
        program = need("ldapsearch", "ldap-utils")
        secret = self.folder / "ldapsearch.password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        done = subprocess.run(
            [
                *(program, "-x", "-LLL", "-o", "ldif-wrap=no", "-H", self.url, "-D", ROOT, "-y", str(secret)),
                *("-b", base, filter, *names),
            ],
            env={"PATH": os.defpath, "LDAPNOINIT": "1"},
            capture_output=True,
            check=False,
        )
        if done.returncode == ldap.NO_SUCH_OBJECT.errnum:
            return {}
        if done.returncode != 0:
            msg = f"ldapsearch ended with {done.returncode}: {done.stderr.decode(errors='replace')}"
            raise ServerFailed(msg)
        parser = ldif.LDIFRecordList(io.BytesIO(done.stdout))
        parser.parse()
        return {
            dn: {name: [_text(value) for value in values] for name, values in attributes.items()}
            for dn, attributes in parser.all_records
            if dn
        }

    def _answers(self) -> bool:
        try:
            with self.client():
                return True
        except ldap.LDAPError:
            return False


class _Client(ldap.ldapobject.SimpleLDAPObject):  # type: ignore[misc]  # the library has no types
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unbind_s()


TOP = """\
dn: {suffix}
objectClass: dcObject
objectClass: organization
o: example

dn: ou=people,{suffix}
objectClass: organizationalUnit
ou: people

dn: cn=sync,{suffix}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: sync
userPassword: {password}

dn: cn=limited,{suffix}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: limited
userPassword: {password}

"""


def encoded(value: str | bytes | Sequence[str | bytes]) -> list[bytes]:
    several = [value] if isinstance(value, str | bytes) else value
    return [one.encode() if isinstance(one, str) else one for one in several]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _load(slapd: str, configuration: Path, text: str) -> None:
    slapadd = need("slapadd", "slapd", places=[str(Path(slapd).parent)])
    done = subprocess.run(
        [slapadd, "-q", "-f", str(configuration), "-b", SUFFIX],
        input=text.encode(),
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        msg = f"slapadd ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}"
        raise ServerFailed(msg)
