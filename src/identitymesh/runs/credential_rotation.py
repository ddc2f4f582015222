"""Rotates one credential: pending, perhaps set at its server, probed by every connector that uses it, switched.

Whatever moment a kill comes at, one of the stored versions is valid at the server, and both are kept until it is known
which: the same command probes both and carries on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from identitymesh.connectors.contract import ChangePasswordOp, CredentialSource, TestOp
from identitymesh.connectors.facade import Facade, open_facade
from identitymesh.connectors.outcomes import ANSWERED, UNUSABLE
from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.errors import (
    Busy,
    ConnectorError,
    MeshError,
    NotFound,
    RotationRefused,
    RotationUnfinished,
    UsageError,
)
from identitymesh.lease import Lease
from identitymesh.redaction import Secret
from identitymesh.runs.cycle import Parts, needs
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.keeping import kept
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rotation import CHANGING, Retired, RotationRow, Rotations

# After these it is known that the server has no new password.
_NOT_SET = (*UNUSABLE, *ANSWERED)


@dataclass(frozen=True, slots=True)
class RotationReport:
    """A rotation that was switched. ``probed``: who logged in with the new value, and what they said."""

    ref: str
    old_version: str
    new_version: str
    at_server: bool
    resumed: bool
    probed: dict[str, str]
    retire_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Probe:
    """What one connector said to one version. ``error`` without ``certain``: nobody knows."""

    connector: str
    summary: str = ""
    error: ConnectorError | None = None

    @property
    def certain(self) -> bool:
        return self.error is None or not self.error.retryable


class CredentialRotation:
    """Rotates credentials of the definition in force."""

    def __init__(self, parts: Parts, definitions: Definitions, rotations: Rotations) -> None:
        self._parts = parts
        self._definitions = definitions
        self._rotations = rotations

    def find(self, ref: SecretReference) -> RotationRow | None:
        """The rotation of a ref that is open, if any."""
        found = self._rotations.find(ref)
        return found if found is not None and found.open else None

    def rotations(self) -> Sequence[RotationRow]:
        return self._rotations.list()

    def retire(self, ref: SecretReference | None) -> Sequence[Retired]:
        """See :meth:`identitymesh.secrets.rotation.Rotations.retire`."""
        return self._rotations.retire(ref, self._parts.actor)

    def rotate(
        self, ref: SecretReference, ask: Callable[[], Secret], *, at_server: bool, retire_days: int
    ) -> RotationReport:
        """Rotate a credential, or carry on with a rotation that is open; ``ask`` is called only for a new one.

        Raises:
            RotationRefused: the new value is not accepted; the old one is in use, at the server too.
            RotationUnfinished: a system did not answer; both versions are kept, the same command carries on.
            Busy: another command rotates it, or gives its rotation up.
            SecretMissing, SecretRefused, UsageError: nothing was changed.
        """
        with self._held(ref) as lease:
            return self._rotate(ref, ask, lease, at_server=at_server, retire_days=retire_days)

    def _rotate(
        self, ref: SecretReference, ask: Callable[[], Secret], lease: Lease, *, at_server: bool, retire_days: int
    ) -> RotationReport:
        users = self._users(ref)
        rotation = self.find(ref)
        resumed = rotation is not None
        if at_server and (rotation is None or rotation.at_server):
            self._changer(ref, users)
        if rotation is None:
            actor = self._parts.actor
            rotation = self._rotations.begin(ref, ask(), at_server=at_server, retire_days=retire_days, actor=actor)
        if rotation.at_server:
            rotation = self._at_server(ref, rotation, users, lease)
        probes = [self._probe(one, ref, rotation.new_version) for one in users]
        self._decide(ref, rotation, users, probes, lease)
        done = self._rotations.switch(rotation, self._parts.actor)
        told = {one.connector: one.summary for one in probes}
        return RotationReport(
            ref.text, done.old_version, done.new_version, done.at_server, resumed, told, done.retire_at
        )

    def abandon(self, ref: SecretReference) -> None:
        """Drop an open rotation; the value that is current stays in use.

        Raises:
            UsageError: none is open.
            RotationRefused: the server has the new value; dropping it would lock everybody out.
            Busy: another command rotates it.
        """
        with self._held(ref) as lease:
            rotation = self.find(ref)
            if rotation is None:
                raise UsageError(f"{ref}: no rotation is open", hint=f"See: identitymesh secrets show {ref}")
            if rotation.state == CHANGING:
                current, _pending = self._parts.secrets.versions([ref.text])[ref.text]
                self._back(ref, rotation, self._users(ref), current or rotation.old_version, lease)
            self._rotations.drop(rotation, "abandoned", self._parts.actor)

    @contextmanager
    def _held(self, ref: SecretReference) -> Iterator[Lease]:
        """One command at a time says at the server what is valid there: what another drops it must not set."""
        leases = self._parts.leases
        name = f"rotate:{sha256(ref.text.encode()).hexdigest()}"  # a reference may be too long for the name of a lease
        try:
            lease = leases.acquire(name, "secrets rotate")
        except Busy as busy:
            raise Busy(f"{ref}: another command is rotating it: {busy}", hint=busy.hint) from None
        with kept(leases, lease):
            try:
                yield lease
            finally:
                with suppress(MeshError):  # a row too many is no reason to fail
                    leases.renew(lease)  # if another command took it over it is that one's to forget
                    leases.forget(name)

    # -- which connectors ---------------------------------------------------------

    def _users(self, ref: SecretReference) -> list[ConnectorDefinition]:
        try:
            connectors = self._definitions.current().definition.connectors.values()
        except NotFound:
            connectors = {}.values()
        users = [one for one in connectors if ref in one.secrets.values()]
        if not users:
            raise UsageError(
                f"no connector of the definition uses {ref}, so nobody can try a new value",
                hint=f"Replace it without a trial: identitymesh secrets set {ref}",
            )
        return users

    def _changer(self, ref: SecretReference, users: Sequence[ConnectorDefinition]) -> ConnectorDefinition:
        for one in users:
            with self._facade(one, lambda _name: Secret(b"")) as facade:
                if facade.offers(ChangePasswordOp):
                    return one
        raise UsageError(
            f"no connector that uses {ref} can change a password at its server",
            hint=f"Change it there by hand, then: identitymesh secrets rotate {ref}",
        )

    # -- at the server ------------------------------------------------------------

    def _at_server(
        self, ref: SecretReference, rotation: RotationRow, users: Sequence[ConnectorDefinition], lease: Lease
    ) -> RotationRow:
        """Make the pending version the one that is valid there; after a crash find out whether it is already."""
        changer = self._changer(ref, users)
        if rotation.state == CHANGING:
            new = self._probe(changer, ref, rotation.new_version)
            if new.error is None:
                return rotation
            self._assert_certain(ref, [new])
        old = self._probe(changer, ref, rotation.old_version)
        self._assert_certain(ref, [old])
        if old.error is not None:
            if rotation.state == CHANGING:
                raise RotationUnfinished(
                    f"{ref}: {changer.name} accepts neither the current nor the pending value; both are kept",
                    hint="Set the right password at the server, or run the same command again: it tries both.",
                )
            self._rotations.drop(rotation, old.error.code, self._parts.actor)
            raise RotationRefused(
                f"{ref}: {changer.name} does not accept the current value, so it cannot set a new one: {old.error}",
                hint=f"Store the valid one first: identitymesh secrets set {ref}",
            )
        rotation = self._rotations.changing(rotation, self._parts.actor)
        try:
            self._change(changer, ref, lease, login=rotation.old_version, to=rotation.new_version)
        except _NOT_SET as error:
            self._refused(ref, rotation, f"{changer.name} could not set it: {error}")
        except ConnectorError:
            pass  # it may have been done: the probes find out
        return rotation

    def _change(
        self, connector: ConnectorDefinition, ref: SecretReference, lease: Lease, *, login: str, to: str
    ) -> None:
        field = next(name for name, used in connector.secrets.items() if used == ref)
        new = self._open(connector, field, to)
        with self._facade(connector, self._source(connector, ref, login)) as facade:
            lease.assert_live()
            facade.change_password(field, new)

    def _back(
        self,
        ref: SecretReference,
        rotation: RotationRow,
        users: Sequence[ConnectorDefinition],
        version: str,
        lease: Lease,
    ) -> None:
        """Make sure that ``version`` is valid at the server again."""
        changer = self._changer(ref, users)
        if self._probe(changer, ref, version).error is None:
            return
        try:
            self._change(changer, ref, lease, login=rotation.new_version, to=version)
        except ConnectorError as error:
            raise RotationUnfinished(
                f"{ref}: the old value could not be set at {changer.name} again: {error}; both are kept",
                hint="Run the same command again when the server answers.",
            ) from None
        again = self._probe(changer, ref, version)
        if again.error is not None:
            raise RotationUnfinished(
                f"{ref}: {changer.name} does not accept the old value after it was set again; both are kept",
                hint="Set the right password at the server, then run the same command again.",
            )

    # -- probing ------------------------------------------------------------------

    def _decide(
        self,
        ref: SecretReference,
        rotation: RotationRow,
        users: Sequence[ConnectorDefinition],
        probes: Sequence[_Probe],
        lease: Lease,
    ) -> None:
        """Nothing, if everybody accepts the new value; else back to the old one.

        Raises:
            RotationRefused: somebody refused it.
            RotationUnfinished: nobody refused it, but somebody did not answer.
        """
        refused = [one for one in probes if one.error is not None and one.certain]
        if not refused:
            self._assert_certain(ref, probes)
            return
        if rotation.state == CHANGING:
            self._back(ref, rotation, users, rotation.old_version, lease)
        self._refused(ref, rotation, "; ".join(f"{one.connector}: {one.error}" for one in refused))

    def _refused(self, ref: SecretReference, rotation: RotationRow, why: str) -> None:
        self._rotations.drop(rotation, "refused", self._parts.actor)
        raise RotationRefused(
            f"{ref}: the new value was tried and refused, the old one stays in use: {why}",
            hint="Correct the value, or set it at the server first (with --at-server, where the connector can).",
        )

    def _assert_certain(self, ref: SecretReference, probes: Sequence[_Probe]) -> None:
        silent = [one for one in probes if not one.certain]
        if silent:
            told = "; ".join(f"{one.connector}: {one.error}" for one in silent)
            raise RotationUnfinished(
                f"{ref}: it is not known whether the new value is accepted, both are kept: {told}",
                hint=f"Run the same command again, or give it up: identitymesh secrets rotate {ref} --abandon",
            )

    def _probe(self, connector: ConnectorDefinition, ref: SecretReference, version: str) -> _Probe:
        """A fresh connection with this version."""
        try:
            with self._facade(connector, self._source(connector, ref, version)) as facade:
                if not facade.offers(TestOp):
                    return _Probe(connector.name, "it cannot be tested")
                return _Probe(connector.name, facade.test().summary)
        except ConnectorError as error:
            return _Probe(connector.name, error=error)

    def _source(self, connector: ConnectorDefinition, ref: SecretReference, version: str) -> CredentialSource:
        """The connector's credentials, with this version of the one that is rotated."""

        def credential(name: str) -> Secret:
            if connector.secrets.get(name) == ref:
                return self._open(connector, name, version)
            return self._parts.secrets.open(needs(connector).request(name), actor=self._parts.actor)

        return credential

    def _open(self, connector: ConnectorDefinition, name: str, version: str) -> Secret:
        return self._parts.secrets.open_version(needs(connector).request(name), version, actor=self._parts.actor)

    def _facade(self, connector: ConnectorDefinition, source: CredentialSource) -> Facade:
        return open_facade(connector.name, connector.kind, connector.settings.below(self._parts.folder), source)
