"""Every exception of the product on one page.

MeshError
├── UsageError                 the call itself is wrong
├── SettingsError              identitymesh.toml or IDENTITYMESH_*
├── DefinitionRefused          a definition file, with one problem for each finding
│   └── DefinitionOutdated     the file started from an older version
├── ExpressionError            one rule expression, with its position
├── EvaluationError            one rule on one person's values
├── SecretError
│   ├── ReferenceInvalid       not a secret:// reference
│   ├── SecretMissing          no such secret
│   ├── SecretExpired          its time is over
│   ├── SecretRefused          the value may not be stored (empty, too large, a mask)
│   ├── SecretBroken           a sealed value that does not open
│   ├── AudienceRefused        the value may not be sent there
│   ├── BackupRefused          a backup that is damaged, forged, or not wanted here
│   ├── RotationRefused        the new value was not accepted; the old one is in use
│   ├── MigrationRefused       secrets cannot move to that provider as things are
│   ├── RotationUnfinished     a rotation could not be decided (the same command carries on)
│   └── ProviderError          the provider of secrets
│       ├── ProviderMisconfigured  unknown, or its settings are not complete
│       ├── ProviderUnavailable    it did not answer, or has too much to do (try again)
│       ├── ProviderDenied         this login may not do that there
│       ├── ProviderMismatch       its entry belongs to another ref or installation
│       └── ProviderRefused        it takes no such value
├── KeyringError
│   ├── KeyringExists, KeyringMissing, KeyringSubstituted, KeyringRolledBack, KeyringBroken
│   ├── KeyringConflict        somebody else changed it first (try again)
│   ├── SlotRefused            a slot may not be added or removed so
│   ├── RotationIncomplete     values that do not open keep an old key alive
│   └── HostKeyMissing, HostKeyUnsafe, HostKeyWrong, AnchorBroken
├── ConnectorError
│   ├── ConnectorMisconfigured, CredentialRefused, PermissionDenied
│   ├── Unreachable            never connected (try again)
│   ├── ConnectionLost         broke half way (try again when the call is safe to repeat)
│   ├── TimedOut, Throttled    (try again, Throttled says when)
│   ├── ImportIncomplete       the read ended without its proof of completeness
│   └── ObjectError            one object only; the run goes on
│       └── ObjectExists, ObjectMissing, ObjectChanged, ObjectRefused
├── RunError
│   ├── Busy                   another run holds the lease
│   ├── LeaseLost              this run was taken over
│   ├── DueDone                this due run was carried out already, or is going on
│   ├── Paused                 no run starts before a person says `identitymesh resume`
│   └── NotFound               no such run, plan, person
├── ColumnsError               encrypted columns of somebody else's database
│   ├── ColumnPlanRefused      (a DefinitionRefused too) a plan file, with one problem for each finding
│   ├── ColumnKeyMissing, ColumnKeyUnsafe, ColumnKeyWrong, ColumnKeyExists
│   ├── ColumnBroken           an encrypted value that does not open
│   ├── ColumnValueMissing     nothing is stored there
│   ├── ColumnValueRefused     the value may not be encrypted (empty, too large, not text)
│   ├── ColumnsUnfit           a table, column or plan that this cannot be done with; nothing was changed
│   ├── ColumnsForbidden       the login lacks a right; nothing was changed
│   ├── ColumnsUnfinished      plaintext remains, or a rotation or upgrade has not ended
│   └── ColumnsBusy            another command is at work in that database (try again)
└── StorageError
    ├── DatabaseUnreachable, DatabaseLocked, DiskFull
    ├── RowConflict            another process wrote the same row first (try again)
    └── SchemaOutdated

Style of a message: what, where, what to do next. Lower case, no trailing stop in
the message; the hint is a full sentence. No message carries a credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of every command; scripts may rely on them."""

    DONE = 0
    FAILED = 1  # something unforeseen, or `exists` answering no
    USAGE = 2
    REFUSED = 3  # settings or definition are wrong
    SECRET = 4  # a secret or a keyring is missing, broken or refused
    PROBLEMS = 5  # the run ended, but a connector or objects failed
    HELD = 6  # the run ended, but a plan waits for approval
    BUSY = 7  # another run or program holds what is needed; try again
    UNAVAILABLE = 8  # a database, source or target cannot be reached


