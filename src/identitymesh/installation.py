"""An opened installation. What a command does not ask for is neither imported nor built."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from identitymesh.runs.credential_rotation import CredentialRotation
    from identitymesh.runs.cycle import Parts
    from identitymesh.runs.definitions import Definitions
    from identitymesh.runs.engine import Engine
    from identitymesh.secrets.bundles import Bundles
    from identitymesh.secrets.custody.service import KeyCustody
    from identitymesh.secrets.migration.service import Migrations
    from identitymesh.secrets.store import SecretStore
    from identitymesh.serving import Running
    from identitymesh.settings import Settings
    from identitymesh.storage.database import Database
    from identitymesh.storage.keeping import Keeping


class Installation:
    """What commands work with; fits the protocol of ``cli/contract.py``. A part is built when it is first asked for."""

    def __init__(self, settings: Settings, database: Database, actor: str, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.actor = actor
        self.findings: tuple[str, ...] = ()
        self._database = database
        self._clock = clock

    @property
    def allow_value_argument(self) -> bool:
        """The setting ``secrets.allow_value_argument``."""
        return self.settings.secrets.allow_value_argument

    @cached_property
    def secrets(self) -> SecretStore:
        from identitymesh.secrets.store import SecretStore
        from identitymesh.storage.secrets import SqlSecretRows

        return SecretStore(SqlSecretRows(self._database), self.settings.host, self.settings.means, socket.gethostname())

    @cached_property
    def keys(self) -> KeyCustody:
        from identitymesh.secrets.custody.service import KeyCustody
        from identitymesh.secrets.custody.station import Station
        from identitymesh.storage.custody import SqlCustodyRows

        rows, settings = SqlCustodyRows(self._database), self.settings
        return KeyCustody(Station(rows, settings.host, self.actor, socket.gethostname(), settings.means))

    @cached_property
    def bundles(self) -> Bundles:
        from identitymesh.secrets.bundles import Bundles
        from identitymesh.storage.secrets import SqlSecretRows

        return Bundles(SqlSecretRows(self._database), self.secrets, self.actor)

    @cached_property
    def backups(self) -> Keeping:
        from identitymesh.storage.keeping import Keeping

        return Keeping(self._database, self.secrets, self.actor, self.settings.means)

    @cached_property
    def migrations(self) -> Migrations:
        from identitymesh.secrets.migration.service import Migrations
        from identitymesh.storage.secret_migrations import SqlMigrationRows

        rows, rate = SqlMigrationRows(self._database), self.settings.secrets.migration_writes_per_second
        return Migrations(rows, self.secrets, actor=self.actor, here=socket.gethostname(), writes_per_second=rate)

    @cached_property
    def engine(self) -> Engine:
        from identitymesh.runs.engine import Engine
        from identitymesh.storage.people import SqlPeople
        from identitymesh.storage.scratch import scratch

        database = self._database
        copy = partial(scratch, database, self.settings.folder)
        return Engine(self._parts, self._definitions, SqlPeople(database), copy, database.rest)

    @cached_property
    def rotation(self) -> CredentialRotation:
        from identitymesh.runs.credential_rotation import CredentialRotation
        from identitymesh.secrets.rotation import Rotations
        from identitymesh.storage.rotations import SqlRotationRows

        rotations = Rotations(SqlRotationRows(self._database), self.secrets)
        return CredentialRotation(self._parts, self._definitions, rotations)

    @cached_property
    def running(self) -> Running:
        from identitymesh.serving import running

        return running(self.settings, self._database, self._parts, self._definitions)

    @cached_property
    def _definitions(self) -> Definitions:
        from identitymesh.runs.definitions import Definitions
        from identitymesh.storage.runs import SqlDefinitions

        rows, audience = SqlDefinitions(self._database), self.secrets.audience
        return Definitions(rows, self._parts.kinds, audience, actor=self.actor, clock=self._clock)

    @cached_property
    def _parts(self) -> Parts:
        from identitymesh.connectors.catalogue import kinds
        from identitymesh.runs.cycle import Parts
        from identitymesh.secrets.initial import InitialPasswords
        from identitymesh.storage.exports import SqlExports
        from identitymesh.storage.leases import SqlLeases
        from identitymesh.storage.mesh import SqlMesh
        from identitymesh.storage.plans import SqlPlans
        from identitymesh.storage.reviews import SqlReviews
        from identitymesh.storage.runs import SqlRuns
        from identitymesh.storage.secrets import SqlSecretRows

        database = self._database
        lifetime = timedelta(days=self.settings.secrets.initial_password_days)
        return Parts(
            mesh=SqlMesh(database),
            plans=SqlPlans(database),
            exports=SqlExports(database),
            runs=SqlRuns(database),
            leases=SqlLeases(database),
            secrets=self.secrets,
            passwords=InitialPasswords(SqlSecretRows(database), self.secrets, self.actor, lifetime, self._clock),
            reviews=SqlReviews(database),
            kinds=kinds(),
            folder=self.settings.folder,
            actor=self.actor,
            clock=self._clock,
        )
