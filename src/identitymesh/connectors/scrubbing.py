"""Takes credentials out of the words of a foreign system, which may repeat what it was sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from identitymesh.redaction import MASKED, Secret


def scrub(secrets: Iterable[Secret], text: str) -> str:
    """The same words without these credentials: as they are, in base64, hex, URL-encoded, and as in JSON."""
    for secret in secrets:
        for form in _forms(secret.reveal()):
            text = text.replace(form, MASKED)
    return text


def _forms(raw: bytes) -> list[str]:
    """Longest first: a form may contain another one."""
    plain = raw.decode(errors="replace")
    found = {
        plain,
        json.dumps(plain)[1:-1],
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        raw.hex(),
        raw.hex().upper(),
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
    }
    return sorted(found - {""}, key=len, reverse=True)
