"""What a connector is: a lifecycle, and one narrow protocol for each thing it can do.

A connector supports exactly what it implements; there are no capability flags.
Connectors are called by :mod:`identitymesh.connectors.facade` alone, never by
anything else. They raise the ``ConnectorError`` family (their own driver's
errors are translated inside the connector) and keep no credential after the call
that used it, beyond what the driver itself needs to hold a session open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel

from identitymesh.errors import ConnectorError
from identitymesh.model.attributes import Attributes, Value
from identitymesh.redaction import Secret


class Entry(NamedTuple):
    """One object as the connector read it; a tuple, because reads make them by the million.

    ``key`` identifies it there for ever (as text).

       ``tag`` is what the server offers to guard an update (an ETag), or ``None``.
       ``native`` is the object in the connector's own form, there only for the update or
       delete that follows a ``get``: nobody else looks at it, and it is never stored.
    """

    key: str
    attributes: Attributes
    tag: str | None = None
    native: Any = None

    def __repr__(self) -> str:
        return f"Entry(key={self.key!r}, attributes={self.attributes!r}, tag={self.tag!r})"


@dataclass(frozen=True, slots=True)
class BadEntry:
    """An object that could not be read. With a readable ``key`` it counts as present; without, absences are held."""

    reason: str
    key: str | None = None
    position: str = ""  # "row 17", in words


@dataclass(frozen=True, slots=True)
class Complete:
    """The source's own proof that everything was read: how many objects, and how that is known.

    ``doubt`` says in words what the proof lacks: then everything that can be read was, but who is missing in it
    is believed gone only when a person approves that.
    """

    count: int
    proof: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects of one read; 250 rather than thousands: they are still in the processor's cache when compared.

    ``watermark`` is the point from which a later delta read may resume once this
    page is stored. ``complete`` is set on the last page of a complete read only: a
    read that ends without it proves nothing about absence, and ``incomplete`` says
    why in words. The last page that ``Facade.read`` yields has exactly one of the two.
    ``where`` gives the position of an entry at the source in words, by its place in ``entries``.
    """

    entries: Sequence[Entry] = ()
    bad: Sequence[BadEntry] = ()
    watermark: str | None = None
    complete: Complete | None = None
    incomplete: str = ""
    where: Callable[[int], str] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AttributeInfo:
    """An attribute that objects there can have. ``type``: string, integer, decimal, boolean, datetime, binary."""

    name: str
    type: str = "string"
    many: bool = False
    required: bool = False
    writable: bool = True


@dataclass(frozen=True, slots=True)
class TestReport:
    """What a successful connection test found, in words for a person."""

    __test__ = False  # not a pytest class

    summary: str
    details: Mapping[str, str] = field(default_factory=dict)


class Connector(Protocol):
    """Lifecycle alone."""

    def close(self) -> None:
        """Let go of the connection. Never raises, may be called twice."""


@runtime_checkable
class TestOp(Protocol):
    """Can prove that it reaches the system, logs in and sees the objects."""

    def test(self) -> TestReport: ...


@runtime_checkable
class SchemaOp(Protocol):
    """Knows which attributes objects have. An empty answer means "any"."""

    def schema(self, object_class: str) -> Sequence[AttributeInfo]: ...


@runtime_checkable
class SearchOp(Protocol):
    """Can read everything, streaming; the last page says whether the read was complete.

    ``names``: the attributes that the rules use, as the definition spells them. Entries
    spell them the same where the system itself does not care, and the connector leaves
    out others; no names at all means every attribute.
    """

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]: ...


@runtime_checkable
class SyncOp(Protocol):
    """Can read only what changed at or after a watermark (never loses rows that share the last value)."""

    def sync(self, object_class: str, names: Sequence[str], since: str | None) -> Iterator[Page]: ...


@runtime_checkable
class GetOp(Protocol):
    """Can read one object by its key; ``None`` when there is no such object. ``names`` as in :class:`SearchOp`."""

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None: ...


