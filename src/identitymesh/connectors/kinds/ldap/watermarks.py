"""Marks of time that entries carry, and the text form of the last one: ``entryCSN:20261122083000.123456Z#…``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from identitymesh.connectors.kinds.ldap.settings import LdapObject
from identitymesh.errors import ConnectorMisconfigured

# Both attributes begin with a time of fixed width, so their order as text is their order in time.
_TIME: Final = re.compile(r"(\d{14})(\.\d{6})?Z(#[0-9a-f#]*)?\Z")
_FIRST_OF_ITS_TIME: Final = "#000000#000#000000"


def write_watermark(attribute: str, mark: str) -> str:
    return f"{attribute}:{mark}"


def read_watermark(text: str, selected: LdapObject) -> str:
    """The mark to read from: the last one seen, less the overlap.

    Raises:
        ConnectorMisconfigured: it is of another attribute, or of another kind of connector.
    """
    attribute, _, mark = text.partition(":")
    found = _TIME.match(mark)
    if attribute != selected.watermark or found is None:
        raise ConnectorMisconfigured(
            f"the stored watermark is not one of {selected.watermark}", hint="Run a full import; it sets a new one."
        )
    if not selected.overlap:
        return mark
    time, fraction, rest = found.groups()
    moment = datetime.strptime(f"{time}{fraction or '.0'}", "%Y%m%d%H%M%S.%f").replace(tzinfo=UTC)
    earlier = moment - timedelta(seconds=selected.overlap)
    return f"{earlier:%Y%m%d%H%M%S}{f'.{earlier:%f}' if fraction else ''}Z{_FIRST_OF_ITS_TIME if rest else ''}"
