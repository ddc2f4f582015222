"""Creates with what is written once: the password is stored before the account is made, and known to nobody here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from identitymesh.connectors.contract import Entry
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.outcomes import ANSWERED, NOT_SENT
from identitymesh.connectors.scrubbing import scrub
from identitymesh.errors import ConnectorError, KeyringError, LeaseLost, MeshError, SecretError, StorageError
from identitymesh.lease import Lease
from identitymesh.model.accounts import attributes_of, initial_of
from identitymesh.model.attributes import Attributes
from identitymesh.redaction import Secret
from identitymesh.runs.contract import Attempt
from identitymesh.secrets.initial import InitialPasswords, generate, reference
from identitymesh.secrets.references import SecretReference


class Creates:
    """The creates of one export.

    Passwords are stored and removed while the export has its lease, and not afterwards: who took over may have stored
    another under the same name, and made the account with it. A vault is written before the commit that asserts it, so
    it is asked before as well.
    """

    def __init__(self, keeper: InitialPasswords, lease: Lease, run_id: int) -> None:
        self._keeper = keeper
        self._lease = lease
        self._run = str(run_id)
        self._made: dict[SecretReference, Secret] = {}
        self.not_dropped: MeshError | None = None  # why passwords are still there that no account has

    def prepare(self, attempts: Sequence[Attempt]) -> None:
        """Make and store the passwords of a chunk in one transaction, but of those that the target may have already.

        Raises:
            SecretError, KeyringError, StorageError: they cannot be stored, so nothing may be created.
            LeaseLost: as :meth:`Lease.assert_live`.
        """
        new = {_ref(one): generate(_length(one)) for one in attempts if _length(one) and not one.recovering}
        self._keep(new)
        self._made = new

    def _keep(self, passwords: Mapping[SecretReference, Secret]) -> None:
        if passwords:
            self._lease.assert_live()
            self._keeper.keep(passwords, self._run, self._lease)

    def create(self, facade: Facade, attempt: Attempt) -> Entry:
        """Create the account with what it should hold and what is written once. Raises like ``Facade.create``."""
        made: Entry | MeshError
        try:
            made = facade.create(attempt.account.object, self.attributes(attempt))
        except ConnectorError as error:
            made = error
        return self.answered(attempt, made)

    def attributes(self, attempt: Attempt) -> Attributes:
        """What the account should hold and what is written once.

        Raises:
            SecretError, KeyringError, StorageError: its password cannot be stored.
            LeaseLost: as :meth:`Lease.assert_live`.
        """
        account = attempt.account
        values, passwords = initial_of(account)
        attributes = {**attributes_of(account.desired), **values}
        if not passwords:
            return attributes
        return attributes | dict.fromkeys(passwords, self._password(attempt).reveal_text())

    def answered(self, attempt: Attempt, outcome: Entry | MeshError) -> Entry:
        """What was made; raises what went wrong instead, without the password."""
        if isinstance(outcome, Entry):
            return outcome
        password = self._made.get(_ref(attempt)) if _length(attempt) else None
        if password is not None and isinstance(outcome, ConnectorError):
            if isinstance(outcome, (*NOT_SENT, *ANSWERED)):  # whatever else went wrong: it may have been created
                self.forget([attempt])
            outcome.message = scrub([password], outcome.message)
            outcome.hint = scrub([password], outcome.hint)
            outcome.args = (outcome.message,)
        raise outcome

    def _password(self, attempt: Attempt) -> Secret:
        ref = _ref(attempt)
        if ref not in self._made:
            made = generate(_length(attempt))
            self._keep({ref: made})
            self._made[ref] = made
        return self._made[ref]

    def drop(self, attempts: Iterable[Attempt]) -> None:
        """Nothing was created with these passwords."""
        self._drop([_ref(one) for one in attempts if _length(one) and not one.recovering])

    def forget(self, attempts: Iterable[Attempt]) -> None:
        """The account at the target is not the one that was sent, whenever that was."""
        refs = [_ref(one) for one in attempts if _length(one)]
        self._drop(refs)
        for ref in refs:
            self._made.pop(ref, None)

    def _drop(self, refs: Sequence[SecretReference]) -> None:
        """They expire anyway: that they cannot be removed changes nothing of what came of the creates."""
        if not refs or self.not_dropped is not None:
            return
        try:
            self._lease.assert_live()
            self._keeper.drop(refs, self._lease)
        except LeaseLost:
            pass
        except (SecretError, KeyringError, StorageError) as error:
            self.not_dropped = error


def _length(attempt: Attempt) -> int:
    account = attempt.account
    return max(initial_of(account).passwords.values(), default=0) if account.kind == "create" else 0


def _ref(attempt: Attempt) -> SecretReference:
    return reference(attempt.account.connector, attempt.anchor or f"identity-{attempt.account.identity_id}")