class MeshError(Exception):
    """Root of everything that the product raises on purpose."""

    code: ClassVar[str] = "failed"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return self.message


class UsageError(MeshError):
    code = "usage"
    exit_code = ExitCode.USAGE


class SettingsError(MeshError):
    code = "settings-invalid"
    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a definition: where (1-based) and what. Never carries the offending value."""

    message: str
    field: str = ""
    line: int | None = None
    column: int | None = None
    severity: str = "error"  # or "warning"


class DefinitionRefused(MeshError):
    code = "definition-refused"
    exit_code = ExitCode.REFUSED

    def __init__(self, source: str, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{source}: {count} problem{'s' if count != 1 else ''}; nothing was applied", hint=hint)


class DefinitionOutdated(MeshError):
    code = "definition-outdated"
    exit_code = ExitCode.REFUSED


class ExpressionError(MeshError):
    """A rule expression that does not parse or check. ``line`` and ``column`` are 1-based, inside the expression."""

    code = "expression-invalid"
    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, *, line: int = 1, column: int = 1, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line
        self.column = column


class EvaluationError(MeshError):
    """A checked expression that fails on one person's values; the message names no value."""

    code = "expression-failed"


class SecretError(MeshError):
    code = "secret-failed"
    exit_code = ExitCode.SECRET


class ReferenceInvalid(SecretError, ValueError):
    """Also a ``ValueError``, so that pydantic reports it as a finding of its field, with the others."""

    code = "reference-invalid"


class SecretMissing(SecretError):
    code = "secret-missing"


class SecretExpired(SecretError):
    code = "secret-expired"


class SecretRefused(SecretError):
    code = "secret-refused"


class SecretBroken(SecretError):
    code = "secret-broken"


class AudienceRefused(SecretError):
    code = "audience-refused"


class RotationRefused(SecretError):
    code = "rotation-refused"


class RotationUnfinished(SecretError):
    code = "rotation-unfinished"
    retryable = True


class MigrationRefused(SecretError):
    code = "migration-refused"


class BackupRefused(SecretError):
    code = "backup-refused"


class ProviderError(SecretError):
    code = "provider-failed"


class ProviderMisconfigured(ProviderError):
    code = "provider-misconfigured"


class ProviderUnavailable(ProviderError):
    code = "provider-unavailable"
    retryable = True


class ProviderDenied(ProviderError):
    code = "provider-denied"


class ProviderMismatch(ProviderError):
    code = "provider-mismatch"


class ProviderRefused(ProviderError):
    code = "provider-refused"


class KeyringError(MeshError):
    code = "keyring-failed"
    exit_code = ExitCode.SECRET


class KeyringExists(KeyringError):
    code = "keyring-exists"


class KeyringMissing(KeyringError):
    code = "keyring-missing"


class KeyringSubstituted(KeyringError):
    code = "keyring-substituted"


class KeyringRolledBack(KeyringError):
    code = "keyring-rolled-back"


class KeyringBroken(KeyringError):
    code = "keyring-broken"


class KeyringConflict(KeyringError):
    code = "keyring-conflict"
    retryable = True


class SlotRefused(KeyringError):
    code = "slot-refused"


class RotationIncomplete(KeyringError):
    code = "rotation-incomplete"


class HostKeyMissing(KeyringError):
    code = "host-key-missing"


class HostKeyUnsafe(KeyringError):
    code = "host-key-unsafe"


class HostKeyWrong(KeyringError):
    code = "host-key-wrong"


class AnchorBroken(KeyringError):
    code = "anchor-broken"


class ConnectorError(MeshError):
    """A source or target did not do what was asked. ``connector`` is filled in by the facade."""

    code = "connector-failed"
    exit_code = ExitCode.PROBLEMS

    def __init__(self, message: str, *, hint: str | None = None, connector: str = "") -> None:
        super().__init__(message, hint=hint)
        self.connector = connector


class ConnectorMisconfigured(ConnectorError):
    code = "connector-misconfigured"


