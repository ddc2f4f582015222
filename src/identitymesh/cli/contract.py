"""What the command line needs of the rest, said by the command line. ``composition`` hands it in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from identitymesh.cli.running import RunningCommands

if TYPE_CHECKING:  # `plan --help` should not wait for pydantic and cryptography
    from identitymesh.connectors.contract import TestReport
    from identitymesh.definition.reading import ConnectorDefinition
    from identitymesh.redaction import Secret
    from identitymesh.runs.reports import (
        ApplyReport,
        Decision,
        Explanation,
        Progress,
        RowView,
        RunReport,
        Unmatched,
        Walk,
    )
    from identitymesh.runs.review_desk import Choice, Review
    from identitymesh.secrets.custody.adding import AddedSlot
    from identitymesh.secrets.custody.joining import JoinReport
    from identitymesh.secrets.custody.removing import NewRecovery, RemovedSlots
    from identitymesh.secrets.custody.rotation import RotationReport
    from identitymesh.secrets.custody.status import Status, TrialResult
    from identitymesh.secrets.inventory import VerifyResult
    from identitymesh.secrets.properties import SecretProperties
    from identitymesh.secrets.references import SecretReference
    from identitymesh.secrets.setup import InitResult


class SecretCommands(Protocol):
    """What people do with secrets. Errors are those of :mod:`identitymesh.errors`."""

    def put(
        self,
        ref: SecretReference,
        value: Secret,
        *,
        actor: str,
        keyring: str | None = None,
        owner: str | None = None,
        description: str | None = None,
        cadence_days: int | None = None,
    ) -> str: ...
    def reveal(self, ref: SecretReference, *, actor: str) -> Secret: ...
    def exists(self, ref: SecretReference) -> bool: ...
    def list(self) -> Sequence[SecretProperties]: ...
    def delete(self, ref: SecretReference, *, actor: str, purge: bool = False) -> None: ...
    def follow(self, ref: SecretReference, *, pinned: bool, actor: str) -> None: ...
    def verify(self, *, actor: str) -> Sequence[VerifyResult]: ...


class KeyCommands(Protocol):
    """What people do with keyrings and their slots. Errors are those of :mod:`identitymesh.errors`."""

    def status(self) -> Status: ...
    def open_test(self, through: str | None, typed: Secret | None) -> Sequence[TrialResult]: ...
    def add(
        self,
        slot_type: str,
        keyrings: Sequence[str],
        label: str | None,
        announce: Callable[[Secret], None],
        *,
        own: Secret | None = None,
    ) -> Sequence[AddedSlot]: ...
    def remove(self, wanted: str, keyrings: Sequence[str], *, progress: Progress) -> RemovedSlots: ...
    def replace_recovery(
        self, announce: Callable[[NewRecovery], None], *, progress: Progress
    ) -> Sequence[RotationReport]: ...
    def credential(self, wanted: str) -> bytes: ...
    def join(self, through: str, typed: Secret | None, *, label: str | None, fingerprint: str | None) -> JoinReport: ...
    def rotate(self, keyrings: Sequence[str], *, progress: Progress) -> Sequence[RotationReport]: ...


class Engine(Protocol):
    """Definitions, plans and runs. Errors are those of :mod:`identitymesh.errors`."""

    def apply(
        self,
        text: str,
        *,
        source: str,
        base: int | None,
        replace: bool,
        release: bool,
        allow_audience: Collection[str],
    ) -> ApplyReport: ...
    def preview(self, text: str, *, source: str, progress: Progress) -> tuple[RunReport, Sequence[RowView]]: ...
    def plan(
        self, *, delta: bool, connectors: Sequence[str], progress: Progress, accept_clock: bool = False
    ) -> RunReport: ...
    def run(
        self, *, delta: bool, connectors: Sequence[str], progress: Progress, accept_clock: bool = False
    ) -> RunReport: ...
    def release(self, plan: int, *, progress: Progress) -> RunReport: ...
    def rows(self, run_id: int, *, limit: int, person: str | None) -> Sequence[RowView]: ...
    def runs(self, limit: int, *, state: str | None = None, connector: str | None = None) -> Sequence[RunReport]: ...
    def show(self, run_id: int) -> RunReport: ...
    def approve(self, run_id: int, *, connectors: Sequence[str]) -> Decision: ...
    def drop(self, run_id: int, *, connectors: Sequence[str]) -> Decision: ...
    def explain(self, subject: str) -> Explanation: ...
    def walk(self, run_id: int, person: str) -> Walk: ...
    def unmatched(self, *, connectors: Sequence[str], limit: int) -> Unmatched: ...
    def reviews(self, *, decided: bool) -> Sequence[Review]: ...
    def review(self, number: int) -> Review: ...
    def decide(self, number: int, choice: Choice, *, person: str | None = None) -> Review: ...
    def undo_review(self, number: int) -> Review: ...
    def definition(self) -> tuple[int, str] | None:
        """The version in force and its text."""

    def connectors(self) -> Sequence[ConnectorDefinition]:
        """Those of the definition in force, in its order; none before the first one."""

    def test_connector(self, name: str) -> TestReport: ...


class Installation(Protocol):
    """One opened installation. ``findings`` are for a person to know: they go to standard error."""

    @property
    def secrets(self) -> SecretCommands: ...
    @property
    def keys(self) -> KeyCommands: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def running(self) -> RunningCommands: ...
    @property
    def actor(self) -> str: ...
    @property
    def findings(self) -> Sequence[str]: ...
    @property
    def allow_value_argument(self) -> bool:
        """The setting ``secrets.allow_value_argument``."""


class InstallationOpener(Protocol):
    """Opens the installation in ``home`` (``None``: where the settings say) until the context ends."""

    def __call__(self, home: Path | None, /) -> AbstractContextManager[Installation]: ...


class Initialise(Protocol):
    """Makes a new installation; calls ``announce`` with its recovery key before anything is stored."""

    def __call__(
        self, home: Path | None, database_url: str | None, announce: Callable[[InitResult], None], /
    ) -> InitResult: ...
