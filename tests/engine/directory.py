"""A connector kind whose system is an object in memory: readable, writable, and able to fail on command."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from identitymesh.connectors.contract import (
    BadEntry,
    Complete,
    CredentialSource,
    Entry,
    Kind,
    Modification,
    Page,
    TestReport,
)
from identitymesh.connectors.settings import ConnectorSettings, ObjectSettings
from identitymesh.errors import ConnectionLost, ObjectChanged, ObjectMissing
from identitymesh.model.attributes import Attributes, Value, values_of

PAGE = 7


class MemorySettings(ConnectorSettings):
    """Settings of the kind `memory`: `base` stands for what decides the scope of a read."""

    objects: dict[str, ObjectSettings]
    base: str = "everything"


def _as_given(attributes: Attributes) -> Attributes:
    return attributes


@dataclass(slots=True)
class Directory:
    """The system behind the connector. Tests read and edit ``objects`` directly."""

    objects: dict[str, Attributes] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)  # (operation, key) of everything that was written
    bad: list[BadEntry] = field(default_factory=list)
    page: int = PAGE
    backwards: bool = False
    lose_connection_after: int | None = None  # pages of the next read
    proves: bool = True  # whether reads end with their proof
    before: Callable[[str, str], None] | None = None  # may raise instead of the operation
    after: Callable[[str, str], None] | None = None  # may raise although the operation was carried out
    before_read: Callable[[], None] | None = None  # may raise instead of the read
    spelling: Callable[[Attributes], Attributes] = _as_given
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def by(self, attribute: str) -> dict[Value, Attributes]:
        """The objects by the value of an attribute, which must be unique."""
        found: dict[Value, Attributes] = {}
        for attributes in self.objects.values():
            value = attributes[attribute]
            assert not isinstance(value, list)
            assert value not in found, f"two objects have {attribute} {value!r}"
            found[value] = attributes
        return found

    def add(self, attributes: Attributes) -> str:
        key = f"id-{next(self._numbers)}"
        self.objects[key] = dict(attributes)
        return key


class MemoryConnector:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def close(self) -> None: ...

    def test(self) -> TestReport:
        return TestReport(f"{len(self._directory.objects)} objects")

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        del object_class
        directory = self._directory
        if directory.before_read is not None:
            directory.before_read()
        entries = [Entry(key, _only(attributes, names)) for key, attributes in directory.objects.items()]
        if directory.backwards:
            entries.reverse()
        pages = [entries[start : start + directory.page] for start in range(0, len(entries), directory.page)]
        cut = directory.lose_connection_after
        directory.lose_connection_after = None
        for number, page in enumerate(pages):
            if cut is not None and number >= cut:
                raise ConnectionLost("the memory directory broke the connection")
            yield Page(page)
        count = len(entries) + len(directory.bad)
        proof = Complete(count, "all in memory") if directory.proves else None
        yield Page(bad=list(directory.bad), complete=proof)

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        del object_class
        self._hook(self._directory.before, "get", key)
        attributes = self._directory.objects.get(key)
        return Entry(key, _only(attributes, names)) if attributes is not None else None

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        del object_class
        self._hook(self._directory.before, "lookup", str(value))
        return [
            Entry(key, _only(attributes, names))
            for key, attributes in self._directory.objects.items()
            if attributes.get(attribute) == value
        ]

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        del object_class
        directory = self._directory
        self._hook(directory.before, "create", str(attributes.get("externalId")))
        key = directory.add(directory.spelling(attributes))
        directory.calls.append(("create", key))
        self._hook(directory.after, "create", key)
        return Entry(key, dict(directory.objects[key]))

    def update(self, object_class: str, current: Entry, change: Modification) -> Entry:
        del object_class
        directory = self._directory
        self._hook(directory.before, "update", current.key)
        if current.key not in directory.objects:
            raise ObjectMissing("gone")
        if any(directory.objects[current.key].get(name) != value for name, value in current.attributes.items()):
            raise ObjectChanged("changed")
        changed = {**directory.objects[current.key], **change.put}
        for name in change.clear:
            changed.pop(name, None)
        directory.objects[current.key] = directory.spelling(changed)
        directory.calls.append(("update", current.key))
        self._hook(directory.after, "update", current.key)
        return Entry(current.key, dict(directory.objects[current.key]))

    def delete(self, object_class: str, current: Entry) -> None:
        del object_class
        directory = self._directory
        self._hook(directory.before, "delete", current.key)
        del directory.objects[current.key]
        directory.calls.append(("delete", current.key))
        self._hook(directory.after, "delete", current.key)

    @staticmethod
    def _hook(hook: Callable[[str, str], None] | None, operation: str, key: str) -> None:
        if hook is not None:
            hook(operation, key)


def _only(attributes: Attributes, names: Sequence[str]) -> Attributes:
    return {name: value for name, value in attributes.items() if not names or name in names}


def memory_kind(directories: dict[str, Directory]) -> Kind:
    """A kind whose connectors open the directory that the setting ``base`` begins with."""

    def open_(settings: MemorySettings, _: CredentialSource) -> MemoryConnector:
        return MemoryConnector(directories[settings.base.partition("/")[0]])

    return Kind(
        name="memory",
        summary="A directory in memory, for tests.",
        settings=MemorySettings,
        open=open_,
        endpoints=lambda _: (),
        scope=lambda settings, object_class: f"{settings.base} {object_class}",
    )


def texts(attributes: Attributes, name: str) -> list[str]:
    """All values of an attribute, as text."""
    return [str(value) for value in values_of(attributes.get(name))]