@runtime_checkable
class LookupOp(Protocol):
    """Can find the objects that have this value in one attribute (``correlate``). ``names`` as in :class:`SearchOp`."""

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]: ...


@runtime_checkable
class CreateOp(Protocol):
    """Can create an object; answers it as the server stored it, key included, names spelt as in ``attributes``.

    An answer that was lost ends in ``ConnectionLost`` or ``TimedOut``: it may have been created.

    Raises:
        ObjectExists: there is one with the same identity already.
        ObjectRefused: the server refuses it, in its own words.
    """

    def create(self, object_class: str, attributes: Attributes) -> Entry: ...


@runtime_checkable
class CreateManyOp(Protocol):
    """Can have several creates under way at once, on one connection.

    Answers what became of each in the order of ``wanted``: what :class:`CreateOp` answers, or the error that it would
    raise. ``wanted`` is asked for the next when there is room, and may end at any time; what it gave must be answered.
    When the connection breaks, everything under way has the same error, and the answers end.
    """

    def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | ConnectorError]: ...


@dataclass(frozen=True, slots=True)
class Modification:
    """What an update changes: attributes to set (with all their values), and attributes to clear."""

    put: Attributes
    clear: Sequence[str] = ()


@runtime_checkable
class UpdateOp(Protocol):
    """Can change an object that reads as ``current`` (just read by the facade), as small as the protocol allows.

    Answers the object as it is now, with the names of ``current`` and of the change.

    Raises:
        ObjectChanged: it changed since ``current`` was read (ETag, WHERE).
        ObjectMissing: it is gone.
        ObjectRefused: the server refuses the change.
    """

    def update(self, object_class: str, current: Entry, change: Modification) -> Entry: ...


@runtime_checkable
class DeleteOp(Protocol):
    """Can delete an object that reads as ``current``. Raises like :class:`UpdateOp`."""

    def delete(self, object_class: str, current: Entry) -> None: ...


@runtime_checkable
class ChangePasswordOp(Protocol):
    """Can give the login that it uses a new password at the system itself.

    ``name`` is the path of the setting, as for :class:`CredentialSource`. It logs in with the credential that its
    source answers, and changes the password of that login. The plaintext stands in no statement that the server could
    log where the protocol allows it: PostgreSQL gets a SCRAM verifier.

    Raises:
        PermissionDenied, ObjectRefused: the system does not allow it, or refuses this password; the old one is valid.
        ConnectionLost, TimedOut: either may be valid now.
    """

    def change_password(self, name: str, new: Secret) -> None: ...


class CredentialSource(Protocol):
    """Gives a connector the value of one of its settings that is declared secret, at the moment of use.

    ``name`` is the field's path in the settings, for example ``password`` or
    ``oauth.client_secret``. The value may be sent to the hosts of the kind's
    :attr:`Kind.endpoints` alone; the source refuses others.

    Raises:
        SecretError, KeyringError: the value cannot be had; nothing falls back.
    """

    def __call__(self, name: str) -> Secret: ...


def _writable(settings: Any, object_class: str) -> str:
    """Most kinds can be written whatever their settings say."""
    del settings, object_class
    return ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of connector, found by the name of its module under ``connectors/kinds``.

    ``settings`` is a pydantic model (see :mod:`identitymesh.connectors.settings`);
    ``open`` builds the connector and may be lazy about connecting; ``endpoints``
    lists the ``host:port`` pairs that credentials of these settings are sent to
    (token URLs included), empty for files; ``scope`` gives, for one object class,
    what decides which objects a complete read returns (query, path, base, filter,
    URL): when it changes, absences are held; ``unwritable`` says, for one object class,
    why nothing can be written to it, in words, and is empty where it can.
    """

    name: str
    summary: str
    settings: type[BaseModel]
    open: Callable[[Any, CredentialSource], Connector]
    endpoints: Callable[[Any], Sequence[str]]
    scope: Callable[[Any, str], str]
    unwritable: Callable[[Any, str], str] = _writable