class CredentialRefused(ConnectorError):
    code = "credential-refused"


class PermissionDenied(ConnectorError):
    code = "permission-denied"


class Unreachable(ConnectorError):
    code = "unreachable"
    retryable = True


class ConnectionLost(ConnectorError):
    code = "connection-lost"
    retryable = True


class TimedOut(ConnectorError):
    code = "timed-out"
    retryable = True


class Throttled(ConnectorError):
    """The server asked for a pause; it did not carry out the call. ``retry_after`` is in seconds."""

    code = "throttled"
    retryable = True

    def __init__(self, message: str, *, retry_after: float, hint: str | None = None, connector: str = "") -> None:
        super().__init__(message, hint=hint, connector=connector)
        self.retry_after = retry_after


class ImportIncomplete(ConnectorError):
    code = "import-incomplete"
    retryable = True


class ObjectError(ConnectorError):
    """Concerns one object; it is recorded and the run goes on."""

    code = "object-failed"


class ObjectExists(ObjectError):
    code = "object-exists"


class AccountTaken(ObjectError):
    """What was found or made at the target is the account of another person here."""

    code = "account-taken"


class ObjectMissing(ObjectError):
    code = "object-missing"


class ObjectChanged(ObjectError):
    """The object at the target is not what the plan was made from."""

    code = "object-changed"


class ObjectRefused(ObjectError):
    """The target refuses this object or value, in its own words."""

    code = "object-refused"


class RunError(MeshError):
    code = "run-failed"


class Busy(RunError):
    code = "busy"
    retryable = True
    exit_code = ExitCode.BUSY


class LeaseLost(RunError):
    code = "lease-lost"
    exit_code = ExitCode.BUSY


class BenchFailed(MeshError):
    code = "bench-failed"


class DueDone(RunError):
    code = "due-done"
    exit_code = ExitCode.BUSY


class Paused(RunError):
    code = "paused"
    exit_code = ExitCode.HELD


class NotFound(RunError):
    code = "not-found"
    exit_code = ExitCode.USAGE


class StorageError(MeshError):
    code = "storage-failed"
    exit_code = ExitCode.UNAVAILABLE


class DatabaseUnreachable(StorageError):
    code = "database-unreachable"
    retryable = True


class DatabaseLocked(StorageError):
    code = "database-locked"
    retryable = True
    exit_code = ExitCode.BUSY


class DiskFull(StorageError):
    code = "disk-full"
    retryable = True


class RowConflict(StorageError):
    code = "row-conflict"
    retryable = True
    exit_code = ExitCode.BUSY


class SchemaOutdated(StorageError):
    code = "schema-outdated"


class ColumnsError(MeshError):
    code = "columns-failed"


class ColumnPlanRefused(DefinitionRefused, ColumnsError):
    code = "column-plan-refused"


class ColumnKeyMissing(ColumnsError):
    code = "column-key-missing"
    exit_code = ExitCode.SECRET


class ColumnKeyUnsafe(ColumnsError):
    code = "column-key-unsafe"
    exit_code = ExitCode.SECRET


class ColumnKeyWrong(ColumnsError):
    code = "column-key-wrong"
    exit_code = ExitCode.SECRET


class ColumnKeyExists(ColumnsError):
    code = "column-key-exists"
    exit_code = ExitCode.SECRET


class ColumnBroken(ColumnsError):
    code = "column-broken"
    exit_code = ExitCode.SECRET


class ColumnValueMissing(ColumnsError):
    code = "column-value-missing"
    exit_code = ExitCode.SECRET


class ColumnValueRefused(ColumnsError):
    code = "column-value-refused"
    exit_code = ExitCode.SECRET


class ColumnsUnfit(ColumnsError):
    code = "columns-unfit"
    exit_code = ExitCode.REFUSED


class ColumnsForbidden(ColumnsError):
    code = "columns-forbidden"
    exit_code = ExitCode.REFUSED


class ColumnsUnfinished(ColumnsError):
    code = "columns-unfinished"
    exit_code = ExitCode.PROBLEMS


class ColumnsBusy(ColumnsError):
    code = "columns-busy"
    retryable = True
    exit_code = ExitCode.BUSY
