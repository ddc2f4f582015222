"""Answers of a SCIM service as values or errors of the product (RFC 7644 section 3.12)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    ObjectRefused,
    PermissionDenied,
    Throttled,
    TimedOut,
)

LONGEST_DETAIL: Final = 300
DEFAULT_PAUSE: Final = 2.0  # seconds, where a service asks for a pause and does not say how long


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered. ``headers`` by name, in any case; ``scrub`` takes credentials out of its words."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # a service may repeat what it was sent
    body: bytes = field(repr=False)
    asked: str  # "GET /Users", for messages
    scrub: Callable[[str], str]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def document(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            ConnectionLost: there is none; what the request did cannot be told.
        """
        parsed = parse_json(self.body)
        if not isinstance(parsed, dict):
            raise ConnectionLost(f"{self.asked}: the answer is not a JSON object (status {self.status})")
        return parsed

    def raise_for_status(self, *, on_object: bool, writes: bool) -> None:
        """Nothing, if the request succeeded.

        ``on_object``: the address is that of one resource, so 404 means that it is gone.
        ``writes``: a server error leaves the outcome unknown.

        Raises:
            ConnectorError: what went wrong, with the service's own words.
        """
        if not self.ok:
            raise self._error(on_object=on_object, writes=writes)

    def _error(self, *, on_object: bool, writes: bool) -> ConnectorError:
        told = f"{self.asked}: {self.words()}"
        if self.status in {404, 410} and on_object:
            return ObjectMissing(told)
        simple = _BY_STATUS.get(self.status)
        if simple is not None:
            return simple(f"{told} ({self.status})")
        if self.status == 429 or (self.status == 503 and "retry-after" in self.headers):
            return Throttled(f"{told} ({self.status})", retry_after=retry_after(self.headers.get("retry-after", "")))
        if self.status in _MISCONFIGURED or self.status < 400:
            return self._misconfigured(told)
        if self.status >= 500:
            unknown = "; whether it was carried out is unknown" if writes else ""
            return ConnectionLost(f"{told} ({self.status}){unknown}")
        return self._refusal(told, writes=writes)

    def _misconfigured(self, told: str) -> ConnectorError:
        if self.status < 400:
            return ConnectorMisconfigured(
                f"{self.asked}: the service answers with a redirect ({self.status}); it is not followed",
                hint="A redirect could carry the credential to another host. Set the url to the final address.",
            )
        return ConnectorMisconfigured(f"{told} ({self.status})", hint=_MISCONFIGURED[self.status])

    def _refusal(self, told: str, *, writes: bool) -> ConnectorError:
        kind = str(self._problem().get("scimType") or "")
        creates = self.asked.startswith("POST")
        if kind.lower() == "uniqueness" or (self.status == 409 and creates):
            return ObjectExists(told)
        if writes:
            return ObjectRefused(told)
        if kind.lower() in {"invalidfilter", "invalidpath"}:
            return ConnectorMisconfigured(told, hint="The service cannot search by this attribute or filter.")
        return ConnectorError(f"{told} ({self.status})")

    def words(self) -> str:
        """The service's own ``detail``, one line, without credentials."""
        problem = self._problem()
        detail = problem.get("detail") or problem.get("error_description") or problem.get("error")
        text = detail if isinstance(detail, str) else f"status {self.status}"
        line = " ".join(self.scrub(text).split())
        return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 1] + "…"

    def error_code(self) -> str:
        """The ``error`` of a token endpoint (RFC 6749 section 5.2), without credentials; empty if there is none."""
        code = self._problem().get("error")
        return self.scrub(code)[:80] if isinstance(code, str) and code.isprintable() else ""

    def _problem(self) -> dict[str, Any]:
        parsed = parse_json(self.body)
        return parsed if isinstance(parsed, dict) else {}


_BY_STATUS: Final[dict[int, type[ConnectorError]]] = {
    401: CredentialRefused,
    403: PermissionDenied,
    408: TimedOut,
    412: ObjectChanged,
}


_MISCONFIGURED: Final = {
    404: "Check the url and the resource type.",
    405: "The service does not offer this operation.",
    410: "Check the url and the resource type.",
    501: "The service does not offer this operation.",
}


def parse_json(body: bytes) -> Any:
    """The parsed body, or ``None``. Lone surrogates are let through: they spoil one entry, not the page."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body)
        except ValueError:
            return None


def retry_after(text: str, now: Callable[[], float] = time.time) -> float:
    """Seconds to wait: ``120`` or an HTTP date (RFC 9110 section 10.2.3); ``DEFAULT_PAUSE`` if neither."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except (ValueError, TypeError, IndexError):
        return DEFAULT_PAUSE
