"""What whoever stores or removes a secret asks its transaction first, so that what it worked out before still holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from identitymesh.errors import KeyringConflict, KeyringMissing, UsageError
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.ledger import NOBODY, audience_mac, encode_audience
from identitymesh.secrets.providers import Provider, provider_name
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import InstallationRow, LedgerRow, SecretTransaction, SecretView

TRIES: Final = 10
Answer = TypeVar("Answer")


def again(work: Callable[[], Answer], *, pause: float = 0.0) -> Answer:
    """Do something that reads, then writes in a transaction; from the start when another one was first.

    Raises:
        KeyringConflict: it was so too often.
    """
    for attempt in range(TRIES):
        try:
            return work()
        except KeyringConflict:
            if attempt == TRIES - 1:
                raise
            time.sleep(pause)
    raise AssertionError("unreachable")


def installation(view: SecretView) -> InstallationRow:
    """The installation of this database.

    Raises:
        KeyringMissing: `init` was never run on it.
    """
    row = view.installation()
    if row is None:
        raise KeyringMissing(
            "the database has no keyring yet",
            hint="Run `identitymesh init` once in a new folder; no other command makes a keyring.",
        )
    return row


def hold_keyring(transaction: SecretTransaction, name: str, document: Document) -> None:
    """Keep the keyring until the commit as it was when values were sealed for it.

    Raises:
        KeyringConflict: it changed.
    """
    if not transaction.hold_keyring(name, document.generation):
        raise KeyringConflict(f"keyring {name}: it changed meanwhile", hint="Try again.")


def assert_provider(transaction: SecretTransaction, keyring: str, provider: Provider) -> None:
    """Version ids are those of one provider: after a cut over to another one everything is read anew.

    Raises:
        KeyringConflict: the secrets of this keyring are not where they were.
    """
    if provider_name(keyring, installation(transaction).provider) != provider.name:
        raise KeyringConflict("the provider of secrets changed meanwhile", hint="Try again.")


def new_row(ref: SecretReference, keyring: str, document: Document) -> LedgerRow:
    """The ledger row of a secret that may be sent nowhere yet."""
    now = datetime.now(UTC)
    return LedgerRow(
        ref.text, keyring, encode_audience(NOBODY), audience_mac(document, ref.text, NOBODY), created=now, changed=now
    )


def own_row(transaction: SecretTransaction, new: LedgerRow) -> LedgerRow:
    """The ledger row of a ref, locked; made if there is none. Two writers of one ref take turns here.

    Raises:
        KeyringConflict: it was deleted in this moment.
        UsageError: the secret is in another keyring.
    """
    row = transaction.lock_ledger(new.ref)
    if row is None:
        row = new if transaction.insert_ledger(new) else transaction.lock_ledger(new.ref)
    if row is None:
        raise KeyringConflict(f"{new.ref}: it was deleted while it was stored", hint="Try again.")
    if row.keyring != new.keyring:
        raise UsageError(
            f"{new.ref} is in the keyring {row.keyring}, not in {new.keyring}",
            hint="Leave the keyring out, or delete the secret first.",
        )
    return row
