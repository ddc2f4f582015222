"""People in a directory that speaks LDAP (RFC 4511), such as OpenLDAP: as a source and as a target.

```yaml
connectors:
  directory:
    type: ldap
    url: ldaps://ldap.example.org
    bind_dn: cn=sync,dc=example,dc=org
    bind_password: secret://ldap/bind
    ca_file: ca.pem
    objects:
      user: {base: "ou=people,dc=example,dc=org", filter: "(objectClass=inetOrgPerson)", key: entryUUID}
```

The kind needs a library with a compiled part: `pip install 'identitymesh[ldap]'`.

**Attributes** have the names of the directory's schema; upper and lower case and aliases
(`sn`, `surname`) do not matter. `dn` is the name of the entry. Values of the syntaxes
Boolean, Integer and Generalized Time are booleans, whole numbers and RFC 3339 times;
octet strings, certificates and pictures are bytes; everything else is text. Operational
attributes such as `entryUUID` are read when a rule or `key` names them.

**TLS** 1.2 or later, with a certificate that fits the host of `url` and comes from
`ca_file`, or from the system's authorities without it. `starttls: true` secures an
`ldap://` address. A bind password over a connection without either is refused, unless
`allow_cleartext: true` says that somebody may listen. The password is opened for each
login and kept nowhere.

**A complete read** streams the entries below `base` that `filter` matches, with the
attributes that rules use. It is believed when the server ends it with success. A size or
time limit of the server, or a referral to another server, makes it incomplete: nobody is
believed gone then. Give the login a size limit that fits, or set `page_size`.

**Writing.** A new entry needs `dn`, whose values `EscapeDN` prepares, and `objectClass`.
Up to `adds_at_once` of them are under way at once on one connection; when it breaks, all of
these are without an answer, and looked up by the next run. When `dn` changes the entry is
renamed or moved. An update changes only what differs, value by value where an attribute has
many. It is refused if somebody else changed the entry since it was read: by an assertion of
`entryCSN` (RFC 4528) where the server has that, else by removing exactly the values that were
read; renames and deletions have only the reading before them to guard them there.

**Delta runs** need `watermark: entryCSN` (or `modifyTimestamp`, which has whole seconds).
They do not see who is gone: `full_schedule` is for that.

`identitymesh secrets rotate --at-server` changes the password of `bind_dn` in the directory
(RFC 3062).
"""

from __future__ import annotations

from identitymesh.connectors.contract import Connector, CredentialSource, Kind
from identitymesh.connectors.kinds.ldap.settings import LdapSettings, endpoints, scope
from identitymesh.errors import ConnectorMisconfigured


def _open(settings: LdapSettings, credentials: CredentialSource) -> Connector:
    try:
        from identitymesh.connectors.kinds.ldap.directory import LdapDirectory
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"ldap", "_ldap"}:
            raise
        raise ConnectorMisconfigured(
            "the library python-ldap is not installed",
            hint="Install the extra that has it: pip install 'identitymesh[ldap]'",
        ) from None
    return LdapDirectory(settings, credentials)


KIND = Kind(
    name="ldap",
    summary="Directories that speak LDAP",
    settings=LdapSettings,
    open=_open,
    endpoints=endpoints,
    scope=scope,
)
