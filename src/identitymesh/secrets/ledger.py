"""The audience of a secret: where its value may be sent, tamper-evident.

A destination is a connector and one ``host:port`` (``local`` for a kind that sends
nothing over a network). The set stands in the ledger row with an HMAC-SHA-256 under a
key derived from the keyset secret, over length-prefixed fields: label, ref, then
connector and endpoint of each destination in sorted order. It holds for every provider,
and every opening verifies it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from identitymesh.errors import AudienceRefused
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.rows import StoredAudience
from identitymesh.secrets.sealing import length_prefixed

LOCAL: Final = "local"
_LABEL: Final = b"identitymesh/audience/1"

Audience = frozenset["Destination"]
NOBODY: Final[Audience] = frozenset()


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """A connector and one place that it sends credentials to."""

    connector: str
    endpoint: str

    def __str__(self) -> str:
        return f"{self.connector} ({self.endpoint})"


def destinations(connector: str, endpoints: Iterable[str]) -> Audience:
    """What one connector with these ``host:port`` pairs asks for; host names compare in lower case."""
    places = [endpoint.lower() for endpoint in endpoints] or [LOCAL]
    return frozenset(Destination(connector, place) for place in places)


def encode_audience(audience: Collection[Destination]) -> str:
    """JSON text: ``[["connector","host:port"],...]``, sorted."""
    return json.dumps([[item.connector, item.endpoint] for item in sorted(audience)], separators=(",", ":"))


def decode_audience(text: str) -> Audience:
    """Inverse of :func:`encode_audience`.

    Raises:
        ValueError: not such a text.
    """
    try:
        return frozenset(Destination(str(connector), str(endpoint)) for connector, endpoint in json.loads(text))
    except (ValueError, TypeError):
        raise ValueError("not an audience") from None


def audience_mac(document: Document, ref: str, audience: Collection[Destination]) -> bytes:
    """32 bytes of HMAC-SHA-256 (RFC 2104) over ref and audience."""
    fields = [_LABEL, ref.encode()]
    for item in sorted(audience):
        fields += [item.connector.encode(), item.endpoint.encode()]
    return hmac.digest(document.ledger_key.reveal(), length_prefixed(*fields), "sha256")


def read_audience(document: Document, row: StoredAudience) -> Audience:
    """The audience of a row, proven to be as the product wrote it.

    Raises:
        AudienceRefused: the row was edited outside of the product.
    """
    try:
        audience = decode_audience(row.audience)
    except ValueError:
        audience = None
    if audience is None or not hmac.compare_digest(audience_mac(document, row.ref, audience), row.audience_mac):
        raise AudienceRefused(
            f"{row.ref}: its audience in the database was edited outside Identity Mesh; the value goes nowhere",
            hint=f"Find out who did that, then allow it anew: identitymesh apply --allow-audience {row.ref}",
        )
    return audience


def check_audience(row: StoredAudience, audience: Audience, asked: Audience) -> None:
    """Every place that a connector sends to must be in the audience.

    Raises:
        AudienceRefused: names ref, connector, place and the command that allows it.
    """
    refused = sorted(asked - audience)
    if not refused:
        return
    connector = refused[0].connector
    places = ", ".join(item.endpoint for item in refused)
    reason = "it has no audience yet" if not audience else f"its audience is {', '.join(map(str, sorted(audience)))}"
    raise AudienceRefused(
        f"{row.ref} may not be sent by connector {connector} to {places}: {reason}",
        hint="Run `identitymesh apply` with the definition that names it; "
        f"where that is refused too: identitymesh apply --allow-audience {row.ref}",
    )
