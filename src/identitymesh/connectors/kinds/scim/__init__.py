"""People in a service that speaks SCIM 2.0 (RFC 7643 and 7644): as a target, and readable.

```yaml
connectors:
  crm:
    type: scim
    url: https://crm.example.org/scim/v2
    token: secret://crm/scim-token
    objects: {user: {resource: User}}
```

Attributes are named as in SCIM filters: `userName`, `name.givenName`,
`emails[type eq "work"].value`, and with the whole URN for an extension:
`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department`. Upper and lower
case do not matter. `emails.value` means the values of all elements, whatever their type.
The resource's `id` is its key.

**Login.** Either `token`, a bearer token, or `oauth` for the client credentials grant
(RFC 6749 section 4.4). Both are sent to the hosts of `url` and `token_url` alone, over
TLS with a verified certificate (plain `http://` only to this host), and no redirect is
followed: if the service moved, write its new address.

**Updates** are as small as the service allows: a PATCH that names what changed, or a PUT
of the resource just read with the changes in it where the service has no PATCH. Some
services announce PATCH and do it wrongly; then set `update: replace`. Where the service
gives ETags, an update or delete is refused if somebody else was faster.

**A complete read** is believed when the service's `totalResults` equals the number of
different ids, was the same on every page, and each page began where the one before it
ended.
"""

from __future__ import annotations

from identitymesh.connectors.contract import Connector, CredentialSource, Kind
from identitymesh.connectors.kinds.scim.settings import ScimSettings, endpoints, scope


def _open(settings: ScimSettings, credentials: CredentialSource) -> Connector:
    from identitymesh.connectors.kinds.scim.target import ScimTarget

    return ScimTarget(settings, credentials)


KIND = Kind(
    name="scim",
    summary="Services that speak SCIM 2.0",
    settings=ScimSettings,
    open=_open,
    endpoints=endpoints,
    scope=scope,
)
