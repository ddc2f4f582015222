"""Export: what an account row becomes after its change was sent, or could not be."""

from __future__ import annotations

from collections.abc import Collection

from identitymesh.connectors.contract import Entry, Modification
from identitymesh.errors import ConnectionLost, ConnectorError, TimedOut
from identitymesh.model.accounts import Account, attributes_of, differences, picture, settle

MAX_TRIES = 3
_LOST = (ConnectionLost.code, TimedOut.code, ConnectorError.code)


def modification(account: Account) -> Modification:
    """The smallest change from what the target is known to hold to what it should hold."""
    changed = differences(account.known, account.desired)
    put = {one.name: one.after for one in changed if one.after is not None}
    return Modification(put=put, clear=tuple(one.name for one in changed if one.after is None))


def expected(account: Account) -> str | None:
    """The image that the target must still show before it is written to."""
    return account.known if account.echo is None else account.echo


def whole(account: Account) -> Modification:
    """Everything that the account should hold, whatever is there."""
    return Modification(put=attributes_of(account.desired))


def written(account: Account, sent: Account, entry: Entry | None, managed: Collection[str]) -> Account:
    """After ``sent`` was written. ``account`` is the row as it is now: it may want something newer already."""
    key = entry.key if entry is not None else account.key
    echo = picture(entry.attributes, managed) if entry is not None else None
    if echo == sent.desired:
        echo = None
    return settle(_calm(account._replace(key=key, known=sent.desired, echo=echo, initial=None)))


def found(account: Account, entry: Entry, managed: Collection[str]) -> Account:
    """The target holds something else than was known: take note, and plan anew."""
    now = picture(entry.attributes, managed)
    return settle(_calm(account._replace(key=entry.key, known=now, echo=None)))


def gone(account: Account) -> Account:
    """The target does not have it: as wanted after a delete, a reason to plan anew otherwise."""
    return settle(_calm(account._replace(key=None, known=None, echo=None)))


def refused(account: Account, sent: Account, code: str, reason: str) -> Account:
    """The target will not take it: parked with the reason in words, until the row changes or a full run tries again."""
    if account.row_digest != sent.row_digest:
        return _calm(account)
    return account._replace(status="parked", error_code=code, error=reason, attempts=account.attempts + 1)


def failed(account: Account, sent: Account, code: str, reason: str) -> Account:
    """No answer, or not now: tried again by the next run, parked after :data:`MAX_TRIES`."""
    # It stays "sending", whatever the row says by now: a create is looked up before the next, and who finds another
    # change done says so in the audit.
    if account.row_digest != sent.row_digest:
        return account
    attempts = account.attempts + 1
    status = "parked" if attempts >= MAX_TRIES and sent.kind != "create" else account.status
    return account._replace(status=status, error_code=code, error=reason, attempts=attempts)


def unanswered(account: Account) -> bool:
    """Whether the change of this row was sent, as far as anybody knows, and its answer never came."""
    return account.status == "sending" or (account.status == "parked" and account.error_code in _LOST)


def _calm(account: Account) -> Account:
    return account._replace(status="idle", attempts=0, error_code=None, error=None)
